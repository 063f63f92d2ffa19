"""The nine stories of the pipeline, in the order in which they build on each other."""
import json
import os
import re
import subprocess
import time

import engine
import parts
from parts import REPOSITORY, ROOT, STACK, Wrong, run, server, wait

# The whole pipeline on a busy machine; the deployment itself is bounded by DEPLOY_TIMEOUT.
LONG = 2400
DEPLOY_TIMEOUT = 420


def expect(truth, what):
    if not truth:
        raise Wrong(what)


def conclusion(jobs):
    return {name: job["conclusion"] for name, job in jobs.items()}


def no_secret(stage, text):
    for secret in (stage.registry.password, stage.sshd.key.splitlines()[2]):
        expect(secret not in text, "a secret stands in a job's log")


def green(stage, run_id, names=("test", "build", "deploy")):
    jobs = stage.gitea.finished(run_id, LONG)
    for name in names:
        if jobs[name]["conclusion"] != "success":
            tail = "\n".join(stage.gitea.text(jobs[name]).splitlines()[-40:])
            raise Wrong(f"{name} of run {run_id} is {jobs[name]['conclusion']}; its last rows:\n{tail}")
    for job in jobs.values():
        no_secret(stage, stage.gitea.text(job))
    return jobs


def seconds(job):
    return server.moment(job["completed_at"]) - server.moment(job["started_at"])


def parts_of(stage, jobs, pushed, answered):
    """From the push to the first answer, in parts."""
    found = {"wait for the runner": server.moment(jobs["test"]["started_at"]) - pushed}
    for job in jobs.values():
        found[f"{job['name']} (whole job)"] = seconds(job)
        for step in job.get("steps") or []:
            if step.get("started_at") and step.get("completed_at"):
                took = server.moment(step["completed_at"]) - server.moment(step["started_at"])
                if took >= 1:
                    found[f"{job['name']}: {step['name'][:40]}"] = took
    found["push to first answer of the new version"] = answered - pushed
    return found


def release(stage):
    """1: push, green, new version answers, and the users have noticed nothing."""
    load = stage.load("release")
    pushed = time.time()
    sha = stage.push("a release")
    job_run = stage.gitea.run_of(sha)
    jobs = green(stage, job_run["id"])
    seen = load.end()
    stage.first_run = (sha, job_run["id"])
    expect(sha[:7] in seen["versions"], f"the new version has not answered: {seen['versions']}")
    untouched(seen)
    stage.figures["release"] = parts_of(stage, jobs, pushed, seen["versions"][sha[:7]])
    stage.figures["release load"] = {key: seen[key] for key in ("requests", "failed", "seconds", "p50_ms", "p99_ms")}
    return f"{seen['requests']} requests, {seen['failed']} failed; first answer {seen['versions'][sha[:7]] - pushed:.0f} s after the push"


def untouched(seen):
    expect(seen["failed"] == 0, f"{seen['failed']} of {seen['requests']} requests failed: {json.dumps(seen['failures'][:5])}")
    expect(seen["requests"] >= 20_000, f"only {seen['requests']} requests were made")


def rolled_back(stage):
    """2: a release whose health check fails is rolled back, the job says why, the users have noticed nothing."""
    load = stage.load("rolled-back")
    file = stage.work / "docker-compose.yml"
    good = file.read_text()
    # The check asks a port where nobody listens: the program is well, and never becomes healthy.
    bad = good.replace('["CMD", "/task-api", "--healthcheck"]', '["CMD", "/task-api", "--healthcheck", "--port", "5009"]')
    expect(bad != good, "the health check of the API has another form than this test knows")
    file.write_text(bad)
    sha = stage.push("a release that never gets healthy")
    file.write_text(good)
    # Gitea reads the newest commit's message when it comes to a push: the run is to be there first.
    job_run = stage.gitea.run_of(sha)
    stage.push("the health check mended [skip ci]")
    jobs = stage.gitea.finished(job_run["id"], LONG)
    seen = load.end()
    text = stage.gitea.text(jobs["deploy"])
    no_secret(stage, text)
    expect(conclusion(jobs)["deploy"] == "failure", f"the job ended as {conclusion(jobs)}")
    expect(re.search(r"Swarm rolled back api", text), f"the log does not say it:\n{text[-2000:]}")
    expect("unhealthy" in text and re.search(r"^ *\| .*5009|^ *\| .*(listening|starting)", text, re.M), f"error and last lines are missing:\n{text[-3000:]}")
    untouched(seen)
    took = seconds(jobs["deploy"])
    stage.figures["rollback"] = {"deploy job": took, "requests": seen["requests"], "failed": seen["failed"]}
    return f"red after {took:.0f} s of deploying; {seen['requests']} requests, {seen['failed']} failed"


