"""Processes that go on in the background, each with a log of its own."""

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.cluster.machine import places
from tests.cluster.machine.waiting import until

_TAIL_LINES: Final = 25


class Daemon:
    """A program that is started, killed and started again.

    Where it runs is known by a file and not by the object, so that another test run can go on with
    a cluster that was kept.
    """

    def __init__(self, name: str, command: Sequence[str | Path]) -> None:
        self.name = name
        self._command = [str(part) for part in command]
        folder = places.WORK / "daemons"
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / f"{name}.log"
        self._pid = folder / f"{name}.pid"

    @property
    def pid(self) -> int | None:
        """The process, if it runs."""
        try:
            pid = int(self._pid.read_text())
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, ValueError):
            return None
        return None if state == "Z" else pid

    def start(self) -> None:
        """Start it, unless it runs. It ends with the cluster, and not with the test run."""
        if self.pid:
            return
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, process_group=0
            )
        # Nobody waits for it: init does, or the collector of this object when it has ended.
        process.returncode = 0
        self._pid.write_text(str(process.pid))

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal and wait for the end."""
        pid = self.pid
        if pid is None:
            return
        os.kill(pid, number)
        # Not only its first thread, after whose end the others may still have its sockets.
        until(lambda: _reaped(pid) or not Path(f"/proc/{pid}").exists(), f"{self.name} ends")

    def restart(self) -> None:
        self.kill()
        self.start()

    def tail(self) -> str:
        """Return the end of what it wrote."""
        if not self.log.exists():
            return f"{self.name} has written nothing"
        lines = self.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        return "\n".join([f"--- {self.name}", *lines])


def _reaped(pid: int) -> bool:
    """Reap a process if it is this one's child."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return False
