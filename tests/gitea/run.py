#!/usr/bin/env python3
"""Stories of a runner on a real Gitea. Each says what it saw; the last line is `N passed, N failed`.

    run.py [--short | --all] [--only NAME,NAME] [--backend docker|host] [--runner BIN]

GITEA_BIN is a Gitea executable and GITEA_SOURCE the folder with its templates/ and options/. The runner is
ESTEIRA_BIN unless --runner names one; anything with the official command line can be tried. Gitea and the runner
live in a temporary folder, which --keep leaves there. --short (the default) shortens the long ones.
"""
import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback

import stories
from runner import Runner, engine_answers
from server import Refused, Server


class Stage:
    """What a story gets: a server, a fresh runner, its place, and how long it may be."""

    def __init__(self, server, arguments, folder):
        self.server, self.folder, self.full = server, folder, arguments.all
        self.binary, self.backend, self.image = arguments.runner, arguments.backend, arguments.image
        self.label = f"lab:docker://{arguments.image}" if arguments.backend == "docker" else "lab:host"
        self.runners, self.count = [], 0

    def runner(self, name="story", config=None, label=None):
        """A registered runner with a running daemon."""
        runner = self.unregistered(name)
        if config:
            runner.configure(config)
        code, text = runner.register(self.server, label or self.label)
        if code != 0:
            raise Refused(f"register: {text}")
        runner.start()
        return runner

    def unregistered(self, name="story"):
        self.count += 1
        runner = Runner(self.binary, os.path.join(self.folder, f"{name}-{self.count}"), name)
        self.runners.append(runner)
        return runner

    def uuid(self, runner):
        with open(os.path.join(runner.folder, ".runner")) as file:
            return json.load(file)["uuid"]

    def end(self):
        for runner in self.runners:
            runner.stop()
            self.server.remove_runner(runner.name)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="the default")
    parser.add_argument("--all", action="store_true", help="every story in its full length")
    parser.add_argument("--only", default="", help="names of stories, separated by commas")
    parser.add_argument("--backend", choices=("docker", "host"), default="docker" if engine_answers() else "host")
    parser.add_argument("--image", default="esteira-test/base")
    parser.add_argument("--runner", default=os.environ.get("ESTEIRA_BIN"))
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    missing = [name for name in ("GITEA_BIN", "GITEA_SOURCE") if not os.environ.get(name)]
    if missing or not arguments.runner:
        parser.error(f"not set: {', '.join(missing) or 'ESTEIRA_BIN or --runner'}")
    wanted = [name for name in arguments.only.split(",") if name]
    unknown = [name for name in wanted if name not in stories.ALL]
    if unknown:
        parser.error(f"no story is called {unknown[0]}; there are {', '.join(stories.ALL)}")

    # Told to end: as with Ctrl-C, nothing that was started may be left.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    root = tempfile.mkdtemp(prefix="gitea-stories-")
    os.chmod(root, 0o755)
    os.mkdir(os.path.join(root, "gitea"))
    server = Server(os.environ["GITEA_BIN"], os.environ["GITEA_SOURCE"], os.path.join(root, "gitea"))
    passed = failed = 0
    print(f"Gitea {server.get('/version')['version']}, backend {arguments.backend}, runner {arguments.runner}", flush=True)
    try:
        for name in wanted or stories.ALL:
            story, began = stories.ALL[name], time.monotonic()
            stage = Stage(server, arguments, os.path.join(root, name))
            os.mkdir(stage.folder)
            try:
                seen = story(stage)
                passed += 1
                print(f"ok     {name} ({time.monotonic() - began:.1f} s): {seen}", flush=True)
            except Exception as error:  # a story that breaks is a failed one, whatever broke
                failed += 1
                print(f"FAILED {name} ({time.monotonic() - began:.1f} s): {error!r}", flush=True)
                if not isinstance(error, (stories.Wrong, TimeoutError, Refused)):
                    traceback.print_exc()
                for runner in stage.runners:
                    if os.path.exists(os.path.join(runner.folder, "daemon.log")):
                        print("\n".join(f"    {runner.name}| {line}" for line in runner.said().splitlines()[-15:]), flush=True)
            finally:
                try:
                    stage.end()
                except (OSError, Refused) as error:
                    print(f"    clearing up after {name}: {error!r}", flush=True)
    finally:
        server.stop()
        if arguments.keep:
            print(f"kept: {root}")
        else:
            shutil.rmtree(root, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
