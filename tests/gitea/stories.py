"""The stories: each takes a stage, raises `Wrong` (or times out), and answers with what it saw in one line."""
import os
import random
import re
import subprocess
import tarfile
import time
import uuid

from runner import objects_of, processes_with
from server import OWNER

ALL = {}


class Wrong(Exception):
    """Not what was promised."""


def story(function):
    ALL[function.__name__] = function
    return function


def expect(condition, text):
    if not condition:
        raise Wrong(text)


def workflow(steps, keys=""):
    return f"on: push\njobs:\n  job:\n    runs-on: lab\n{keys}    steps:\n{steps}"


def texts(stage, repository, job):
    return [text for _, text in stage.server.log(repository, job)]


def numbers(rows, word):
    found = (re.fullmatch(word + r" (\d+)", row) for row in rows)
    return [int(match.group(1)) for match in found if match]


def whole(found, at_least, what):
    expect(found == list(range(1, len(found) + 1)), f"{what}: a row is missing, doubled or out of order: {found[:5]} … {found[-5:]}")
    expect(len(found) >= at_least, f"{what}: {len(found)} rows of at least {at_least}")


@story
def push(stage):
    """A push, three jobs: outputs between them, a red one, the secrets masked."""
    stage.runner()
    stage.server.push("push", """on: push
jobs:
  first:
    runs-on: lab
    outputs:
      word: ${{ steps.s.outputs.word }}
    steps:
      - id: s
        run: |
          echo "secret is ${{ secrets.HUSH }}"
          echo "word=kept" >> "$GITHUB_OUTPUT"
  second:
    needs: first
    runs-on: lab
    steps:
      - run: echo "got ${{ needs.first.outputs.word }} of ${{ github.repository }}"
  red:
    runs-on: lab
    steps:
      - run: exit 3
      - if: failure()
        run: echo after-$((1+1))
""", [("HUSH", "nobody-reads-this")])
    jobs = {job["name"]: job for job in stage.server.ended("push")}
    results = {name: job["conclusion"] for name, job in jobs.items()}
    expect(results == {"first": "success", "second": "success", "red": "failure"}, f"results: {results}")
    rows = {name: texts(stage, "push", job) for name, job in jobs.items()}
    expect("got kept of story/push" in rows["second"], "the output did not arrive")
    expect("secret is ***" in rows["first"], "the secret is not masked")
    expect(not any("nobody-reads-this" in row for all_rows in rows.values() for row in all_rows), "the secret is in a log")
    expect("after-2" in rows["red"], "the step after the failure did not run")
    steps = [(step["name"], step["conclusion"]) for step in jobs["red"].get("steps") or []]
    return f"{results}; steps of the red job: {steps}"


@story
def cancel(stage):
    """The cancel button: how long the step goes on, and what always runs."""
    runner = stage.runner()
    stage.server.push("cancel", workflow(
        "      - run: for i in $(seq 3000); do echo tick $(date +%s%N); sleep 0.02; done\n"
        "      - if: always()\n        run: echo always-$((40+2))\n"
        "      - if: cancelled()\n        run: echo cancelled-$((40+2))\n"))
    stage.server.prints("cancel", "tick")
    clicked = time.time()
    stage.server.press("cancel", "cancel")
    job = stage.server.ended("cancel")[0]
    job = stage.server.prints("cancel", "always-42", 30)
    rows = texts(stage, "cancel", job)
    last = max(int(row.split()[1]) for row in rows if re.fullmatch(r"tick \d{19}", row)) / 1e9
    expect("cancelled-42" in rows, "the cancelled() step did not run")
    expect(job["conclusion"] == "cancelled", f"conclusion: {job['conclusion']}")
    expect(last - clicked <= 3.5, f"the step went on for {last - clicked:.2f} s")
    left = objects_of(stage.uuid(runner)) if stage.backend == "docker" else []
    until = time.monotonic() + 20
    while left and time.monotonic() < until:
        time.sleep(0.2)
        left = objects_of(stage.uuid(runner))
    expect(not left, f"left in the engine: {left}")
    return f"the step went on for {last - clicked:.2f} s after the click; always() and cancelled() ran; cancelled"


