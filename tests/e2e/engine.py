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
    """Ports on 127.0.0.1 of the tasks of `service` that run (and are healthy: Swarm calls no other task running).

    A task's own status names ports of both address families without saying which is which; its container does.
    """
    running = set()
    for task in get("/tasks", service=[service], **{"desired-state": ["running"]}):
        if task.get("Status", {}).get("State") == "running":
            running.add(task["Status"].get("ContainerStatus", {}).get("ContainerID"))
    ports = []
    for container in get("/containers/json", label=[f"com.docker.swarm.service.name={service}"]):
        if container["Id"] in running:
            ports += [port["PublicPort"] for port in container["Ports"]
                      if port["PrivatePort"] == target and port.get("PublicPort") and ":" not in port.get("IP", "")]
    return sorted(ports)
