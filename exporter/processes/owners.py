"""Finds the containers of processes by their cgroups."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Final

from exporter.model.snapshot import SourceHealth
from exporter.processes.cgroups import CgroupRef, parse

# The kernel gives the first PID namespace, the host's, the same inode on every machine.
_HOST_PID_NAMESPACE: Final = "pid:[4026531836]"

_MOST_PER_CALL: Final = 512
"""A look-up takes some 20 µs on the loop's thread. A GPU takes 48 clients of MPS."""
_MOST_KEPT: Final = 4096
_LATELY_SECONDS: Final = 30.0


class ProcessOwners:
    """Finds the pod and the container that a process of the host runs in.

    Owners are kept by pid and start time, so that a process is not mistaken for an earlier process
    with the same pid. A process that has ended keeps its owner for a while, because the driver
    still reports what the process did.
    """

    def __init__(
        self, root: Path = Path("/proc"), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._root = root
        self._clock = clock
        self._refused_at = -math.inf
        self._refused = ""
        self._known: OrderedDict[int, tuple[str, CgroupRef | None]] = OrderedDict()
        self._failures = {"no_permission": 0, "unknown": 0}

    def sees_host(self) -> bool:
        """Whether the exporter sees the host's pids, which the driver reports.

        This needs ``hostPID: true``. Without it every owner would be wrong.
        """
        try:
            return str((self._root / "self/ns/pid").readlink()) == _HOST_PID_NAMESPACE
        except OSError:
            return False

    def owners(self, pids: Iterable[int]) -> dict[int, CgroupRef | None]:
        """Return the owner of each process; ``None``: it runs in no pod, or ended unseen.

        Processes that the exporter may not look up are left out, and so are all after the first
        512.
        """
        return {
            pid: self._known[pid][1] if pid in self._known else None
            for pid in islice(pids, _MOST_PER_CALL)
            if self._look(pid)
        }

    def health(self) -> SourceHealth:
        """Return whether the exporter sees the host's pids, and could look up every pid of late."""
        message = ""
        if not self.sees_host():
            message = "pids are not the host's: the pod needs hostPID: true"
        elif self._clock() - self._refused_at < _LATELY_SECONDS:
            message = f"{self._refused}: shared GPUs can't be split; run as root"
        return SourceHealth(
            "processes", up=not message, message=message, failures=dict(self._failures)
        )

    def _look(self, pid: int) -> bool:
        """Learn the owner of a process; return whether the look-up worked.

        It also works if the process has ended.
        """
        try:
            started = _start_time((self._root / f"{pid}/stat").read_text("utf-8", "replace"))
            kept = self._known.get(pid)
            if kept is None or kept[0] != started:
                text = (self._root / f"{pid}/cgroup").read_text("utf-8", "replace")
                self._known[pid] = (started, parse(text))
        except (FileNotFoundError, ProcessLookupError):
            pass
        except (OSError, IndexError) as error:
            refused = isinstance(error, PermissionError)
            self._failures["no_permission" if refused else "unknown"] += 1
            self._refused_at, self._refused = self._clock(), str(error)
            return False
        if pid in self._known:
            self._known.move_to_end(pid)
            if len(self._known) > _MOST_KEPT:
                self._known.popitem(last=False)
        return True


def _start_time(stat: str) -> str:
    """Return the 22nd field, in clock ticks.

    The second field, the name of the process, may contain spaces and parentheses.
    """
    return stat.rpartition(")")[2].split()[19]
