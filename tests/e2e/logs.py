#!/usr/bin/env python3
"""Stand-in for Loki: takes its push protocol (JSON) and answers label queries by substring. Keeps at most 100,000 rows.

    logs.py PORT
"""
import collections
import http.server
import json
import sys
import threading
import urllib.parse

ROWS = collections.deque(maxlen=100_000)
LOCK = threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, document=None):
        body = json.dumps(document).encode() if document is not None else b""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        if self.path != "/loki/api/v1/push":
            return self.answer(404)
        try:
            document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            rows = [(stream["stream"], time, line) for stream in document["streams"] for time, line in stream["values"]]
        except (KeyError, TypeError, ValueError) as error:
            return self.answer(400, {"error": str(error)})
        with LOCK:
            ROWS.extend(rows)
        return self.answer(204)

    def do_GET(self):
        where = urllib.parse.urlsplit(self.path)
        if where.path == "/ready":
            return self.answer(200, {"status": "ready"})
        if where.path != "/rows":
            return self.answer(404)
        wanted = dict(urllib.parse.parse_qsl(where.query))
        with LOCK:
            found = [line for labels, _, line in ROWS if all(labels.get(key) == value for key, value in wanted.items())]
        return self.answer(200, {"rows": found})

    def log_message(self, *_):
        """The test reads rows, not requests."""


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
