"""The heart of the program: reads every GPU by its ticks, books what they did, makes snapshots."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NoReturn

from exporter.gpus import Backend, GpuError, Reader
from exporter.model.clocks import Monotonic, UnixSeconds, monotonic, unix_time
from exporter.model.readings import Event, XidEvent
from exporter.model.snapshot import Snapshot
from exporter.sampling.containers import Containers
from exporter.sampling.session import Session
from exporter.sampling.slots import Ticks
from exporter.sampling.visits import Visits
from exporter.sampling.worker import Worker

_LOG: Final = logging.getLogger(__name__)

_STUCK_SECONDS: Final = 60.0
"""A session that can't be closed for so long never will be: some call into the driver hangs."""
_WITHOUT_LIBRARY_SECONDS: Final = 660.0
"""After this time without the driver's library, the container has to be made again.

A container that was made before the library was on its node never gets it. The kubelet forgets its
back-off after ten minutes, so one restart in this time does not delay the next.
"""
_STALLED_SECONDS: Final = 10.0
"""The least time without a step after which the sampling loop counts as dead."""


class Sampler:
    """Runs the session, the visits and the books, and publishes a snapshot of them.

    - :class:`Session` keeps the driver open and waits for events.
    - :class:`Visits` reads the GPUs.
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
        self._stale = True
        self._published = self._stepped = clock()
        self.snapshot = self._build(self._stepped)

    async def run(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> NoReturn:
        """Step every fast tick, for ever. A step that comes late does not make others follow it."""
        due = self._clock()
        while True:
            self.step()
            due = max(Monotonic(due + self._ticks.fast), self._clock())
            await sleep(due - self._clock())

    def step(self) -> None:
        """Do all that is due: start visits, note late ones, publish what has changed."""
        now = self._stepped = self._clock()
        self._visits.step(now)
        self._session.step(quiet=self._visits.all_returned)
        self._publish(now)

    def dead(self) -> str:
        """Return why only a new process would help; an empty string if the program is alive."""
        since = self._clock() - self._stepped
        if since >= max(_STALLED_SECONDS, 3 * self._ticks.fast):
            return f"no sampling step for {since:.0f} s"
        stuck = self._session.stuck_seconds()
        if stuck >= _STUCK_SECONDS:
            return f"a call into the driver has hung for {stuck:.0f} s, and nothing can be read"
        missing = self._session.without_library_seconds()
        advertised = self._containers.allocations.allocatable.values()
        if missing >= _WITHOUT_LIBRARY_SECONDS and any(advertised):
            return (
                f"the driver's library has been missing for {missing:.0f} s, while the kubelet"
                " advertises GPUs: a container gets the library when it is made"
            )
        return ""

    def stop(self) -> None:
        """Let each thread end that does not hang in a call."""
        self._visits.stop()
        self._session.stop()

    def _opened(self, readers: Sequence[Reader]) -> None:
        self._visits.opened(readers)

    def _lost(self, error: GpuError) -> None:
        self._visits.lost(error)

    def _got_events(self, events: Sequence[Event]) -> None:
        now = self._clock()
        for event in events:
            slot = self._visits.slots.get(event.gpu_uuid)
            if slot is None:
                _LOG.warning("event of an unknown GPU", extra={"uuid": event.gpu_uuid})
                continue
            slot.hurry(now, self._ticks)
            if isinstance(event, XidEvent):
                slot.tracker.xid(event)
                slot.log_xid(event.xid, now)
                self._containers.xid(event)
                self._changed()

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
            sources=(*self._session.health(max(durations, default=None)), *containers.sources()),
            allocatable=allocations.allocatable,
            allocated=allocations.allocated,
            unresolved=allocations.unresolved,
            pod_labels=self._pod_labels,
        )
