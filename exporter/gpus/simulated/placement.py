"""Places the pods of a scenario on the devices of a node.

All places are computed once, before the clock starts. So a scenario is refused at once if it asks
for a slice that does not exist, or for a device that another pod has.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from exporter.gpus.simulated.layout import identify, instance_sm_count
from exporter.gpus.simulated.profiles import Profile
from exporter.gpus.simulated.scenario import Fault, Pod, Scenario, Setup
from exporter.gpus.simulated.workloads import Workload, key_of
from exporter.model.claims import Claim, Container, Sharing
from exporter.model.devices import Gpu, Slice


@dataclass(frozen=True, slots=True)
class Era:
    """A span of time in which a GPU keeps its MIG layout."""

    start: float
    end: float
    gpu: Gpu


@dataclass(frozen=True, slots=True)
class Tenant:
    """One container on one device, in scenario seconds."""

    number: int
    key: int
    claims: tuple[Claim, ...]
    workload: Workload
    start: float
    end: float
    slice: Slice | None
    width: float
    """The share of the GPU instance's SMs; 1 unless several compute instances share it."""
    peers: int
    """How many other GPUs the pod has. The pod talks to them over NVLink."""
    exempt: str
    of_cluster: bool = False
    """Whether a real kubelet placed it: its time is not that of the scenario's run."""

    @property
    def container(self) -> Container:
        return self.claims[0].container


@dataclass(slots=True)
class Seat:
    """A device in one era, as the kubelet sees it. Each id is for one container at a time."""

    era: Era
    slice: Slice | None
    resource: str
    ids: tuple[str, ...]
    sharing: Sharing | None
    taken: list[tuple[float, float, str]] = field(default_factory=list)
    """The spans in which ids are taken: start, end, id."""

    def free(self, start: float, end: float) -> list[str]:
        taken = {i for since, until, i in self.taken if since < end and start < until}
        return [i for i in self.ids if i not in taken]


@dataclass(frozen=True, slots=True)
class Placement:
    """A scenario on a node, by GPU index."""

    eras: tuple[tuple[Era, ...], ...]
    seats: tuple[tuple[Seat, ...], ...]
    tenants: tuple[tuple[Tenant, ...], ...]
    mps: frozenset[int]


def place(profile: Profile, scenario: Scenario, seed: int) -> Placement:
    """Raise :class:`DocumentError` at the first entry that has no place."""
    setups = _by_gpu(scenario.setups)
    eras = tuple(
        tuple(_eras(profile, index, setups.get(index), scenario, seed))
        for index in range(profile.gpu_count)
    )
    seats = tuple(
        tuple(seat for era in row for seat in _seats(era, setups.get(index)))
        for index, row in enumerate(eras)
    )
    return Placement(
        eras=eras,
        seats=seats,
        tenants=_tenants(scenario.pods, seats, seed),
        mps=frozenset(i for i, setup in setups.items() if setup.sharing is Sharing.MPS),
    )


def _tenants(
    pods: Sequence[Pod], seats: Sequence[Sequence[Seat]], seed: int
) -> tuple[tuple[Tenant, ...], ...]:
    """Return the tenants of each GPU, in the order of the pods."""
    tenants: list[list[Tenant]] = [[] for _ in seats]
    numbers = count()
    for pod in pods:
        for single, chosen in _choose(pod, seats):
            for seat in chosen:
                tenant = _sit(single, seat, next(numbers), len(chosen) - 1, seed)
                tenants[seat.era.gpu.index].append(tenant)
    return tuple(map(tuple, tenants))


def _by_gpu(setups: Sequence[Setup]) -> Mapping[int, Setup]:
    found: dict[int, Setup] = {}
    for setup in setups:
        for index in setup.gpus:
            if index in found:
                raise setup.place.error(f"GPU {index} is set up twice")
            found[index] = setup
    return found


def _eras(
    profile: Profile, index: int, setup: Setup | None, scenario: Scenario, seed: int
) -> Iterator[Era]:
    first = profile.layouts.get(index, ())
    if setup and setup.slices is not None:
        first = setup.slices
    changes = [f for f in scenario.faults if f.kind == "mig_reconfigure" and f.gpu == index]
    start, usual = 0.0, _cut(profile, index, first, seed, setup)
    for change in sorted(changes, key=lambda fault: fault.at):
        if change.at < start:
            raise change.place.error(f"GPU {index} is still in another reconfiguration")
        if start < change.at:
            yield Era(start, change.at, usual)
        yield Era(change.at, change.end, _cut(profile, index, change.slices, seed, change))
        start = change.end
    if start < scenario.repeat:
        yield Era(start, scenario.repeat, usual)


