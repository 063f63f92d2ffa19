#!/usr/bin/env python3
"""The whole pipeline, end to end, on this machine: git push to Gitea, tests, image, registry, ssh, Swarm, users.

    run.py [--only NAME,NAME] [--keep] [--without-coverage]
                                              names: release rolled-back held-wrong runner-replaced observed settings
                                              back-to-old two-pushes own-images

Real: Gitea (GITEA_BIN, GITEA_SOURCE), the engine and its Swarm, docker-registry, sshd, PostgreSQL, Prometheus, node
exporter, and the runner under test (ESTEIRA_BIN) as a service of the shipped stack. With TRAEFIK_BIN, LOKI_BIN and
CADVISOR_BIN these are real too, with ACTIONS_ROOT actions/checkout; otherwise stand-ins, named in the last lines.
Load goes to loopback only. Everything lives in a temporary folder and in the stack esteira-e2e, and is removed again.
"""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

import observe
import parts
import scenarios
from parts import HERE, REPOSITORY, STACK, Wrong, run, server

RATE = 120


class Load:
    """The users, in a process of their own."""

    def __init__(self, stage, name):
        name = f"{name}-{len(stage.loads)}"
        self.stop, self.output = stage.folder / f"{name}.stop", stage.folder / f"{name}.json"
        with open(self.output, "wb") as output:
            self.process = subprocess.Popen(["python3", HERE / "load.py", str(stage.edge_port), "api.localhost", str(scenarios.LONG), str(RATE), self.stop],
                                            stdout=output, env={**os.environ, **({"E2E_TLS": "1"} if stage.traefik else {})})

    def end(self):
        self.stop.touch()
        self.process.wait(scenarios.LONG)
        return json.loads(self.output.read_text())


