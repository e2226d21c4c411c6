"""The heart: reads every GPU by its ticks, joins what the kubelet says, swaps the snapshot."""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from exporter.gpus import Backend, GpuError, Reader
from exporter.model.clocks import UnixSeconds, unix_time
from exporter.model.readings import (
    Event,
    FastReading,
    FullReading,
    Reason,
    SlowReading,
    XidEvent,
)
from exporter.model.snapshot import GpuState, Snapshot
from exporter.model.xids import action
from exporter.sampling.containers import Containers
from exporter.sampling.session import Session
from exporter.sampling.tracker import GpuTracker
from exporter.sampling.worker import Worker

log = logging.getLogger(__name__)

# A GPU that went away comes back only to a new session with the driver. Opening one costs some
# 10 ms of CPU and a second or two without readings, and events are not seen meanwhile.
_REVIVE_SECONDS = 60.0
# A session that can't be closed for so long never will be: a call into the driver hangs for good.
_STUCK_SECONDS = 60.0
# A container that was made before the driver's library was on its node has to be made again. The
# kubelet forgets its back-off after ten minutes, so that one restart does not delay the next.
_WITHOUT_LIBRARY_SECONDS = 660.0
# The least time without a step after which the sampling loop counts as dead.
_STALLED_SECONDS = 10.0
# A storm of the same XID is told once in so long. It is counted all the same.
_XID_LOG_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Ticks:
    """How often each kind of reading is made, and what bounds it; all in seconds."""

    fast: float = 1.0
    full: float = 5.0
    slow: float = 30.0
    read_deadline: float = 3.0
    peak_window: float = 60.0
    event_wait: float = 1.0


@dataclass(frozen=True, slots=True)
class _Read:
    """What one visit to a GPU gave. ``error`` ended it early."""

    fast: FastReading | None = None
    full: FullReading | None = None
    slow: SlowReading | None = None
    error: GpuError | None = None
    full_seconds: float = 0.0


@dataclass(slots=True)
class _Slot:
    """A known GPU: its thread, and its reader as long as the driver lists it."""

    tracker: GpuTracker
    worker: Worker
    reader: Reader | None = None
    started: float | None = None
    """When the read under way was asked for."""
    full_due: float = 0.0
    slow_due: float = 0.0
    slow_started: float = -math.inf
    full_seconds: float | None = None
    """What the last full reading took; unknown while the GPU can't be read."""
    xid_logged: dict[int, float] = field(default_factory=dict)

    @property
    def uuid(self) -> str:
        return self.tracker.gpu.uuid

    @property
    def hung(self) -> bool:
        return self.tracker.state is GpuState.HUNG


