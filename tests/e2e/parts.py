"""The real parts of the end-to-end test: each starts in a folder of its own and is stopped again."""
import base64
import hashlib
import json
import os
import pathlib
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "gitea"))
import server  # noqa: E402  the Gitea of the stories

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
STACK = "esteira-e2e"
REPOSITORY = "esteira"


class Wrong(Exception):
    """The test has seen what must not be."""


def run(*words, **options):
    """Runs to the end; its output, or Wrong with its last lines."""
    options.setdefault("cwd", ROOT)
    done = subprocess.run([str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          stdin=subprocess.DEVNULL if "input" not in options else None, **options)
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-25:])
        raise Wrong(f"{words[0]} {words[1] if len(words) > 1 else ''} ended with {done.returncode}:\n{tail}")
    return done.stdout


def wait(seconds, what, look):
    """Asks twice a second until `look()` gives something."""
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise Wrong(f"not within {seconds} s: {what}")
        time.sleep(0.5)


def get(url, timeout=30):
    with urllib.request.urlopen(url, timeout=timeout) as answer:
        return answer.read()


class Processes:
    """Every program that the test has started, with its log; all end with it."""

    def __init__(self, folder):
        self.folder, self.all = folder, []

    def start(self, name, *words, environment=None, **options):
        log = open(self.folder / f"{name}.log", "ab")
        process = subprocess.Popen([str(word) for word in words], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                   env={**os.environ, **(environment or {})}, **options)
        self.all.append((name, process))
        return process

    def end(self):
        for _, process in reversed(self.all):
            if process.poll() is None:
                process.terminate()
        for _, process in reversed(self.all):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def bridge_address():
    """The engine's own address on its default network: reached from this machine and from every container on it."""
    found = json.loads(run("docker", "network", "inspect", "bridge"))[0]["IPAM"]["Config"][0]
    return found.get("Gateway") or found["Subnet"].rsplit(".", 1)[0] + ".1"


class Registry:
    """Debian's docker-registry with a password, on loopback."""

    def __init__(self, processes, folder, password):
        self.port, self.user, self.password = server.free_port(), "pusher", password
        self.name = f"127.0.0.1:{self.port}"
        folder.mkdir()
        (folder / "htpasswd").write_text(run("htpasswd", "-niB", self.user, input=password))
        (folder / "config.yml").write_text(
            f"version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}\n"
            f"http: {{addr: '{self.name}'}}\nauth: {{htpasswd: {{realm: registry, path: {folder}/htpasswd}}}}\n")
        processes.start("registry", "docker-registry", "serve", folder / "config.yml")
        wait(30, "the registry answers", self.answers)

    def answers(self):
        try:
            get(f"http://{self.name}/v2/")
        except urllib.error.HTTPError as error:
            return error.code == 401
        except OSError:
            return False
        return False

    def environment(self, folder):
        """A docker configuration of our own that is logged in; the machine's is left alone."""
        folder.mkdir(exist_ok=True)
        login = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        (folder / "config.json").write_text(json.dumps({"auths": {self.name: {"auth": login}}}))
        (folder / "config.json").chmod(0o600)
        return {**os.environ, "DOCKER_CONFIG": str(folder)}


class Sshd:
    """A real sshd with a host key of its own, for the user who runs the test."""

    def __init__(self, processes, folder, address):
        self.port, self.address = server.free_port(), address
        folder.mkdir()
        for key in ("host", "user", "stranger"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key)
        (folder / "authorized").write_text((folder / "user.pub").read_text())
        os.makedirs("/run/sshd", exist_ok=True)
        processes.start("sshd", "/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", "-h", folder / "host", "-p", self.port,
                        "-o", f"ListenAddress={address}", "-o", "UsePAM=no", "-o", "StrictModes=no", "-o", "PidFile=none",
                        "-o", f"AuthorizedKeysFile={folder}/authorized", "-o", f"SetEnv=PATH={os.environ['PATH']}")
        self.key = (folder / "user").read_text()
        self.known = f"[{address}]:{self.port} {(folder / 'host.pub').read_text()}"
        self.stranger = f"[{address}]:{self.port} {(folder / 'stranger.pub').read_text()}"
        wait(30, "sshd listens", self.listens)

    def listens(self):
        try:
            socket.create_connection((self.address, self.port), 5).close()
        except OSError:
            return False
        return True


