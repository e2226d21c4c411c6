"""One exporter's metrics under many nodes' names, as a cluster's worth of targets."""

import re
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

AS = "one"
"""The node name that the exporter has."""


class Relay:
    """Fetches the metrics when they are older than ``seconds``, and serves them node by node."""

    def __init__(self, url: str, seconds: float) -> None:
        self._url = url
        self._seconds = seconds
        self._text = ""
        self._fetched = -seconds
        self._lock = threading.Lock()

    def metrics(self, node: str) -> bytes:
        with self._lock:
            if time.monotonic() - self._fetched > self._seconds:
                with urllib.request.urlopen(f"{self._url}/metrics", timeout=5) as answer:  # noqa: S310
                    self._text = answer.read().decode()
                self._fetched = time.monotonic()
        text = self._text.replace(f'node="{AS}"', f'node="{node}"')
        return re.sub(r'"(GPU|MIG)-\w+-', rf'"\1-{node}-', text).encode()


@contextmanager
def relay(url: str, seconds: float) -> Iterator[str]:
    """Serve ``/<node>/metrics`` for any node, on the address that it yields."""
    source = Relay(url, seconds)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = source.metrics(self.path.split("/")[1])
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing: Prometheus would tell of a target that is down."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
