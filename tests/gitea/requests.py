#!/usr/bin/env python3
"""How many requests a runner sends to the container engine, for each kind of job, on a real Gitea.

    requests.py --runner esteira=BIN --runner official=BIN

Each runner reaches the engine through a socket that counts. Every job runs twice; the second, for which images and
actions are there, is what is shown, from the assignment to a second after its end. GITEA_BIN and GITEA_SOURCE as for
run.py. Nothing is asserted: it is a measurement.
"""
import argparse
import collections
import os
import socket
import sys
import threading
import time

from bench import bench
from server import OWNER, Refused

IMAGE = "esteira-test/base"
ENGINE = "/var/run/docker.sock"
SERVICES = f"    services:\n      one: {{image: {IMAGE}, cmd: [sleep, '600']}}\n      two: {{image: {IMAGE}, cmd: [sleep, '600']}}\n"
RUN, NODE, DOCKER = "    - run: echo one\n", "    - uses: URL/node@main\n", "    - uses: URL/image@main\n"
JOBS = {
    "one run step": ("", RUN),
    "ten run steps": ("", RUN * 10),
    "two services, one run step": (SERVICES, RUN),
    "one run step, one node action": ("", RUN + NODE),
    "one run step, four node actions": ("", RUN + NODE * 4),
    "one run step, one docker action": ("", RUN + DOCKER),
    "one run step, three docker actions": ("", RUN + DOCKER * 3),
}
ACTIONS = {
    "node": {"action.yml": "name: n\nruns: {using: node20, main: main.js}\n", "main.js": "console.log('node');\n"},
    "image": {"action.yml": "name: i\nruns: {using: docker, image: Dockerfile}\n",
              "Dockerfile": f"FROM {IMAGE}\nENTRYPOINT [\"echo\", \"image\"]\n"},
}


class Counter:
    """A socket before the engine's that counts the requests that go through."""

    def __init__(self, path):
        self.path, self.counts, self.lock = path, collections.Counter(), threading.Lock()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(64)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            engine = socket.socket(socket.AF_UNIX)
            engine.connect(ENGINE)
            threading.Thread(target=self.requests, args=(client, engine), daemon=True).start()
            threading.Thread(target=self.copy, args=(engine, client), daemon=True).start()

    def taken(self):
        with self.lock:
            counts, self.counts = self.counts, collections.Counter()
        return counts

    @staticmethod
    def copy(source, target):
        try:
            while piece := source.recv(65536):
                target.sendall(piece)
        except OSError:
            pass  # the other half has ended the connection
        finally:
            try:
                target.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # it is closed

    def requests(self, client, engine):
        """Hands on what the runner sends, request by request; after an upgrade, as it comes."""
        stream = client.makefile("rb")
        try:
            while line := stream.readline():
                words = line.split()
                with self.lock:
                    self.counts[f"{words[0].decode()} {words[1].split(b'?')[0].decode()}"] += 1
                head, length, chunked, upgraded = [line], 0, False, False
                while (header := stream.readline()) not in (b"\r\n", b""):
                    head.append(header)
                    name, _, value = header.decode("latin-1").lower().partition(":")
                    length = int(value) if name == "content-length" else length
                    chunked |= name == "transfer-encoding" and "chunked" in value
                    upgraded |= name == "upgrade"
                engine.sendall(b"".join(head) + b"\r\n")
                while chunked:
                    size = stream.readline()
                    count = int(size.split(b";")[0], 16)
                    engine.sendall(size + stream.read(count + 2))
                    chunked = count > 0
                while length > 0 and (piece := stream.read1(min(length, 65536))):
                    engine.sendall(piece)
                    length -= len(piece)
                while upgraded and (piece := stream.read1(65536)):
                    engine.sendall(piece)
        except (OSError, ValueError):
            pass  # the connection is over
        finally:
            try:
                engine.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # it is closed


def count(server, runner, counter, name, keys, steps):
    """Requests of the job's second run."""
    repository = f"{runner.name}-{name.replace(' ', '-').replace(',', '')}"
    text = f"on: push\njobs:\n  job:\n    runs-on: {runner.name}\n{keys}    steps:\n{steps}"
    server.push(repository, text.replace("URL", f"{server.url}/{OWNER}"))
    first = server.ended(repository)[0]["id"]
    time.sleep(1)
    counter.taken()
    server.put(repository, {"again": "x"})
    second = lambda jobs: jobs if jobs and jobs[0]["id"] != first and jobs[0]["status"] == "completed" else None
    job = server.until(repository, 120, "the second run ends", second)[0]
    if job["conclusion"] != "success":
        raise Refused("\n".join(row for _, row in server.log(repository, job)[-20:]))
    time.sleep(1)
    return counter.taken()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runner", action="append", required=True, help="NAME=BIN")
    parser.add_argument("--only", default="", help="the one kind of job of this name, request by request")
    arguments = parser.parse_args()
    with bench("requests") as stage:
        for name, files in ACTIONS.items():
            stage.server.put(name, files)
        table = {}
        for pair in arguments.runner:
            counter = Counter(os.path.join(stage.root, f"{pair.partition('=')[0]}.sock"))
            runner = stage.begin(pair, IMAGE, "{docker_host: '-', force_pull: false}", DOCKER_HOST=f"unix://{counter.path}")
            for kind, (keys, steps) in JOBS.items():
                if arguments.only in ("", kind):
                    table.setdefault(kind, {})[runner.name] = count(stage.server, runner, counter, kind, keys, steps)
            runner.stop()
        for kind, row in table.items():
            print(f"{kind:36}" + "".join(f"  {name} {sum(counts.values()):4}" for name, counts in row.items()))
            for name, counts in row.items() if arguments.only else ():
                for request, number in sorted(counts.items()):
                    print(f"    {name}: {number} {request}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
