"""What the measurements share: a Gitea of their own, the runners that are compared on it, and the end of all of them."""
import contextlib
import os
import shutil
import signal
import sys
import tempfile

from runner import Runner
from server import Refused, Server


class Bench:
    """A folder, a Gitea in it, and the runners begun so far."""

    def __init__(self, root, **server):
        self.root, self.runners = root, []
        self.server = Server(os.environ["GITEA_BIN"], os.environ["GITEA_SOURCE"], self.folder("gitea"), **server)

    def folder(self, name):
        path = os.path.join(self.root, name)
        os.mkdir(path)
        return path

    def begin(self, pair, image, container, **environment):
        """Registers the runner NAME=BIN for jobs in containers of `image` under its name, and starts it."""
        name, _, binary = pair.partition("=")
        runner = Runner(binary, os.path.join(self.root, name), name)
        self.runners.append(runner)
        runner.environment.update(environment)
        runner.configure(f"runner:\n  capacity: 1\n  file: .runner\ncontainer: {container}\n")
        code, text = runner.register(self.server, f"{name}:docker://{image}")
        if code != 0:
            raise Refused(f"register {name}: {text}")
        runner.start()
        return runner


@contextlib.contextmanager
def bench(purpose, **server):
    """Ends with everything gone, however it ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    root = tempfile.mkdtemp(prefix=f"gitea-{purpose}-")
    os.chmod(root, 0o755)
    stage = None
    try:
        stage = Bench(root, **server)
        yield stage
    finally:
        if stage:
            for runner in stage.runners:
                runner.stop()
            stage.server.stop()
        shutil.rmtree(root, ignore_errors=True)
