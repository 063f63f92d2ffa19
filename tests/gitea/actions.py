#!/usr/bin/env python3
"""Public actions, unmodified, each in a workflow on a real Gitea. Says what was seen of each; the last line counts.

    actions.py [--only NAME,NAME] [--runner BIN] [--rows N]

ACTIONS_MIRROR names a folder with the actions' git directories, `OWNER+NAME/repo` each. A mirror may lack large files
of a tag: the tag's tree is served as one commit without those of them that are source maps. A folder `OWNER+NAME@REF`
beside them stands for a tag whose bundle was built by hand. GITEA_BIN and GITEA_SOURCE are as for run.py; the runner
is ESTEIRA_BIN unless --runner names one. Jobs run in containers; what the actions expect in the image comes from this
machine: node, python, the docker client (BUILDX_BIN: its plugin) as tool cache and programs. Without DRONE_SSH_BIN
the ssh action runs up to its download; toolchains are never downloaded.
"""
import argparse
import base64
import http.server
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from runner import Runner
from server import OWNER, PASSWORD, Refused, Server, free_port

IMAGE = "esteira-test/actions"

STEPS = {
    "checkout-v4": "- uses: actions/checkout@v4\n- run: test -f README.md && git log -1 --format='commit %s'",
    "checkout-v5": "- uses: actions/checkout@v5\n- run: test -f README.md && git log -1 --format='commit %s'",
    "checkout-v6": "- uses: actions/checkout@v6\n- run: test -f README.md && git log -1 --format='commit %s'",
    "setup-node": "- uses: actions/setup-node@v4\n  with: {node-version: '%NODE%'}\n- run: node --version && which node",
    "setup-python": "- uses: actions/setup-python@v5\n  with: {python-version: '%PYTHON%'}\n- run: python --version && which python",
    "github-script": "- id: s\n  uses: actions/github-script@v7\n  with:\n    script: |\n      core.setOutput('word', context.repo.owner);\n"
                     "      const answer = await github.rest.repos.get(context.repo);\n      console.log('asked for ' + answer.data.name);\n"
                     "- run: echo owner ${{ steps.s.outputs.word }}",
    "login": "- uses: docker/login-action@v3\n  with: {registry: '%REGISTRY%', username: tester, password: '${{ secrets.REGISTRY }}'}\n"
             "- run: grep -c auth ~/.docker/config.json",
    "setup-buildx": "- uses: docker/setup-buildx-action@v3\n  with: {driver: docker}\n- run: docker buildx ls",
    "build-push": "- run: printf 'FROM esteira-test/busybox\\nRUN echo built > /word\\n' > Dockerfile\n"
                  "- uses: docker/login-action@v3\n  with: {registry: '%REGISTRY%', username: tester, password: '${{ secrets.REGISTRY }}'}\n"
                  "- uses: docker/setup-buildx-action@v3\n  with: {driver: docker}\n"
                  "- uses: docker/build-push-action@v6\n  with: {context: ., push: true, tags: '%REGISTRY%/word:1', provenance: false}\n"
                  "- run: docker run --rm %REGISTRY%/word:1 cat /word",
    "ssh": "- uses: appleboy/ssh-action@v1\n  env: {DRONE_SSH_RELEASE_URL: '%RELEASES%'}\n"
           "  with: {host: '%HOST%', port: '%SSH_PORT%', username: root, key: '${{ secrets.KEY }}', script: 'echo remote $((40+2))'}",
    "rust-toolchain": "- uses: dtolnay/rust-toolchain@stable\n  timeout-minutes: 1",
    "artifact-v3": "- run: echo kept > word\n- uses: actions/upload-artifact@v3\n  with: {name: words, path: word}\n"
                   "- run: rm word\n- uses: actions/download-artifact@v3\n  with: {name: words}\n- run: cat word",
    "artifact-v4": "- run: echo kept > word\n- uses: actions/upload-artifact@v4\n  with: {name: words, path: word}\n"
                   "- run: rm word\n- uses: actions/download-artifact@v4\n  with: {name: words}\n- run: cat word",
    "cache": "- run: mkdir -p kept && echo x > kept/word\n- uses: actions/cache@v4\n  with: {path: kept, key: one}\n- run: echo went on",
}

