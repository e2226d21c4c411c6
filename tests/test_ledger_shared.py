"""What is booked on containers that share a device, and on none: together what the device did."""

from collections import Counter, defaultdict
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.model.claims import Allocation, Container, Sharing
from exporter.model.devices import Slice
from exporter.model.readings import Memory
from exporter.model.snapshot import ContainerSample, Unattributed
from exporter.sampling.ledger import Ledger
from exporter.sampling.tracker import BusyStep, EnergyStep
from tests.scripted import GIB, gpu, mig_slice

GPU = gpu(0)
A, B, OUTSIDE = (Container("ml", pod, "main") for pod in ("a", "b", "outside"))
USED = Memory(80 * GIB, 70 * GIB, 10 * GIB)


def held(
    container: Container, *, on: int = 0, sole: bool = False, part: Slice | None = None
) -> Allocation:
    whole = gpu(on)
    if part is not None:
        whole = gpu(on, mig_enabled=True, slices=(mig_slice(1, 40, 0), mig_slice(1, 20, 1)))
    return Allocation(
        container=container,
        resource="nvidia.com/gpu",
        sharing=Sharing.EXCLUSIVE if sole else Sharing.TIME_SLICED,
        gpu=whole,
        slice=part,
        share=1.0 if sole else 0.5,
        sole=sole,
    )


class Book:
    """A ledger of GPU 0, busy at ``ratio`` and drawing 100 W."""

    def __init__(self, *allocations: Allocation) -> None:
        self.ledger = Ledger(ended_grace=1e9)
        self.now = 0.0
        self.ledger.hold(allocations, 0.0)

    def read(
        self, shares: Mapping[Container, float] | None, seconds: float = 10.0, ratio: float = 0.5
    ) -> None:
        self.now += seconds
        step = BusyStep(GPU.uuid, ratio * seconds, ratio)
        self.ledger.busy(GPU.uuid, [step], self.now, shares)
        self.ledger.energy([EnergyStep(GPU.uuid, 100 * seconds)], self.now)

    def hold(self, *allocations: Allocation) -> None:
        self.ledger.hold(allocations, self.now)

    def sample(self, container: Container) -> ContainerSample:
        samples = self.ledger.samples(self.now)
        return next(s for s in samples if s.allocation.container == container)

    @property
    def rest(self) -> Unattributed:
        return self.ledger.unattributed()[GPU.uuid]


def test_a_shared_device_is_split_by_the_time_of_processes() -> None:
    book = Book(held(A), held(B))
    book.read({A: 0.5, B: 0.25})
    book.read({A: 0.5, B: 0.25})
    a, b, rest = book.sample(A), book.sample(B), book.rest
    assert (a.busy_seconds, b.busy_seconds, rest.busy_seconds) == (2.5, 1.25, 5.0 + 1.25)
    assert (a.utilization_ratio, b.utilization_ratio) == (0.25, 0.125)
    # Busy for half of 10 s: 500 J by busy time, 500 J evenly.
    assert (a.energy_joules, b.energy_joules) == (250 + 250, 125 + 250)
    assert rest.energy_joules == 1000 + 125


def test_counters_begin_at_zero_when_processes_are_first_told() -> None:
    book = Book(held(A))
    book.read(None)
    assert (book.sample(A).busy_seconds, book.sample(A).energy_joules) == (None, None)
    book.read({A: 1.0})
    assert (book.sample(A).busy_seconds, book.sample(A).energy_joules) == (0.0, 0.0)
    book.hold(held(A), held(B))
    assert (book.sample(B).busy_seconds, book.sample(B).energy_joules) == (0.0, 0.0)
    book.read({A: 0.5, B: 0.5})
    assert (book.sample(A).busy_seconds, book.sample(B).busy_seconds) == (2.5, 2.5)


def test_without_the_figures_of_processes_nothing_is_told_and_the_sum_still_holds() -> None:
    book = Book(held(A), held(B))
    book.read({A: 1.0})
    book.read({A: 1.0})
    book.read(None)
    book.ledger.memory(GPU.uuid, USED)
    for container in (A, B):
        sample = book.sample(container)
        assert (sample.busy_seconds, sample.energy_joules) == (None, None)
        assert (sample.utilization_ratio, sample.idle_seconds) == (None, None)
        assert sample.memory_used_bytes is None
    assert book.rest == Unattributed()
    book.read({A: 1.0})
    assert book.sample(A).busy_seconds == 10.0
    assert book.rest.busy_seconds == 10.0


def test_memory_is_told_by_container_and_what_is_left_by_none() -> None:
    book = Book(held(A), held(B))
    book.ledger.memory(GPU.uuid, USED, {A: 50 * GIB, OUTSIDE: 10 * GIB})
    book.ledger.memory(GPU.uuid, USED, {A: 40 * GIB, OUTSIDE: 10 * GIB})
    a, b = book.sample(A), book.sample(B)
    assert (a.memory_used_bytes, b.memory_used_bytes) == (40 * GIB, 0)
    assert a.memory_peak_bytes == 50 * GIB
    assert a.memory_limit_bytes is None
    assert book.rest.memory_bytes == 30 * GIB


