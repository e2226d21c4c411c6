"""Visits to GPUs: every GPU that the driver lists is found, and read when its readings are due."""

import itertools
import logging
from collections.abc import Callable, Mapping
from typing import Final

from exporter.gpus import GpuError, Reader
from exporter.model.clocks import Monotonic, UnixSeconds
from exporter.model.devices import Gpu
from exporter.model.readings import Reason
from exporter.model.snapshot import GpuState
from exporter.sampling.containers import Containers
from exporter.sampling.errors import as_gpu_error, fault
from exporter.sampling.session import Opened, Session
from exporter.sampling.slots import Place, Slot, Ticks, Visit, Workers, make_place, visit
from exporter.sampling.tracker import GpuTracker

_LOG: Final = logging.getLogger(__name__)


class Visits:
    """Reads each GPU on a thread of its own, at most one visit at a time.

    A GPU is *away* while it has no data: because a visit failed, because a visit hangs, or because
    the driver does not list the GPU. Its data vanish at once, and come back with the next visit
    that succeeds. One GPU that is away does not hold up the others.

    The driver numbers GPUs anew in each session, so the first call on each number finds out which
    GPU it is. A number of which that can't be found out is taken for the GPU that had it last,
    unless that GPU is elsewhere now, or else for one called such as ``GPU-at-index-3``.

    ``on_change`` is called when the snapshot has to show something new, and ``on_return`` when
    every visit has returned or hangs.
    """

    def __init__(
        self,
        session: Session,
        containers: Containers,
        *,
        ticks: Ticks,
        workers: Workers,
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
        self._places: list[Place] = []
        self._present: Mapping[str, bool] | None = None
        self._unlisted_noted = True

    @property
    def slots(self) -> Mapping[str, Slot]:
        """The known GPUs, by UUID."""
        return self._slots

    @property
    def places(self) -> list[Place]:
        """The driver's numbers of all sessions so far, in order."""
        return self._places

    @property
    def hangs(self) -> bool:
        """Whether a call on a GPU hangs."""
        return any(place.is_late for place in self._places)

    @property
    def all_returned(self) -> bool:
        """Whether no call on a GPU is under way."""
        return all(p.started is None and p.ear.waiting_since is None for p in self._places)

    def step(self, now: Monotonic) -> None:
        """Start the visits that are due, and note the ones that hang."""
        for place in self._places:
            self._visit(place, now)

    def stop(self) -> None:
        """Let each thread end that does not hang in a call."""
        for place in self._places:
            place.stop()

    def opened(self, opened: Opened) -> None:
        """Take the numbers that a new session has, and find out which GPUs they are."""
        readers = {reader.index: reader for reader in opened.readers}
        for number in range(len(self._places), max(readers, default=-1) + 1):
            self._places.append(make_place(number, self._workers))
        for slot in self._slots.values():
            slot.place = None
        self._present, self._unlisted_noted = opened.present, False
        now = self._clock()
        for place in self._places:
            place.begin(readers.get(place.number))
            self._visit(place, now)
        self._note_unlisted()

    def lost(self, error: GpuError) -> None:
        """Note that the session has ended: every GPU is away."""
        for slot in self._slots.values():
            slot.place = None
            if slot.tracker.state not in {GpuState.HUNG, GpuState.REMOVED}:
                self._failed(slot, error)
        for place in self._places:
            place.slot = None
        self._on_change()

    def present(self, present: Mapping[str, bool] | None) -> None:
        """Take which GPUs the node has now: one that it no longer has is no loss."""
        self._present = present
        for slot in self._slots.values():
            if slot.tracker.state is GpuState.LOST and self._is_removed(slot):
                self._away(slot)

    def _visit(self, place: Place, now: Monotonic) -> None:
        if place.started is not None:
            if not place.is_late and place.hangs(now, self._ticks.read_deadline):
                self._late(place)
            return
        reader, slot = place.reader, place.slot
        if reader is None or not self._session.is_open:
            return
        place.start(now)
        if slot is None:
            place.worker.submit(reader.find, lambda uuid: self._returned(place, uuid))
            return
        due, processes = place.plan(now, self._ticks), self._containers.splits(slot.uuid)
        place.worker.submit(
            lambda: visit(reader, due, processes=processes),
            lambda result: self._returned(place, result),
        )

    def _returned(self, place: Place, result: str | Visit | Exception) -> None:
        place.started, place.is_late = None, False
        now, slot = self._clock(), place.slot
        if self._session.driver is None or place.reader is None:
            pass  # the result came too late: it is about a driver that is gone
        elif isinstance(result, Exception):
            error = as_gpu_error(result)
            if error.reason.ends_session:
                self._session.lose(error)
            else:
                place.read_everything_next()
                self._failed(slot or self._stand_in(place), error)
        elif isinstance(result, Visit):
            if slot is not None:
                self._take(place, slot, result, now)
        else:
            self._found(place, place.reader, result)
            if place.slot is not None:
                self._visit(place, now)
        self._note_unlisted()
        if all(p.started is None or p.is_late for p in self._places):
            self._on_return()

    def _found(self, place: Place, reader: Reader, uuid: str) -> None:
        """Take the GPU's UUID, which is empty if it can't be read."""
        slot = self._slots.get(uuid) if uuid else self._stand_in(place)
        if slot is not None and slot.place is not None:
            twin = f"it has the UUID of GPU {slot.place.number}, {uuid}"
            self._failed(self._stand_in(place), GpuError(Reason.IMPLAUSIBLE, twin))
            return
        self._forget_stand_in(place, slot)
        if slot is None:
            gpu = Gpu(uuid=uuid, index=self._free_index(place), model="")
            slot = self._slots[uuid] = self._slot(gpu, place.number)
        slot.number, slot.place, place.slot = place.number, place, slot
        self._unlisted_noted = False
        slot.tracker.numbered(place.number, self._clock())
        reader.known_as(slot.uuid, slot.tracker.gpu.index)

    def _take(self, place: Place, slot: Slot, result: Visit, now: Monotonic) -> None:
        tracker, readings, timestamp = slot.tracker, result.readings, self._wall()
        if not slot.is_ok:
            _LOG.info("GPU can be read again", extra={"uuid": slot.uuid})
            place.ear.due = now
            self._on_change()
        slot.error, place.is_read = None, True
        steps = tracker.take(readings, now, timestamp)
        self._containers.book(tracker.view, readings, steps, now, timestamp)
        if readings.full is not None:
            slot.full_seconds = result.full_seconds
            self._on_change()

    def _late(self, place: Place) -> None:
        place.is_late = True
        place.read_everything_next()
        slot = place.slot or self._stand_in(place)
        before = slot.tracker.state
        slot.tracker.hung()
        error = GpuError(Reason.TIMEOUT, f"no answer in {self._ticks.read_deadline:g} s")
        self._without_data(slot, before, error)
        self._note_unlisted()

    def _failed(self, slot: Slot, error: GpuError) -> None:
        before = slot.tracker.state
        slot.tracker.failed(error.reason, self._wall())
        self._without_data(slot, before, error)

    def _without_data(self, slot: Slot, before: GpuState, error: GpuError) -> None:
        slot.error, slot.full_seconds = error, None
        state = slot.tracker.state
        self._containers.away(slot.uuid, lost=state is GpuState.LOST)
        if state is not before:
            self._on_change()
            level = logging.INFO if state is GpuState.REMOVED else logging.WARNING
            _LOG.log(
                level, "GPU is %s: %s", state, error, extra=slot.log_fields, exc_info=fault(error)
            )

    def _note_unlisted(self) -> None:
        """Once all numbers are found, or hang: note the GPUs that none of them is."""
        pending = any(
            place.slot is None and place.started is not None and not place.is_late
            for place in self._places
        )
        if self._unlisted_noted or pending or not self._session.is_open:
            return
        self._unlisted_noted = True
        guessed = {self._guess(place) for place in self._places if place.reader}
        for uuid, slot in list(self._slots.items()):
            if slot.place is not None or uuid in guessed:
                continue
            if not slot.tracker.identified:
                del self._slots[uuid]  # it stood in for a GPU that has a name now
            elif slot.number is not None:
                slot.number = None
                self._away(slot)

    def _away(self, slot: Slot) -> None:
        if self._is_removed(slot):
            self._failed(slot, GpuError(Reason.GPU_REMOVED, "it was taken out of the driver"))
        else:
            self._failed(slot, GpuError(Reason.GPU_LOST, "the driver no longer lists it"))

    def _is_removed(self, slot: Slot) -> bool:
        address = slot.tracker.gpu.pci_bus_id
        return bool(address and self._present) and not (self._present or {}).get(address or "")

    def _guess(self, place: Place) -> str:
        """Return the UUID of the GPU that a number which is not found is taken for."""
        if place.slot is not None:
            return place.slot.uuid
        for uuid, slot in self._slots.items():
            if slot.number == place.number and slot.place is None:
                return uuid
        return _stand_in_name(place)

    def _stand_in(self, place: Place) -> Slot:
        uuid = self._guess(place)
        if uuid not in self._slots:
            gpu = Gpu(uuid=uuid, index=place.number, model="")
            self._slots[uuid] = self._slot(gpu, place.number)
        return self._slots[uuid]

    def _forget_stand_in(self, place: Place, found: Slot | None) -> None:
        name = _stand_in_name(place)
        stand_in = self._slots.get(name)
        if stand_in is not None and stand_in is not found and not stand_in.tracker.identified:
            del self._slots[name]
            self._on_change()

    def _slot(self, gpu: Gpu, number: int) -> Slot:
        return Slot(GpuTracker(gpu, self._ticks.peak_window), number)

    def _free_index(self, place: Place) -> int:
        """Return the number that a GPU is shown under for good: its own, if no other has it.

        The driver numbers GPUs anew when one comes or goes. Those that are known keep theirs, so
        that no series changes its labels; a GPU that is gone for good leaves it to the next.
        """
        gone = {GpuState.LOST, GpuState.REMOVED}
        taken = {s.tracker.gpu.index for s in self._slots.values() if s.tracker.state not in gone}
        numbers = itertools.chain([place.number], itertools.count(len(self._places)))
        return next(number for number in numbers if number not in taken)


def _stand_in_name(place: Place) -> str:
    return f"GPU-at-index-{place.number}"
