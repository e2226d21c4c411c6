"""What is booked on containers that share a device, and on none: together what the device did."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from math import inf
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.model.claims import Allocation, AllocationKey, Container, Sharing
from exporter.model.clocks import Monotonic
from exporter.model.devices import Slice
from exporter.model.readings import Memory
from exporter.model.snapshot import ContainerSample, Unattributed
from exporter.model.steps import Busy, BusyStep, EnergyStep
from exporter.sampling.ledger import Ledger
from tests.doubles.scripted import GIB, at, gpu, mig_slice

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
        self.ledger.set_allocations(allocations, Monotonic(0.0))

    def read(
        self, shares: Mapping[Container, float] | None, seconds: float = 10.0, ratio: float = 0.5
    ) -> None:
        self.now += seconds
        step = BusyStep(GPU.uuid, Busy(ratio * seconds, ratio, ratio))
        self.ledger.busy(GPU.uuid, [step], at(self.now), shares)
        self.ledger.energy([EnergyStep(GPU.uuid, 100 * seconds)], at(self.now))

    def hold(self, *allocations: Allocation) -> None:
        self.ledger.set_allocations(allocations, Monotonic(self.now))

    def sample(self, container: Container) -> ContainerSample:
        samples = self.ledger.samples(at(self.now))
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


def test_counters_begin_at_zero_when_processes_are_first_measured() -> None:
    book = Book(held(A))
    book.read(None)
    assert (book.sample(A).busy_seconds, book.sample(A).energy_joules) == (None, None)
    book.read({A: 1.0})
    assert (book.sample(A).busy_seconds, book.sample(A).energy_joules) == (0.0, 0.0)
    book.hold(held(A), held(B))
    assert (book.sample(B).busy_seconds, book.sample(B).energy_joules) == (0.0, 0.0)
    book.read({A: 0.5, B: 0.5})
    assert (book.sample(A).busy_seconds, book.sample(B).busy_seconds) == (2.5, 2.5)


def test_without_the_figures_of_processes_nothing_is_exported_and_the_sum_is_still_right() -> None:
    book = Book(held(A), held(B))
    book.read({A: 1.0, B: 0.0})
    book.read({A: 1.0, B: 0.0})
    book.read(None)
    book.ledger.memory(GPU.uuid, USED)
    for container in (A, B):
        sample = book.sample(container)
        assert (sample.busy_seconds, sample.energy_joules) == (None, None)
        assert (sample.utilization_ratio, sample.idle_seconds) == (None, None)
        assert sample.memory_used_bytes is None
    assert book.rest == Unattributed()
    book.read({A: 1.0, B: 0.0})
    assert book.sample(A).busy_seconds == 10.0
    assert book.rest.busy_seconds == 10.0


def test_a_container_that_can_t_be_measured_takes_nothing_from_the_others() -> None:
    book = Book(held(A))
    book.read({A: 0.5})
    book.read({A: 0.5})
    book.hold(held(A), held(B))
    book.read({A: 0.5})
    book.ledger.memory(GPU.uuid, USED, {A: 40 * GIB})
    a, b = book.sample(A), book.sample(B)
    assert (a.busy_seconds, a.utilization_ratio, a.memory_used_bytes) == (5.0, 0.25, 40 * GIB)
    # Half of the time it was busy is A's, and half of the idle time.
    assert a.energy_joules == 250 + 500 + 250 + 250
    assert (b.busy_seconds, b.utilization_ratio, b.energy_joules) == (None, None, None)
    assert b.memory_used_bytes is None
    assert book.rest == Unattributed()
    book.read({A: 0.5, B: 0.5})
    assert (book.sample(A).busy_seconds, book.sample(B).busy_seconds) == (7.5, 2.5)
    assert book.rest.busy_seconds == 5.0 + 2.5 + 2.5


def test_energy_of_a_shared_gpu_instance_is_kept_by_compute_instance() -> None:
    """The energy of an allocated compute instance is unknown; that of another is unattributed."""
    leading, other = mig_slice(1, 40, 0), mig_slice(1, 20, 1)
    for own, sibling in ((leading, other), (other, leading)):
        book = Book(held(A, part=own))
        book.ledger.busy(GPU.uuid, [BusyStep(leading.uuid, Busy(5.0, 0.5, 0.5))], at(10.0))
        steps = [EnergyStep(leading.uuid, 100.0), EnergyStep(other.uuid, 50.0)]
        book.ledger.energy(steps, at(10.0))
        drawn = {leading.uuid: 100.0, other.uuid: 50.0}
        rest = book.ledger.unattributed()
        assert book.sample(A).energy_joules is None
        assert rest[own.uuid].energy_joules is None
        assert rest[sibling.uuid].energy_joules == drawn[sibling.uuid]
        assert rest[leading.uuid].busy_seconds is None


def test_devices_that_are_gone_are_forgotten_once_they_have_no_entry() -> None:
    leading = mig_slice(1, 40, 0)
    book = Book(held(A, part=leading))
    book.ledger.energy([EnergyStep(leading.uuid, 100.0), EnergyStep("MIG-gone", 1.0)], at(1.0))
    book.ledger.forget_devices({GPU.uuid})
    assert set(book.ledger.unattributed()) == {leading.uuid}


def test_memory_is_booked_on_containers_and_the_rest_on_none() -> None:
    book = Book(held(A), held(B))
    book.ledger.memory(GPU.uuid, USED, {A: 50 * GIB, B: 0, OUTSIDE: 10 * GIB})
    book.ledger.memory(GPU.uuid, USED, {A: 40 * GIB, B: 0, OUTSIDE: 10 * GIB})
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
        book.read({A: 1.0, B: 0.0})
    assert (book.sample(A).idle_seconds, book.sample(B).idle_seconds) == (0.0, 30.0)


def test_nothing_is_unattributed_on_a_gpu_that_can_t_be_read_or_while_allocations_are_unknown() -> (
    None
):
    book = Book(held(A), held(B))
    book.read({A: 1.0, B: 0.0})
    book.ledger.away(GPU.uuid)
    assert book.ledger.unattributed() == {}
    book.read({A: 1.0, B: 0.0})
    assert book.rest.busy_seconds == 10.0
    book.ledger.set_allocations(None, Monotonic(book.now))
    assert book.ledger.unattributed() == {}


PODS = (A, B)
Key = tuple[Container, str]
Weights = list[float | None] | None


class Step(NamedTuple):
    gap: float
    ratio: float
    picked: list[tuple[Container, bool, bool]]
    weights: Weights
    slow: bool
    lost: bool
    news: list[tuple[Container, str]]


STEPS = st.builds(
    Step,
    gap=st.one_of(st.floats(0.1, 10), st.just(150.0)),
    ratio=st.floats(0, 1),
    picked=st.lists(st.tuples(st.sampled_from(PODS), st.booleans(), st.booleans()), max_size=4),
    weights=st.one_of(
        st.none(), st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=3, max_size=3)
    ),
    slow=st.booleans(),
    lost=st.booleans(),
    news=st.lists(st.tuples(st.sampled_from(PODS), st.sampled_from(["end", "1", "2"]))),
)


def shares_of(weights: Weights) -> dict[Container, float] | None:
    """Return the shares of the containers that can be measured: those that have a weight."""
    if weights is None:
        return None
    told = {c: w for c, w in zip((A, B, OUTSIDE), weights, strict=True) if w is not None}
    total = sum(told.values()) or 1.0
    return {container: weight / total for container, weight in told.items()}


class Scene:
    """A ledger of two GPUs, what was done to it, and what it served."""

    def __init__(self, grace: float) -> None:
        self.grace = grace
        self.ledger = Ledger(grace)
        self.now = 0.0
        self.did: dict[str, float] = defaultdict(float)
        self.drew: dict[str, float] = defaultdict(float)
        self.served_until: dict[Key, float] = {}
        """Of each container that is not forgotten yet, on each device."""
        self.last: dict[object, tuple[float, float]] = {}
        """What counters stood at when they were last served."""
        self.forgotten: dict[str, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
        """By device, of containers that began at 0 again, or will."""

    def play(self, step: Step) -> None:
        self.now += step.gap / 2
        self.hold(step.picked)
        self.now += step.gap / 2
        for container, word in step.news:
            self.hear(container, word)
        if step.lost:
            self.ledger.away(gpu(0).uuid)
        for on in (1,) if step.lost else (0, 1):
            uuid, busy = gpu(on).uuid, step.ratio * step.gap
            busy_step = BusyStep(uuid, Busy(busy, step.ratio, step.ratio))
            self.ledger.busy(uuid, [busy_step], at(self.now), shares_of(step.weights))
            self.did[uuid] += busy
            if step.slow:
                self.ledger.energy([EnergyStep(uuid, 100 * step.gap)], at(self.now))
                self.drew[uuid] += 100 * step.gap

    def hold(self, picked: list[tuple[Container, bool, bool]]) -> None:
        chosen = {(c, on): held(c, on=on, sole=sole) for c, on, sole in picked}
        holders = Counter(on for _, on in chosen)
        current = [a for (_, on), a in chosen.items() if not a.sole or holders[on] == 1]
        self.ledger.set_allocations(current, Monotonic(self.now))
        for key, until in self.served_until.items():
            self.served_until[key] = min(until, self.now + self.grace)
        self.served_until |= {(a.container, a.device_uuid): inf for a in current}

    def hear(self, container: Container, word: str) -> None:
        if word != "end":
            self.ledger.set_runs({container: word}, Monotonic(self.now))
            return
        for key, until in self.served_until.items():
            if key[0] == container:
                self.ledger.serve_again(AllocationKey(*key), Monotonic(self.now))
                self.served_until[key] = inf if until == inf else self.now + self.grace

    def look(self, ratio: float | None) -> None:
        """Check what is served; ``ratio``: all devices were read and were that busy."""
        samples, rests = self.ledger.samples(at(self.now)), self.ledger.unattributed()
        told: dict[object, tuple[float | None, float | None]] = {
            (s.allocation.container, s.allocation.device_uuid): (s.busy_seconds, s.energy_joules)
            for s in samples
        }
        assert told.keys() == {k for k, until in self.served_until.items() if until >= self.now}
        told |= {uuid: (rest.busy_seconds, rest.energy_joules) for uuid, rest in rests.items()}
        for key, counters in told.items():
            before = self.last.get(key, (0.0, 0.0))
            busy, joules = (
                old if new is None else new for old, new in zip(before, counters, strict=True)
            )
            assert busy >= before[0]
            assert joules >= before[1]
            self.last[key] = busy, joules
        for key, until in list(self.served_until.items()):
            if self.now > until + 180:
                self.forget(key)
        for uuid, rest in rests.items():
            self.sum_up(uuid, rest)
            ratios = (
                s.utilization_ratio or 0.0 for s in samples if s.allocation.device_uuid == uuid
            )
            assert ratio is None or sum(ratios) <= ratio + 1e-9

    def forget(self, key: Key) -> None:
        busy, joules = self.last.pop(key, (0.0, 0.0))
        before = self.forgotten[key[1]]
        self.forgotten[key[1]] = before[0] + busy, before[1] + joules
        del self.served_until[key]

    def sum_up(self, uuid: str, rest: Unattributed) -> None:
        here = [key for key in self.served_until if key[1] == uuid]
        counters = [self.last.get(key, (0.0, 0.0)) for key in here]
        # What was booked on a container after it was last served can't be seen.
        seen = uuid not in self.forgotten and all(self.served_until[k] >= self.now for k in here)
        for number, (left, total) in enumerate(
            [(rest.busy_seconds, self.did[uuid]), (rest.energy_joules, self.drew[uuid])]
        ):
            if left is not None:
                booked = left + sum(
                    c[number] for c in (*counters, self.forgotten.get(uuid, (0, 0)))
                )
                assert booked <= total + 1e-6
                assert not seen or booked == pytest.approx(total, abs=1e-6)


@settings(max_examples=300)
@given(st.sampled_from([0.0, 15.0, 1e9]), st.lists(STEPS, max_size=25))
def test_containers_and_the_rest_sum_to_their_device(grace: float, steps: list[Step]) -> None:
    """Over any comings, goings and ways of sharing, lost processes' figures, losses of GPU 0.

    And any news of runs and ends. No counter falls, but for those of a container that has been
    gone for long.
    """
    scene = Scene(grace)
    for step in steps:
        scene.play(step)
        scene.look(None if step.lost else step.ratio)
