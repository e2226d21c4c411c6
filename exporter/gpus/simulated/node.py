"""The state of each GPU at a moment of the scenario: who is on it, and what is wrong with it.

Everything here is a pure function of scenario time, computed from a :class:`Placement`. Only what
the pods of a real cluster do is not known in advance: see :meth:`Node.occupy`.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final, TypeVar

from exporter.gpus.simulated.placement import Placement, Seat, Tenant, place
from exporter.gpus.simulated.profiles import Profile
from exporter.gpus.simulated.scenario import FOREVER, Fault, Scenario
from exporter.model.claims import Claims
from exporter.model.devices import Gpu

T = TypeVar("T")

FALLEN_OFF_THE_BUS: Final = 79
"""The XID that the driver reports when a GPU is lost."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A span of time in which nothing on a GPU begins or ends."""

    start: float
    gpu: Gpu
    tenants: tuple[Tenant, ...]
    seats: tuple[Seat, ...]
    faults: tuple[Fault, ...]
    active: frozenset[str]
    """The kinds of ``faults``."""

    @property
    def reachable(self) -> bool:
        return not self.active & {"gpu_lost", "driver_unloaded"}


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that the driver reports at once."""

    at: float
    gpu: Gpu
    xid: int | None
    """``None``: not an XID, but a new MIG layout."""


class Node:
    """A node of ``profile`` on which ``scenario`` plays.

    Raises :class:`DocumentError` when the scenario does not fit the node.
    """

    def __init__(self, profile: Profile, scenario: Scenario, seed: int) -> None:
        self.profile = profile
        self._repeat = scenario.repeat
        self._faults = scenario.faults
        self._placement = place(profile, scenario, seed)
        self.tenants = tuple(tenant for row in self._placement.tenants for tenant in row)
        self._segments = tuple(
            tuple(_segments(index, self._placement, scenario)) for index in range(profile.gpu_count)
        )
        self._starts = tuple(tuple(s.start for s in row) for row in self._segments)
        self._happenings = tuple(sorted(self._happenings_of_faults(), key=lambda h: h.at))
        self.pods_of_cluster = scenario.pods_of_cluster
        self._guests: Mapping[int, Sequence[Tenant]] = {}

    def occupy(self, guests: Mapping[int, Sequence[Tenant]]) -> None:
        """Replace the tenants of a real cluster, by GPU index.

        A tenant whose end has passed may stay for a while, because its work is integrated later.
        """
        self._guests = guests

    def cycle(self, time: float) -> tuple[int, float]:
        """Return how often the scenario has started over, and the time in the current run."""
        if self._repeat == FOREVER:
            return 0, time
        runs = int(time // self._repeat)
        return runs, time - runs * self._repeat

    def segment(self, index: int, time: float) -> Segment:
        """Return what is on GPU ``index`` at ``time``."""
        segment = self._in_run(index, self.cycle(time)[1])
        guests = self._guests.get(index, ())
        present = tuple(guest for guest in guests if guest.start <= time < guest.end)
        return replace(segment, tenants=present) if present else segment

    def gpus(self, time: float) -> Sequence[Gpu]:
        """Return every GPU with its MIG layout at ``time``, also a GPU that can't be reached."""
        return [self.segment(index, time).gpu for index in range(self.profile.gpu_count)]

    def age(self, tenant: Tenant, time: float) -> float:
        """Return for how long a tenant has been on its device."""
        return (time if tenant.of_cluster else self.cycle(time)[1]) - tenant.start

    def _in_run(self, index: int, phase: float) -> Segment:
        return self._segments[index][bisect_right(self._starts[index], phase) - 1]

    def shared_by_mps(self, index: int) -> bool:
        return index in self._placement.mps

    def active(self, kind: str, time: float) -> Fault | None:
        """Return the node-wide fault of ``kind`` that is active."""
        _, phase = self.cycle(time)
        return next((f for f in self._faults if f.kind == kind and f.at <= phase < f.end), None)

    def driver_version(self, time: float) -> str:
        """Return the version of the driver, which a reload may change."""
        _, phase = self.cycle(time)
        reloads = [f for f in self._faults if f.version and f.end <= phase]
        last = max(reloads, key=lambda fault: fault.end, default=None)
        return last.version if last else self.profile.driver_version

    def counted(self, index: int, kind: str, time: float) -> Iterator[tuple[Fault, int]]:
        """Yield the faults of ``kind`` on a GPU, each with its count so far."""
        runs, phase = self.cycle(time)
        for fault in self._faults:
            if fault.gpu == index and fault.kind == kind:
                yield fault, fault.count * (runs + (fault.at <= phase))

    def happenings(self, after: float, until: float) -> list[Happening]:
        """Return what happened in ``(after, until]`` while the driver was there, oldest first."""
        found = []
        for run in range(max(0, self.cycle(max(after, 0))[0] - 1), self.cycle(until)[0] + 1):
            shift = run * self._repeat if run else 0.0
            for happening in self._happenings:
                at = happening.at + shift
                if after < at <= until and not self.active("driver_unloaded", at):
                    found.append(Happening(at, happening.gpu, happening.xid))
        return found

    def next_change(self, after: float) -> float:
        """Return when the driver next reports something or is unloaded; infinity if never."""
        runs, _ = self.cycle(after)
        times = [h.at for h in self._happenings]
        times += [f.at for f in self._faults if f.kind == "driver_unloaded"]
        shifts = (
            (0.0,) if self._repeat == FOREVER else (runs * self._repeat, (runs + 1) * self._repeat)
        )
        return min((t + s for t in times for s in shifts if t + s > after), default=math.inf)

    def claims(self, time: float) -> Claims:
        """Return what the kubelet knows: who has which device id, and which ids are healthy."""
        segments = [self.segment(i, time) for i in range(self.profile.gpu_count)]
        return Claims(
            held=tuple(c for s in segments for tenant in s.tenants for c in tenant.claims),
            allocatable={
                resource: tuple(device_id for device_id, healthy in ids.items() if healthy)
                for resource, ids in self.advertised(time).items()
                if any(ids.values())
            },
        )

    def advertised(self, time: float) -> Mapping[str, Mapping[str, bool]]:
        """Return the ids of a device plugin by resource, and whether each id is healthy."""
        found: dict[str, dict[str, bool]] = {}
        for index in range(self.profile.gpu_count):
            segment = self.segment(index, time)
            for seat in segment.seats:
                healthy = "gpu_lost" not in segment.active
                found.setdefault(seat.resource, {}).update(dict.fromkeys(seat.ids, healthy))
        return found

    def _happenings_of_faults(self) -> Iterator[Happening]:
        for fault in self._faults:
            if fault.gpu is None:
                continue
            gpu = self._in_run(fault.gpu, fault.at).gpu
            match fault.kind:
                case "xid":
                    yield Happening(fault.at, gpu, fault.code)
                case "gpu_lost":
                    yield Happening(fault.at, gpu, FALLEN_OFF_THE_BUS)
                case "mig_reconfigure":
                    yield Happening(fault.at, gpu, None)
                    if fault.end < FOREVER:
                        yield Happening(fault.end, gpu, None)