# What must be among the rows. Those of `MAY_FAIL` need more than a closed network has: their rows are the answer.
SAYS = {
    "checkout-v4": "commit ", "checkout-v5": "commit ", "checkout-v6": "commit ",
    "setup-node": "/opt/hostedtoolcache/node/", "setup-python": "/opt/hostedtoolcache/Python/", "github-script": f"owner {OWNER}",
    "login": "Login Succeeded", "setup-buildx": "default", "build-push": "built", "ssh": "remote 42", "rust-toolchain": "",
    "artifact-v3": "kept", "artifact-v4": "kept", "cache": "went on",
}
MAY_FAIL = {"ssh": "drone-ssh", "rust-toolchain": "rustup"}


def run(*words, **more):
    return subprocess.run(words, check=True, capture_output=True, text=True, **more).stdout.strip()


def publish(server, mirror, name, ref, scratch):
    """One commit with the tree of `ref`, under that name as tag (or branch `stable`), in a repository of Gitea."""
    owner, repository = name.split("/")
    made, source = os.path.join(mirror, f"{owner}+{repository}@{ref}"), os.path.join(mirror, f"{owner}+{repository}", "repo")
    work = tempfile.mkdtemp(dir=scratch)
    git = lambda *words, **more: run("git", "-c", "safe.directory=*", "-C", work, *words, **more)
    git("init", "-q")
    git("config", "user.email", "mirror@example.invalid")
    git("config", "user.name", "mirror")
    left_out = []
    if os.path.isdir(made):
        shutil.copytree(made, work, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules", ".git", "*.log"))
        git("add", "-A", "-f")
    else:
        with open(os.path.join(work, ".git/objects/info/alternates"), "w") as file:
            file.write(os.path.join(source, "objects") + "\n")
        names = [ref, f"refs/remotes/origin/{ref}", f"refs/heads/{ref}"]
        git_of = lambda *words: subprocess.run(["git", "-c", "safe.directory=*", "-C", source, *words], capture_output=True, text=True)
        commit = next(filter(None, (git_of("rev-parse", "-q", "--verify", f"{name}^{{commit}}").stdout.strip() for name in names)), None)
        if commit is None:
            raise Refused(f"the mirror has no {name}@{ref}")
        git("read-tree", commit)
        paths = [line.split("\t", 1) for line in git("ls-files", "-s").splitlines()]
        listing = "\n".join(words.split()[1] for words, _ in paths)
        states = git("cat-file", "--batch-check", input=listing).splitlines()
        left_out = [path for (_, path), state in zip(paths, states) if state.endswith("missing")]
        if any(not path.endswith(".map") for path in left_out):
            raise Refused(f"the mirror lacks {left_out} of {name}@{ref}")
        for path in left_out:
            git("rm", "-q", "--cached", "--", path)
    tree = git("write-tree")
    commit = git("commit-tree", tree, "-m", f"{name} at {ref}")
    for method, path, body in (("POST", "/orgs", {"username": owner}), ("POST", f"/orgs/{owner}/repos", {"name": repository})):
        try:
            server.call(method, path, body)
        except Refused:
            pass  # it is there already
    address = server.url.replace("://", f"://{OWNER}:{PASSWORD}@")
    git("push", "-q", f"{address}/{owner}/{repository}.git", f"{commit}:refs/tags/{ref}", f"{commit}:refs/heads/main-{ref}")
    return left_out


def image(versions):
    """The image of the jobs: this machine's docker client, and a tool cache with the image's own node and python."""
    box = run("docker", "create", "-i", "esteira-test/base", "sh", "-s")
    try:
        for variable, target in (("", "/usr/local/bin/docker"), ("BUILDX_BIN", "/usr/local/lib/docker/cli-plugins/docker-buildx")):
            path = os.environ.get(variable) if variable else shutil.which("docker")
            if path:
                staged = tempfile.mkdtemp()
                place = os.path.join(staged, target.lstrip("/"))
                os.makedirs(os.path.dirname(place))
                shutil.copy(os.path.realpath(path), place)
                os.chmod(place, 0o755)
                archive = subprocess.run(["tar", "-C", staged, "-c", "."], check=True, capture_output=True).stdout
                subprocess.run(["docker", "cp", "-", f"{box}:/"], input=archive, check=True, capture_output=True)
                shutil.rmtree(staged)
        node, python = versions
        text = f"""set -e
n=/opt/hostedtoolcache/node/{node}; mkdir -p $n/x64/bin; ln -s "$(command -v node)" $n/x64/bin/node; touch $n/x64.complete
p=/opt/hostedtoolcache/Python/{python}; mkdir -p $p/x64/bin; for b in python python3; do ln -s "$(command -v python3)" $p/x64/bin/$b; done; touch $p/x64.complete
"""
        subprocess.run(["docker", "start", "-ai", box], input=text, text=True, check=True, capture_output=True)
        run("docker", "commit", "--change", 'CMD ["bash"]', box, IMAGE)
    finally:
        run("docker", "rm", "-f", box)


def registry(folder):
    """A registry with a password on loopback, where engines need no TLS."""
    program = shutil.which("docker-registry")
    if not program:
        return None, None
    port = free_port()
    words = run("htpasswd", "-Bbn", "tester", "a-registry-password")
    with open(os.path.join(folder, "htpasswd"), "w") as file:
        file.write(words + "\n")
    with open(os.path.join(folder, "registry.yml"), "w") as file:
        file.write(f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}/registry}}}}\n"
                   f"http: {{addr: '127.0.0.1:{port}'}}\nauth: {{htpasswd: {{realm: here, path: {folder}/htpasswd}}}}\n")
    log = open(os.path.join(folder, "registry.log"), "wb")
    return subprocess.Popen([program, "serve", os.path.join(folder, "registry.yml")], stdout=log, stderr=log), f"127.0.0.1:{port}"