def held_wrong(stage):
    """3: what operators get wrong, one at a time: red, one sentence, no secret."""
    gitea, good_tag = stage.gitea, stage.current
    cases = {
        "wrong registry password": (lambda: gitea.secret("REGISTRY_PASSWORD", "not-the-password"), lambda: gitea.secret("REGISTRY_PASSWORD", stage.registry.password),
                                    good_tag, r"no login to the registry: check .*REGISTRY_PASSWORD"),
        "unknown host key": (lambda: gitea.secret("SSH_KNOWN_HOSTS", "elsewhere.example ssh-ed25519 AAAA"), lambda: gitea.secret("SSH_KNOWN_HOSTS", stage.sshd.known),
                             good_tag, r"host key is not known: .*SSH_KNOWN_HOSTS"),
        "another host key": (lambda: gitea.secret("SSH_KNOWN_HOSTS", stage.sshd.stranger), lambda: gitea.secret("SSH_KNOWN_HOSTS", stage.sshd.known),
                             good_tag, r"another ssh host key"),
        "unreachable manager": (lambda: gitea.variable("SSH_PORT", "9"), lambda: gitea.variable("SSH_PORT", str(stage.sshd.port)),
                                good_tag, r"the manager cannot be reached"),
        "stack file with a mistake": (lambda: gitea.variable("COMPOSE_FILE", stage.compose_files + ":tests/e2e/mistake.yml"), lambda: gitea.variable("COMPOSE_FILE", stage.compose_files),
                                      good_tag, r"replicas.*; correct it"),
        "image that does not start": (lambda: stage.broken_image("broken"), lambda: None, "broken", r"Swarm rolled back api .*(no such file|executable file not found)"),
        "image that is not there": (lambda: None, lambda: None, "absent", r"Swarm rolled back api .*No such image"),
    }
    for name, (spoil, mend, tag, sentence) in cases.items():
        spoil()
        try:
            job_run = gitea.dispatch(tag)
            jobs = gitea.finished(job_run["id"], LONG)
        finally:
            mend()
        text = gitea.text(jobs["deploy"])
        no_secret(stage, text)
        expect("not-the-password" not in text, "the wrong password stands in the log")
        expect(jobs["deploy"]["conclusion"] == "failure", f"{name}: the job ended as {jobs['deploy']['conclusion']}")
        told = [row for row in text.splitlines() if re.search(sentence, row)]
        expect(told, f"{name}: no row says {sentence!r}; last rows:\n" + "\n".join(text.splitlines()[-15:]))
        print(f"    {name}: {told[-1].strip()[:230]}", flush=True)
    return f"{len(cases)} mistakes, {len(cases)} sentences"


def runner_replaced(stage):
    """4: the deployment replaces the runner that runs it: the job ends green, the old runner then, a new one takes over."""
    before = {task["ID"] for task in engine.get("/tasks", service=[f"{STACK}_runner"], **{"desired-state": ["running"]})}
    run("docker", "tag", "esteira-e2e/runner:latest", "esteira-e2e/runner:second")
    stage.set_environment(RUNNER_TAG="second")
    jobs = green(stage, stage.gitea.dispatch(stage.current)["id"], ["deploy"])
    text = stage.gitea.text(jobs["deploy"])
    expect("still on the way: runner" in text, f"the log does not name the runner:\n{text[-2000:]}")

    def replaced():
        tasks = engine.get("/tasks", service=[f"{STACK}_runner"], **{"desired-state": ["running"]})
        fresh = [task for task in tasks if task["ID"] not in before and task["Status"]["State"] == "running"]
        return fresh and all("runner:second" in task["Spec"]["ContainerSpec"]["Image"] for task in fresh)
    wait(180, "the new runner runs", replaced)
    runners = [runner for runner in stage.gitea.get("/admin/actions/runners").get("runners", [])]
    expect(len(runners) <= 1, f"the new runner has registered beside the old one: {[runner['name'] for runner in runners]}")
    # The new one works.
    green(stage, stage.gitea.dispatch(stage.current)["id"], ["deploy"])
    return "green with the runner replaced underneath; same identity, next job green"


