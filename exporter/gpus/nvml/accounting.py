"""What the driver's accounting kept of processes that have ended."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import pynvml

from exporter.gpus.nvml.asking import Asker
from exporter.gpus.nvml.identity import Handle
from exporter.model.clocks import UnixSeconds
from exporter.model.readings import EndedProcess, Process


class Accounting:
    """Tells of each process that ended what it held at most, however short the time.

    The accounting mode is the administrator's: it is looked at, never set. It is off by default,
    and can't be on under MIG. The driver keeps some thousand processes, those from before our start
    included, of which we tell nothing.
    """

    def __init__(self) -> None:
        self._on = False
        self._told: set[int] | None = None
        """Kept processes that we have done with; ``None``: those from before us."""

    def look(self, handle: Handle, asker: Asker) -> None:
        """See whether the mode is on. Raises :class:`~exporter.gpus.GpuError`, like ``read``."""
        mode = asker.ask("accounting", partial(pynvml.nvmlDeviceGetAccountingMode, handle), "mode")
        self._on = mode == pynvml.NVML_FEATURE_ENABLED

    def read(
        self, handle: Handle, running: Iterable[Process] | None, asker: Asker
    ) -> tuple[EndedProcess, ...]:
        """Return the processes that have ended since the last time; ``running`` are those there."""
        if not self._on or running is None:
            return ()
        listed = asker.ask("accounting", partial(pynvml.nvmlDeviceGetAccountingPids, handle))
        if listed is None:
            return ()
        # A pid that is used again is a new process.
        ended = set(listed) - {process.pid for process in running}
        before, self._told = self._told, ended
        if before is None:
            return ()
        found = []
        for pid in sorted(ended - before):
            stats = asker.ask("accounting", partial(_stats, handle, pid), "stats")
            if stats is not None and stats.isRunning:
                ended.remove(pid)  # it began after those that run were listed
            elif stats is not None:
                # Its start is in microseconds of Unix time.
                started = UnixSeconds(stats.startTime / 1e6)
                found.append(EndedProcess(pid, started, stats.maxMemoryUsage))
        return tuple(found)


def _stats(handle: Handle, pid: int) -> Any:
    """Return the struct; ``None`` if the peak is not known."""
    try:
        return pynvml.nvmlDeviceGetAccountingStats(handle, pid)
    except TypeError:  # pynvml tries to put None into the struct, for "not available"
        return None
