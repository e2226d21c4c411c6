"""The driver's utilisation samples of single processes: the dearest read of all."""

from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import pynvml

from exporter.gpus.nvml.asking import Asker
from exporter.gpus.nvml.identity import Handle
from exporter.model.readings import ProcessUtilization

_NOTHING_SAMPLED = {
    pynvml.NVML_SUCCESS,  # pynvml raises it as well, when there is nothing to fetch
    pynvml.NVML_ERROR_NOT_FOUND,
    pynvml.NVML_ERROR_NO_DATA,
}


class ProcessSamples:
    """Fetches what the driver has sampled of processes since the last read.

    The driver is asked for what is later than the last sample that we have seen. Its times are the
    wall clock's: set back by an hour, it would give none for an hour. So when it gives none, the
    next time it is asked for all it has, of which we know the new ones by their time ourselves.
    """

    def __init__(self) -> None:
        self._seen = 0
        """Time of the latest sample so far, in microseconds."""
        self._since = 0

    def restart(self) -> None:
        """Fetch whatever the driver still has the next time."""
        self._seen = self._since = 0

    def read(self, handle: Handle, asker: Asker) -> tuple[ProcessUtilization, ...] | None:
        """Return the processes that did anything. Raises :class:`GpuError`."""
        # Older drivers lack the first function, newer boards do not support the second.
        samples = asker.ask_first(
            "process_utilization",
            [
                partial(self._ask, pynvml.nvmlDeviceGetProcessesUtilizationInfo, handle),
                partial(self._ask, pynvml.nvmlDeviceGetProcessUtilization, handle),
            ],
        )
        return None if samples is None else _means(self._new(samples))

    def _ask(self, function: Callable[[Handle, int], list[Any]], handle: Handle) -> list[Any]:
        try:
            return function(handle, self._since)
        except pynvml.NVMLError as error:
            if error.value in _NOTHING_SAMPLED:
                return []
            raise

    def _new(self, samples: list[Any]) -> list[Any]:
        # Slots that were not filled are empty, or hold what lay there before.
        sane = [s for s in samples if s.pid and s.timeStamp and s.smUtil <= 100]
        latest = max((s.timeStamp for s in sane), default=0)
        if 0 < latest < self._seen:
            self._seen = 0  # the clock was set back
        new = [s for s in sane if s.timeStamp > self._seen]
        self._since = latest if new else 0
        self._seen = max(self._seen, latest)
        return new


def _means(samples: list[Any]) -> tuple[ProcessUtilization, ...]:
    """Count a process as idle in the samples that tell of others and not of it."""
    percent: defaultdict[int, int] = defaultdict(int)
    for sample in samples:
        percent[sample.pid] += sample.smUtil
    taken = max(Counter(sample.pid for sample in samples).values(), default=1)
    return tuple(ProcessUtilization(pid, total / taken / 100) for pid, total in percent.items())
