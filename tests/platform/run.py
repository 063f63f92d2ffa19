#!/usr/bin/env python3
"""platform/up, platform/hashes and the pipeline's deploy step, with a stand-in for docker that writes down its arguments.

The real thing runs in tests/e2e and tests/platform/real.sh. The last line is `N passed, N failed`.
"""
import os
import pathlib
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import textwrap
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
# What the stand-in answers comes from files in $FAKE; each call is a line of $FAKE/calls.
DOCKER = r"""#!/bin/bash
printf '%s\n' "docker $*" >>"$FAKE/calls"
case "$*" in
  "stack config --help") [ -e "$FAKE/old-cli" ] || echo "  --compose-file" ;;
  "compose version") [ ! -e "$FAKE/no-compose" ] ;;
  "info --format"*) cat "$FAKE/swarm" 2>/dev/null || echo inactive ;;
  "network inspect"*) cat "$FAKE/network-${@: -1}" 2>/dev/null ;;
  "image inspect"*) cat "$FAKE/image" ;;
  "service inspect"*) cat "$FAKE/service-${@: -1}" 2>/dev/null ;;
  "create "*) echo container ;;
  "cp "*) cp "$FAKE/esteira" "${@: -1}" ;;
  "ps "*) echo gitea-container ;;
  *"admin user list"*) cat "$FAKE/administrators" ;;
  *"admin user create"*) cat "$FAKE/made"; echo "1 admin" >>"$FAKE/administrators" ;;
esac
"""
ESTEIRA = r"""#!/bin/bash
printf '%s\n' "esteira $*" >>"$FAKE/calls"
env -0 >"$FAKE/environment"
"""


