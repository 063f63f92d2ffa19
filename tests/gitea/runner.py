"""The runner under test, by its command line only: any binary with `register` and `daemon` will do."""
import os
import signal
import subprocess
import time

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Runner:
    def __init__(self, binary, folder, name="story"):
        self.binary, self.folder, self.name = os.path.abspath(binary), folder, name
        os.makedirs(os.path.join(folder, "tmp"), exist_ok=True)
        self.environment = {"PATH": PATH, "HOME": folder, "TMPDIR": os.path.join(folder, "tmp")}
        for variable in ("DOCKER_HOST",):
            if variable in os.environ:
                self.environment[variable] = os.environ[variable]
        self.process = None
        self.started = 0.0

    def run(self, *words, timeout=60):
        """Runs it to its end: exit code and what it said."""
        done = subprocess.run([self.binary, *words], cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout)
        return done.returncode, done.stdout

    def configure(self, text):
        with open(os.path.join(self.folder, "config.yaml"), "w") as file:
            file.write(text)

    def register(self, server, label, token=None):
        if not os.path.exists(os.path.join(self.folder, "config.yaml")):
            self.configure("runner:\n  capacity: 1\n")
        code, text = self.run("register", "--no-interactive", "--config", "config.yaml", "--instance", server.url,
                              "--token", token or server.registration_token(), "--name", self.name, "--labels", label)
        return code, text

    def start(self):
        with open(os.path.join(self.folder, "daemon.log"), "ab") as log:
            self.process = subprocess.Popen([self.binary, "daemon", "--config", "config.yaml"], cwd=self.folder,
                                            env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.started = time.time()

    def said(self):
        with open(os.path.join(self.folder, "daemon.log"), errors="replace") as file:
            return file.read()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.returncode if self.process else None

    def memory(self):
        """Resident memory now and at its highest, MiB."""
        values = {}
        with open(f"/proc/{self.process.pid}/status") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key in ("VmRSS", "VmHWM"):
                    values[key] = int(value.split()[0]) / 1024
        return values["VmRSS"], values["VmHWM"]

    def open_files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


def engine_answers():
    try:
        return subprocess.run(["docker", "info"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
    except FileNotFoundError:
        return False


def engine_objects(kinds=("container", "network", "volume")):
    """Names of what is in the engine, as a set of `kind name`."""
    found = set()
    for kind in kinds:
        words = {"container": ["ps", "-a", "--format", "{{.ID}}"], "network": ["network", "ls", "--format", "{{.ID}}"],
                 "volume": ["volume", "ls", "--format", "{{.Name}}"]}[kind]
        text = subprocess.run(["docker", *words], capture_output=True, text=True, check=True).stdout
        found |= {f"{kind} {name}" for name in text.split()}
    return found


def objects_of(owner):
    """What in the engine carries `owner` (a runner's uuid) as the value of a label, without the shared agent volume."""
    found = []
    for kind, words in (("container", ["ps", "-a"]), ("network", ["network", "ls"]), ("volume", ["volume", "ls"])):
        name = "{{.Names}}" if kind == "container" else "{{.Name}}"
        text = subprocess.run(["docker", *words, "--format", name + "\t{{.Labels}}"], capture_output=True, text=True, check=True).stdout
        for line in text.splitlines():
            what, _, labels = line.partition("\t")
            if owner in [pair.partition("=")[2] for pair in labels.split(",")] and "agent" not in what:
                found.append(f"{kind} {what}")
    return found


def processes_with(mark):
    """Process ids whose environment or command line contains `mark`."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for file in ("environ", "cmdline"):
            try:
                with open(f"/proc/{pid}/{file}", "rb") as stream:
                    if mark.encode() in stream.read():
                        found.append(int(pid))
                        break
            except OSError:
                pass  # it has ended meanwhile, or is not ours to read
    return found
