"""Utilization, busy time and peaks of one device: a whole GPU or a GPU instance."""

from collections.abc import Sequence

from exporter.model.clocks import Monotonic
from exporter.model.readings import Memory, UtilizationSample
from exporter.model.snapshot import DeviceTotals
from exporter.model.steps import Busy
from exporter.sampling.counters import BusyIntegral, WindowPeak


class DeviceTracker:
    """Sums up what the full and fast readings say about one device."""

    def __init__(self, peak_window: float) -> None:
        self._integral = BusyIntegral()
        self._utilization: float | None = None
        self._busy_seconds: float | None = None
        self._utilization_peak = WindowPeak(peak_window)
        self._memory_peak = WindowPeak(peak_window)

    def memory(self, memory: Memory | None, now: Monotonic) -> None:
        if memory is not None:
            self._memory_peak.add(memory.used_bytes, now)

    def samples(self, samples: Sequence[UtilizationSample], now: Monotonic) -> Busy | None:
        """Take the samples of the driver's buffer; return what they add, ``None`` if unknown."""
        busy = self._integral.add(samples, now)
        if busy is None:
            self.unknown()
            return None
        self._add(busy, now)
        return busy

    def mean(self, ratio: float, seconds: float, now: Monotonic) -> Busy:
        """Take a mean over an interval, where there is no sample buffer; return what it adds."""
        busy = Busy(ratio * seconds, ratio, ratio)
        self._add(busy, now)
        return busy

    def unknown(self) -> None:
        """Note that the utilization of the last interval is unknown."""
        self._utilization = None

    def interrupt(self) -> None:
        """Note that the device was away: the time until its next reading counts for nothing."""
        self._integral.interrupt()
        self.unknown()

    def totals(self, now: Monotonic) -> DeviceTotals:
        memory_peak = self._memory_peak.value(now)
        return DeviceTotals(
            utilization_ratio=self._utilization,
            utilization_peak_ratio=self._utilization_peak.value(now),
            # A counter that stands still while nothing is known would look like an idle device.
            busy_seconds=None if self._utilization is None else self._busy_seconds,
            memory_used_peak_bytes=None if memory_peak is None else int(memory_peak),
        )

    def _add(self, busy: Busy, now: Monotonic) -> None:
        self._utilization_peak.add(busy.peak_ratio, now)
        self._utilization = busy.mean_ratio
        self._busy_seconds = (self._busy_seconds or 0.0) + busy.seconds
