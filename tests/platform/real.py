#!/usr/bin/env python3
"""The whole platform for real, as an operator starts it: platform/up, then platform/up --swarm, all twelve services.

    real.py [--only compose|swarm]      called by tests/platform/real.sh on an engine and a network of its own

Programs that can be had are in images stand-in/NAME (tests/platform/images.sh); Grafana and Alloy are stood in for. The
last line is `N passed, N failed`.
"""
import base64
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
from parts import ROOT, Wrong, commit, run, tracked, wait  # noqa: E402

HOSTS = {"git.localhost/api/healthz": "200", "api.localhost/tasks": "200", "grafana.localhost/api/health": "200", "registry.localhost/v2/": "401"}
SERVICES = 12
WORKFLOW = """on: push
jobs:
  first:
    runs-on: ubuntu-latest
    steps:
      - run: |
          base="${ACTIONS_CACHE_URL}_apis/artifactcache"
          call() { curl -sSf -H "Authorization: Bearer $ACTIONS_RUNTIME_TOKEN" -H 'Content-Type: application/json' "$@"; }
          id=$(call "$base/caches" -d '{"key":"k","version":"v","cacheSize":5}' | tr -dc 0-9)
          printf hello | call -X PATCH -H 'Content-Type: application/octet-stream' -H 'Content-Range: bytes 0-4/*' --data-binary @- "$base/caches/$id"
          call "$base/caches/$id" -d '{"size":5}'
      - run: docker version --format 'engine {{.Server.Version}}'
  second:
    needs: first
    runs-on: ubuntu-latest
    steps:
      - run: |
          found=$(curl -sSf -H "Authorization: Bearer $ACTIONS_RUNTIME_TOKEN" "${ACTIONS_CACHE_URL}_apis/artifactcache/cache?keys=k&version=v")
          echo "cache at $ACTIONS_CACHE_URL says $(curl -sSf "$(echo "$found" | sed 's/.*"archiveLocation":"\\([^"]*\\)".*/\\1/')")"
"""


def expect(truth, what):
    if not truth:
        raise Wrong(what)


