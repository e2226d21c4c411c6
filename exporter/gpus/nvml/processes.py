"""The driver's utilisation samples of single processes: the dearest read of all."""

from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import pynvml

from exporter.gpus.nvml.gate import Gate
from exporter.gpus.nvml.identity import Handle
from exporter.gpus.nvml.library import CallError
from exporter.gpus.nvml.lists import all_process_samples, process_samples
from exporter.model.readings import ProcessUtilization

_NOTHING_SAMPLED = {
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

    def read(self, handle: Handle, gate: Gate) -> tuple[ProcessUtilization, ...] | None:
        """Return the processes that did anything. Raises :class:`GpuError`."""
        # Older drivers lack the first function, newer boards do not support the second.
        samples = gate.asker.ask_first(
            "process_utilization",
            [
                partial(self._ask, all_process_samples, handle),
                partial(self._ask, process_samples, handle),
            ],
        )
        if samples is None:
            return None
        means = _mean_percent(self._new(samples))
        raws = ({"pid": pid, "sm_ratio": percent} for pid, percent in means.items())
        return gate.pieces("process_utilization", ProcessUtilization, raws)

    def _ask(self, function: Callable[[Handle, int], list[Any]], handle: Handle) -> list[Any]:
        try:
            return function(handle, self._since)
        except CallError as error:
            if error.code in _NOTHING_SAMPLED:
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


def _mean_percent(samples: list[Any]) -> dict[int, float]:
    """Count a process as idle in the samples that report others and not the process."""
    percent: defaultdict[int, int] = defaultdict(int)
    for sample in samples:
        percent[sample.pid] += sample.smUtil
    taken = max(Counter(sample.pid for sample in samples).values(), default=1)
    return {pid: total / taken for pid, total in percent.items()}
