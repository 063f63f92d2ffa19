#!/usr/bin/env python3
"""Stand-in for the edge: a proxy that follows a Swarm service's healthy tasks. It never tries a request twice.

    edge.py SERVICE TARGET_PORT LISTEN_PORT

Used where TRAEFIK_BIN is not set. Looks at the tasks as often as the shipped Traefik does (every 2 s), so that a task
which stops serving too early is seen here as it would be seen there. Tasks publish their port in host mode.
"""
import asyncio
import itertools
import sys

import engine

REFRESH = 2.0
LIMIT = 1 << 20


class Edge:
    def __init__(self, service, target):
        self.service, self.target = service, target
        self.ports, self.turn = [], itertools.count()

    async def follow(self):
        while True:
            try:
                self.ports = await asyncio.to_thread(engine.healthy_ports, self.service, self.target)
            except (OSError, RuntimeError) as error:
                print(f"edge: the tasks of {self.service} cannot be read: {error}", file=sys.stderr)
            await asyncio.sleep(REFRESH)

    async def serve(self, reader, writer):
        try:
            while await self.one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def one(self, reader, writer):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return False
        body = await reader.readexactly(length_of(head))
        if not self.ports:
            return await refuse(writer, "503 Service Unavailable")
        port = self.ports[next(self.turn) % len(self.ports)]
        try:
            answer = await self.ask(port, head, body)
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
            print(f"edge: 127.0.0.1:{port}: {type(error).__name__} {error}", file=sys.stderr)
            return await refuse(writer, "502 Bad Gateway")
        writer.write(answer)
        await writer.drain()
        return True

    async def ask(self, port, head, body):
        async with asyncio.timeout(30):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=LIMIT)
            try:
                lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
                writer.write(b"\r\n".join(lines[:-2]) + b"\r\nConnection: close\r\n\r\n" + body)
                await writer.drain()
                answer = await reader.readuntil(b"\r\n\r\n")
                rest = await reader.read()
                if not rest and length_of(answer):
                    raise asyncio.IncompleteReadError(rest, length_of(answer))
                fields = [line for line in answer.split(b"\r\n") if not line.lower().startswith((b"connection:", b"transfer-encoding:", b"content-length:"))]
                if b"transfer-encoding: chunked" in answer.lower():
                    rest = unchunk(rest)
                return b"\r\n".join(fields[:-2]) + b"\r\nContent-Length: %d\r\n\r\n" % len(rest) + rest
            finally:
                writer.close()


def length_of(head):
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def unchunk(body):
    whole, place = b"", 0
    while True:
        end = body.index(b"\r\n", place)
        size = int(body[place:end].split(b";")[0], 16)
        if size == 0:
            return whole
        whole += body[end + 2:end + 2 + size]
        place = end + 2 + size + 2


async def refuse(writer, status):
    writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
    await writer.drain()
    return True


async def main(service, target, listen):
    edge = Edge(service, int(target))
    follow = asyncio.create_task(edge.follow())
    server = await asyncio.start_server(edge.serve, "127.0.0.1", int(listen), limit=LIMIT)
    async with server:
        await asyncio.wait([follow, asyncio.create_task(server.serve_forever())], return_when=asyncio.FIRST_COMPLETED)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    asyncio.run(main(*sys.argv[1:]))
