"""The real program in a process of its own, and its scrapes."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

Series = Mapping[tuple[str, frozenset[tuple[str, str]]], float]
PATIENCE_SECONDS = 20.0


class Exporter:
    """A running ``kube-gpu-exporter serve``."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.begun = time.monotonic()
        self.log: list[str] = []
        self.url = ""
        self._serving = threading.Event()
        threading.Thread(target=self._read_log, daemon=True).start()
        self._serving.wait(PATIENCE_SECONDS)
        assert self.url, self.log

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as response:  # noqa: S310
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def scrape(self) -> Series:
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self.get("/metrics")[1])
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float | None:
        """Return the only series of that name and those labels, ``None`` when there is none."""
        found = [
            value
            for (series, pairs), value in self.scrape().items()
            if series == name and labels.items() <= dict(pairs).items()
        ]
        assert len(found) <= 1, found
        return found[0] if found else None

    def ready(self) -> tuple[bool, dict[str, str]]:
        """Return whether it is ready, and the reason of each check that is not well."""
        status, text = self.get("/readyz")
        answer = json.loads(text)
        assert answer["ready"] is (status == 200)
        return answer["ready"], {c["name"]: c["reason"] for c in answer["checks"] if not c["ok"]}

    def until(self, condition: Callable[[], bool]) -> float:
        """Wait for a condition that has to come true; return how long that took."""
        begun = time.monotonic()
        while not condition():
            assert time.monotonic() - begun < PATIENCE_SECONDS, self.get("/metrics")[1]
            assert self.process.poll() is None, self.log
            time.sleep(0.02)
        return time.monotonic() - begun

    def stop(self) -> tuple[int, float]:
        """Send SIGTERM; return the exit code and how long it took."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE_SECONDS)
        return code, time.monotonic() - begun

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line.rstrip())
            if found := re.search(r"serves (https?://\S+)/metrics", line):
                self.url = found[1]
                self._serving.set()
        self._serving.set()  # it ended


@contextmanager
def exporter(
    *arguments: str | Path,
    environment: Mapping[str, str] | None = None,
    within: Sequence[str] = (),
) -> Iterator[Exporter]:
    """Run the program with short intervals, on a free port, until the block ends.

    ``within`` is a command that becomes the program, such as one that sets limits.
    """
    command = [
        *within,
        *(sys.executable, "-m", "exporter", "serve", "--listen", "127.0.0.1:0"),
        *("--fast-interval", "100ms", "--full-interval", "200ms", "--slow-interval", "200ms"),
        *("--read-deadline", "300ms", "--kubelet-interval", "100ms"),
        *map(str, arguments),
    ]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})}
    ) as process:
        try:
            yield Exporter(process)
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)