@story
def rerun(stage):
    """The re-run button: the same job once more, with a log of its own."""
    stage.runner()
    stage.server.push("rerun", workflow("      - run: echo nanoseconds $(date +%s%N)\n"))
    first = texts(stage, "rerun", stage.server.ended("rerun")[0])
    stage.server.press("rerun", "rerun")
    time.sleep(0.5)
    second = first
    until = time.monotonic() + 60
    while time.monotonic() < until:
        second = texts(stage, "rerun", stage.server.ended("rerun")[0])
        if second and second != first:
            break
        time.sleep(0.2)
    stamp = lambda rows: [row for row in rows if row.startswith("nanoseconds")]
    expect(len(stamp(first)) == len(stamp(second)) == 1, "each run has one line of its own")
    expect(stamp(first) != stamp(second), "the second run shows the first one's log")
    return f"{stamp(first)[0]}, then {stamp(second)[0]}"


TICKING = ("      - run: |\n          for i in $(seq 100000); do echo \"tick $i\"; echo \"$i $(date +%s%N)\" >> SIDE; sleep 0.01; done\n")


@story
def kill(stage):
    """kill -9 at random instants of a printing job, and a restart."""
    rounds, slowest, behind = 20 if stage.full else 2, 0.0, []
    side_folder = "/tmp" if stage.backend == "docker" else stage.folder
    for number in range(rounds):
        mark, repository = str(uuid.uuid4()), f"kill-{number}"
        runner = stage.runner(f"kill-{number}")
        side = os.path.join(side_folder, f"side-{mark}")
        stage.server.push(repository, workflow(TICKING.replace("SIDE", side), f"    env:\n      STORY_MARK: {mark}\n"))
        stage.server.prints(repository, "tick 1")
        time.sleep(random.uniform(0.0, 3.0))
        # In a container the file is seen through the process that writes it.
        printed = read_side(side, mark, stage.backend)
        killed = time.time()
        runner.kill()
        time.sleep(random.uniform(0.0, 2.0))
        runner.start()
        job = stage.server.ended(repository, 60)[0]
        slowest = max(slowest, time.time() - runner.started)
        until = time.monotonic() + 30
        while time.monotonic() < until:
            found = numbers(texts(stage, repository, job), "tick")
            if len(found) >= len([at for at in printed if at < killed - 0.1]):
                break
            time.sleep(0.2)
        whole(found, len([at for at in printed if at < killed - 0.1]), f"round {number}")
        newest = printed[len(found)] if len(found) < len(printed) else killed
        behind.append(max(0.0, killed - newest))
        expect(job["conclusion"] == "failure", f"round {number}: {job['conclusion']}")
        wait_gone(stage, runner, mark, number)
        runner.stop()
    expect(slowest <= 10, f"a task ended {slowest:.1f} s after the start")
    return (f"{rounds} rounds; every task ended within {slowest:.1f} s of the start; "
            f"youngest missing row at most {max(behind) * 1000:.0f} ms old; nothing left")


ACTION = {
    "action.yml": "name: a\nruns: {using: node20, main: main.js, post: post.js}\n",
    "main.js": "console.log('main of the action');\n",
    "post.js": "console.log('post began'); setTimeout(() => console.log('post ended'), 3000);\n",
    # Fetching takes a moment.
    "ballast": "".join(f"{at * 7919 % 99991}\n" for at in range(200_000)),
}