def _cut(
    profile: Profile, index: int, layout: Sequence[str], seed: int, asker: Setup | Fault | None
) -> Gpu:
    try:
        return identify(profile, index, layout, seed)
    except ValueError as error:
        if asker is None:
            raise
        raise asker.place.error(str(error)) from None


def _seats(era: Era, setup: Setup | None) -> Iterator[Seat]:
    sharing = setup.sharing if setup else None
    devices: list[tuple[Slice | None, str, str]]
    if era.gpu.mig_enabled:
        devices = [(s, s.uuid, f"nvidia.com/mig-{s.profile}") for s in era.gpu.slices]
    else:
        devices = [(None, era.gpu.uuid, "nvidia.com/gpu")]
    for slice_, uuid, resource in devices:
        if setup and sharing:
            ids = tuple(f"{uuid}::{n}" for n in range(setup.replicas))
            shared = f"{resource}.shared" if setup.renamed else resource
            yield Seat(era, slice_, shared, ids, sharing)
        else:
            yield Seat(era, slice_, resource, (uuid,), None)


def _choose(pod: Pod, seats: Sequence[Sequence[Seat]]) -> Iterator[tuple[Pod, list[Seat]]]:
    """Yield the pods that an entry stands for, each with the seats that it takes."""
    if pod.spread is None:
        yield pod, [_only(pod, _open_seats(pod, index, seats[index])) for index in pod.gpus]
        return
    if pod.slice is not None:
        raise pod.place.error("give 'slice' or 'spread', not both")
    devices = [seat for index in pod.gpus for seat in _open_seats(pod, index, seats[index])]
    devices.sort(key=lambda seat: len(seat.ids) - len(seat.free(pod.start, pod.end)))
    total = len(devices) if pod.spread == "each" else pod.spread
    for n in range(total):
        container = replace(pod.container, pod=f"{pod.container.pod}-{n}")
        yield replace(pod, container=container), [devices[n % len(devices)]]


def _open_seats(pod: Pod, index: int, seats: Sequence[Seat]) -> list[Seat]:
    found = [s for s in seats if s.era.start <= pod.start and pod.end <= s.era.end]
    if not found:
        raise pod.place.error(f"GPU {index} is cut anew while {pod.container.pod} is on it")
    return found


def _only(pod: Pod, seats: Sequence[Seat]) -> Seat:
    gpu = seats[0].era.gpu
    if pod.slice is None:
        if gpu.mig_enabled:
            raise pod.place.error(f"GPU {gpu.index} has MIG on: give 'slice' or 'spread'")
        return seats[0]
    if not gpu.mig_enabled:
        raise pod.place.error(f"GPU {gpu.index} has MIG off, so it has no slice {pod.slice}")
    if pod.slice >= len(seats):
        last = len(seats) - 1
        raise pod.place.error(f"GPU {gpu.index} has no slice {pod.slice}, only 0 to {last}")
    return seats[pod.slice]


def _sit(pod: Pod, seat: Seat, number: int, peers: int, seed: int) -> Tenant:
    free = seat.free(pod.start, pod.end)
    if len(free) < pod.shares:
        device = f"GPU {seat.era.gpu.index}"
        if seat.slice:
            device += f" slice {seat.slice.profile}"
        why = "has no share left" if seat.sharing else "is allocated to another pod then"
        raise pod.place.error(f"{device} {why}, for {pod.container.pod}")
    taken = free[: pod.shares]
    seat.taken += [(pod.start, pod.end, device_id) for device_id in taken]
    resource = pod.resource or seat.resource
    return Tenant(
        number=number,
        key=key_of(seed, pod.container.namespace, pod.container.pod, taken[0]),
        claims=tuple(Claim(pod.container, resource, device_id) for device_id in taken),
        workload=pod.workload,
        start=pod.start,
        end=pod.end,
        slice=seat.slice,
        width=_width(seat),
        peers=peers,
        exempt=pod.exempt,
    )


def _width(seat: Seat) -> float:
    if seat.slice is None:
        return 1.0
    return (seat.slice.sm_count or 0) / instance_sm_count(seat.era.gpu, seat.slice.gpu_instance)