class Stage:
    """All parts together."""

    def __init__(self, folder, binary, with_coverage):
        self.folder, self.binary, self.stand_ins, self.figures, self.loads = folder, binary, [], {}, []
        self.with_coverage = with_coverage
        self.first_run = None
        self.processes = parts.Processes(folder)
        self.traefik = os.environ.get("TRAEFIK_BIN")
        self.work = folder / "work"
        parts.tracked(self.work)
        if with_coverage:
            # The only change to what is shipped: the coverage tool traces processes, which the default profile forbids.
            config = self.work / "platform/runner.yml"
            more = "container:\n  privileged: true\n  options: --privileged=false --security-opt seccomp=unconfined\n"
            config.write_text(config.read_text().replace("container:\n", more))
        if not with_coverage:
            self.stand_ins.append("tests with coverage: not run by the pipeline's first job (--without-coverage)")
            (self.work / "tests/coverage").write_text("#!/bin/sh\necho left out by --without-coverage\n")
        # Our own pipeline only: the other workflows have tests of their own.
        for other in ("ci.yml", "demo.yml"):
            (self.work / ".gitea/workflows" / other).unlink(missing_ok=True)
        run("platform/up", "--swarm", "--render", cwd=self.work)
        address = parts.bridge_address()
        self.registry = parts.Registry(self.processes, folder / "registry", parts.password())
        self.sshd = parts.Sshd(self.processes, folder / "sshd", address)
        metrics_token = (self.work / "platform/secrets/gitea_metrics_token").read_text()
        self.gitea = parts.Gitea(folder / "gitea", address, self.work / "platform/secrets/runner_token", metrics_token)
        missing = self.gitea.checkout_action()
        if missing:
            self.stand_ins.append(missing)
        self.docker = self.registry.environment(folder / "docker")
        self.current = "first"
        run("docker", "tag", "esteira-e2e/task-api:first", f"{self.registry.name}/task-api:first")
        run("docker", "push", f"{self.registry.name}/task-api:first", env=self.docker)
        self.compose_files = "docker-compose.yml:platform/pipeline.yml:tests/e2e/stack.yml"
        self.edge_port = server.free_port()
        self.environment = {}
        for line in (self.work / ".env").read_text().splitlines():
            name, sign, value = line.partition("=")
            if sign and not name.startswith("#"):
                self.environment[name] = value
        self.environment.update(
            API_IMAGE=f"{self.registry.name}/task-api", IMAGE_TAG="first",
            POSTGRES_IMAGE="esteira-e2e/postgres:latest", RUNNER_IMAGE="esteira-e2e/runner", RUNNER_TAG="latest", TRAEFIK_IMAGE="esteira-e2e/traefik:latest",
            RUNNER_LABELS="ubuntu-latest:docker://esteira-e2e/job:latest", GITEA_INSTANCE_URL=self.gitea.url,
            HTTP_PORT=str(server.free_port()), HTTPS_PORT=str(self.edge_port), E2E_TRAEFIK="1" if self.traefik else "0")

    def start(self):
        """The platform as an operator starts it, then the edge, then the pipeline's settings."""
        if self.traefik:
            run(HERE / "traefik.sh", self.traefik)
        print("the stack's first deployment", flush=True)
        said = run(self.binary, "deploy", STACK, "-c", "docker-compose.yml", "-c", "tests/e2e/stack.yml", "--with-registry-auth", "--timeout", "420",
                   cwd=self.work, env={**self.docker, **self.environment})
        print("    " + said.strip().splitlines()[-1], flush=True)
        if not self.traefik:
            self.stand_ins.append("Traefik: a small proxy that follows the healthy tasks and never tries twice (TRAEFIK_BIN is not set)")
            self.processes.start("edge", "python3", HERE / "edge.py", f"{STACK}_api", "5000", str(self.edge_port))
        parts.wait(60, "the API answers through the edge", self.answers)
        for name, value in {"REGISTRY_URL": self.registry.name, "REGISTRY_USERNAME": self.registry.user, "REGISTRY_PASSWORD": self.registry.password,
                            "SSH_HOST": self.sshd.address, "SSH_USER": os.environ.get("USER") or "root", "SSH_PRIVATE_KEY": self.sshd.key,
                            "SSH_KNOWN_HOSTS": self.sshd.known}.items():
            self.gitea.secret(name, value)
        for name, value in {"DEPLOY": "all", "STACK_NAME": STACK, "COMPOSE_FILE": self.compose_files, "DEPLOY_TIMEOUT": str(scenarios.DEPLOY_TIMEOUT),
                            "SSH_PORT": str(self.sshd.port), "BUILD_ARGS": " ".join(parts.API_ARGUMENTS)}.items():
            self.gitea.variable(name, value)
        self.set_environment()
        self.observatory = observe.Observatory(self.processes, self.folder / "observatory", self.gitea, (self.work / "platform/secrets/gitea_metrics_token").read_text(), self.stand_ins)

    def set_environment(self, **more):
        """What the stack file asks for, as the repository's variable."""
        self.environment.update(more)
        self.gitea.variable("STACK_ENV", "\n".join(f"{name}={value}" for name, value in self.environment.items()))

    def push(self, message):
        """A commit of the working copy, pushed to main; its id."""
        new = not (self.work / ".git").exists()
        (self.work / "api/RELEASE").write_text(f"{message} {time.time()}\n")
        sha = parts.commit(self.work, message, new)
        run("git", "-C", self.work, "push", "-q", self.gitea.remote(server.OWNER, REPOSITORY), "HEAD:main")
        return sha

    def load(self, name):
        self.loads.append(Load(self, name))
        return self.loads[-1]

    def quiet(self):
        """The users of a scenario that has failed go home."""
        for load in self.loads:
            if load.process.poll() is None:
                load.process.kill()
                load.process.wait()

    def answers(self):
        """The commit of the version that answers, None where none does, "mixed" during an update."""
        curl = ["curl", "-fsSk", "--max-time", "5", "--resolve", f"api.localhost:{self.edge_port}:127.0.0.1",
                f"{'https' if self.traefik else 'http'}://api.localhost:{self.edge_port}/metrics"]
        seen = set()
        for _ in range(4):
            done = subprocess.run(curl, capture_output=True, text=True)
            seen |= {line.partition('commit="')[2].partition('"')[0] for line in done.stdout.splitlines() if line.startswith("task_api_build_info")}
        self.current = seen.copy().pop() if len(seen) == 1 else self.current
        return seen.pop() if len(seen) == 1 else ("mixed" if seen else None)

    def edge_metrics(self):
        import engine
        return [f"127.0.0.1:{port}" for port in engine.healthy_ports(f"{STACK}_traefik", 8082)] if self.traefik else []

    def broken_image(self, tag):
        """An image whose program is not there."""
        folder = self.folder / "broken"
        folder.mkdir(exist_ok=True)
        (folder / "Dockerfile").write_text("FROM esteira-test/empty\nENTRYPOINT [\"/task-api\"]\n")
        run("docker", "build", "-t", f"{self.registry.name}/task-api:{tag}", folder)
        run("docker", "push", f"{self.registry.name}/task-api:{tag}", env=self.docker)

    def end(self, keep):
        self.quiet()
        if keep:
            print(f"kept: {self.folder}, stack {STACK}")
            return
        remove_stack()
        self.gitea.stop()
        self.processes.end()


