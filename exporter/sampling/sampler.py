"""The heart: reads every GPU by its ticks, joins what the kubelet says, swaps the snapshot."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol

from exporter.attribution.resolve import resolve
from exporter.gpus import Backend, GpuError, Reader
from exporter.gpus.xids import action
from exporter.model.claims import Claims, Resolution
from exporter.model.readings import (
    Event,
    FastReading,
    FullReading,
    Reason,
    SlowReading,
    XidEvent,
)
from exporter.model.snapshot import GpuState, Snapshot, SourceHealth
from exporter.sampling.ledger import Ledger
from exporter.sampling.session import Session
from exporter.sampling.tracker import GpuTracker
from exporter.sampling.worker import ThreadWorker, Worker

log = logging.getLogger(__name__)

# A GPU that went away comes back only to a new session with the driver. Opening one costs some
# 10 ms, and events are not seen meanwhile.
_REVIVE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Ticks:
    """How often each kind of reading is made, and what bounds it; all in seconds."""

    fast: float = 1.0
    full: float = 5.0
    slow: float = 30.0
    read_deadline: float = 3.0
    peak_window: float = 60.0
    ended_grace: float = 60.0
    event_wait: float = 1.0


class ClaimSource(Protocol):
    """Tells who holds what: the kubelet's mapper."""

    def claims(self, now: float) -> Claims | None:
        """Return the claims that still hold; ``None`` when they can't be known any more."""

    def health(self) -> SourceHealth: ...