class Sampler:
    """Owns all sampled state. Everything but worker jobs runs on the thread that calls ``step``."""

    def __init__(
        self,
        backend: Backend,
        *,
        ticks: Ticks,
        workers: Callable[[str], Worker],
        containers: Containers,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], UnixSeconds] = unix_time,
        on_publish: Callable[[], None] = lambda: None,
        pod_labels: tuple[str, ...] = (),
    ) -> None:
        self._backend = backend
        self._ticks = ticks
        self._workers = workers
        self._containers = containers
        self._clock = clock
        self._wall = wall
        self._on_publish = on_publish
        self._pod_labels = pod_labels
        self._session = Session(
            backend,
            driver=workers("driver"),
            events=workers("events"),
            retry=ticks.full,
            deadline=ticks.read_deadline,
            event_wait=ticks.event_wait,
            clock=clock,
            on_open=self._opened,
            on_lost=self._lost,
            on_events=self._got_events,
        )
        self._slots: dict[str, _Slot] = {}
        self._revive_due = 0.0
        self._stale = True
        self._published = self._stepped = clock()
        self.snapshot = self._build(self._stepped)

    async def run(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> NoReturn:
        """Step every fast tick, for ever. A late step makes no burst of steps after it."""
        due = self._clock()
        while True:
            self.step()
            due = max(due + self._ticks.fast, self._clock())
            await sleep(due - self._clock())

    def step(self) -> None:
        """Do all that is due: start reads, judge late ones, publish what has changed."""
        now = self._stepped = self._clock()
        for slot in self._slots.values():
            self._visit(slot, now)
        self._revive(now)
        self._session.step(quiet=self._quiet)
        self._publish(now)

    def dead(self) -> str:
        """Say why only a new process would help; an empty string as long as that is not so."""
        since = self._clock() - self._stepped
        if since >= max(_STALLED_SECONDS, 3 * self._ticks.fast):
            return f"no sampling step for {since:.0f} s"
        stuck = self._session.stuck_seconds()
        if stuck >= _STUCK_SECONDS:
            return f"a call into the driver has hung for {stuck:.0f} s, and nothing can be read"
        missed = self._session.without_library_seconds()
        if missed >= _WITHOUT_LIBRARY_SECONDS and any(self._containers.allocatable.values()):
            return (
                f"no library of the driver for {missed:.0f} s, while the kubelet advertises GPUs: a"
                " container gets it when it is made"
            )
        return ""

    def stop(self) -> None:
        """Let those threads end that are not stuck in a call."""
        for slot in self._slots.values():
            slot.worker.stop()
        self._session.stop()

    # The driver's coming and going

    @property
    def _quiet(self) -> bool:
        return all(slot.started is None for slot in self._slots.values())

    def _opened(self, readers: Sequence[Reader]) -> None:
        listed = {reader.gpu.uuid: reader for reader in readers}
        for uuid, slot in list(self._slots.items()):
            if uuid not in listed and not slot.tracker.identified:
                slot.worker.stop()  # it stood in for a GPU that has a name now
                del self._slots[uuid]
        for uuid, reader in listed.items():
            if uuid not in self._slots:
                tracker = GpuTracker(reader.gpu, self._ticks.peak_window)
                worker = self._workers(f"gpu-{reader.gpu.index}")
                self._slots[uuid] = _Slot(tracker, worker)
        now = self._clock()
        for uuid, slot in self._slots.items():
            slot.reader = listed.get(uuid)
            slot.full_due = slot.slow_due = now
            if slot.reader is None:
                self._away(slot, GpuError(Reason.GPU_LOST, "the driver no longer lists it"))
            self._visit(slot, now)

    def _lost(self, error: GpuError) -> None:
        for slot in self._slots.values():
            slot.reader = None
            if not slot.hung:
                self._away(slot, error)
        self._stale = True

    def _revive(self, now: float) -> None:
        """Open a new session now and then while GPUs are away. Never under a read that hangs."""
        slots = self._slots.values()
        if all(slot.tracker.state is GpuState.OK for slot in slots):
            self._revive_due = now + _REVIVE_SECONDS
        elif now >= self._revive_due and not any(slot.hung for slot in slots):
            self._revive_due = now + _REVIVE_SECONDS
            self._session.restart()

    def _got_events(self, events: Sequence[Event]) -> None:
        now = self._clock()
        for event in events:
            slot = self._slots.get(event.gpu_uuid)
            if slot is None:
                log.warning("event of an unknown GPU", extra={"uuid": event.gpu_uuid})
                continue
            slot.full_due = now
            # Slow readings are dear, and events may come in storms.
            slot.slow_due = min(slot.slow_due, max(now, slot.slow_started + self._ticks.full))
            if isinstance(event, XidEvent):
                slot.tracker.xid(event)
                self._containers.xid(event)
                self._log_xid(slot, event.xid, now)
                self._stale = True

    def _log_xid(self, slot: _Slot, xid: int, now: float) -> None:
        if now - slot.xid_logged.get(xid, -math.inf) >= _XID_LOG_SECONDS:
            slot.xid_logged[xid] = now
            where = {"uuid": slot.uuid, "pci_bus_id": slot.tracker.gpu.pci_bus_id}
            log.warning("XID %d: %s", xid, action(xid), extra=where)

    # Reads

    def _visit(self, slot: _Slot, now: float) -> None:
        if slot.started is not None:
            if now - slot.started >= self._ticks.read_deadline and not slot.hung:
                self._hung(slot)
            return
        if slot.reader is None or not self._session.is_open:
            return
        # Steps come a little early or late: a tick that is due in less than half a step is due.
        soon = now + self._ticks.fast / 2
        full, slow = soon >= slot.full_due, soon >= slot.slow_due
        if full:
            slot.full_due = now + self._ticks.full
        if slow:
            slot.slow_started, slot.slow_due = now, now + self._ticks.slow
        slot.started = now
        reader, processes = slot.reader, self._containers.splits(slot.uuid)
        slot.worker.submit(
            lambda: _read(reader, full=full, slow=slow, processes=processes),
            lambda read: self._done(slot, read),
        )

    def _done(self, slot: _Slot, read: _Read | Exception) -> None:
        slot.started = None
        now = self._clock()
        if isinstance(read, Exception):  # a fault in the backend's code costs this GPU alone
            log.error("read failed", exc_info=read, extra={"uuid": slot.uuid})
            read = _Read(error=GpuError(Reason.UNKNOWN, f"{type(read).__name__}: {read}"))
        if self._session.driver is None:
            pass  # it came too late: what it says is of a driver that is gone
        elif read.error is None:
            self._take(slot, read, now)
        elif read.error.reason.ends_session:
            self._session.lose(read.error)
        else:
            self._away(slot, read.error)
        if all(s.started is None or s.hung for s in self._slots.values()):
            self._publish(now)

    def _take(self, slot: _Slot, read: _Read, now: float) -> None:
        tracker = slot.tracker
        if tracker.state is not GpuState.OK:
            log.info("GPU can be read again", extra={"uuid": slot.uuid})
            self._stale = True
        # The full reading first: it says which slices the others speak of.
        if read.full is not None:
            self._containers.full(tracker, read.full, now)
            slot.full_seconds = read.full_seconds
            self._stale = True
        if read.fast is not None:
            timestamp = self._wall()
            tracker.fast(read.fast, now, timestamp)
            self._containers.memory(tracker, timestamp)
        if read.slow is not None:
            self._containers.slow(tracker, read.slow, now)

    def _away(self, slot: _Slot, error: GpuError) -> None:
        before = slot.tracker.state
        slot.tracker.failed(error.reason)
        self._without_data(slot, before, str(error))

    def _hung(self, slot: _Slot) -> None:
        before = slot.tracker.state
        slot.tracker.hung()
        self._without_data(slot, before, f"no answer in {self._ticks.read_deadline:g} s")

    def _without_data(self, slot: _Slot, before: GpuState, message: str) -> None:
        slot.full_due = slot.slow_due = 0.0
        slot.full_seconds = None
        self._containers.away(slot.uuid)
        if slot.tracker.state is not before:
            self._stale = True
            where = {"uuid": slot.uuid, "pci_bus_id": slot.tracker.gpu.pci_bus_id}
            log.warning("GPU is %s: %s", slot.tracker.state, message, extra=where)

    # Publishing

    def _publish(self, now: float) -> None:
        trackers = (slot.tracker for slot in self._slots.values())
        if self._containers.refresh(trackers, now, self._wall()):
            self._stale = True
        if self._stale or now - self._published >= self._ticks.full:
            self._stale, self._published = False, now
            self.snapshot = self._build(now)
            self._on_publish()

    def _build(self, now: float) -> Snapshot:
        slots = self._slots.values()
        durations = [s.full_seconds for s in slots if s.full_seconds is not None]
        containers = self._containers
        samples = containers.samples(now)
        return Snapshot(
            timestamp=self._wall(),
            backend=self._backend.name,
            driver=self._session.driver,
            gpus=tuple(
                s.tracker.sample(now) for s in sorted(slots, key=lambda s: s.tracker.gpu.index)
            ),
            containers=samples,
            unattributed=containers.unattributed(),
            host_oom_kills=containers.host_oom_kills(samples),
            sources=(*self._session.health(max(durations, default=None)), *containers.sources()),
            allocatable=containers.allocatable,
            allocated=containers.allocated,
            unresolved=containers.unresolved,
            pod_labels=self._pod_labels,
        )


def _read(reader: Reader, *, full: bool, slow: bool, processes: bool) -> _Read:
    """Read what is due, on the GPU's own thread."""
    begun = time.perf_counter()
    try:
        full_reading = reader.read_full(processes=processes) if full else None
        full_seconds = time.perf_counter() - begun
        return _Read(
            fast=reader.read_fast(),
            full=full_reading,
            slow=reader.read_slow() if slow else None,
            full_seconds=full_seconds,
        )
    except GpuError as error:
        return _Read(error=error)
