"""Where Alertmanager's messages arrive: an HTTP server that keeps what it is sent."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from setup.demo.servers import PATIENCE_SECONDS, ServerError


@dataclass(frozen=True)
class Message:
    """What one POST brought."""

    path: str
    body: dict[str, Any]


class Receiver:
    """Messages in the order in which they came; ``url`` + any path takes them."""

    def __init__(self, url: str, show: Callable[[Message], None]) -> None:
        self.url = url
        self._show = show
        self._messages: list[Message] = []
        self._came = threading.Condition()

    @property
    def messages(self) -> tuple[Message, ...]:
        with self._came:
            return tuple(self._messages)

    def take(self, message: Message) -> None:
        with self._came:
            self._messages.append(message)
            self._show(message)
            self._came.notify_all()

    def await_message(
        self, matches: Callable[[Message], bool], seconds: float = PATIENCE_SECONDS
    ) -> Message:
        """Return the first message that matches, once there is one."""
        deadline = time.monotonic() + seconds
        with self._came:
            while True:
                for message in self._messages:
                    if matches(message):
                        return message
                if not self._came.wait(deadline - time.monotonic()):
                    raise ServerError(f"not within {seconds:g} s, only {self._messages}")


@contextmanager
def receiver(show: Callable[[Message], None] = lambda _: None) -> Iterator[Receiver]:
    """Receive messages until the block ends; ``show`` is called with each as it comes."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept.take(Message(self.path, json.loads(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 # http.server's
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        kept = Receiver(f"http://127.0.0.1:{server.server_port}", show)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        try:
            yield kept
        finally:
            server.shutdown()