def sshd(folder, host):
    """A real sshd with a key of its own; None where there is none."""
    program = shutil.which("sshd") or "/usr/sbin/sshd"
    if not os.path.exists(program) or os.geteuid() != 0:
        return None, 0, ""
    for name in ("host", "user"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", os.path.join(folder, name))
    os.makedirs("/run/sshd", exist_ok=True)
    port, log = free_port(), os.path.join(folder, "sshd.log")
    process = subprocess.Popen([program, "-D", "-E", log, "-p", str(port), "-h", os.path.join(folder, "host"), "-o", "UsePAM=no",
                                "-o", "StrictModes=no", "-o", f"AuthorizedKeysFile={folder}/user.pub", "-o", f"ListenAddress={host}"])
    with open(os.path.join(folder, "user")) as file:
        return process, port, file.read()


def releases(folder, host):
    """A folder over http, as a page of releases; what is not there is a 404."""
    handler = lambda *words: http.server.SimpleHTTPRequestHandler(*words, directory=folder)
    server = http.server.ThreadingHTTPServer((host, 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://{host}:{server.server_port}"


def workflow(steps):
    return "on: push\njobs:\n  job:\n    runs-on: lab\n    steps:\n" + "".join(f"    {line}\n" for line in steps.splitlines())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    parser.add_argument("--runner", default=os.environ.get("ESTEIRA_BIN"))
    parser.add_argument("--rows", type=int, default=6, help="how many of a failed job's last rows are shown")
    arguments = parser.parse_args()
    mirror = os.environ.get("ACTIONS_MIRROR")
    if not mirror or not arguments.runner or not os.environ.get("GITEA_BIN"):
        parser.error("ACTIONS_MIRROR, GITEA_BIN, GITEA_SOURCE and ESTEIRA_BIN (or --runner) have to be set")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # Jobs in containers reach this machine by the bridge's own address.
    host = run("sh", "-c", "ip -4 -o addr show docker0 | awk '{print $4}' | cut -d/ -f1")
    version = lambda *words: run("docker", "run", "--rm", "--network", "none", "esteira-test/base", *words).split()[-1].lstrip("v")
    versions = version("node", "--version"), version("python3", "--version")
    image(versions)
    root = tempfile.mkdtemp(prefix="gitea-actions-")
    os.chmod(root, 0o755)
    for folder in ("gitea", "parts", "scratch", "releases"):
        os.mkdir(os.path.join(root, folder))
    processes, passed, failed = [], 0, 0
    server = Server(os.environ["GITEA_BIN"], os.environ["GITEA_SOURCE"], os.path.join(root, "gitea"), address=host,
                    settings="\n[actions]\nENABLED = true\nDEFAULT_ACTIONS_URL = self\n")
    runner = Runner(arguments.runner, os.path.join(root, "runner"))
    try:
        process, registry_address = registry(os.path.join(root, "parts"))
        processes.append(process)
        process, ssh_port, key = sshd(os.path.join(root, "parts"), host)
        processes.append(process)
        if os.environ.get("DRONE_SSH_BIN"):
            place = os.path.join(root, "releases", "v1.8.2")
            os.mkdir(place)
            shutil.copy(os.environ["DRONE_SSH_BIN"], os.path.join(place, "drone-ssh-1.8.2-linux-amd64"))
        facts = {"%NODE%": versions[0], "%PYTHON%": versions[1], "%REGISTRY%": registry_address or "127.0.0.1:1", "%HOST%": host,
                 "%SSH_PORT%": str(ssh_port), "%RELEASES%": releases(os.path.join(root, "releases"), host)}
        runner.configure("runner:\n  capacity: 1\ncontainer:\n  docker_host: automount\n")
        code, text = runner.register(server, f"lab:docker://{IMAGE}")
        if code != 0:
            raise Refused(f"register: {text}")
        runner.start()
        published = set()
        wanted = [name for name in arguments.only.split(",") if name] or list(STEPS)
        for name in wanted:
            steps, began = STEPS[name], time.monotonic()
            for mark, value in facts.items():
                steps = steps.replace(mark, value)
            try:
                for line in steps.splitlines():
                    if "uses: " in line:
                        action, ref = line.split("uses: ")[1].split("@")
                        if (action, ref) not in published:
                            left_out = publish(server, mirror, action, ref, os.path.join(root, "scratch"))
                            published.add((action, ref))
                            if left_out:
                                print(f"       {action}@{ref} without {len(left_out)} source maps", flush=True)
                secrets = [("REGISTRY", "a-registry-password")] + ([("KEY", key)] if key else [])
                server.push(name, workflow(steps), secrets)
                job = server.ended(name, 180)[0]
                rows = [text for _, text in server.log(name, job)]
            except (Refused, TimeoutError, subprocess.CalledProcessError) as error:
                failed += 1
                print(f"FAILED {name}: {error} {getattr(error, 'stderr', '')}", flush=True)
                continue
            green = job["conclusion"] == "success"
            words = SAYS[name] if green else MAY_FAIL.get(name, "\0")
            seen = [row for row in rows if words and words in row]
            ok = bool(seen) or (green and not words)
            passed, failed = passed + ok, failed + (not ok)
            patched = sum("accepts this server" in row for row in rows)
            print(f"{'ok    ' if ok else 'FAILED'} {name} ({time.monotonic() - began:.1f} s): {job['conclusion']}"
                  f"{f', {patched} patched' if patched else ''}; {seen[-1].strip() if seen else ''}", flush=True)
            if not green or not ok:
                for row in rows[-arguments.rows:]:
                    print(f"         | {row}", flush=True)
    finally:
        runner.stop()
        server.stop()
        for process in filter(None, processes):
            process.terminate()
            process.wait()
        subprocess.run(["docker", "rmi", "-f", IMAGE], capture_output=True)
        shutil.rmtree(root, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
