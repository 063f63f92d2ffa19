"""A real Gitea on loopback, as the stories use it: settings, pushes, runs, logs, the buttons of its pages.

Standard library only. Gitea refuses to be root, so for root it runs as `nobody`.
"""
import base64
import datetime
import http.cookiejar
import json
import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

OWNER, PASSWORD = "story", "a-password-for-stories-1"

SETTINGS = """RUN_MODE = prod
RUN_USER = {user}
WORK_PATH = {folder}

[server]
PROTOCOL = http
HTTP_ADDR = {address}
HTTP_PORT = {port}
ROOT_URL = {url}/
STATIC_ROOT_PATH = {source}
OFFLINE_MODE = true
DISABLE_SSH = true

[database]
DB_TYPE = sqlite3
PATH = {folder}/gitea.db
SQLITE_JOURNAL_MODE = WAL

[repository]
ROOT = {folder}/repositories

[security]
INSTALL_LOCK = true
SECRET_KEY = only-for-stories

[service]
DISABLE_REGISTRATION = true

[actions]
ENABLED = true

[log]
MODE = console
LEVEL = Warn

[cron.update_checker]
ENABLED = false
"""


class Refused(Exception):
    """A page or an endpoint said no."""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def moment(text):
    """Seconds since the epoch of an ISO time, 0 for none (Gitea writes year 1 or 1970)."""
    if not text:
        return 0.0
    text = text.replace("Z", "+00:00")
    text = re.sub(r"\.(\d{6})\d*", r".\1", text)
    at = datetime.datetime.fromisoformat(text).timestamp()
    return max(at, 0.0)


