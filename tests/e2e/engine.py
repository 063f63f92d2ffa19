"""The engine's API over its socket, as far as the end-to-end test needs it."""
import http.client
import json
import os
import socket
import urllib.parse


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path, timeout=30):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def socket_path():
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    return host.removeprefix("unix://")


def raw(path):
    """The bytes that GET answers with."""
    connection = UnixConnection(socket_path())
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"GET {path}: {answer.status} {body[:200]!r}")
        return body
    finally:
        connection.close()


def get(path, **filters):
    """GET, parsed; `filters` become the API's filters parameter."""
    query = "?" + urllib.parse.urlencode({"filters": json.dumps(filters)}) if filters else ""
    return json.loads(raw(path + query))


def healthy_ports(service, target):
    """Host ports of the tasks of `service` that run (and are healthy: Swarm calls no other task running)."""
    ports = []
    for task in get("/tasks", service=[service], **{"desired-state": ["running"]}):
        if task.get("Status", {}).get("State") != "running":
            continue
        for port in task["Status"].get("PortStatus", {}).get("Ports", []):
            if port.get("TargetPort") == target:
                ports.append(port["PublishedPort"])
    return sorted(ports)
