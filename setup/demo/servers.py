"""Programs that serve HTTP on loopback, each for as long as a ``with`` block."""

import json
import re
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
S = TypeVar("S", bound="Server")

PATIENCE_SECONDS = 30.0
"""For what takes a moment on an idle machine: a start, a stop, a scrape."""


class ServerError(Exception):
    """A server that does not do what it should."""


def until(
    ask: Callable[[], T], failure: Callable[[], object], seconds: float = PATIENCE_SECONDS
) -> T:
    """Ask until the answer is true, and return it.

    Raises :class:`ServerError` with what ``failure`` says if that takes more than ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while not (answer := ask()):
        if time.monotonic() > deadline:
            raise ServerError(f"not within {seconds:g} s: {failure()}")
        time.sleep(0.05)
    return answer


class Server:
    """A running program, its log, and what it answers."""

    listens = re.compile(r'msg="Listening on" address=(\S+)')
    """Finds the address in the line of the log that has it."""
    ready = "/-/ready"
    """Answers 200 once the program serves."""

    def __init__(self, command: Sequence[str | Path]) -> None:
        self.log: list[str] = []
        self.address = ""
        self._listening = threading.Event()
        try:
            self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)  # noqa: S603
        except FileNotFoundError as error:
            raise ServerError(f"{command[0]} is not installed") from error
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def await_ready(self) -> None:
        self._listening.wait(PATIENCE_SECONDS)
        if not self.address:
            raise ServerError(self._log_end())
        until(lambda: self.get(self.ready)[0] == 200, self._log_end)

    def get(self, path: str, **parameters: str) -> tuple[int, str]:
        """Return status and body of an answer; 0 and the reason when there is none."""
        url = f"{self.url}{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as answer:  # noqa: S310
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def ask(self, path: str, **parameters: str) -> Any:
        """Return the JSON that ``path`` answers; raise :class:`ServerError` if it refuses."""
        status, body = self.get(path, **parameters)
        if status != 200:
            raise ServerError(f"{path} {parameters}: {status} {body}")
        return json.loads(body)

    def stop(self) -> None:
        """End the program if it has not ended, and wait until it has."""
        self._process.terminate()
        try:
            self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()

    def _read_log(self) -> None:
        if (log := self._process.stderr) is None:
            return
        with log:
            for line in log:
                self.log.append(line.rstrip())
                if not self.address and (found := self.listens.search(line)):
                    self.address = found[1]
                    self._listening.set()
        self._listening.set()  # it ended

    def _log_end(self) -> str:
        return "\n".join(self.log[-20:])


@contextmanager
def running(kind: type[S], *command: str | Path) -> Iterator[S]:
    """Run ``command`` until the block ends."""
    server = kind(command)
    try:
        server.await_ready()
        yield server
    finally:
        server.stop()
