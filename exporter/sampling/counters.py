"""Sums and peaks that stay correct over gaps, resets and losses."""

from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from math import fsum, inf
from typing import Final

from exporter.model.clocks import Monotonic
from exporter.model.readings import UtilizationSample
from exporter.model.steps import Busy

_LONGEST_HOLE_SECONDS: Final = 30.0
_CLOCK_SLACK_SECONDS: Final = 1.0
"""How far the driver's sample times may run ahead of ours. Further is a step of its clock."""


class SteadyCounter:
    """A counter that never goes back, over a raw counter that may start again from 0.

    The counter begins at the first raw value, so that a restart of this program does not look like
    a reset. A raw value that falls by less than half is no reset either: the reading came late or
    left something out, and adds nothing.
    """

    __slots__ = ("_raw", "added", "total")

    def __init__(self) -> None:
        self._raw: float | None = None
        self.total = 0.0
        self.added = 0.0
        """What the last update added. The first update adds 0, because its past is unknown."""

    def update(self, raw: float) -> float:
        """Take the raw counter's value; return the total."""
        if self._raw is None:
            self.total = self._raw = raw
        elif raw >= self._raw or raw < self._raw / 2:
            self.added = raw - self._raw if raw >= self._raw else raw
            self.total += self.added
            self._raw = raw
        else:
            self.added = 0.0
        return self.total


class BusyIntegral:
    """Integrates the utilization samples of the driver's buffer over time.

    Each read gives the samples of the last seconds. The batches of two reads overlap, or they leave
    a hole between them if the reads are further apart than the buffer is deep. Overlapping samples
    count once. A short hole counts at the mean of the batch after it, and a longer hole counts as
    nothing.
    """

    __slots__ = ("_read_at", "_seen")

    def __init__(self) -> None:
        self._seen: float | None = None
        """The time of the last sample that was counted, by the driver's own clock."""
        self._read_at = Monotonic(0.0)

    def interrupt(self) -> None:
        """Note that the time until the next batch is unknown."""
        self._seen = None

    def add(self, samples: Sequence[UtilizationSample], now: Monotonic) -> Busy | None:
        """Take a batch that was read at ``now``, oldest sample first; return what it adds.

        ``None``: no sample is new. The first batch, and the first after an interruption, only sets
        the time to count from, and adds no busy seconds.
        """
        if samples and self._seen is not None and samples[-1].timestamp < self._seen:
            self._seen = None  # the driver's clock was set back
        seen = -inf if self._seen is None else self._seen
        fresh = [sample for sample in samples if sample.timestamp > seen]
        if not fresh:
            return None
        mean = fsum(sample.ratio for sample in fresh) / len(fresh)
        seconds = self._seconds(fresh, mean, now)
        self._seen, self._read_at = fresh[-1].timestamp, now
        return Busy(seconds, mean, max(sample.ratio for sample in fresh))

    def _seconds(self, fresh: Sequence[UtilizationSample], mean: float, now: Monotonic) -> float:
        """Return the busy seconds since the last batch."""
        if self._seen is None:
            return 0.0
        elapsed = now - self._read_at
        # If the samples span more time than has passed, the driver's clock was stepped.
        if fresh[-1].timestamp - self._seen > elapsed + _CLOCK_SLACK_SECONDS:
            return mean * elapsed
        return _integrate(self._seen, fresh, mean)


def _integrate(start: float, samples: Sequence[UtilizationSample], mean: float) -> float:
    """Sum ratio times length from ``start`` to the last sample, each sample up to its timestamp."""
    first = samples[0].timestamp - start
    within = samples[-1].timestamp - samples[0].timestamp
    seconds = sum(
        sample.ratio * (sample.timestamp - before.timestamp) for before, sample in pairwise(samples)
    )
    if within and first > 1.5 * (period := within / (len(samples) - 1)):
        hole = first - period
        known = hole if hole <= _LONGEST_HOLE_SECONDS else 0.0
        return seconds + samples[0].ratio * period + mean * known
    return seconds + samples[0].ratio * min(first, _LONGEST_HOLE_SECONDS)


class WindowPeak:
    """The highest value of the last ``window`` seconds.

    It is a window, and not the time since the last scrape, because several Prometheus servers may
    scrape the exporter.
    """

    __slots__ = ("_falling", "_window")

    def __init__(self, window: float) -> None:
        self._window = window
        self._falling: deque[tuple[Monotonic, float]] = deque()
        """Times and values, each value higher than those after it."""

    def add(self, value: float, now: Monotonic) -> None:
        # An older value that is not higher can never be the peak again.
        while self._falling and self._falling[-1][1] <= value:
            self._falling.pop()
        self._falling.append((now, value))

    def value(self, now: Monotonic) -> float | None:
        while self._falling and self._falling[0][0] <= now - self._window:
            self._falling.popleft()
        return self._falling[0][1] if self._falling else None
