#!/usr/bin/env python3
"""What a runner adds to a job of actions: checkout, two node actions, three run steps, on a real Gitea.

    wall.py --runner esteira=BIN --runner official=BIN [--jobs N]

Each runner runs the job N times (the first, which fetches the actions, does not count), in turn with the other. The
job's wall time is from its first log row to its last, as Gitea stored them. From it the same commands are subtracted,
run one by one with `docker exec` in one warm container. ACTIONS_MIRROR, GITEA_BIN and GITEA_SOURCE as for actions.py.
Nothing is asserted: it is a measurement.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

from actions import publish, run, workflow
from bench import bench
from server import OWNER, Refused

IMAGE = "esteira-test/base"
NODE = "console.log('one', Object.keys(process.env).filter((name) => name.startsWith('INPUT_')).length);\n"
SCRIPTS = ["echo one", "ls -a | wc -l", "git log -1 --format=%s"]
STEPS = ("- uses: actions/checkout@v4\n- uses: bench/node@v1\n  with: {word: a}\n- uses: bench/node@v1\n  with: {word: b}\n"
         + "".join(f"- run: {script}\n" for script in SCRIPTS))
CHECKOUT = {"ssh-strict": "true", "ssh-user": "git", "persist-credentials": "true", "clean": "true", "fetch-depth": "1",
            "fetch-tags": "false", "show-progress": "true", "lfs": "false", "submodules": "false", "set-safe-directory": "true",
            "sparse-checkout-cone-mode": "true"}


def seconds(server, repository, job):
    rows = [at for at, _ in server.log(repository, job)]
    return rows[-1] - rows[0]


def floor(server, mirror, repository, scratch, times):
    """The same commands in one warm container."""
    source = tempfile.mkdtemp(dir=scratch)
    archive = subprocess.run(["git", "-c", "safe.directory=*", "-C", f"{mirror}/actions+checkout/repo", "archive", "v4"],
                             check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", source], input=archive, check=True)
    with open(os.path.join(source, "node.js"), "w") as file:
        file.write(NODE)
    os.chmod(source, 0o755)
    box = run("docker", "run", "-d", "-v", f"{source}:/a:ro", IMAGE, "sleep", "3600")
    token = json.loads(server.call("POST", f"/users/{OWNER}/tokens", {"name": repository, "scopes": ["all"]}))["sha1"]
    sha = server.get(f"/repos/{OWNER}/{repository}/branches/main")["commit"]["id"]
    found = []
    try:
        for count in range(times):
            place = f"/w{count}"
            run("docker", "exec", box, "mkdir", "-p", place, "/tmp/t")
            inputs = {**CHECKOUT, "repository": f"{OWNER}/{repository}", "token": token, "path": ""}
            env = {**{f"INPUT_{name.upper()}": value for name, value in inputs.items()}, "GITHUB_WORKSPACE": place, "GITHUB_SHA": sha,
                   "GITHUB_REPOSITORY": f"{OWNER}/{repository}", "GITHUB_REF": "refs/heads/main", "GITHUB_SERVER_URL": server.url,
                   "GITHUB_API_URL": f"{server.url}/api/v1", "RUNNER_TEMP": "/tmp/t", "HOME": "/root"}
            words = [word for name, value in env.items() for word in ("-e", f"{name}={value}")]
            exec_ = lambda *command: run("docker", "exec", *words, "-w", place, box, *command)
            began = time.monotonic()
            exec_("node", "/a/dist/index.js")  # checkout
            exec_("node", "/a/node.js")
            exec_("node", "/a/node.js")
            for script in SCRIPTS:
                exec_("bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", script)
            exec_("node", "/a/dist/index.js")  # its post
            found.append(time.monotonic() - began)
    finally:
        run("docker", "rm", "-f", box)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runner", action="append", required=True, help="NAME=BIN")
    parser.add_argument("--jobs", type=int, default=5)
    arguments = parser.parse_args()
    mirror = os.environ["ACTIONS_MIRROR"]
    host = run("sh", "-c", "ip -4 -o addr show docker0 | awk '{print $4}' | cut -d/ -f1")
    walls = {}
    with bench("wall", address=host, settings="\n[actions]\nENABLED = true\nDEFAULT_ACTIONS_URL = self\n") as stage:
        server, scratch, own = stage.server, stage.folder("scratch"), stage.folder("mirror")
        node = os.path.join(own, "bench+node@v1")
        os.mkdir(node)
        for name, text in (("action.yml", "name: n\ninputs: {word: {default: x}}\nruns: {using: node20, main: node.js}\n"), ("node.js", NODE)):
            with open(os.path.join(node, name), "w") as file:
                file.write(text)
        publish(server, mirror, "actions/checkout", "v4", scratch)
        publish(server, own, "bench/node", "v1", scratch)
        runners = [stage.begin(pair, IMAGE, "{force_pull: false}") for pair in arguments.runner]
        for count in range(arguments.jobs + 1):
            for runner in runners:
                repository = f"{runner.name}-{count}"
                server.push(repository, workflow(STEPS).replace("runs-on: lab", f"runs-on: {runner.name}"))
                job = server.ended(repository, 120)[0]
                if job["conclusion"] != "success":
                    raise Refused("\n".join(text for _, text in server.log(repository, job)[-20:]))
                if count:
                    walls.setdefault(runner.name, []).append(seconds(server, repository, job))
        print(json.dumps(walls), flush=True)
        alone = floor(server, mirror, f"{runners[0].name}-1", scratch, arguments.jobs)
        base = statistics.median(alone)
        print(f"the commands alone, by docker exec in one warm container: {base:.3f} s (median of {arguments.jobs}; {min(alone):.3f} to {max(alone):.3f})")
        overheads = {}
        for name, times in walls.items():
            overheads[name] = statistics.median(times) - base
            print(f"{name}: wall {statistics.median(times):.3f} s (median; {min(times):.3f} to {max(times):.3f}), over the commands {overheads[name]:.3f} s")
        names = list(overheads)
        if len(names) == 2:
            least = [min(walls[name]) - min(alone) for name in names]
            print(f"ratio of what is added: {overheads[names[0]] / overheads[names[1]]:.3f} by the medians, "
                  f"{least[0] / least[1]:.3f} by the fastest of each ({least[0]:.3f} s and {least[1]:.3f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