def observed(stage):
    """5: targets up, rules and panels with data, logs there, files clean."""
    count = stage.observatory.prometheus(stage.edge_metrics())
    up = stage.observatory.targets(count)
    time.sleep(30)  # two samples for every rate
    rules = stage.observatory.rules()
    panels = stage.observatory.panels()
    for service in ("api", "runner", "postgres"):
        wait(30, f"rows of {service} in the log store", lambda service=service: stage.observatory.logged(service))
    run("promtool", "test", "rules", ROOT / "tests/e2e/rules.test.yml")
    environment = {**os.environ, **stage.environment}
    run("docker", "stack", "config", "-c", ROOT / "docker-compose.yml", env=environment)
    composed = "docker compose config: clean"
    try:
        run("docker", "compose", "-f", ROOT / "docker-compose.yml", "config", "--quiet", env={**environment, "ORCHESTRATOR": "docker", "NETWORK_DRIVER": "bridge"})
    except Wrong as error:
        if "is not a docker command" not in str(error) and "unknown shorthand" not in str(error):
            raise
        stage.stand_ins.append("docker compose: not installed, its check of the file did not run")
        composed = "docker compose is not here"
    return f"{count} targets up ({', '.join(up)}), {rules} rules, {panels} panels' queries with data, docker stack config clean, {composed}"


def back_to_old(stage):
    """6: running an old commit's pipeline again brings its version back."""
    expect(stage.first_run, "there is no first release: this scenario follows `release`")
    sha, run_id = stage.first_run
    newer = stage.push("a newer release")
    green(stage, stage.gitea.run_of(newer)["id"])
    expect(stage.answers() == newer[:7], f"{stage.answers()} answers instead of {newer[:7]}")
    began = time.time()
    stage.gitea.press(REPOSITORY, "rerun", run_id)
    wait(60, "the old run starts again", lambda: any(job["status"] != "completed" for job in stage.gitea.jobs_of(run_id)))
    green(stage, run_id)
    wait(60, "the old version answers", lambda: stage.answers() == sha[:7])
    stage.figures["rollback by re-run"] = {"seconds": time.time() - began}
    return f"{sha[:7]} answers again, {time.time() - began:.0f} s after the click"


def settings(stage):
    """9: a pushed change of a dashboard gives Grafana's service a new specification and leaves every other one alone."""
    def specifications():
        return {service["Spec"]["Name"].removeprefix(f"{STACK}_"): service["Spec"]["TaskTemplate"] for service in engine.get("/services", label=[f"com.docker.stack.namespace={STACK}"])}

    def tasks(service):
        return sorted(task["ID"] for task in engine.get("/tasks", service=[f"{STACK}_{service}"], **{"desired-state": ["running"]}))

    def configs(specification):
        return {config["File"]["Name"]: config["ConfigName"] for config in specification["ContainerSpec"].get("Configs") or []}
    dashboard, tests = stage.work / "platform/grafana/dashboards/logs.json", stage.work / "tests/coverage"
    whole = tests.read_text()
    tests.write_text("#!/bin/sh\nsleep 1\n")
    dashboard.write_text(json.dumps({**json.loads(dashboard.read_text()), "description": "changed by a push"}))
    standing = ("traefik", "runner", "postgres")
    before, running = specifications(), {service: tasks(service) for service in standing}
    load = stage.load("settings")
    sha = stage.push("a dashboard")
    tests.write_text(whole)
    green(stage, stage.gitea.run_of(sha)["id"])
    seen = load.end()
    after = specifications()
    untouched(seen)
    changed = sorted(name for name in after if after[name] != before.get(name))
    expect(changed == ["api", "grafana"], f"the specification changed of {changed}; only the API (its image) and Grafana should have another one")
    old, new = configs(before["grafana"]), configs(after["grafana"])
    renamed = [file for file in new if new[file] != old.get(file)]
    expect(renamed == ["/etc/grafana/dashboards/logs.json"], f"Grafana's configs with a new name: {renamed}")
    for service in standing:
        expect(tasks(service) == running[service], f"{service} had the tasks {running[service]} and now has {tasks(service)}")
    return f"of {len(after)} services only api and grafana have changed, tasks of {', '.join(standing)} are the same ones; {seen['requests']} requests, {seen['failed']} failed"