@dataclass(frozen=True, slots=True)
class _Read:
    """What one visit to a GPU gave. ``error`` ended it early."""

    fast: FastReading | None = None
    full: FullReading | None = None
    slow: SlowReading | None = None
    error: GpuError | None = None
    seconds: float = 0.0


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
    full_seconds: float = 0.0
    """What the last full reading took."""

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
        claims: ClaimSource | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._backend = backend
        self._ticks = ticks
        self._workers = workers
        self._claim_source = claims
        self._clock = clock
        self._wall = wall
        self._session = Session(
            backend,
            driver=workers("driver"),
            events=workers("events"),
            retry=ticks.full,
            deadline=ticks.read_deadline,
            event_wait=ticks.event_wait,
            on_open=self._opened,
            on_lost=self._lost,
            on_events=self._got_events,
        )
        self._slots: dict[str, _Slot] = {}
        self._ledger = Ledger(ticks.ended_grace)
        self._claims: Claims | None = None
        self._resolution = Resolution()
        self._resolved: object = None
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
        self._session.step(now, quiet=self._quiet)
        self._publish(now)

    def seconds_since_step(self) -> float:
        """Return how long ago the loop last came by; for liveness."""
        return self._clock() - self._stepped

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
        for uuid, reader in listed.items():
            if uuid not in self._slots:
                tracker = GpuTracker(reader.gpu, self._ticks.peak_window)
                worker = self._workers(f"gpu-{reader.gpu.index}")
                self._slots[uuid] = _Slot(tracker, worker)
        for uuid, slot in self._slots.items():
            slot.reader = listed.get(uuid)
            slot.full_due = slot.slow_due = 0.0
            if slot.reader is None:
                self._away(slot, GpuError(Reason.GPU_LOST, "the driver no longer lists it"))
        now = self._clock()
        for slot in self._slots.values():
            self._visit(slot, now)

    def _lost(self, error: GpuError) -> None:
        for slot in self._slots.values():
            slot.reader = None
            if not slot.hung:
                self._away(slot, error)
        self._stale = True

    def _revive(self, now: float) -> None:
        if not any(slot.tracker.state is GpuState.LOST for slot in self._slots.values()):
            self._revive_due = now + _REVIVE_SECONDS
        elif now >= self._revive_due and self._quiet:  # never close under a read that hangs
            self._revive_due = now + _REVIVE_SECONDS
            self._session.restart()

    def _got_events(self, events: Sequence[Event]) -> None:
        for event in events:
            slot = self._slots.get(event.gpu_uuid)
            if slot is None:
                log.warning("event of an unknown GPU", extra={"uuid": event.gpu_uuid})
                continue
            slot.full_due = slot.slow_due = 0.0
            if isinstance(event, XidEvent):
                slot.tracker.xid(event)
                log.warning(
                    "XID %d: %s",
                    event.xid,
                    action(event.xid),
                    extra={"uuid": slot.uuid, "pci_bus_id": slot.tracker.gpu.pci_bus_id},
                )
                self._stale = True

    # Reads

    def _visit(self, slot: _Slot, now: float) -> None:
        if slot.started is not None:
            if now - slot.started >= self._ticks.read_deadline and not slot.hung:
                deadline = self._ticks.read_deadline
                self._away(slot, GpuError(Reason.TIMEOUT, f"no answer in {deadline:g} s"))
            return
        if slot.reader is None or not self._session.is_open:
            return
        full, slow = now >= slot.full_due, now >= slot.slow_due
        if full:
            slot.full_due = now + self._ticks.full
        if slow:
            slot.slow_due = now + self._ticks.slow
        slot.started = now
        reader = slot.reader
        slot.worker.submit(
            lambda: _read(reader, full=full, slow=slow), lambda read: self._done(slot, read)
        )

    def _done(self, slot: _Slot, read: _Read | Exception) -> None:
        slot.started = None
        now = self._clock()
        if isinstance(read, Exception):  # a fault in the backend's code costs this GPU alone
            log.error("read failed", exc_info=read, extra={"uuid": slot.uuid})
            read = _Read(error=GpuError(Reason.UNKNOWN, f"{type(read).__name__}: {read}"))
        if read.error is None:
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
        if read.fast is not None:
            tracker.fast(read.fast, now, self._wall())
        if read.full is not None:
            self._ledger.busy(slot.uuid, tracker.full(read.full, now), now)
            slot.full_seconds = read.seconds
            self._stale = True
        if read.slow is not None:
            self._ledger.energy(tracker.slow(read.slow, now), now)
        self._book_memory(tracker)

    def _away(self, slot: _Slot, error: GpuError) -> None:
        before = slot.tracker.state
        slot.tracker.failed(error.reason)
        slot.full_due = slot.slow_due = 0.0
        self._ledger.away(slot.uuid)
        if slot.tracker.state is not before:
            self._stale = True
            log.warning(
                "GPU is %s: %s",
                slot.tracker.state,
                error,
                extra={"uuid": slot.uuid, "pci_bus_id": slot.tracker.gpu.pci_bus_id},
            )

    # Joining and publishing

    def _book_memory(self, tracker: GpuTracker) -> None:
        for device_uuid, memory in tracker.memory_by_device():
            self._ledger.memory(device_uuid, memory)

    def _resolve(self, now: float) -> None:
        """Join claims and devices again when either has changed."""
        source = self._claim_source
        claims = source.claims(now) if source else Claims()
        trackers = [slot.tracker for slot in self._slots.values()]
        gpus = tuple(tracker.gpu for tracker in trackers)
        mps = frozenset(tracker.gpu.uuid for tracker in trackers if tracker.runs_mps)
        if (claims, gpus, mps) == self._resolved:
            return
        self._resolved = (claims, gpus, mps)
        self._claims = claims
        self._resolution = resolve(claims, gpus, mps) if claims else Resolution()
        self._ledger.hold(self._resolution.allocations if claims is not None else None, now)
        for tracker in trackers:
            self._book_memory(tracker)
        self._stale = True

    def _publish(self, now: float) -> None:
        self._resolve(now)
        if self._stale or now - self._published >= self._ticks.full:
            self._stale, self._published = False, now
            self.snapshot = self._build(now)

    def _build(self, now: float) -> Snapshot:
        slots = self._slots.values()
        sources = [self._session.health(max((s.full_seconds for s in slots), default=None))]
        if self._claim_source:
            sources.append(self._claim_source.health())
        claims = self._claims or Claims()
        return Snapshot(
            timestamp=self._wall(),
            backend=self._backend.name,
            driver=self._session.driver,
            gpus=tuple(s.tracker.sample(now) for s in slots),
            containers=self._ledger.samples(now),
            sources=tuple(sources),
            allocatable={name: len(ids) for name, ids in (claims.allocatable or {}).items()},
            allocated=dict(Counter(claim.resource for claim in claims.held)),
            unresolved=self._resolution.unresolved,
        )


def thread_workers(deliver: Callable[[Callable[[], None]], object]) -> Callable[[str], Worker]:
    """Return a maker of threads that hand their results to ``deliver``."""
    return lambda name: ThreadWorker(name, deliver)


def _read(reader: Reader, *, full: bool, slow: bool) -> _Read:
    """Read what is due, on the GPU's own thread."""
    begun = time.perf_counter()
    try:
        return _Read(
            fast=reader.read_fast(),
            full=reader.read_full() if full else None,
            slow=reader.read_slow() if slow else None,
            seconds=time.perf_counter() - begun,
        )
    except GpuError as error:
        return _Read(error=error)
