"""A known GPU's slot: its thread, its reader, and when its next readings are due."""

import logging
import math
import time
from dataclasses import dataclass, field
from typing import Final

from exporter.gpus import Reader
from exporter.model.clocks import Monotonic
from exporter.model.snapshot import GpuState
from exporter.model.steps import Readings
from exporter.model.xids import action
from exporter.sampling.tracker import GpuTracker
from exporter.sampling.worker import Worker

_LOG: Final = logging.getLogger(__name__)

_XID_LOG_SECONDS: Final = 60.0
"""A storm of one XID is logged once in this time. Every XID is counted."""
_AT_ONCE: Final = Monotonic(0.0)
_NEVER: Final = Monotonic(-math.inf)


@dataclass(frozen=True, slots=True)
class Ticks:
    """How often each kind of reading is made, and how long it may take; all in seconds."""

    fast: float = 1.0
    full: float = 5.0
    slow: float = 30.0
    read_deadline: float = 3.0
    peak_window: float = 60.0
    event_wait: float = 1.0


@dataclass(frozen=True, slots=True)
class Due:
    """The readings that are due beside the fast one."""

    full: bool
    slow: bool


@dataclass(frozen=True, slots=True)
class Visit:
    """The readings of one visit to a GPU, and how long the full one took."""

    readings: Readings
    full_seconds: float


@dataclass(slots=True)
class Slot:
    """A GPU that is known, whether or not it can be read."""

    tracker: GpuTracker
    worker: Worker
    """The GPU's own thread."""
    reader: Reader | None = None
    """``None``: the driver does not list the GPU now."""
    started: Monotonic | None = None
    """When the visit under way was started; ``None``: none is under way."""
    full_due: Monotonic = _AT_ONCE
    slow_due: Monotonic = _AT_ONCE
    slow_started: Monotonic = _NEVER
    full_seconds: float | None = None
    """How long the last full reading took; ``None`` while the GPU can't be read."""
    xid_logged: dict[int, Monotonic] = field(default_factory=dict)
    """When each XID was last logged."""

    @property
    def uuid(self) -> str:
        return self.tracker.gpu.uuid

    @property
    def hung(self) -> bool:
        return self.tracker.state is GpuState.HUNG

    @property
    def log_fields(self) -> dict[str, str | None]:
        """Which GPU it is, for log lines."""
        return {"uuid": self.uuid, "pci_bus_id": self.tracker.gpu.pci_bus_id}

    def start(self, now: Monotonic, ticks: Ticks) -> Due:
        """Start a visit; return what is due, and set when it is due next.

        Steps come a little early or late. So a reading that is due within half a step is due.
        """
        soon = now + ticks.fast / 2
        due = Due(full=soon >= self.full_due, slow=soon >= self.slow_due)
        self.started = now
        if due.full:
            self.full_due = Monotonic(now + ticks.full)
        if due.slow:
            self.slow_started, self.slow_due = now, Monotonic(now + ticks.slow)
        return due

    def hurry(self, now: Monotonic, ticks: Ticks) -> None:
        """Make the next readings due because of an event.

        Slow readings are expensive and events may come in storms, so slow readings keep the
        distance of a full tick.
        """
        self.full_due = now
        earliest = max(now, self.slow_started + ticks.full)
        self.slow_due = Monotonic(min(self.slow_due, earliest))

    def read_everything_next(self) -> None:
        self.full_due = self.slow_due = _AT_ONCE

    def log_xid(self, xid: int, now: Monotonic) -> None:
        """Log an XID, unless the same XID was logged a moment ago."""
        if now - self.xid_logged.get(xid, _NEVER) >= _XID_LOG_SECONDS:
            self.xid_logged[xid] = now
            _LOG.warning("XID %d: %s", xid, action(xid), extra=self.log_fields)


def visit(reader: Reader, due: Due, *, processes: bool) -> Visit:
    """Read what is due; this runs on the GPU's own thread. Raises ``GpuError`` as the reader does.

    ``processes``: the full reading includes the utilization of single processes.
    """
    begun = time.perf_counter()
    full = reader.read_full(processes=processes) if due.full else None
    full_seconds = time.perf_counter() - begun
    return Visit(
        Readings(fast=reader.read_fast(), full=full, slow=reader.read_slow() if due.slow else None),
        full_seconds,
    )