def test_compute_instances_share_the_memory_of_their_gpu_instance() -> None:
    leading, other = mig_slice(1, 40, 0), mig_slice(1, 20, 1)
    book = Book(held(A, part=leading), held(B, part=other))
    book.ledger.memory(leading.uuid, USED, {A: 40 * GIB, B: 10 * GIB})
    assert book.sample(B).memory_used_bytes == 10 * GIB
    assert book.ledger.unattributed()[leading.uuid].memory_bytes == 20 * GIB


def test_what_an_unheld_device_does_is_unattributed() -> None:
    book = Book()
    book.read(None)
    book.ledger.memory(GPU.uuid, USED)
    assert book.rest == Unattributed(5.0, 1000.0, 70 * GIB)


def test_nothing_is_left_of_what_a_sole_holder_does() -> None:
    book = Book(held(A, sole=True))
    book.read(None)
    book.read(None)
    book.ledger.memory(GPU.uuid, USED)
    assert book.rest == Unattributed(5.0, 1000.0, 0)  # of the first reading, whose time is unknown
    assert (book.sample(A).busy_seconds, book.sample(A).energy_joules) == (5.0, 1000.0)


def test_idle_counts_by_a_container_s_own_activity() -> None:
    book = Book(held(A), held(B))
    for _ in range(3):
        book.read({A: 1.0})
    assert (book.sample(A).idle_seconds, book.sample(B).idle_seconds) == (0.0, 30.0)


def test_nothing_is_told_of_a_gpu_that_can_t_be_read_or_when_nobody_can_tell() -> None:
    book = Book(held(A), held(B))
    book.read({A: 1.0})
    book.ledger.away(GPU.uuid)
    assert book.ledger.unattributed() == {}
    book.read({A: 1.0})
    assert book.rest.busy_seconds == 10.0
    book.ledger.hold(None, book.now)
    assert book.ledger.unattributed() == {}


PODS = (A, B)
SCENARIO = st.lists(
    st.tuples(
        st.floats(0.1, 10),
        st.floats(0, 1),
        st.lists(st.tuples(st.sampled_from(PODS), st.booleans(), st.booleans()), max_size=4),
        st.one_of(st.none(), st.lists(st.floats(0, 1), min_size=3, max_size=3)),
        st.booleans(),
        st.booleans(),
    ),
    max_size=25,
)


def shares_of(weights: list[float] | None) -> dict[Container, float] | None:
    if weights is None:
        return None
    total = sum(weights) or 1.0
    return {c: w / total for c, w in zip((A, B, OUTSIDE), weights, strict=True)}


@settings(max_examples=300)
@given(SCENARIO)
def test_containers_and_the_rest_sum_to_their_device(
    steps: list[
        tuple[float, float, list[tuple[Container, bool, bool]], list[float] | None, bool, bool]
    ],
) -> None:
    """Over any comings, goings and ways of sharing, lost processes' figures, losses of GPU 0."""
    ledger = Ledger(ended_grace=1e9)
    now = 0.0
    did: dict[str, float] = defaultdict(float)
    drew: dict[str, float] = defaultdict(float)
    floors: dict[object, tuple[float, ...]] = {}
    for gap, ratio, picked, weights, slow, lost in steps:
        now += gap / 2
        chosen = {(c, on): held(c, on=on, sole=sole) for c, on, sole in picked}
        holders = Counter(on for _, on in chosen)
        ledger.hold([a for (_, on), a in chosen.items() if not a.sole or holders[on] == 1], now)
        now += gap / 2
        if lost:
            ledger.away(gpu(0).uuid)
        for on in (1,) if lost else (0, 1):
            uuid = gpu(on).uuid
            ledger.busy(uuid, [BusyStep(uuid, ratio * gap, ratio)], now, shares_of(weights))
            did[uuid] += ratio * gap
            if slow:
                ledger.energy([EnergyStep(uuid, 100 * gap)], now)
                drew[uuid] += 100 * gap
        samples, rests = ledger.samples(now), ledger.unattributed()
        for uuid, rest in rests.items():
            on_device = [s for s in samples if s.allocation.device_uuid == uuid]
            if rest.busy_seconds is not None:
                busy = sum(s.busy_seconds or 0.0 for s in on_device)
                assert busy + rest.busy_seconds == pytest.approx(did[uuid], abs=1e-9)
            if rest.energy_joules is not None:
                joules = sum(s.energy_joules or 0.0 for s in on_device)
                assert joules + rest.energy_joules == pytest.approx(drew[uuid], abs=1e-6)
            ratios = sum(s.utilization_ratio or 0.0 for s in on_device)
            assert lost or ratios <= ratio + 1e-9
        told: dict[object, tuple[float | None, ...]] = {
            (s.allocation.container, s.allocation.device_uuid): (s.busy_seconds, s.energy_joules)
            for s in samples
        }
        told |= {uuid: (rest.busy_seconds, rest.energy_joules) for uuid, rest in rests.items()}
        for key, counters in told.items():
            before = floors.get(key, (0.0, 0.0))
            floors[key] = tuple(
                floor if value is None else value
                for floor, value in zip(before, counters, strict=True)
            )
            assert all(new >= old for old, new in zip(before, floors[key], strict=True))