def _segments(index: int, placement: Placement, scenario: Scenario) -> Iterator[Segment]:
    eras, tenants, seats = (
        placement.eras[index],
        placement.tenants[index],
        placement.seats[index],
    )
    faults = [fault for fault in scenario.faults if fault.gpu in {index, None} and fault.lasts]
    spans = [(era.start, era.end) for era in eras]
    spans += [(tenant.start, tenant.end) for tenant in tenants]
    spans += [(fault.at, fault.end) for fault in faults]
    for start in sorted({*chain.from_iterable(spans)} - {FOREVER, scenario.repeat}):
        era = _during(start, eras, lambda era: (era.start, era.end))[0]
        now = _during(start, faults, lambda fault: (fault.at, fault.end))
        yield Segment(
            start=start,
            gpu=era.gpu,
            tenants=_during(start, tenants, lambda tenant: (tenant.start, tenant.end)),
            seats=_during(start, seats, lambda seat: (seat.era.start, seat.era.end)),
            faults=now,
            active=frozenset(fault.kind for fault in now),
        )


def _during(
    moment: float, things: Iterable[T], span: Callable[[T], tuple[float, float]]
) -> tuple[T, ...]:
    """Return the things whose span includes a moment."""
    found = []
    for thing in things:
        start, end = span(thing)
        if start <= moment < end:
            found.append(thing)
    return tuple(found)
