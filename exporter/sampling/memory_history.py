"""The memory in use on each device, and by each container, over the last minutes."""

from array import array
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from exporter.model.claims import Container
from exporter.model.clocks import UnixSeconds
from exporter.model.readings import Memory

EVIDENCE_SECONDS: Final = 240.0
"""For how long the exporter keeps what may speak for or against an out-of-memory.

The exporter may learn of an end up to three minutes late, and it needs what was so before the end.
"""


@dataclass(frozen=True, slots=True)
class Peak:
    """The moment of a window at which the most memory was in use on a device.

    Of several moments with the same use, it is the last.
    """

    used_bytes: int
    total_bytes: int
    rise_bytes: int
    """How far the use had risen above the lowest use before it in the window.

    The last reading before the window counts as the level at which the window begins.
    """
    container_bytes: Mapping[Container, int]
    """The memory that each container used at that moment, as far as it is known."""


@dataclass(frozen=True, slots=True)
class _Moment:
    timestamp: UnixSeconds
    used_bytes: int
    total_bytes: int
    containers: tuple[Container, ...]
    """Moments share one tuple for as long as the containers stay the same, to save memory."""
    container_bytes: "array[int]"


class MemoryHistory:
    """Keeps the memory of every fast reading for ``seconds``, by device.

    The exporter learns of a container's end up to a minute late, and then needs the use of just
    before the end. So one value per window, such as a peak since the last scrape, would not do.

    With 8 GPUs, 60 containers on each and a reading every second, four minutes take about 1.4 MiB.
    """

    def __init__(self, seconds: float = EVIDENCE_SECONDS) -> None:
        self._seconds = seconds
        self._moments: dict[str, deque[_Moment]] = {}

    def add(
        self,
        device_uuid: str,
        memory: Memory,
        container_bytes: Mapping[Container, int],
        now: UnixSeconds,
    ) -> None:
        """Keep what a fast reading at ``now`` said about a device."""
        if device_uuid not in self._moments:
            # A new device may be a new MIG slice, and the slices before it may be gone.
            self._moments = {
                uuid: moments
                for uuid, moments in self._moments.items()
                if self._is_recent(moments[-1], now)
            }
        moments = self._moments.setdefault(device_uuid, deque())
        containers = tuple(container_bytes)
        if moments and moments[-1].containers == containers:
            containers = moments[-1].containers
        moments.append(
            _Moment(
                timestamp=now,
                used_bytes=memory.used_bytes,
                total_bytes=memory.total_bytes,
                containers=containers,
                container_bytes=array("q", container_bytes.values()),
            )
        )
        while not self._is_recent(moments[0], now):
            moments.popleft()

    def peak(self, device_uuid: str, since: UnixSeconds, until: UnixSeconds) -> Peak | None:
        """Return the peak of the window from ``since`` to ``until``, both included.

        ``None``: there is no reading of the device in the window, or it is no longer kept.
        """
        peak: _Moment | None = None
        lowest: int | None = None
        rise = 0
        for moment in self._moments.get(device_uuid, ()):
            used = moment.used_bytes
            if moment.timestamp < since:
                lowest = used  # the level at which the window begins
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
            container_bytes=dict(zip(peak.containers, peak.container_bytes, strict=True)),
        )

    def _is_recent(self, moment: _Moment, now: UnixSeconds) -> bool:
        # The clock may have been set back. A moment that lies ahead of it is of no use either.
        return now - self._seconds <= moment.timestamp <= now