class Gitea(server.Server):
    """The stories' Gitea, reachable from containers, with our repository on it."""

    def __init__(self, folder, address, runner_token_file, metrics_token):
        more = f"\n[metrics]\nENABLED = true\nTOKEN = {metrics_token}\n[actions]\nDEFAULT_ACTIONS_URL = self\n"
        # Two sections of one name are one to Gitea.
        folder.mkdir(mode=0o755)
        super().__init__(os.environ["GITEA_BIN"], os.environ["GITEA_SOURCE"], str(folder), address, more,
                         {"GITEA_RUNNER_REGISTRATION_TOKEN": pathlib.Path(runner_token_file).read_text()})
        self.place = f"/repos/{server.OWNER}/{REPOSITORY}"
        self.call("POST", "/user/repos", {"name": REPOSITORY, "default_branch": "main"})

    def remote(self, owner, name):
        return f"{self.url.replace('://', f'://{server.OWNER}:{server.PASSWORD}@')}/{owner}/{name}.git"

    def checkout_action(self):
        """actions/checkout on this server: the public one from ACTIONS_ROOT, or a stand-in of five lines."""
        self.call("POST", "/orgs", {"username": "actions", "visibility": "public"})
        self.call("POST", "/orgs/actions/repos", {"name": "checkout", "default_branch": "main"})
        root = os.environ.get("ACTIONS_ROOT")
        if root:
            run("git", "--git-dir", f"{root}/actions/checkout", "push", "-q", self.remote("actions", "checkout"), "refs/tags/v4", "refs/heads/main")
            return None
        folder = pathlib.Path(self.folder) / "checkout"
        shutil.copytree(HERE / "checkout", folder)
        commit(folder, "a checkout", new=True)
        run("git", "-C", folder, "tag", "v4")
        run("git", "-C", folder, "push", "-q", self.remote("actions", "checkout"), "main", "v4")
        return "actions/checkout: a stand-in of this test (ACTIONS_ROOT names no folder with actions/checkout)"

    def secret(self, name, value):
        self.call("PUT", f"{self.place}/actions/secrets/{name}", {"data": value})

    def variable(self, name, value):
        try:
            self.call("PUT", f"{self.place}/actions/variables/{name}", {"name": name, "value": value})
        except server.Refused:
            self.call("POST", f"{self.place}/actions/variables/{name}", {"value": value})

    def dispatch(self, revision):
        """Rolls out an image that is there, without test and build; the new run."""
        before = {run["id"] for run in self.runs(REPOSITORY)}
        self.call("POST", f"{self.place}/actions/workflows/deploy.yml/dispatches", {"ref": "main", "inputs": {"revision": revision}})
        return wait(60, "the dispatched run", lambda: next((run for run in self.runs(REPOSITORY) if run["id"] not in before), None))

    def run_of(self, sha, workflow="deploy.yml"):
        """The run of this workflow that this commit has started."""
        def look():
            ours = (found for found in self.runs(REPOSITORY) if found["head_sha"] == sha and found["path"].startswith(workflow))
            return next(ours, None)
        return wait(60, f"a run for {sha[:7]}", look)

    def jobs_of(self, run_id):
        return self.get(f"{self.place}/actions/runs/{run_id}/jobs?limit=50").get("jobs") or []

    def finished(self, run_id, seconds):
        """The run's jobs by name, when all have ended."""
        def look():
            jobs = self.jobs_of(run_id)
            return jobs if jobs and all(job["status"] == "completed" for job in jobs) else None
        return {job["name"]: job for job in wait(seconds, f"the jobs of run {run_id} end", look)}

    def text(self, job):
        return "\n".join(row for _, row in self.log(REPOSITORY, job))


def commit(folder, message, new=False):
    """Commits everything in the folder; the commit's id."""
    git = ["git", "-C", folder, "-c", "user.name=e2e", "-c", "user.email=e2e@example.invalid"]
    if new:
        run("git", "-C", folder, "init", "-q", "-b", "main")
    run(*git, "add", "-A")
    run(*git, "commit", "-q", "-m", message)
    return run("git", "-C", folder, "rev-parse", "HEAD").strip()