class Platform(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.tree, self.fake = self.folder / "tree", self.folder / "fake"
        names = subprocess.run(["git", "-C", ROOT, "ls-files", "docker-compose.yml", ".env.example", "platform", ".gitea"],
                               capture_output=True, text=True, check=True).stdout.split()
        for name in names:
            if (ROOT / name).exists():
                (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.tree / name)
        (self.tree / "platform/secrets").chmod(0o755)
        (self.fake / "bin").mkdir(parents=True)
        for name, text in {"bin/docker": DOCKER, "bin/esteira": ESTEIRA, "esteira": ESTEIRA}.items():
            (self.fake / name).write_text(text)
            (self.fake / name).chmod(0o755)
        self.say("administrators", "2026/11/25 11:00:00 modules/setting [W] a warning\nID   Username Email IsActive IsAdmin 2FA\n")
        self.say("made", "generated random password is 'first-word'\nNew user 'admin' has been successfully created!\n")
        self.say("image", "layers one\n")

    def say(self, name, text):
        (self.fake / name).write_text(text)

    def up(self, *arguments, succeeds=True):
        (self.fake / "calls").unlink(missing_ok=True)
        environment = {"PATH": f"{self.fake}/bin:{os.environ['PATH']}", "FAKE": str(self.fake), "HOME": str(self.folder)}
        done = subprocess.run(["platform/up", *arguments], cwd=self.tree, env=environment, capture_output=True, text=True)
        self.assertEqual(done.returncode == 0, succeeds, done.stdout + done.stderr)
        self.said = done.stdout + done.stderr
        self.calls = (self.fake / "calls").read_text().splitlines() if (self.fake / "calls").exists() else []
        return self.said

    def settings(self):
        lines = (self.tree / ".env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if re.match(r"[A-Z]\w*=", line))

    def set(self, **values):
        text = (self.tree / ".env").read_text() if (self.tree / ".env").exists() else (self.tree / ".env.example").read_text()
        for name, value in values.items():
            text = re.sub(rf"(?m)^{name}=.*\n", "", text) + f"{name}={value}\n"
        (self.tree / ".env").write_text(text)

    def secret(self, name):
        return (self.tree / "platform/secrets" / name).read_text()

    def hashes(self):
        done = subprocess.run(["platform/hashes"], cwd=self.tree, capture_output=True, text=True, check=True)
        return dict(line.split("=", 1) for line in done.stdout.splitlines())

    def called(self, beginning):
        return [call for call in self.calls if call.startswith(beginning)]

    def environment_of_deploy(self):
        return dict(line.split("=", 1) for line in (self.fake / "environment").read_text().split("\0") if line)

    def test_the_first_start_with_compose(self):
        said = self.up()
        self.assertEqual([call.split("--target ")[1].split()[0] for call in self.called("docker build")], ["runner", "job", "api"])
        self.assertEqual(self.called("docker compose --project-name platform up"), ["docker compose --project-name platform up --detach --wait --wait-timeout 1800"])
        self.assertIn("https://git.localhost,", said)
        self.assertEqual(self.secret("gitea_admin_password"), "first-word")
        settings = self.settings()
        self.assertEqual((settings["ORCHESTRATOR"], settings["NETWORK_DRIVER"], settings["URL_PORT"]), ("docker", "bridge", ""))
        self.assertTrue(settings["RUNNER_TAG"].startswith("local-") and settings["IMAGE_TAG"].startswith("local-"), settings)

    def test_no_password_is_said_or_given_in_an_argument_or_open_to_others(self):
        said = self.up()
        folder = self.tree / "platform/secrets"
        self.assertEqual(stat.S_IMODE(folder.stat().st_mode), 0o700)
        for name in ("registry_password", "gitea_admin_password", "salt"):
            self.assertEqual(stat.S_IMODE((folder / name).stat().st_mode), 0o600, name)
        for file in folder.iterdir():
            if file.name not in (".gitignore", "edge_certificate"):
                self.assertNotIn(file.read_text().strip(), said + "\n".join(self.calls), file.name)

    def test_the_second_start_changes_nothing(self):
        self.up("--swarm")
        before = {file.name: file.read_bytes() for file in (self.tree / "platform/secrets").iterdir()}
        settings = (self.tree / ".env").read_text()
        said = self.up("--swarm")
        self.assertEqual({file.name: file.read_bytes() for file in (self.tree / "platform/secrets").iterdir()}, before)
        self.assertEqual((self.tree / ".env").read_text(), settings)
        self.assertNotIn("STACK_ENV", said)
        self.assertFalse([call for call in self.calls if "user create" in call])

    def test_a_new_gitea_has_its_password_in_the_file(self):
        self.up()
        # The volumes were removed, the files in platform/secrets were not.
        self.say("administrators", "ID   Username Email IsActive IsAdmin 2FA\n")
        self.say("made", "generated random password is 'second-word'\n")
        self.up()
        self.assertEqual(self.secret("gitea_admin_password"), "second-word")

    def test_another_sentence_of_gitea_does_not_show_the_password(self):
        self.say("made", "the password: third-word\n")
        self.assertNotIn("third-word", self.up(succeeds=False))

    def test_a_gitea_that_does_not_answer_gets_no_second_administrator(self):
        (self.fake / "administrators").unlink()
        said = self.up(succeeds=False)
        self.assertIn("does not say who its administrators are", said)
        self.assertFalse([call for call in self.calls if "user create" in call])

    def test_a_release_of_the_pipeline_stays(self):
        self.up("--swarm")
        self.assertEqual(self.environment_of_deploy()["API_IMAGE"], "esteira/task-api")
        self.say("service-platform_api", "registry.example:5000/task-api:abc1234@sha256:99\n")
        self.say("service-platform_runner", "x\n")
        said = self.up("--swarm")
        environment = self.environment_of_deploy()
        self.assertEqual((environment["API_IMAGE"], environment["IMAGE_TAG"]), ("registry.example:5000/task-api", "abc1234@sha256:99"))
        self.assertIn("the API stays at registry.example:5000/task-api:abc1234", said)
        self.assertFalse([call for call in self.called("docker build") if "--target api" in call])
        self.assertEqual(self.called("esteira"), ["esteira deploy platform --compose-file=docker-compose.yml --prune --timeout 1800 --no-wait-for runner"])
        self.assertTrue(self.called("docker rm -fv container"))

    def test_a_local_api_is_built_again(self):
        self.up("--swarm")
        first = self.settings()["IMAGE_TAG"]
        self.say("service-platform_api", f"esteira/task-api:{first}\n")
        self.say("image", "layers two\n")
        said = self.up("--swarm")
        self.assertNotEqual(self.environment_of_deploy()["IMAGE_TAG"], first)
        self.assertEqual(self.environment_of_deploy()["IMAGE_TAG"], self.settings()["IMAGE_TAG"])
        self.assertIn("STACK_ENV", said)

    def test_images_with_a_tag_of_their_own_are_not_built(self):
        self.set(RUNNER_TAG="1.2.3", IMAGE_TAG="v4", RUNNER_LABELS="ubuntu-latest:docker://example/job:1", COMPOSE_FILE="docker-compose.yml:more.yml")
        self.say("service-platform_api", "registry.example/task-api:abc1234@sha256:99\n")
        self.up("--swarm")
        self.assertEqual(self.called("docker build"), [])
        self.assertEqual(self.environment_of_deploy()["IMAGE_TAG"], "v4")
        self.assertIn("--compose-file=docker-compose.yml --compose-file=more.yml", self.called("esteira")[0])

    def test_settings_are_taken_as_they_are(self):
        self.set(STACK_NAME="other", HTTPS_PORT="8443", RUNNER_NAME="a=b=", BUILD_ARGS="--build-arg RUST_IMAGE=x/rust:1")
        self.assertIn("https://git.localhost:8443,", self.up("--swarm"))
        self.assertEqual(self.environment_of_deploy()["RUNNER_NAME"], "a=b=")
        self.assertIn("docker build --build-arg RUST_IMAGE=x/rust:1 --target runner -t esteira/runner:local .", self.calls)
        self.assertTrue(self.called("esteira deploy other "))

    def test_what_is_missing_is_said_before_anything_is_built(self):
        for spoilt, arguments, sentence in (("no-compose", (), "docker compose .version 2. is needed"), ("old-cli", ("--swarm",), "23 or newer"),
                                            ("network-web", ("--swarm",), "the network web is there already, as bridge")):
            self.say(spoilt, "bridge\n")
            self.assertRegex(self.up(*arguments, succeeds=False), sentence)
            self.assertEqual(self.called("docker build") + self.called("docker swarm"), [])
            (self.fake / spoilt).unlink()

    def test_rendering_keeps_the_world(self):
        self.up("--swarm", "--render")
        self.assertEqual(self.settings()["ORCHESTRATOR"], "swarm")
        self.up("--render")
        self.assertEqual(self.settings()["ORCHESTRATOR"], "swarm")
        self.assertFalse(self.called("docker build"))

    def test_a_certificate_of_ones_own_is_kept_and_the_made_one_follows_the_names(self):
        self.up("--render")
        made = self.secret("edge_certificate")
        self.set(API_HOST="api.example")
        self.up("--render")
        self.assertNotEqual(self.secret("edge_certificate"), made)
        folder = self.tree / "platform/secrets"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=mine.example", "-keyout", folder / "edge_key.mine",
                        "-out", folder / "edge_certificate.mine"], check=True, capture_output=True)
        for name in ("edge_key", "edge_certificate"):
            (folder / f"{name}.mine").replace(folder / name)
        mine = self.secret("edge_certificate")
        self.up("--render")
        self.assertEqual(self.secret("edge_certificate"), mine)

    def test_a_file_that_changes_renames_itself_only(self):
        self.up("--render")
        named = re.findall(r'\$\{(HASH_\w+):-0\}", file: ([^ }]+)\}', (self.tree / "docker-compose.yml").read_text())
        before = self.hashes()
        self.assertEqual(sorted(before), sorted(name for name, _ in named))
        self.assertGreater(len(named), 15)
        for name, file in named:
            path = self.tree / file
            content = path.read_bytes()
            path.chmod(0o644)
            path.write_bytes(content + b"\n")
            after = self.hashes()
            self.assertEqual([key for key in before if after[key] != before[key]], [name], file)
            path.write_bytes(content)

    def test_a_clean_checkout_has_the_configs_names_and_no_secrets(self):
        self.up("--render")
        here = self.hashes()
        for file in (self.tree / "platform/secrets").iterdir():
            file.unlink()
        clean = self.hashes()
        self.assertTrue(clean and all(here[name] == value for name, value in clean.items()))
        external = set(re.findall(r"\$\{(HASH_\w+):\?\}", (self.tree / "platform/pipeline.yml").read_text()))
        self.assertEqual(external, set(here) - set(clean))

    def test_the_pipeline_takes_what_the_stack_files_ask_for_and_its_own_hashes(self):
        self.up("--swarm", "--render")
        text = (self.tree / ".gitea/workflows/deploy.yml").read_text()
        script = textwrap.dedent(text[text.index("        run: |", text.index("- name: Roll out")):].split("\n", 1)[1])
        stack_env = (self.tree / ".env").read_text() + "\nRUNNER_NAME=a=b=\nPATH=/nowhere\nSTACK=elsewhere\nTARGET=x\nIMAGE_TAG=old\nAPI_IMAGE=old\nHASH_DASHBOARD_LOGS=stale\n"
        environment = {"PATH": f"{self.fake}/bin:{os.environ['PATH']}", "FAKE": str(self.fake), "STACK_ENV": stack_env, "STACK": "platform",
                       "REGISTRY": "registry.example", "IMAGE_TAG": "abc1234", "TARGET": "ssh://x", "TIMEOUT": "900", "COMPOSE_FILE": "docker-compose.yml:platform/pipeline.yml"}
        subprocess.run(["bash", "-e", "-c", script], cwd=self.tree, env=environment, check=True)
        seen, settings = self.environment_of_deploy(), self.settings()
        self.assertEqual((seen["PATH"], seen["STACK"], seen["TARGET"], seen["RUNNER_NAME"]), (environment["PATH"], "platform", "ssh://x", "a=b="))
        self.assertEqual((seen["API_IMAGE"], seen["IMAGE_TAG"]), ("registry.example/task-api", "abc1234"))
        hashes = {name: value for name, value in settings.items() if name.startswith("HASH_")}
        self.assertEqual({name: seen.get(name) for name in hashes}, hashes)
        self.assertEqual(seen["NETWORK_DRIVER"], "overlay")


if __name__ == "__main__":
    result = unittest.main(exit=False, verbosity=1).result
    bad = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - bad} passed, {bad} failed")
    sys.exit(1 if bad or not result.testsRun else 0)
