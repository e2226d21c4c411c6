"""What was in use on each device over the last minutes, and who held it."""

from array import array
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from exporter.model.claims import Container
from exporter.model.readings import Memory

EVIDENCE_SECONDS = 240.0
"""How long what may speak for or against an out-of-memory is of use: ends are told up to three
minutes late, and what counts is what was before them."""


@dataclass(frozen=True, slots=True)
class Peak:
    """The most that was in use on a device within a window; of equals the last."""

    used_bytes: int
    total_bytes: int
    rise_bytes: int
    """Above the lowest use before it, counted from the level at which the window was entered."""
    held_bytes: Mapping[Container, int]
    """Who held how much at that moment, as far as it is known."""


@dataclass(frozen=True, slots=True)
class _Moment:
    timestamp: float
    used_bytes: int
    total_bytes: int
    holders: tuple[Container, ...]
    """The same object from moment to moment, until they change."""
    held_bytes: "array[int]"


class MemoryHistory:
    """Keeps every fast reading's memory for ``seconds``, by device.

    News of a container's end comes up to a minute late, and what counts is what was in use just
    before it. So one value per window, such as a peak since the last scrape, would not do.

    With 8 GPUs of 60 holders each, read every second, four minutes take about 1.4 MiB. Timestamps
    are Unix seconds, since ends of containers are told in those.
    """

    def __init__(self, seconds: float = EVIDENCE_SECONDS) -> None:
        self._seconds = seconds
        self._moments: dict[str, deque[_Moment]] = {}

    def add(
        self, device_uuid: str, memory: Memory, held_bytes: Mapping[Container, int], now: float
    ) -> None:
        """Take what was read of a device at ``now``."""
        if device_uuid not in self._moments:
            # Where a device is new, the slices that it was made of may have gone.
            self._moments = {
                uuid: moments
                for uuid, moments in self._moments.items()
                if self._is_recent(moments[-1], now)
            }
        moments = self._moments.setdefault(device_uuid, deque())
        holders = tuple(held_bytes)
        if moments and moments[-1].holders == holders:
            holders = moments[-1].holders
        moments.append(
            _Moment(
                timestamp=now,
                used_bytes=memory.used_bytes,
                total_bytes=memory.total_bytes,
                holders=holders,
                held_bytes=array("q", held_bytes.values()),
            )
        )
        while not self._is_recent(moments[0], now):
            moments.popleft()

    def peak(self, device_uuid: str, since: float, until: float) -> Peak | None:
        """Return the peak of the window from ``since`` to ``until``, both included.

        ``None``: the device was not read then, or it is longer ago than is kept.
        """
        peak: _Moment | None = None
        lowest: int | None = None
        rise = 0
        for moment in self._moments.get(device_uuid, ()):
            used = moment.used_bytes
            if moment.timestamp < since:
                lowest = used  # the level at which the window is entered
            elif moment.timestamp <= until:
                lowest = used if lowest is None else min(lowest, used)
                if peak is None or used >= peak.used_bytes:
                    peak, rise = moment, used - lowest
        if peak is None:
            return None
        return Peak(
            used_bytes=peak.used_bytes,
            total_bytes=peak.total_bytes,
            rise_bytes=rise,
            held_bytes=dict(zip(peak.holders, peak.held_bytes, strict=True)),
        )

    def _is_recent(self, moment: _Moment, now: float) -> bool:
        # The clock may have been set back: what lies ahead of it is of no use either.
        return now - self._seconds <= moment.timestamp <= now
