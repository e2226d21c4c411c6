"""Visits to GPUs: every known GPU is read when its readings are due."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from exporter.gpus import GpuError, Reader
from exporter.model.clocks import Monotonic, UnixSeconds
from exporter.model.readings import Reason
from exporter.model.snapshot import GpuState
from exporter.sampling.containers import Containers
from exporter.sampling.session import Session
from exporter.sampling.slots import Slot, Ticks, Visit, visit
from exporter.sampling.tracker import GpuTracker
from exporter.sampling.worker import Worker

_LOG: Final = logging.getLogger(__name__)

_REVIVE_SECONDS: Final = 60.0
"""How often a new session is opened while a GPU is away.

A GPU that went away comes back only to a new session with the driver. Opening one costs some 10 ms
of CPU and a second or two without readings, in which no events are seen either.
"""


class Visits:
    """Reads each GPU on a thread of its own, at most one visit at a time.

    A GPU is *away* while it has no data: because a visit failed, because a visit has not returned
    by the deadline, or because the driver no longer lists the GPU. Its data vanish at once, and
    come back with the next visit that succeeds. One GPU that is away does not hold up the others.

    ``on_change`` is called when the snapshot has to show something new, and ``on_return`` when
    every visit has returned or hangs.
    """

    def __init__(
        self,
        session: Session,
        containers: Containers,
        *,
        ticks: Ticks,
        workers: Callable[[str], Worker],
        clock: Callable[[], Monotonic],
        wall: Callable[[], UnixSeconds],
        on_change: Callable[[], None],
        on_return: Callable[[], None],
    ) -> None:
        self._session = session
        self._containers = containers
        self._ticks = ticks
        self._workers = workers
        self._clock = clock
        self._wall = wall
        self._on_change = on_change
        self._on_return = on_return
        self._slots: dict[str, Slot] = {}
        self._revive_due = Monotonic(0.0)

    @property
    def slots(self) -> Mapping[str, Slot]:
        """The known GPUs, by UUID."""
        return self._slots

    @property
    def all_returned(self) -> bool:
        """Whether no visit is under way."""
        return all(slot.started is None for slot in self._slots.values())

    def step(self, now: Monotonic) -> None:
        """Start the visits that are due, and note the ones that are late."""
        for slot in self._slots.values():
            self._visit(slot, now)
        self._revive(now)

    def stop(self) -> None:
        """Let each thread end that does not hang in a call."""
        for slot in self._slots.values():
            slot.worker.stop()

    def opened(self, readers: Sequence[Reader]) -> None:
        """Take the GPUs that a new session lists, and visit each of them."""
        listed = {reader.gpu.uuid: reader for reader in readers}
        for uuid, slot in list(self._slots.items()):
            if uuid not in listed and not slot.tracker.identified:
                slot.worker.stop()  # it stood in for a GPU that has a name now
                del self._slots[uuid]
        for uuid, reader in listed.items():
            if uuid not in self._slots:
                tracker = GpuTracker(reader.gpu, self._ticks.peak_window)
                worker = self._workers(f"gpu-{reader.gpu.index}")
                self._slots[uuid] = Slot(tracker, worker)
        now = self._clock()
        for uuid, slot in self._slots.items():
            slot.reader = listed.get(uuid)
            slot.read_everything_next()
            if slot.reader is None:
                self._failed(slot, GpuError(Reason.GPU_LOST, "the driver no longer lists it"))
            self._visit(slot, now)

    def lost(self, error: GpuError) -> None:
        """Note that the session has ended: every GPU is away."""
        for slot in self._slots.values():
            slot.reader = None
            if not slot.hung:
                self._failed(slot, error)
        self._on_change()

    def _revive(self, now: Monotonic) -> None:
        """Open a new session now and then while GPUs are away, but never while a visit hangs."""
        slots = self._slots.values()
        if all(slot.tracker.state is GpuState.OK for slot in slots):
            self._revive_due = Monotonic(now + _REVIVE_SECONDS)
        elif now >= self._revive_due and not any(slot.hung for slot in slots):
            self._revive_due = Monotonic(now + _REVIVE_SECONDS)
            self._session.restart()

    def _visit(self, slot: Slot, now: Monotonic) -> None:
        if slot.started is not None:
            if now - slot.started >= self._ticks.read_deadline and not slot.hung:
                self._hung(slot)
            return
        if slot.reader is None or not self._session.is_open:
            return
        due = slot.start(now, self._ticks)
        reader, processes = slot.reader, self._containers.splits(slot.uuid)
        slot.worker.submit(
            lambda: visit(reader, due, processes=processes),
            lambda result: self._done(slot, result),
        )

    def _done(self, slot: Slot, result: Visit | Exception) -> None:
        slot.started = None
        outcome = result if isinstance(result, Visit) else _as_gpu_error(slot, result)
        if self._session.driver is None:
            pass  # the result came too late: it is about a driver that is gone
        elif isinstance(outcome, Visit):
            self._take(slot, outcome, self._clock())
        elif outcome.reason.ends_session:
            self._session.lose(outcome)
        else:
            self._failed(slot, outcome)
        if all(s.started is None or s.hung for s in self._slots.values()):
            self._on_return()

    def _take(self, slot: Slot, result: Visit, now: Monotonic) -> None:
        tracker, readings, timestamp = slot.tracker, result.readings, self._wall()
        if tracker.state is not GpuState.OK:
            _LOG.info("GPU can be read again", extra={"uuid": slot.uuid})
            self._on_change()
        steps = tracker.take(readings, now, timestamp)
        self._containers.book(tracker.view, readings, steps, now, timestamp)
        if readings.full is not None:
            slot.full_seconds = result.full_seconds
            self._on_change()

    def _failed(self, slot: Slot, error: GpuError) -> None:
        before = slot.tracker.state
        slot.tracker.failed(error.reason)
        self._without_data(slot, before, str(error))

    def _hung(self, slot: Slot) -> None:
        before = slot.tracker.state
        slot.tracker.hung()
        self._without_data(slot, before, f"no answer in {self._ticks.read_deadline:g} s")

    def _without_data(self, slot: Slot, before: GpuState, message: str) -> None:
        slot.read_everything_next()
        slot.full_seconds = None
        self._containers.away(slot.uuid, lost=slot.tracker.state is GpuState.LOST)
        if slot.tracker.state is not before:
            self._on_change()
            _LOG.warning("GPU is %s: %s", slot.tracker.state, message, extra=slot.log_fields)


def _as_gpu_error(slot: Slot, error: Exception) -> GpuError:
    """Return the error as one of the GPU: a fault in a backend's code costs only this GPU."""
    if isinstance(error, GpuError):
        return error
    _LOG.error("read failed", exc_info=error, extra={"uuid": slot.uuid})
    return GpuError(Reason.UNKNOWN, f"{type(error).__name__}: {error}")
