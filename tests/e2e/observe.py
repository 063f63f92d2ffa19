"""What the platform shows of itself: targets, rules and every panel's query, asked of the real Prometheus and Loki."""
import json
import os
import pathlib
import re
import time
import urllib.parse
import urllib.request

import engine
from parts import ROOT, STACK, Wrong, get, run, server, wait

DASHBOARDS = sorted((ROOT / "platform/grafana/dashboards").glob("*.json"))
# Nothing to show while nothing goes wrong.
QUIET = {"Client errors", "Engine requests that failed", "Rows that speak of errors"}


class Observatory:
    """Prometheus, node exporter and, where they can be had, cAdvisor and Loki, beside the stack."""

    def __init__(self, processes, folder, gitea, metrics_token, stand_ins):
        self.processes, self.folder, self.gitea, self.stand_ins = processes, folder, gitea, stand_ins
        folder.mkdir()
        self.ports = {name: server.free_port() for name in ("prometheus", "node", "cadvisor", "loki")}
        (folder / "token").write_text(metrics_token)
        processes.start("node-exporter", "prometheus-node-exporter", f"--web.listen-address=127.0.0.1:{self.ports['node']}")
        self.cadvisor()
        self.loki()

    def cadvisor(self):
        program = os.environ.get("CADVISOR_BIN")
        if not program:
            self.stand_ins.append("cAdvisor: not there (CADVISOR_BIN is not set); its target and the containers' panels were not asked")
            return
        command = command_of("cadvisor")
        self.processes.start("cadvisor", program, "--listen_ip=127.0.0.1", f"--port={self.ports['cadvisor']}", *command)

    def loki(self):
        program, port = os.environ.get("LOKI_BIN"), self.ports["loki"]
        if program:
            text = (ROOT / "platform/loki/loki.yml").read_text().replace("/loki", str(self.folder / "loki"))
            text = text.replace("http_listen_port: 3100", f"http_listen_address: 127.0.0.1\n  http_listen_port: {port}\n  grpc_listen_address: 127.0.0.1\n  grpc_listen_port: {server.free_port()}")
            (self.folder / "loki.yml").write_text(text)
            self.processes.start("loki", program, f"-config.file={self.folder}/loki.yml")
        else:
            self.stand_ins.append("Loki: a receiver of its push protocol; the log panels' queries were not run (LOKI_BIN is not set)")
            self.processes.start("logs", "python3", ROOT / "tests/e2e/logs.py", port)
        self.stand_ins.append("Grafana Alloy: a small collector with the same labels (it is not to be had as a program)")
        wait(60, "the log store answers", lambda: ready(f"http://127.0.0.1:{port}/ready"))
        self.processes.start("ship", "python3", ROOT / "tests/e2e/ship.py", f"http://127.0.0.1:{port}", STACK)

    def prometheus(self, edge_metrics):
        """The shipped configuration; only the way to find the targets is another one beside Swarm."""
        targets = {
            "prometheus": [f"127.0.0.1:{self.ports['prometheus']}"], "node": [f"127.0.0.1:{self.ports['node']}"],
            "api": [f"127.0.0.1:{port}" for port in engine.healthy_ports(f"{STACK}_api", 5000)],
            "runner": [f"127.0.0.1:{port}" for port in engine.healthy_ports(f"{STACK}_runner", 9101)],
            "gitea": [self.gitea.url.removeprefix("http://")], "traefik": edge_metrics,
            "cadvisor": [f"127.0.0.1:{self.ports['cadvisor']}"] if os.environ.get("CADVISOR_BIN") else [],
            "loki": [f"127.0.0.1:{self.ports['loki']}"] if os.environ.get("LOKI_BIN") else [],
        }
        text = (ROOT / "platform/prometheus/prometheus.yml").read_text()
        def static(match):
            found = ", ".join(f'"{target}"' for target in targets[match[1]])
            return f"  - job_name: {match[1]}\n    static_configs:\n      - targets: [{found}]\n"
        text = re.sub(r"  - job_name: (\w+)\n    (?:dns_sd|static)_configs:\n      - .*\n", static, text)
        text = text.replace("/run/secrets/gitea_metrics_token", str(self.folder / "token")).replace("scrape_interval: 15s", "scrape_interval: 10s")
        (self.folder / "prometheus.yml").write_text(text.replace("evaluation_interval: 15s", "evaluation_interval: 5s"))
        (self.folder / "rules.yml").write_text((ROOT / "platform/prometheus/rules.yml").read_text())
        run("promtool", "check", "config", self.folder / "prometheus.yml")
        self.processes.start("prometheus", "prometheus", f"--config.file={self.folder}/prometheus.yml", f"--storage.tsdb.path={self.folder}/data",
                             f"--web.listen-address=127.0.0.1:{self.ports['prometheus']}")
        self.url = f"http://127.0.0.1:{self.ports['prometheus']}"
        wait(60, "Prometheus answers", lambda: ready(f"{self.url}/-/ready"))
        return sum(map(len, targets.values()))

    def targets(self, count):
        def look():
            targets = json.loads(get(f"{self.url}/api/v1/targets"))["data"]["activeTargets"]
            seen[:] = [f"{target['labels']['job']} {target['scrapeUrl']}: {target['health']} {target['lastError']}" for target in targets if target["health"] != "up"]
            return targets if len(targets) == count and not seen else None
        seen = []
        try:
            found = wait(120, "every target is up", look)
        except Wrong as error:
            raise Wrong(f"{error}: {'; '.join(seen)}") from None
        return sorted({target["labels"]["job"] for target in found})

    def rules(self):
        groups = json.loads(get(f"{self.url}/api/v1/rules"))["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        broken = [f"{rule['name']}: {rule.get('lastError', rule['health'])}" for rule in rules if rule["health"] != "ok"]
        empty = [rule["name"] for rule in rules if rule["type"] == "recording" and not self.ask(rule["name"])]
        if broken or empty:
            raise Wrong(f"rules that fail: {broken}; without data: {empty}")
        return len(rules)

    def ask(self, query):
        answer = json.loads(get(f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"))
        return answer["data"]["result"]

    def ask_loki(self, query):
        now = time.time()
        words = urllib.parse.urlencode({"query": query, "start": int((now - 3600) * 1e9), "end": int(now * 1e9), "step": "60", "limit": 5})
        return json.loads(get(f"http://127.0.0.1:{self.ports['loki']}/loki/api/v1/query_range?{words}"))["data"]["result"]

    def panels(self):
        """Every query of every dashboard; how many were answered with data."""
        answered, empty = 0, []
        for file in DASHBOARDS:
            for panel in json.loads(file.read_text())["panels"]:
                for target in panel.get("targets", []):
                    of_loki = target["datasource"]["uid"] == "loki"
                    if of_loki and not os.environ.get("LOKI_BIN") or file.stem == "containers" and not os.environ.get("CADVISOR_BIN"):
                        continue
                    found = (self.ask_loki if of_loki else self.ask)(target["expr"])
                    if found:
                        answered += 1
                    elif panel["title"] == "Disk written" and not writes_are_counted():
                        self.stand_ins.append("the panel `Disk written`: this kernel's cgroups count no container's writes, its query gave nothing")
                    elif panel["title"] not in QUIET:
                        empty.append(f"{file.stem} / {panel['title']}: {target['expr']}")
        if empty:
            raise Wrong(f"{answered} panels' queries have data, these have none:\n  " + "\n  ".join(empty))
        return answered

    def logged(self, service):
        """Rows of a service that reached the log store."""
        if os.environ.get("LOKI_BIN"):
            return bool(self.ask_loki(f'{{service="{STACK}_{service}"}}'))
        words = urllib.parse.urlencode({"service": f"{STACK}_{service}"})
        return bool(json.loads(get(f"http://127.0.0.1:{self.ports['loki']}/rows?{words}"))["rows"])


def writes_are_counted():
    """Whether cAdvisor can know what containers write. Some kernels with cgroups of version 1 say 0 whatever is written,
    and a database that has just started has written."""
    old = pathlib.Path("/sys/fs/cgroup/blkio")
    if not old.is_dir():
        return True
    return any("Write" in file.read_text() for file in old.glob("**/blkio.throttle.io_service_bytes") if file.parent != old)


def ready(url):
    try:
        get(url, 5)
    except OSError:
        return False
    return True


def command_of(service):
    """The arguments that docker-compose.yml gives a service, from its one line."""
    text = (ROOT / "docker-compose.yml").read_text()
    body = text[text.index(f"\n  {service}:\n"):]
    return json.loads(re.search(r"command: (\[.*\])", body)[1])