class Platform:
    def __init__(self, folder):
        self.tree = folder / "tree"
        tracked(self.tree)
        lines = {"COMPOSE_FILE": "docker-compose.yml:tests/platform/endpoints.yml", "RUNNER_IMAGE": "stand-in/runner", "RUNNER_TAG": "real",
                 "RUNNER_LABELS": "ubuntu-latest:docker://esteira-e2e/toolchain:latest", "BUILD_ARGS": "--build-arg RUST_IMAGE=esteira-e2e/rust --build-arg CARGO_PROFILE=dev"}
        for name in ("traefik", "gitea", "registry", "prometheus", "loki", "alloy", "grafana", "cadvisor", "node-exporter"):
            lines[f"{name.upper().replace('-', '_')}_IMAGE"] = f"stand-in/{name}:latest"
        lines["POSTGRES_IMAGE"] = "esteira-e2e/postgres:latest"
        text = (self.tree / ".env.example").read_text()
        for name, value in lines.items():
            text = "".join(f"{name}={value}\n" if line.startswith(f"{name}=") else line for line in text.splitlines(keepends=True))
            expect(f"\n{name}={value}\n" in text, f".env.example has no line {name}=")
        (self.tree / ".env").write_text(text)

    def up(self, *arguments):
        began = time.monotonic()
        said = run("platform/up", *arguments, cwd=self.tree)
        print(f"    platform/up {' '.join(arguments)}: {time.monotonic() - began:.0f} s; {said.strip().splitlines()[-1][:150]}", flush=True)
        return said

    def secret(self, name):
        return (self.tree / "platform/secrets" / name).read_text()

    def env(self):
        return (self.tree / ".env").read_text()

    def curl(self, url, *words):
        return run("curl", "-sS", "--max-time", "20", "--cacert", self.tree / "platform/secrets/edge_certificate", *words, url)

    def api(self, path, body=None):
        words = ["-u", f"admin:{self.secret('gitea_admin_password')}", "-f"]
        if body is not None:
            words += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        text = self.curl(f"https://git.localhost/api/v1{path}", *words)
        return json.loads(text) if text.strip() else None

    def answers(self):
        """Every host name, with the certificate that platform/up has made."""
        # The edge takes what has become healthy in a moment later.
        for url, code in HOSTS.items():
            wait(30, f"{url} answers {code}", lambda url=url, code=code: self.curl(f"https://{url}", "-o", "/dev/null", "-w", "%{http_code}") == code)
        moved = self.curl("http://git.localhost/x", "-o", "/dev/null", "-w", "%{redirect_url}")
        expect(moved in ("https://git.localhost/x", "https://git.localhost:443/x"), f"port 80 leads to {moved!r}")

    def prometheus(self, path):
        container = run("docker", "ps", "-q", "--filter", "ancestor=stand-in/prometheus:latest").split()[0]
        return json.loads(run("docker", "exec", container, "wget", "-q", "-O", "-", f"http://localhost:9090/api/v1/{path}"))["data"]

    def targets(self):
        """Every target that Prometheus found by DNS is up; one for each job at least."""
        def look():
            found = self.prometheus("targets?state=active")["activeTargets"]
            down[:] = [f"{target['labels']['job']} {target['scrapeUrl']} {target['health']} {target['lastError']}" for target in found if target["health"] != "up"]
            jobs = {target["labels"]["job"] for target in found}
            missing[:] = sorted({"prometheus", "traefik", "runner", "api", "gitea", "cadvisor", "node", "loki"} - jobs)
            return None if down or missing else len(found)
        down, missing = [], []
        try:
            return wait(120, "every target is up", look)
        except Wrong:
            raise Wrong(f"targets that are down: {down}; jobs without a target: {missing}") from None

    def workflow(self, name):
        """A push to a new repository; the rows of both jobs."""
        self.api("/user/repos", {"name": name, "default_branch": "main"})
        work = self.tree.parent / name
        (work / ".gitea/workflows").mkdir(parents=True)
        (work / ".gitea/workflows/w.yml").write_text(WORKFLOW)
        commit(work, "a workflow", new=True)
        login = urllib.parse.quote(self.secret("gitea_admin_password"))
        run("git", "-C", work, "push", "-q", f"https://admin:{login}@git.localhost/admin/{name}.git", "main",
            env={**os.environ, "GIT_SSL_CAINFO": str(self.tree / "platform/secrets/edge_certificate")})

        def ended():
            jobs = (self.api(f"/repos/admin/{name}/actions/tasks") or {}).get("workflow_runs") or []
            return jobs if len(jobs) == 2 and all(job["status"] in ("success", "failure", "cancelled", "skipped") for job in jobs) or any(job["status"] == "failure" for job in jobs) else None
        jobs = wait(180, "the workflow's two jobs end", ended)
        runs = self.api(f"/repos/admin/{name}/actions/runs")["workflow_runs"]
        rows = {job["name"]: self.curl(f"https://git.localhost/api/v1/repos/admin/{name}/actions/jobs/{job['id']}/logs", "-u", f"admin:{self.secret('gitea_admin_password')}")
                for job in self.api(f"/repos/admin/{name}/actions/runs/{runs[0]['id']}/jobs")["jobs"]}
        expect(all(job["status"] == "success" for job in jobs), "the workflow is red:\n" + "\n".join(rows.values())[-3000:])
        said = [line for line in rows["second"].splitlines() if "cache at" in line and "says hello" in line]
        expect(said, "the second job has not got what the first one stored:\n" + rows["second"][-1500:])
        return said[-1].split("Z ", 1)[-1]

    def containers(self):
        label = "com.docker.compose.project" if "ORCHESTRATOR=docker" in self.env().splitlines() else "com.docker.swarm.service.name"
        return {tuple(line.split()) for line in run("docker", "ps", "--format", f'{{{{.Label "{label}"}}}} {{{{.Names}}}} {{{{.ID}}}}', "--filter", f"label={label}").splitlines()}

    def runners(self):
        return [(runner["id"], runner["name"]) for runner in self.api("/admin/actions/runners")["runners"]]


def compose(platform):
    """platform/up on a fresh machine, a workflow, and a second call."""
    platform.up()
    platform.answers()
    count = platform.targets()
    cached = platform.workflow("first")
    before, env = platform.containers(), platform.env()
    expect(len(before) == SERVICES + 1, f"{len(before)} containers run instead of {SERVICES + 1}: {before}")
    platform.up()
    expect(platform.containers() == before, f"the second call changed containers: {before ^ platform.containers()}")
    expect(platform.env() == env, "the second call changed .env")
    refused = subprocess.run(["platform/up", "--swarm"], cwd=platform.tree, capture_output=True, text=True)
    expect(refused.returncode == 1 and "the network web is there already, as bridge" in refused.stderr, f"platform/up --swarm beside Compose: {refused}")
    run("docker", "compose", "--project-name", "platform", "down", cwd=platform.tree)
    return f"{SERVICES} services, 4 host names answer over TLS, {count} targets up, {cached!r}; the second call left every container as it was"


