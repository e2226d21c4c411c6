"""A known GPU, and the place that the driver gives it in a session: a number, and two threads."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from exporter.gpus import GpuError, Reader
from exporter.model.clocks import Monotonic
from exporter.model.snapshot import GpuState
from exporter.model.steps import Readings
from exporter.model.xids import action
from exporter.sampling.tracker import GpuTracker
from exporter.sampling.worker import Worker

_LOG: Final = logging.getLogger(__name__)

_XID_LOG_SECONDS: Final = 60.0
"""A storm of one XID is logged once in this time. Every XID is counted."""
_LONGEST_VISIT_DEADLINES: Final = 10
"""A visit whose calls all return, if slowly, may last so many deadlines: its GPU's data get old."""
_AT_ONCE: Final = Monotonic(0.0)
_NEVER: Final = Monotonic(-math.inf)


@dataclass(frozen=True, slots=True)
class Ticks:
    """How often each kind of reading is made, and how long it may take; all in seconds."""

    fast: float = 1.0
    full: float = 5.0
    slow: float = 30.0
    read_deadline: float = 3.0
    """How long one call into the driver may take."""
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
class Ear:
    """The thread that waits for a GPU's events, and what became of the last wait."""

    worker: Worker
    waiting_since: Monotonic | None = None
    due: Monotonic = _AT_ONCE
    """When to wait next."""
    has_heard: bool = False
    """Whether a wait has succeeded in this session."""
    error: GpuError | None = None
    """Why the last wait failed."""


@dataclass(slots=True)
class Place:
    """The driver's number for a GPU, with threads of its own.

    Which GPU it is, is found out on the place's own thread: even that may hang. Numbers may move
    from session to session.
    """

    number: int
    worker: Worker
    """The thread for all calls but those that wait for events."""
    ear: Ear
    reader: Reader | None = None
    """``None``: the driver counts no such GPU now."""
    slot: "Slot | None" = None
    """The GPU, once it has been found in this session."""
    is_read: bool = False
    """Whether a visit has succeeded in this session."""
    started: Monotonic | None = None
    """When the visit under way was started; ``None``: none is under way."""
    is_late: bool = False
    """Whether the visit under way hangs."""
    full_due: Monotonic = _AT_ONCE
    slow_due: Monotonic = _AT_ONCE
    _slow_started: Monotonic = _NEVER
    _returned: int = 0
    _returned_at: Monotonic = _AT_ONCE

    def begin(self, reader: Reader | None) -> None:
        """Begin a session, in which the driver has this reader for the number, or none."""
        self.reader, self.slot, self.is_read = reader, None, False
        self.ear.has_heard, self.ear.error, self.ear.due = False, None, _AT_ONCE
        self.read_everything_next()

    def start(self, now: Monotonic) -> None:
        """Note that a call or a visit begins."""
        self.started = self._returned_at = now
        self.is_late = False
        self._returned = self.reader.returned if self.reader else 0

    def plan(self, now: Monotonic, ticks: Ticks) -> Due:
        """Return what a visit that begins now has to read, and set when it is due next.

        Steps come a little early or late. So a reading that is due within half a step is due.
        """
        soon = now + ticks.fast / 2
        due = Due(full=soon >= self.full_due, slow=soon >= self.slow_due)
        if due.full:
            self.full_due = Monotonic(now + ticks.full)
        if due.slow:
            self._slow_started, self.slow_due = now, Monotonic(now + ticks.slow)
        return due

    def hangs(self, now: Monotonic, deadline: float) -> bool:
        """Return whether the visit under way hangs: no call has returned by the deadline.

        A driver that is slow is not one that hangs, as long as the visit comes to an end.
        """
        if self.started is None or self.reader is None:
            return False
        if (returned := self.reader.returned) != self._returned:
            self._returned, self._returned_at = returned, now
        silent = now - max(self.started, self._returned_at)
        return silent >= deadline or now - self.started >= deadline * _LONGEST_VISIT_DEADLINES

    def hurry(self, now: Monotonic, ticks: Ticks) -> None:
        """Make the next readings due because of an event.

        Slow readings are expensive and events may come in storms, so slow readings keep the
        distance of a full tick.
        """
        self.full_due = now
        earliest = max(now, self._slow_started + ticks.full)
        self.slow_due = Monotonic(min(self.slow_due, earliest))

    def read_everything_next(self) -> None:
        self.full_due = self.slow_due = _AT_ONCE

    def stop(self) -> None:
        """Let each thread end that does not hang in a call."""
        self.worker.stop()
        self.ear.worker.stop()


@dataclass(slots=True)
class Slot:
    """A GPU that is known, whether or not it can be read."""

    tracker: GpuTracker
    number: int | None
    """The driver's number in this session, or in the last one that listed the GPU."""
    place: Place | None = None
    """``None``: the driver does not list the GPU now."""
    error: GpuError | None = None
    """Why the GPU is away."""
    full_seconds: float | None = None
    """How long the last full reading took; ``None`` while the GPU can't be read."""
    xid_logged: dict[int, Monotonic] = field(default_factory=dict)
    """When each XID was last logged."""

    @property
    def uuid(self) -> str:
        return self.tracker.gpu.uuid

    @property
    def is_ok(self) -> bool:
        return self.tracker.state is GpuState.OK

    @property
    def log_fields(self) -> dict[str, str | None]:
        """Which GPU it is, for log lines."""
        return {"uuid": self.uuid, "pci_bus_id": self.tracker.gpu.pci_bus_id}

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


Workers = Callable[[str], Worker]
"""Makes a thread by its name."""


def make_place(number: int, workers: Workers) -> Place:
    return Place(number, workers(f"gpu-{number}"), Ear(workers(f"events-{number}")))
