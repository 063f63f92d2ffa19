#!/usr/bin/env python3
"""Users of the task API: a steady, bounded load on a loopback address, every answer looked at.

    load.py PORT HOST SECONDS RATE [STOP_FILE]        with E2E_TLS=1 over TLS

Ends after SECONDS, or when STOP_FILE exists and at least 20,000 requests have been made. Prints one JSON object:
requests, failed, the first failures, latencies in milliseconds, and when each commit (as /metrics names it) first
answered. A failed request is any that has no answer, or an answer of 500 and above; none is repeated.
"""
import asyncio
import json
import os
import re
import ssl
import sys
import time

USERS = 8
LEAST = 20_000
MOST = 200_000


class Load:
    def __init__(self, port, host, rate):
        self.port, self.host, self.gap = port, host, USERS / rate
        self.requests, self.failures, self.times = 0, [], []
        self.versions, self.tls = {}, {}
        if os.environ.get("E2E_TLS"):
            # The edge of a test has the certificate it made itself.
            trust = ssl.create_default_context()
            trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
            self.tls = {"ssl": trust, "server_hostname": host}

    async def user(self, number, until):
        connection, turn, own = None, 0, None
        while not until():
            began = time.monotonic()
            turn += 1
            if turn % 20 == 0:
                method, path, body = "POST", "/tasks", json.dumps({"title": f"user {number} turn {turn}"}).encode()
            elif turn % 20 == 1 and own:
                method, path, body = "DELETE", f"/tasks/{own}", b""
            elif turn % 5 == 0:
                method, path, body = "GET", "/health", b""
            elif number == 0 and turn % 3 == 0:
                method, path, body = "GET", "/metrics", b""
            else:
                method, path, body = "GET", "/tasks?limit=10", b""
            self.requests += 1
            try:
                async with asyncio.timeout(20):
                    if connection is None:
                        connection = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20, **self.tls)
                    status, head, text = await self.ask(*connection, method, path, body)
                if status >= 500 or status == 0:
                    self.fail(method, path, f"status {status}")
                if method == "POST" and status == 201:
                    own = json.loads(text)["id"]
                if method == "DELETE":
                    own = None
                if path == "/metrics" and status == 200:
                    for commit in re.findall(rb'task_api_build_info{[^}]*commit="([^"]*)"', text):
                        self.versions.setdefault(commit.decode(), time.time())
                if head.get("connection", "").lower() == "close":
                    connection[1].close()
                    connection = None
            except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError) as error:
                self.fail(method, path, f"{type(error).__name__}: {error}")
                if connection:
                    connection[1].close()
                connection = None
            spent = time.monotonic() - began
            self.times.append(spent * 1000)
            await asyncio.sleep(max(0, self.gap - spent))
        if connection:
            connection[1].close()

    def fail(self, method, path, why):
        self.failures.append({"at": time.time(), "request": f"{method} {path}", "why": why})

    async def ask(self, reader, writer, method, path, body):
        kind = "Content-Type: application/json\r\n" if body else ""
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: {self.host}\r\n{kind}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        raw = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        head = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in raw[1:])}
        if head.get("transfer-encoding", "").lower() == "chunked":
            text = b""
            while True:
                size = int((await reader.readline()).split(b";")[0], 16)
                text += await reader.readexactly(size)
                await reader.readexactly(2)
                if size == 0:
                    break
        else:
            text = await reader.readexactly(int(head.get("content-length", 0)))
        return int(raw[0].split()[1]), head, text


async def main(port, host, seconds, rate, stop=None):
    load = Load(int(port), host, float(rate))
    ends = time.monotonic() + float(seconds)

    def until():
        if load.requests >= MOST or time.monotonic() > ends:
            return True
        return bool(stop) and load.requests >= LEAST and os.path.exists(stop)

    began = time.monotonic()
    await asyncio.gather(*(load.user(number, until) for number in range(USERS)))
    times = sorted(load.times)
    at = lambda share: round(times[min(len(times) - 1, int(len(times) * share))], 1) if times else None
    print(json.dumps({
        "requests": load.requests, "failed": len(load.failures), "failures": load.failures[:10],
        "seconds": round(time.monotonic() - began, 1), "p50_ms": at(0.5), "p99_ms": at(0.99), "versions": load.versions,
    }))


if __name__ == "__main__":
    if len(sys.argv) not in (5, 6):
        sys.exit(__doc__)
    asyncio.run(main(*sys.argv[1:]))