def swarm(platform):
    """The same machine with Swarm: the data is still there; a release stays; one changed file, one service."""
    fresh = not (platform.tree / "platform/secrets/gitea_admin_password").exists()
    platform.up("--swarm")
    platform.answers()
    count = platform.targets()
    expect(fresh or platform.api("/repos/admin/first"), "the repository of the Compose world is gone")
    cached = platform.workflow("second")
    runners = platform.runners()
    expect(len(runners) == 1, f"registered runners: {runners}")

    # A release, as the pipeline makes it: pushed through the edge to the platform's own registry, from a clean checkout.
    clean = platform.tree.parent / "clean"
    tracked(clean)
    login = base64.b64encode(f"pusher:{platform.secret('registry_password')}".encode()).decode()
    (clean / "config.json").write_text(json.dumps({"auths": {"registry.localhost": {"auth": login}}}))
    docker = {**os.environ, "DOCKER_CONFIG": str(clean)}
    local = next(line.split("=", 1)[1] for line in platform.env().splitlines() if line.startswith("IMAGE_TAG="))
    run("docker", "tag", f"esteira/task-api:{local}", "registry.localhost/task-api:abc1234")
    run("docker", "push", "registry.localhost/task-api:abc1234", env=docker)
    settings = dict(line.split("=", 1) for line in platform.env().splitlines() if "=" in line and not line.startswith("#"))
    run(os.environ["ESTEIRA_BIN"], "deploy", "platform", "-c", "docker-compose.yml", "-c", "platform/pipeline.yml", "-c", "tests/platform/endpoints.yml",
        "--with-registry-auth", "--revision", "abc1234", cwd=clean, env={**docker, **settings, "API_IMAGE": "registry.localhost/task-api", "IMAGE_TAG": "abc1234"})
    before = platform.containers()
    expect(len(before) == SERVICES + 1, f"{len(before)} containers run instead of {SERVICES + 1}: {before}")
    said = platform.up("--swarm")
    expect("the API stays at registry.localhost/task-api:abc1234" in said, f"platform/up does not say that the release stays:\n{said}")
    expect(platform.containers() == before, f"the second call changed tasks: {before ^ platform.containers()}")
    image = run("docker", "service", "inspect", "-f", "{{.Spec.TaskTemplate.ContainerSpec.Image}}", "platform_api").strip()
    expect(image.startswith("registry.localhost/task-api:abc1234@sha256:"), f"the API's image is now {image}")

    file = platform.tree / "platform/grafana/dashboards/api.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "description": "changed"}))
    said = platform.up("--swarm")
    changed = {name for name, *_ in before ^ platform.containers()}
    expect(changed == {"platform_grafana"}, f"a changed dashboard replaced tasks of {changed}")
    expect("STACK_ENV" in said, "nobody was told that .env has changed")
    expect(platform.runners() == runners, f"the runner has registered again: {platform.runners()}")
    return f"{SERVICES} services, {count} targets up, {cached!r}; a pushed release stays and nothing restarts; a changed dashboard restarts grafana only; {image[:60]}"


SCENARIOS = {"compose": compose, "swarm": swarm}


def main():
    wanted = sys.argv[2].split(",") if sys.argv[1:2] == ["--only"] else list(SCENARIOS)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="esteira-platform-"))
    folder.chmod(0o755)
    passed = failed = 0
    platform = Platform(folder)
    for name in wanted:
        began = time.monotonic()
        try:
            seen = SCENARIOS[name](platform)
            print(f"ok     {name} ({time.monotonic() - began:.0f} s): {seen}", flush=True)
            passed += 1
        except Wrong as error:
            print(f"FAILED {name} ({time.monotonic() - began:.0f} s): {error}", flush=True)
            failed += 1
            break
    if os.environ.get("KEEP"):
        print(f"kept: {folder}")
    else:
        shutil.rmtree(folder)
    print("STAND-IN Grafana answers its health check only, Alloy only waits; the images of the other parts are made around this machine's programs")
    print(f"{passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
