"""The heart of the program: reads every GPU by its ticks, books what they did, makes snapshots."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final, NoReturn

from exporter.gpus import Backend, GpuError
from exporter.model.clocks import Monotonic, UnixSeconds, monotonic, unix_time
from exporter.model.readings import Event, XidEvent
from exporter.model.snapshot import Snapshot, SourceHealth
from exporter.sampling.containers import Containers
from exporter.sampling.listening import Listening
from exporter.sampling.liveness import Liveness
from exporter.sampling.lookout import Lookout
from exporter.sampling.session import Opened, Session
from exporter.sampling.slots import Ticks
from exporter.sampling.visits import Visits
from exporter.sampling.worker import Worker

_LOG: Final = logging.getLogger(__name__)


class Sampler:
    """Runs the session, the visits and the books, and publishes a snapshot of them.

    - :class:`Session` keeps the driver open.
    - :class:`Visits` reads the GPUs, :class:`Listening` waits for their events.
    - :class:`Lookout` finds out whether a new session would show more.
    - :class:`Liveness` judges whether only a new process would help.
    - :class:`Containers` books what the readings say.

    Everything but the workers' jobs runs on the thread that calls ``step``. ``clock`` is monotonic,
    ``wall`` gives Unix time. ``on_publish`` is called after ``snapshot`` was replaced.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        ticks: Ticks,
        workers: Callable[[str], Worker],
        containers: Containers,
        clock: Callable[[], Monotonic] = monotonic,
        wall: Callable[[], UnixSeconds] = unix_time,
        on_publish: Callable[[], None] = lambda: None,
        pod_labels: tuple[str, ...] = (),
    ) -> None:
        self._backend = backend
        self._ticks = ticks
        self._containers = containers
        self._clock = clock
        self._wall = wall
        self._on_publish = on_publish
        self._pod_labels = pod_labels
        self._session = Session(
            backend,
            worker=workers("driver"),
            retry=ticks.full,
            deadline=ticks.read_deadline,
            clock=clock,
            on_open=self._opened,
            on_lost=self._lost,
        )
        self._visits = Visits(
            self._session,
            containers,
            ticks=ticks,
            workers=workers,
            clock=clock,
            wall=wall,
            on_change=self._changed,
            on_return=lambda: self._publish(clock()),
        )
        self._listening = Listening(
            self._session, ticks=ticks, clock=clock, on_events=self._got_events
        )
        self._lookout = Lookout(
            backend,
            self._session,
            self._visits,
            worker=workers("lookout"),
            ticks=ticks,
            clock=clock,
            hint=self._unknown_devices,
        )
        self._liveness = Liveness(self._session, self._visits, clock=clock, fast=ticks.fast)
        self._stale = True
        self._published = clock()
        self.snapshot = self._build(self._published)

    async def run(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> NoReturn:
        """Step every fast tick, for ever. A step that comes late does not make others follow it."""
        due = self._clock()
        while True:
            self.step()
            due = max(Monotonic(due + self._ticks.fast), self._clock())
            await sleep(due - self._clock())

    def step(self) -> None:
        """Do all that is due: start visits, note late ones, publish what has changed."""
        now = self._clock()
        self._liveness.step(now)
        self._visits.step(now)
        self._listening.step(self._visits.places, now)
        self._lookout.step(now)
        self._session.step(quiet=self._visits.all_returned)
        self._publish(now)

    def dead(self) -> str:
        """Return why only a new process would help; an empty string if the program is alive."""
        return self._liveness.dead(self._containers.allocations.allocatable)

    def stop(self) -> None:
        """Let each thread end that does not hang in a call."""
        self._visits.stop()
        self._lookout.stop()
        self._session.stop()

    def _opened(self, opened: Opened) -> None:
        self._lookout.opened(opened.present)
        self._visits.opened(opened)

    def _lost(self, error: GpuError) -> None:
        self._visits.lost(error)

    def _got_events(self, events: Sequence[Event]) -> None:
        now = self._clock()
        for event in events:
            slot = self._visits.slots.get(event.gpu_uuid)
            if slot is None:
                _LOG.warning("event of an unknown GPU", extra={"uuid": event.gpu_uuid})
                continue
            if slot.place is not None:
                slot.place.hurry(now, self._ticks)
            if isinstance(event, XidEvent):
                slot.tracker.xid(event)
                slot.log_xid(event.xid, now)
                self._containers.xid(event)
                self._changed()

    def _health(self, duration: float | None) -> Iterator[SourceHealth]:
        """Yield the health of the driver and of its events, which may fail alone."""
        yield self._session.health(duration)
        events = self._listening.health(self._visits.places, self._session.down)
        if events is not None:
            yield events

    def _unknown_devices(self) -> object:
        """Return what changes when the kubelet names a GPU that we do not know."""
        allocations = self._containers.allocations
        return dict(allocations.allocatable), dict(allocations.unresolved)

    def _changed(self) -> None:
        """Note that the next publication has to make a new snapshot."""
        self._stale = True

    def _publish(self, now: Monotonic) -> None:
        """Make a new snapshot if something has changed, or if the last one is a full tick old."""
        views = [slot.tracker.view for slot in self._visits.slots.values()]
        if self._containers.refresh(views, now, self._wall()):
            self._changed()
        if self._stale or now - self._published >= self._ticks.full:
            self._stale, self._published = False, now
            self.snapshot = self._build(now)
            self._on_publish()

    def _build(self, now: Monotonic) -> Snapshot:
        slots = sorted(self._visits.slots.values(), key=lambda slot: slot.tracker.gpu.index)
        durations = [slot.full_seconds for slot in slots if slot.full_seconds is not None]
        containers, allocations = self._containers, self._containers.allocations
        samples = containers.samples(now)
        return Snapshot(
            timestamp=self._wall(),
            backend=self._backend.name,
            driver=self._session.driver,
            gpus=tuple(slot.tracker.sample(now) for slot in slots),
            containers=samples,
            unattributed=containers.unattributed(),
            host_oom_kills=containers.host_oom_kills(samples),
            host_oom_last=containers.host_oom_last(samples),
            container_starts=containers.starts(samples),
            container_ends=containers.container_ends(samples),
            sources=(*self._health(max(durations, default=None)), *containers.sources()),
            allocatable=allocations.allocatable,
            allocated=allocations.allocated,
            unresolved=allocations.unresolved,
            pod_labels=self._pod_labels,
        )
