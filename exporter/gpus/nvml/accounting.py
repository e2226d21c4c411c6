"""What the driver's accounting kept of processes that have ended."""

import ctypes
from collections.abc import Iterable
from functools import partial
from typing import Any

import pynvml

from exporter.gpus.nvml.asking import Asker
from exporter.gpus.nvml.bounds import flag
from exporter.gpus.nvml.gate import Gate
from exporter.gpus.nvml.identity import Handle
from exporter.gpus.nvml.library import nvml, raw_call
from exporter.gpus.nvml.lists import accounted_pids
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
        self._on = asker.ask("accounting", partial(_is_on, handle), "mode") is True

    def read(
        self, handle: Handle, running: Iterable[Process] | None, gate: Gate
    ) -> tuple[EndedProcess, ...]:
        """Return the processes that have ended since the last time; ``running`` are those there."""
        if not self._on or running is None:
            return ()
        asker = gate.asker
        listed = asker.ask("accounting", partial(accounted_pids, handle))
        if listed is None:
            return ()
        # A pid that is used again is a new process.
        ended = set(listed) - {process.pid for process in running}
        before, self._told = self._told, ended
        if before is None:
            return ()
        found: list[EndedProcess] = []
        for pid in sorted(ended - before):
            stats = asker.ask("accounting", partial(_stats, handle, pid), "stats")
            if stats is not None and stats.isRunning:
                ended.remove(pid)  # it began after those that run were listed
            elif stats is not None:
                found += gate.pieces(
                    "accounting",
                    EndedProcess,
                    [
                        {
                            "pid": pid,
                            "started_at": stats.startTime,  # microseconds of Unix time
                            "memory_peak_bytes": stats.maxMemoryUsage,
                        }
                    ],
                )
        return tuple(found)


def _is_on(handle: Handle) -> bool:
    return flag("accounting mode", nvml.nvmlDeviceGetAccountingMode(handle))


def _stats(handle: Handle, pid: int) -> Any:
    """Return the struct; ``None`` if the peak is not known, which pynvml can't put into it."""
    stats = pynvml.c_nvmlAccountingStats_t()
    raw_call("nvmlDeviceGetAccountingStats", handle, ctypes.c_uint(pid), ctypes.byref(stats))
    unknown = stats.maxMemoryUsage == pynvml.NVML_VALUE_NOT_AVAILABLE_ulonglong.value
    return None if unknown else stats