def images(folder, binary, with_coverage):
    """Local bases, then runner and job images around the program that is tested; the API's comes from the Dockerfile."""
    print("images: bases", flush=True)
    run(HERE / "images.sh")
    context = folder / "image"
    (context / "etc/ssl/certs").mkdir(parents=True)
    shutil.copy(binary, context / "esteira")
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", context / "etc/ssl/certs/")
    source = context / "source"
    tracked(source)
    print("images: runner and job", flush=True)
    # The same layout as the Dockerfile's target `runner`, around a program that is compiled already.
    build(context, "esteira-e2e/runner", "FROM scratch\nCOPY etc /etc\nCOPY --from=esteira-test/base /tmp /tmp\nCOPY esteira /esteira\n"
          "ENV HOME=/data\nWORKDIR /data\nENTRYPOINT [\"/esteira\"]\nCMD [\"daemon\"]\n")
    job = "FROM esteira-e2e/rust\n"
    if with_coverage:
        warm(folder, source)
        job = "FROM esteira-e2e/warm\n"
    build(context, "esteira-e2e/job", job + "COPY esteira /usr/local/bin/\n")
    print("images: the task API, from the Dockerfile", flush=True)
    run("docker", "build", "--target", "api", *API_ARGUMENTS, "--build-arg", "COMMIT=first", "-t", "esteira-e2e/task-api:first", source)


def warm(folder, source):
    """A base of the job's image with the coverage tool and, compiled once, what the tests depend on: a job compiles the
    crates of its commit. Made again when what decides over those changes."""
    decides = b"".join((ROOT / name).read_bytes() for name in ("Cargo.lock", "Cargo.toml", "tests/coverage", "tests/e2e/images.sh"))
    key = hashlib.sha256(decides).hexdigest()[:16]
    there = subprocess.run(["docker", "image", "inspect", "-f", '{{index .Config.Labels "made-for"}}', "esteira-e2e/warm"], capture_output=True, text=True)
    if there.stdout.strip() == key and there.returncode == 0:
        return
    context = folder / "warm"
    context.mkdir()
    shutil.copy(coverage_tool(folder), context / "cargo-tarpaulin")
    shutil.copytree(source, context / "source")
    print("images: what the tests depend on is compiled", flush=True)
    build(context, "esteira-e2e/warm", "FROM esteira-e2e/rust\nCOPY cargo-tarpaulin /usr/local/bin/\nENV CARGO_TARGET_DIR=/usr/local/target\n"
          f"COPY source /warm\nRUN cd /warm && tests/coverage --compile && rm -rf /warm\nLABEL made-for={key}\n")


def coverage_tool(folder):
    found = shutil.which("cargo-tarpaulin")
    if found:
        return found
    print("images: cargo-tarpaulin is compiled", flush=True)
    run("cargo", "install", "--locked", "--debug", "--quiet", "--root", folder / "tool", "cargo-tarpaulin")
    return folder / "tool/bin/cargo-tarpaulin"


def dockerfile_images(source):
    """The targets `job` and `runner`, compiled inside as an operator's are; their tags."""
    # Docker's classic builder makes every stage that stands before the target, so the task API's argument is that of `images`.
    bases = {"NODE_IMAGE": "esteira-e2e/toolchain", "DOCKER_CLI_IMAGE": "esteira-e2e/toolchain", "JOB_IMAGE": "esteira-e2e/warm", "COMMIT": "first"}
    arguments = [word for name, value in bases.items() for word in ("--build-arg", f"{name}={value}")]
    for target in ("job", "runner"):
        run("docker", "build", "--target", target, *API_ARGUMENTS, *arguments, "-t", f"esteira-e2e/own-{target}", source)
    return "esteira-e2e/own-job", "esteira-e2e/own-runner"


API_ARGUMENTS = ["--build-arg", "RUST_IMAGE=esteira-e2e/rust", "--build-arg", "CARGO_PROFILE=dev"]


def build(context, tag, text):
    file = context / "Dockerfile"
    file.write_text(text)
    run("docker", "build", "-t", tag, context)


def tracked(target):
    """The files of this checkout that git knows, as they are now."""
    names = run("git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def password():
    return secrets.token_hex(12)