def remove_stack():
    subprocess.run(["docker", "stack", "rm", STACK], capture_output=True)
    # A service's containers outlive it by their grace period; volumes can go after them.
    deadline = time.monotonic() + 90
    label = ["--filter", f"label=com.docker.stack.namespace={STACK}"]
    while subprocess.run(["docker", "ps", "-q", *label], capture_output=True, text=True).stdout.strip() and time.monotonic() < deadline:
        time.sleep(1)
    for kind in ("volume", "network"):
        names = subprocess.run(["docker", kind, "ls", "-q", *label], capture_output=True, text=True).stdout.split()
        if names:
            subprocess.run(["docker", kind, "rm", *names], capture_output=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="names of scenarios, separated by commas")
    parser.add_argument("--keep", action="store_true", help="leave the stack and the parts running")
    parser.add_argument("--without-coverage", action="store_true", help="the pipeline's first job tests nothing: for trying the rest in a hurry")
    parser.add_argument("--folder", help="an empty folder to work in, kept")
    arguments = parser.parse_args()
    missing = [name for name in ("GITEA_BIN", "GITEA_SOURCE", "ESTEIRA_BIN") if not os.environ.get(name)]
    if missing:
        parser.error(f"not set: {', '.join(missing)}")
    wanted = [name for name in arguments.only.split(",") if name] or list(scenarios.ALL)
    unknown = [name for name in wanted if name not in scenarios.ALL]
    if unknown:
        parser.error(f"no scenario is called {unknown[0]}; there are {', '.join(scenarios.ALL)}")
    for program in ("docker", "docker-registry", "/usr/sbin/sshd", "htpasswd", "prometheus", "promtool", "prometheus-node-exporter", "git", "curl"):
        if not shutil.which(program):
            parser.error(f"{program} is not here; on Debian: docker.io docker-registry openssh-server apache2-utils prometheus prometheus-node-exporter")
    state = run("docker", "info", "--format", "{{.Swarm.LocalNodeState}}").strip()
    began_swarm = state == "inactive"
    if began_swarm:
        run("docker", "swarm", "init", "--advertise-addr", "127.0.0.1")

    folder = pathlib.Path(arguments.folder or tempfile.mkdtemp(prefix="esteira-e2e-")).resolve()
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    passed, failed, stage = 0, 0, None
    try:
        remove_stack()
        parts.images(folder, os.environ["ESTEIRA_BIN"], not arguments.without_coverage)
        stage = Stage(folder, os.environ["ESTEIRA_BIN"], not arguments.without_coverage)
        stage.start()
        for name in wanted:
            began = time.monotonic()
            try:
                seen = scenarios.ALL[name](stage)
                passed += 1
                print(f"ok     {name} ({time.monotonic() - began:.0f} s): {seen}", flush=True)
            except Exception as error:  # a scenario that breaks is a failed one, whatever broke
                failed += 1
                print(f"FAILED {name} ({time.monotonic() - began:.0f} s): {error}", flush=True)
                if not isinstance(error, (Wrong, server.Refused)):
                    traceback.print_exc()
                stage.quiet()
    except (Wrong, server.Refused) as error:
        failed += 1
        print(f"FAILED start: {error}", flush=True)
    finally:
        if stage:
            stage.end(arguments.keep)
        if began_swarm and not arguments.keep:
            subprocess.run(["docker", "swarm", "leave", "--force"], capture_output=True)
        if not arguments.keep and not arguments.folder:
            shutil.rmtree(folder, ignore_errors=True)
    if stage:
        for name, figures in stage.figures.items():
            print(f"{name}: " + ", ".join(f"{key} {value:.1f}" if isinstance(value, float) else f"{key} {value}" for key, value in figures.items()))
        for stand_in in stage.stand_ins:
            print(f"STAND-IN {stand_in}")
    print(f"{passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