@story
def kill_around_actions(stage):
    """kill -9 at random while a job is set up, its action fetched, its service waited for, its post running."""
    rounds, seen = 12 if stage.full else 3, []
    stage.server.put("acted", ACTION)
    services = ("    services:\n      slow:\n        image: IMAGE\n        cmd: [sh, -c, 'sleep 2; touch /ready; sleep 600']\n"
                "        options: --health-cmd 'test -f /ready' --health-interval 1s\n").replace("IMAGE", stage.image)
    for number in range(rounds):
        repository, mark = f"kill-around-{number}", str(uuid.uuid4())
        runner = stage.runner(f"around-{number}")
        keys = (services if stage.backend == "docker" else "") + f"    env:\n      STORY_MARK: {mark}\n"
        # A new commit each round, so that it is fetched anew.
        stage.server.put("acted", {f"round-{number}": mark})
        steps = f"    - uses: {stage.server.url}/{OWNER}/acted@main\n    - run: sleep 1\n"
        stage.server.push(repository, workflow(steps, keys))
        stage.server.until(repository, 60, "the job begins", lambda jobs: jobs and jobs[0]["status"] != "queued")
        time.sleep(random.uniform(0.0, 8.0))
        runner.kill()
        job = stage.server.jobs(repository)[0]
        rows = texts(stage, repository, job)
        seen.append((rows or ["nothing"])[-1][:40])
        runner.start()
        stage.server.ended(repository, 60)
        wait_gone(stage, runner, mark, number)
        store = os.path.join(runner.folder, ".runner.state", "actions")
        for folder, _, files in os.walk(os.path.join(store, "archives")):
            for file in files:
                if os.path.getsize(os.path.join(folder, file)):
                    with tarfile.open(os.path.join(folder, file)) as archive:
                        expect("action.yml" in archive.getnames(), f"round {number}: {file} is not whole")
        # What is left of a fetch goes with the start.
        left = os.listdir(os.path.join(store, "scratch")) if os.path.isdir(store) else []
        expect(not left, f"round {number}: {left} in the store")
        # And the next job is fine, with the same action.
        again = f"kill-around-{number}-again"
        stage.server.push(again, workflow(steps))
        expect(stage.server.ended(again, 90)[0]["conclusion"] == "success", f"round {number}: the next job is not fine")
        runner.stop()
    return f"{rounds} rounds, killed after: {'; '.join(seen)}; nothing left, the store whole, the next job fine"


@story
def abbreviated(stage):
    """An action at an abbreviated commit that no branch or tag names any more."""
    stage.runner()
    stage.server.put("short", {"action.yml": ACTION["action.yml"].replace(", post: post.js", ""), "main.js": "console.log('first');\n"})
    commit = stage.server.get(f"/repos/{OWNER}/short/branches/main")["commit"]["id"]
    stage.server.put("short", {"later": "x"})
    uses = f"{stage.server.url}/{OWNER}/short@"
    stage.server.push("short-seven", workflow(f"      - uses: {uses}{commit[:7]}\n"))
    job = stage.server.ended("short-seven")[0]
    rows = texts(stage, "short-seven", job)
    expect("first" in rows and job["conclusion"] == "success", f"{job['conclusion']}: {rows[-6:]}")
    expect(any(commit in row for row in rows), "no row names the whole commit")
    stage.server.push("short-none", workflow(f"      - uses: {uses}0000000\n"))
    job = stage.server.ended("short-none")[0]
    said = [row for row in texts(stage, "short-none", job) if "no tag, branch or commit" in row]
    expect(job["conclusion"] == "failure" and said, "an unknown one is no sentence")
    return f"{commit[:7]} is {commit}; {said[0]}"


@story
def terminal(stage):
    """allocate_pty: steps have a terminal, and nothing waits for somebody at it."""
    stage.runner(config="runner:\n  capacity: 1\n  allocate_pty: true\n")
    stage.server.push("terminal", workflow(
        "      - run: |\n          tty && test -t 0 && echo \"is-$((40+2))\"; cat; stty -a > /dev/null && echo $TERM\n"
        "      - run: for i in $(seq 5000); do echo tick $i; done\n"))
    job = stage.server.ended("terminal")[0]
    rows = texts(stage, "terminal", job)
    expect(job["conclusion"] == "success" and "is-42" in rows and "xterm" in rows, f"{job['conclusion']}: {rows[-12:]}")
    whole(numbers(rows, "tick"), 5000, "through a terminal")
    return f"{next(row for row in rows if row.startswith('/dev/'))}; 5000 rows in order"


def read_side(side, mark, backend):
    """Times (s) at which the job has printed its lines so far."""
    paths = [side] if backend == "host" else [f"/proc/{pid}/root{side}" for pid in processes_with(mark)]
    for path in paths:
        try:
            with open(path) as file:
                return [int(line.split()[1]) / 1e9 for line in file if re.fullmatch(r"\d+ \d{19}\n", line)]
        except (FileNotFoundError, ProcessLookupError):
            continue  # this process has ended since; another one of the job sees the same file
    return []


def wait_gone(stage, runner, mark, number):
    until = time.monotonic() + 20
    left = ["?"]
    while left and time.monotonic() < until:
        left = [f"process {pid}" for pid in processes_with(mark)]
        if stage.backend == "docker":
            left += objects_of(stage.uuid(runner))
        if left:
            time.sleep(0.2)
    expect(not left, f"round {number}: left over: {left}")


