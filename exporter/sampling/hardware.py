"""The counters of a whole GPU, kept so that they never go back."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from exporter.model.readings import Activity, SlowReading
from exporter.model.snapshot import GpuTotals
from exporter.sampling.counters import SteadyCounter

K = TypeVar("K")


class HardwareCounters:
    """Follows a GPU's own counters over their resets, and sums up its PCIe traffic.

    ``totals`` holds the counters that the last readings gave. A counter that a reading leaves out
    is absent until a later reading gives it again, and then goes on where it was.
    """

    def __init__(self) -> None:
        self.totals = GpuTotals()
        self._counters: dict[tuple[str, object], SteadyCounter] = {}
        self._pcie_bytes = {"receive": 0.0, "transmit": 0.0}

    def clear(self) -> None:
        """Note that the GPU can't be read: no counter is served."""
        self.totals = GpuTotals()

    def add_pcie(self, activity: Activity | None) -> None:
        """Add the bytes that a full reading's activity reports."""
        moved = {
            "receive": activity.pcie_receive_bytes if activity else None,
            "transmit": activity.pcie_transmit_bytes if activity else None,
        }
        for direction, moved_bytes in moved.items():
            self._pcie_bytes[direction] += moved_bytes or 0.0
        self.totals = replace(
            self.totals,
            pcie_receive_bytes=None if moved["receive"] is None else self._pcie_bytes["receive"],
            pcie_transmit_bytes=None if moved["transmit"] is None else self._pcie_bytes["transmit"],
        )

    def follow(self, reading: SlowReading) -> float | None:
        """Take a slow reading's counters; return the joules it added, ``None`` if unknown."""
        self.totals = replace(
            self.totals,
            energy_joules=self._follow("energy", reading.energy_joules),
            clock_event_seconds=self._follow_all("clock", reading.clock_event_seconds),
            pcie_replays=self._follow("replays", reading.pcie_replays),
            nvlink_receive_bytes=self._follow("nvlink_rx", reading.nvlink_receive_bytes),
            nvlink_transmit_bytes=self._follow("nvlink_tx", reading.nvlink_transmit_bytes),
            nvlink_errors=self._follow_all("nvlink_errors", reading.nvlink_errors),
            ecc_errors=self._follow_all("ecc", reading.ecc_errors),
        )
        if reading.energy_joules is None:
            return None
        return self._counters["energy", None].added

    def _follow(self, field: str, raw: float | None, key: object = None) -> float | None:
        if raw is None:
            return None
        return self._counters.setdefault((field, key), SteadyCounter()).update(raw)

    def _follow_all(self, field: str, raw: Mapping[K, float]) -> dict[K, float]:
        followed = {key: self._follow(field, value, key) for key, value in raw.items()}
        return {key: total for key, total in followed.items() if total is not None}