class Server:
    def __init__(self, binary, source, folder, address="127.0.0.1", settings="", environment=None):
        """`settings` is more text of app.ini, `environment` more of it for the process."""
        self.binary, self.folder = os.path.abspath(binary), folder
        self.port = free_port()
        self.url = f"http://{address}:{self.port}"
        self.settings = os.path.join(folder, "app.ini")
        root = os.geteuid() == 0
        user = "nobody" if root else os.environ.get("USER", "")
        self.identity = {"user": "nobody", "group": 65534, "extra_groups": []} if root else {}
        with open(self.settings, "w") as file:
            file.write(SETTINGS.format(user=user, folder=folder, address=address, port=self.port, url=self.url,
                                       source=os.path.abspath(source)) + settings)
        if root:
            for path in (folder, self.settings):
                os.chown(path, 65534, 65534)
        self.environment = {"PATH": os.environ["PATH"], "HOME": folder, "USER": user, "GITEA_WORK_DIR": folder,
                            **(environment or {})}
        self.process = None
        self.command("migrate")
        self.command("admin", "user", "create", "--admin", "--username", OWNER, "--password", PASSWORD,
                     "--email", "story@example.invalid", "--must-change-password=false")
        self.start()

    def command(self, *words):
        done = subprocess.run([self.binary, "--config", self.settings, *words], env=self.environment, cwd=self.folder,
                              capture_output=True, text=True, **self.identity)
        if done.returncode != 0:
            raise Refused(f"gitea {words[0]}: {done.stdout}{done.stderr}")

    def start(self):
        with open(os.path.join(self.folder, "web.log"), "ab") as log:
            self.process = subprocess.Popen([self.binary, "--config", self.settings, "web"], env=self.environment,
                                            cwd=self.folder, stdout=log, stderr=log, **self.identity)
        deadline = time.monotonic() + 60
        while True:
            try:
                self.get("/version")
                return
            except (OSError, Refused):
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise Refused(f"Gitea does not answer; its log is {self.folder}/web.log") from None
                time.sleep(0.1)

    def stop(self):
        """Ends it as an operator does; its data stays."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    # The API.

    def call(self, method, path, body=None):
        request = urllib.request.Request(f"{self.url}/api/v1{path}", method=method)
        login = base64.b64encode(f"{OWNER}:{PASSWORD}".encode()).decode()
        request.add_header("Authorization", f"Basic {login}")
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, data, timeout=60) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            raise Refused(f"{method} {path}: {error.code} {error.read()[:300]!r}") from None

    def get(self, path):
        return json.loads(self.call("GET", path))

    def registration_token(self):
        return json.loads(self.call("POST", "/user/actions/runners/registration-token"))["token"]

    def runners(self):
        return self.get("/user/actions/runners").get("runners") or []

    def remove_runner(self, name):
        for runner in self.runners():
            if runner["name"] == name:
                self.call("DELETE", f"/user/actions/runners/{runner['id']}")

    def push(self, repository, workflow, secrets=()):
        """A new repository and a commit with the workflow, which starts it."""
        self.call("POST", "/user/repos", {"name": repository, "auto_init": True, "default_branch": "main"})
        for name, value in secrets:
            self.call("PUT", f"/repos/{OWNER}/{repository}/actions/secrets/{name}", {"data": value})
        content = base64.b64encode(workflow.encode()).decode()
        self.call("POST", f"/repos/{OWNER}/{repository}/contents/.gitea/workflows/story.yml",
                  {"content": content, "message": "a workflow", "branch": "main"})

    def put(self, repository, files):
        """Files by name in a repository without workflow, made when it is missing; one commit each."""
        try:
            self.call("POST", "/user/repos", {"name": repository, "auto_init": True, "default_branch": "main"})
        except Refused:
            pass  # it is there already
        for name, text in files.items():
            content = base64.b64encode(text.encode()).decode()
            self.call("POST", f"/repos/{OWNER}/{repository}/contents/{name}", {"content": content, "message": name, "branch": "main"})

    def runs(self, repository):
        return self.get(f"/repos/{OWNER}/{repository}/actions/runs?limit=50").get("workflow_runs") or []

    def jobs(self, repository):
        """All jobs of the repository's newest run."""
        runs = sorted(self.runs(repository), key=lambda run: run["id"])
        found, page = [], 1
        while runs:
            answer = self.get(f"/repos/{OWNER}/{repository}/actions/runs/{runs[-1]['id']}/jobs?limit=50&page={page}")
            more = answer.get("jobs") or []
            found += more
            if not more or len(found) >= answer.get("total_count", 0):
                break
            page += 1
        return found

    def log(self, repository, job):
        """The stored log of a job: (time, text) of each row; empty while there is none."""
        try:
            text = self.call("GET", f"/repos/{OWNER}/{repository}/actions/jobs/{job['id']}/logs").decode("utf-8", "replace")
        except Refused:
            return []
        rows = []
        for line in text.split("\n"):
            stamp, space, content = line.partition(" ")
            if space and re.match(r"\d{4}-\d\d-\d\dT", stamp):
                rows.append((moment(stamp), content.rstrip("\r")))
        return rows

    def until(self, repository, seconds, what, look):
        """Asks every 100 ms until `look(jobs)` sees something."""
        deadline, jobs = time.monotonic() + seconds, []
        while time.monotonic() < deadline:
            try:
                jobs = self.jobs(repository)
                seen = look(jobs)
                if seen:
                    return seen
            except OSError:
                pass  # a story may have stopped the server
            time.sleep(0.1)
        raise TimeoutError(f"not within {seconds} s: {what}; jobs: {[(job['name'], job['status']) for job in jobs][:8]}")

    def ended(self, repository, seconds=120):
        done = lambda jobs: jobs if jobs and all(job["status"] == "completed" for job in jobs) else None
        return self.until(repository, seconds, f"the jobs of {repository} end", done)

    def prints(self, repository, text, seconds=90):
        """Waits until a row of a running job contains `text`; that job."""
        def look(jobs):
            for job in jobs:
                if job["status"] in ("in_progress", "running", "completed") and any(text in row for _, row in self.log(repository, job)):
                    return job
            return None
        return self.until(repository, seconds, f"a row with {text!r}", look)

    # The buttons.

    def press(self, repository, button, run_id=None):
        """Presses `cancel` or `rerun` on the page of a run, the newest one without an id."""
        jar = http.cookiejar.CookieJar()
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
        page = browser.open(f"{self.url}/user/login", timeout=30).read().decode()
        form = {"user_name": OWNER, "password": PASSWORD}
        hidden = re.search(r'name="_csrf" value="([^"]+)"', page)
        if hidden:
            form["_csrf"] = hidden.group(1)
        browser.open(f"{self.url}/user/login", urllib.parse.urlencode(form).encode(), timeout=30).read()
        runs = [run for run in self.runs(repository) if run_id in (None, run["id"])]
        newest = max(runs, key=lambda run: run["id"])
        address = re.sub(r"/jobs/.*$", "", newest["html_url"])
        request = urllib.request.Request(f"{address}/{button}", data=b"", method="POST")
        for cookie in jar:
            if cookie.name == "_csrf":
                request.add_header("X-Csrf-Token", urllib.parse.unquote(cookie.value))
        browser.open(request, timeout=30).read()