def two_pushes(stage):
    """7: a push while the pipeline of the one before runs: never two roll-outs at once, and the newer version stays."""
    tests = stage.work / "tests/coverage"
    whole = tests.read_text()
    # What takes minutes is left out of these two commits: it is the order that is looked at.
    tests.write_text("#!/bin/sh\nsleep 5\n")
    load = stage.load("two-pushes")
    older = stage.gitea.run_of(stage.push("the older of two"))["id"]
    wait(120, "the older one is tested", lambda: any(job["name"] == "test" and job["status"] == "in_progress" for job in stage.gitea.jobs_of(older)))
    sha = stage.push("the newer of two")
    tests.write_text(whole)
    newer = stage.gitea.run_of(sha)["id"]
    jobs = green(stage, newer)
    first = stage.gitea.finished(older, LONG)
    wait(60, "the newer version answers", lambda: stage.answers() == sha[:7])
    seen = load.end()
    expect(seen["failed"] == 0, f"{seen['failed']} of {seen['requests']} requests failed: {json.dumps(seen['failures'][:5])}")
    end, begin = first["deploy"].get("completed_at"), jobs["deploy"]["started_at"]
    if conclusion(first)["deploy"] == "success":
        expect(server.moment(end) <= server.moment(begin), f"two roll-outs at once: the older one's ended at {end}, the newer one's began at {begin}")
    else:
        expect(conclusion(first)["deploy"] in ("cancelled", "skipped"), f"the older run ended as {conclusion(first)}")
    return f"the older run's jobs: {conclusion(first)}; the newer one answers, {seen['requests']} requests, {seen['failed']} failed"


OWN = """on: {push: {branches: [own]}}
jobs:
  tools:
    runs-on: own
    steps:
      - uses: actions/checkout@v4
      - run: |
          node --version && docker --version && ssh -V && cargo --version && esteira --version
          test -e platform/up
"""


def own_images(stage):
    """8: the Dockerfile's `runner` registers itself from variables and a secret file, and runs jobs in its `job`."""
    if not stage.with_coverage:
        stage.stand_ins.append("images `runner` and `job` of the Dockerfile: not made (--without-coverage leaves out what `job` is made of)")
        return "left out"
    job, runner = parts.dockerfile_images(stage.work)
    name = "esteira-e2e-own"
    shell = subprocess.run(["docker", "run", "--rm", "--entrypoint", "/bin/sh", runner, "-c", "true"], capture_output=True, text=True)
    expect(shell.returncode == 127, f"there is a shell in the runner's image: {shell}")
    file = stage.work / ".gitea/workflows/own.yml"
    file.write_text(OWN)

    def pushed(message):
        sha = parts.commit(stage.work, message)
        run("git", "-C", stage.work, "push", "-q", stage.gitea.remote(server.OWNER, REPOSITORY), "HEAD:own")
        return stage.gitea.run_of(sha, "own.yml")["id"]

    def healthy():
        return run("docker", "inspect", "-f", "{{.State.Health.Status}}", name).strip() == "healthy"

    def registered():
        return [each["id"] for each in stage.gitea.get("/admin/actions/runners")["runners"] if each["name"] == "own"]
    try:
        run("docker", "run", "-d", "--name", name, "-v", f"{name}:/data", "-v", "/var/run/docker.sock:/var/run/docker.sock",
            "-v", f"{stage.work}/platform/secrets/runner_token:/run/secrets/runner_token:ro",
            "-e", f"GITEA_INSTANCE_URL={stage.gitea.url}", "-e", "GITEA_RUNNER_REGISTRATION_TOKEN_FILE=/run/secrets/runner_token",
            "-e", "GITEA_RUNNER_NAME=own", "-e", f"GITEA_RUNNER_LABELS=own:docker://{job}", runner)
        wait(60, "the runner of the Dockerfile is healthy", healthy)
        began = registered()
        expect(len(began) == 1, f"one runner called `own` should have registered, there are {began}")
        text = stage.gitea.text(green(stage, pushed("tools"), ["tools"])["tools"])
        run("docker", "restart", name)
        wait(60, "it is healthy again", healthy)
        (stage.work / "api/RELEASE").write_text("again\n")
        green(stage, pushed("tools again"), ["tools"])
        expect(registered() == began, f"after a restart it is {registered()} instead of {began}")
    finally:
        said = subprocess.run(["docker", "logs", name], capture_output=True, text=True)
        (stage.folder / "own-runner.log").write_text(said.stdout + said.stderr)
        run("docker", "rm", "-f", name)
        run("docker", "volume", "rm", name)
        file.unlink()
    return "no shell, registered from a secret file, healthy, the same after a restart; " + ", ".join(
        row.strip() for row in text.splitlines() if re.match(r"v\d+\.|Docker version|esteira |OpenSSH|cargo ", row.strip()))


ALL = {"release": release, "rolled-back": rolled_back, "held-wrong": held_wrong, "runner-replaced": runner_replaced,
       "observed": observed, "settings": settings, "back-to-old": back_to_old, "two-pushes": two_pushes, "own-images": own_images}
