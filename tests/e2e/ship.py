#!/usr/bin/env python3
"""Stand-in for the log collector: reads the containers' logs as platform/alloy does and pushes them to Loki.

    ship.py LOKI_URL STACK

Labels are those of platform/alloy/config.alloy: service, stack, container, stream, node, and level where a row says it.
"""
import json
import socket
import struct
import sys
import time
import urllib.request

import engine

EVERY = 2.0


def rows(raw):
    """(stream, time in nanoseconds, line) of the engine's framed log."""
    place = 0
    while place + 8 <= len(raw):
        kind, size = struct.unpack(">BxxxL", raw[place:place + 8])
        text = raw[place + 8:place + 8 + size].decode("utf-8", "replace").rstrip("\n")
        place += 8 + size
        stamp, _, line = text.partition(" ")
        whole, _, fraction = stamp.rstrip("Z").partition(".")
        try:
            seconds = int(time.mktime(time.strptime(whole, "%Y-%m-%dT%H:%M:%S"))) - time.timezone
        except ValueError:
            continue
        yield {1: "stdout", 2: "stderr"}.get(kind, "stdin"), seconds * 10**9 + int((fraction or "0").ljust(9, "0")[:9]), line


def level_of(line):
    try:
        return str(json.loads(line).get("level", "")).lower()
    except (ValueError, AttributeError):
        return ""


def main(url, stack):
    seen = {}
    while True:
        streams = {}
        for container in engine.get("/containers/json", label=[f"com.docker.stack.namespace={stack}"]):
            name, labels = container["Names"][0].lstrip("/"), container["Labels"]
            since = seen.get(name, 0)
            # The engine's `since` takes whole seconds on older versions: what was sent already is left out by its time.
            raw = engine.raw(f"/containers/{container['Id']}/logs?stdout=1&stderr=1&timestamps=1&since={since // 10**9}")
            for stream, at, line in rows(raw):
                if at <= since:
                    continue
                seen[name] = max(seen.get(name, 0), at)
                key = {"service": labels.get("com.docker.swarm.service.name", ""), "stack": stack, "container": name,
                       "stream": stream, "node": socket.gethostname()}
                level = level_of(line)
                if level:
                    key["level"] = level
                streams.setdefault(json.dumps(key, sort_keys=True), []).append([str(at), line])
        if streams:
            document = {"streams": [{"stream": json.loads(key), "values": values} for key, values in streams.items()]}
            request = urllib.request.Request(f"{url}/loki/api/v1/push", json.dumps(document).encode(), {"Content-Type": "application/json"})
            try:
                urllib.request.urlopen(request, timeout=30).close()
            except OSError as error:
                print(f"ship: {error}", file=sys.stderr)
        time.sleep(EVERY)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