@story
def outage(stage):
    """The server is away in the middle of a job."""
    away = 60 if stage.full else 15
    count = (away + 20) * 10
    stage.runner()
    stage.server.push("outage", workflow(f"      - run: for i in $(seq {count}); do echo tick $i; sleep 0.1; done\n"))
    stage.server.prints("outage", "tick 20")
    stage.server.stop()
    time.sleep(away)
    stage.server.start()
    job = stage.server.ended("outage", 180)[0]
    found = numbers(texts(stage, "outage", job), "tick")
    whole(found, count, "after the outage")
    expect(len(found) == count, f"{len(found)} rows of {count}")
    expect(job["conclusion"] == "success", f"conclusion: {job['conclusion']}")
    return f"{away} s away; {len(found)} of {count} rows, in order, none twice; success"


@story
def restart(stage):
    """Gitea restarted between two jobs."""
    stage.runner()
    stage.server.push("restart-a", workflow("      - run: echo one\n"))
    stage.server.ended("restart-a")
    stage.server.stop()
    time.sleep(3)
    stage.server.start()
    back = time.monotonic()
    stage.server.push("restart-b", workflow("      - run: echo two\n"))
    job = stage.server.ended("restart-b")[0]
    expect(job["conclusion"] == "success", f"conclusion: {job['conclusion']}")
    return f"the job after the restart ended {time.monotonic() - back:.1f} s after Gitea was back"


def matrix(count, steps="      - run: echo mine-${{ matrix.n }}\n"):
    cells = ", ".join(str(n) for n in range(count))
    return workflow(steps, f"    strategy:\n      matrix:\n        n: [{cells}]\n")


def check_matrix(stage, repository, jobs, sample):
    wrong = [(job["name"], job["conclusion"]) for job in jobs if job["conclusion"] != "success"]
    expect(not wrong, f"not all right: {wrong[:5]}")
    for job in random.sample(jobs, min(sample, len(jobs))):
        number = re.search(r"\((\d+)\)", job["name"]).group(1)
        mine = [row for row in texts(stage, repository, job) if row.startswith("mine-")]
        expect(mine == [f"mine-{number}"], f"{job['name']} shows {mine}")


@story
def sixty(stage):
    """Many one-step jobs of one run at capacity 1: seconds for each."""
    count = 60 if stage.full else 15
    stage.server.push("sixty", matrix(count))
    runner = stage.runner()
    stage.server.until("sixty", 60, "the first job is done", lambda jobs: any(job["status"] == "completed" for job in jobs))
    began, done = time.monotonic(), sum(job["status"] == "completed" for job in stage.server.jobs("sixty"))
    jobs = stage.server.ended("sixty", 300)
    each = (time.monotonic() - began) / max(1, len(jobs) - done)
    check_matrix(stage, "sixty", jobs, 10)
    expect(len(jobs) == count, f"{len(jobs)} jobs of {count}")
    runner.stop()
    return f"{count} jobs at capacity 1: {each:.2f} s each"


@story
def twohundred(stage):
    """Many jobs at capacity 4; open files and memory against a daemon that has run few."""
    few, many = (20, 200) if stage.full else (8, 24)
    runner = stage.runner(config="runner:\n  capacity: 4\n")
    stage.server.push("few", matrix(few))
    check_matrix(stage, "few", stage.server.ended("few", 300), few)
    time.sleep(10)
    files, (memory, _) = runner.open_files(), runner.memory()
    stage.server.push("many", matrix(many))
    jobs = stage.server.ended("many", 560)
    check_matrix(stage, "many", jobs, 30)
    time.sleep(10)
    files_after, (memory_after, _) = runner.open_files(), runner.memory()
    expect(abs(files_after - files) <= 2, f"open files: {files}, then {files_after}")
    expect(abs(memory_after - memory) <= 3, f"memory: {memory:.1f}, then {memory_after:.1f} MiB")
    return (f"{many} jobs at capacity 4 all right; open files {files} then {files_after}, "
            f"memory {memory:.1f} then {memory_after:.1f} MiB")


@story
def million(stage):
    """A very long log."""
    count = 1_000_000 if stage.full else 100_000
    runner = stage.runner()
    time.sleep(2)
    before, _ = runner.memory()
    stage.server.push("million", workflow(f"      - run: seq -f 'tick %.0f' 1 {count}\n"))
    began = time.monotonic()
    job = stage.server.ended("million", 580)[0]
    seconds = time.monotonic() - began
    _, highest = runner.memory()
    found = numbers(texts(stage, "million", job), "tick")
    whole(found, count, "the long log")
    expect(job["conclusion"] == "success", f"conclusion: {job['conclusion']}")
    expect(highest - before <= 20, f"the daemon grew by {highest - before:.1f} MiB")
    return f"{count} lines, all there in order, {seconds:.1f} s; memory {before:.1f} MiB, at its highest {highest:.1f} MiB"


@story
def wrong_token(stage):
    """A registration token that is none."""
    runner = stage.unregistered()
    code, text = runner.register(stage.server, stage.label, "x" * 40)
    expect(code != 0, "the wrong token was taken")
    expect("token" in text, f"it said: {text}")
    expect(not os.path.exists(os.path.join(runner.folder, ".runner")), "it left a registration file")
    return f"exit code {code}: {text.strip().splitlines()[-1]}"


@story
def no_gitea(stage):
    """An address where nothing, or something else, answers."""
    runner = stage.unregistered()
    runner.configure("runner:\n  capacity: 1\n")
    try:
        code, text = runner.run("register", "--no-interactive", "--config", "config.yaml", "--instance",
                                stage.server.url + "/not/here", "--token", "x" * 40, "--labels", stage.label, timeout=90)
    except subprocess.TimeoutExpired:
        raise Wrong("register goes on trying for ever on a page that is no Gitea") from None
    expect(code != 0, "an address below the real one was taken")
    return f"exit code {code}: {text.strip().splitlines()[-1]}"


@story
def removed(stage):
    """The runner is removed in Gitea's settings."""
    runner = stage.runner("removed")
    until = time.monotonic() + 30
    while time.monotonic() < until and not any(row["name"] == "removed" and row["status"] != "offline" for row in stage.server.runners()):
        time.sleep(0.2)
    stage.server.remove_runner("removed")
    code = runner.process.wait(30)
    expect(code == 3, f"exit code {code}")
    return f"exit code {code}: {runner.said().strip().splitlines()[-1]}"


@story
def together(stage):
    """Two runners and an `exec` beside each other; one is killed."""
    other_label = stage.label.replace("lab:", "other:", 1)
    first, second = stage.runner("first"), stage.runner("second", label=other_label)
    steps = "      - run: for i in $(seq 60); do echo tick $i; sleep 0.1; done\n      - run: echo end-$((40+2))\n"
    stage.server.push("lost", workflow(steps))
    stage.server.push("kept", workflow(steps).replace("runs-on: lab", "runs-on: other"))
    repository = os.path.join(stage.folder, "exec")
    os.makedirs(os.path.join(repository, ".gitea", "workflows"))
    with open(os.path.join(repository, ".gitea", "workflows", "story.yml"), "w") as file:
        file.write(workflow(steps))
    for words in (["init", "-q", "-b", "main"], ["add", "-A"],
                  ["-c", "user.name=story", "-c", "user.email=story@example.invalid", "commit", "-qm", "story"]):
        subprocess.run(["git", "-C", repository, *words], check=True, env=first.environment)
    image = stage.image if stage.backend == "docker" else "-self-hosted"
    exec_log = os.path.join(stage.folder, "exec.log")
    with open(exec_log, "wb") as log:
        local = subprocess.Popen([first.binary, "exec", "--image", image], cwd=repository, env=first.environment,
                                 stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    stage.server.prints("lost", "tick 3")
    stage.server.prints("kept", "tick 3")
    first.kill()
    first.start()
    lost = stage.server.ended("lost", 60)[0]
    kept = stage.server.ended("kept", 60)[0]
    code = local.wait(60)
    with open(exec_log, errors="replace") as file:
        text = file.read()
    expect(lost["conclusion"] == "failure", f"the killed one's job: {lost['conclusion']}")
    expect(kept["conclusion"] == "success", f"the other one's job: {kept['conclusion']}")
    expect(code == 0 and "end-42" in text, f"exec: {code}\n{text[-1500:]}")
    second.stop()
    return "the killed runner's job failed, the other runner's and exec's went on to their end"

