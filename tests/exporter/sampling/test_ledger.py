"""What is booked on containers, and that it never exceeds what their devices did."""

from collections import Counter, defaultdict
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.model.claims import Allocation, Container, Sharing
from exporter.model.clocks import Monotonic
from exporter.model.readings import Memory
from exporter.model.snapshot import ContainerSample
from exporter.model.steps import Busy, BusyStep, EnergyStep
from exporter.sampling.ledger import Ledger
from tests.doubles.scripted import GIB, at, gpu

GPU = gpu(0)


def held(pod: str, *, on: int = 0, sole: bool = True, share: float = 1.0) -> Allocation:
    return Allocation(
        container=Container("ml", pod, "main"),
        resource="nvidia.com/gpu",
        sharing=Sharing.EXCLUSIVE if sole else Sharing.TIME_SLICED,
        gpu=gpu(on),
        share=share,
        sole=sole,
    )


def busy(ledger: Ledger, seconds: float, now: float, ratio: float = 0.5, on: int = 0) -> None:
    uuid = gpu(on).uuid
    ledger.busy(uuid, [BusyStep(uuid, Busy(seconds, ratio, ratio))], at(now))


def energy(ledger: Ledger, joules: float, now: float) -> None:
    ledger.energy([EnergyStep(GPU.uuid, joules)], at(now))


def only(ledger: Ledger, now: float) -> ContainerSample:
    (sample,) = ledger.samples(at(now))
    return sample


def test_a_sole_holder_gets_what_the_device_did() -> None:
    ledger = Ledger(ended_grace=60.0)
    ledger.set_allocations([held("train")], Monotonic(0.0))
    busy(ledger, 0.0, 0.0)
    energy(ledger, 0.0, 0.0)
    ledger.memory(GPU.uuid, Memory(80 * GIB, 70 * GIB, 10 * GIB))
    ledger.memory(GPU.uuid, Memory(80 * GIB, 20 * GIB, 60 * GIB))
    busy(ledger, 4.0, 5.0, ratio=0.8)
    energy(ledger, 300.0, 5.0)
    sample = only(ledger, 10.0)
    assert sample.allocated_seconds == 10.0
    assert sample.busy_seconds == 4.0
    assert sample.utilization_ratio == 0.8
    assert sample.energy_joules == 300.0
    assert sample.idle_seconds == 5.0
    assert sample.memory_used_bytes == 20 * GIB
    assert sample.memory_limit_bytes == 80 * GIB
    assert sample.memory_peak_bytes == 70 * GIB


def test_peaks_are_of_the_container_s_latest_run() -> None:
    ledger = Ledger(ended_grace=60.0)
    train = Container("ml", "train", "main")
    ledger.set_allocations([held("train")], Monotonic(0.0))
    busy(ledger, 0.0, 0.0, ratio=0.9)  # also of the time before the container
    assert only(ledger, 0.0).utilization_peak_ratio is None
    ledger.set_runs({train: "first"}, Monotonic(1.0))
    ledger.busy(GPU.uuid, [BusyStep(GPU.uuid, Busy(2.0, 0.4, 0.8))], at(5.0))
    ledger.memory(GPU.uuid, Memory(80 * GIB, 70 * GIB, 10 * GIB))
    ledger.set_runs({}, Monotonic(6.0))  # unknown for a while
    ledger.set_runs({train: "first"}, Monotonic(7.0))
    busy(ledger, 2.0, 10.0, ratio=0.4)
    sample = only(ledger, 10.0)
    assert (sample.utilization_peak_ratio, sample.memory_peak_bytes) == (0.8, 70 * GIB)
    ledger.memory(GPU.uuid, Memory(80 * GIB, 10 * GIB, 70 * GIB))
    ledger.set_runs({train: "second"}, Monotonic(12.0))
    assert only(ledger, 12.0).memory_peak_bytes == 10 * GIB
    busy(ledger, 2.0, 15.0, ratio=0.4)  # of both runs
    ledger.memory(GPU.uuid, Memory(80 * GIB, 20 * GIB, 60 * GIB))
    sample = only(ledger, 15.0)
    assert (sample.utilization_peak_ratio, sample.memory_peak_bytes) == (None, 20 * GIB)
    busy(ledger, 1.0, 20.0, ratio=0.2)
    assert only(ledger, 20.0).utilization_peak_ratio == 0.2


def test_a_container_of_the_same_name_begins_new_peaks() -> None:
    ledger = Ledger(ended_grace=60.0)
    ledger.set_allocations([held("train")], Monotonic(0.0))
    ledger.memory(GPU.uuid, Memory(80 * GIB, 70 * GIB, 10 * GIB))
    ledger.set_allocations([], Monotonic(10.0))
    assert only(ledger, 10.0).memory_peak_bytes == 70 * GIB
    ledger.set_allocations([held("train")], Monotonic(20.0))
    assert only(ledger, 20.0).memory_peak_bytes is None
    ledger.memory(GPU.uuid, Memory(80 * GIB, GIB, 79 * GIB))
    ledger.set_allocations(None, Monotonic(30.0))
    ledger.set_allocations(
        [held("train")], Monotonic(40.0)
    )  # the same container, unknown for a while
    assert only(ledger, 40.0).memory_peak_bytes == GIB


def test_counters_stand_at_zero_from_the_first_sample() -> None:
    ledger = Ledger(ended_grace=60.0)
    busy(ledger, 3.0, 0.0)
    energy(ledger, 100.0, 0.0)
    ledger.set_allocations([held("train")], Monotonic(1.0))
    sample = only(ledger, 1.0)
    assert (sample.busy_seconds, sample.energy_joules, sample.allocated_seconds) == (0, 0, 0)


def test_a_device_without_utilization_has_no_busy_seconds() -> None:
    ledger = Ledger(ended_grace=60.0)
    ledger.set_allocations([held("train")], Monotonic(0.0))
    ledger.busy(GPU.uuid, [], at(5.0))
    sample = only(ledger, 5.0)
    assert (sample.busy_seconds, sample.utilization_ratio, sample.idle_seconds) == (None,) * 3


def test_steps_are_divided_when_the_holder_changes_within_one() -> None:
    ledger = Ledger(ended_grace=60.0)
    ledger.set_allocations([held("old")], Monotonic(0.0))
    busy(ledger, 0.0, 0.0)
    ledger.set_allocations([held("new")], Monotonic(2.0))
    busy(ledger, 5.0, 5.0, ratio=1.0)
    by_pod = {s.allocation.container.pod: s for s in ledger.samples(at(5.0))}
    assert by_pod["old"].busy_seconds == pytest.approx(2.0)
    assert by_pod["new"].busy_seconds == pytest.approx(3.0)
    assert by_pod["old"].ended
    assert by_pod["old"].utilization_ratio is None


def test_idle_counts_from_the_last_activity_and_through_noise() -> None:
    ledger = Ledger(ended_grace=60.0)
    ledger.set_allocations([held("notebook")], Monotonic(0.0))
    busy(ledger, 1.0, 100.0, ratio=0.2)
    for now in range(105, 205, 5):
        busy(ledger, 0.02, float(now), ratio=0.004)
    assert only(ledger, 200.0).idle_seconds == 100.0


def test_shared_devices_get_their_share_of_allocated_seconds_and_nothing_invented() -> None:
    ledger = Ledger(ended_grace=60.0)
    ledger.set_allocations(
        [held("a", sole=False, share=0.25), held("b", sole=False, share=0.5)], Monotonic(0.0)
    )
    busy(ledger, 4.0, 0.0)
    busy(ledger, 4.0, 5.0)
    energy(ledger, 100.0, 5.0)
    ledger.memory(GPU.uuid, Memory(80 * GIB, 70 * GIB, 10 * GIB))
    samples = ledger.samples(at(10.0))
    assert [s.allocated_seconds for s in samples] == [2.5, 5.0]
    for sample in samples:
        assert sample.busy_seconds is None
        assert sample.energy_joules is None
        assert sample.utilization_ratio is None
        assert sample.memory_used_bytes is None


def test_ended_containers_keep_counters_for_a_grace() -> None:
    ledger = Ledger(ended_grace=60.0)
    ledger.set_allocations([held("train")], Monotonic(0.0))
    busy(ledger, 0.0, 0.0)
    busy(ledger, 5.0, 5.0, ratio=1.0)
    ledger.memory(GPU.uuid, Memory(80 * GIB, 70 * GIB, 10 * GIB))
    ledger.set_allocations([], Monotonic(10.0))
    sample = only(ledger, 70.0)
    assert sample.ended
    assert sample.allocated_seconds == 10.0
    assert sample.busy_seconds == 5.0
    assert sample.memory_peak_bytes == 70 * GIB
    assert (sample.utilization_ratio, sample.memory_used_bytes, sample.idle_seconds) == (None,) * 3
    assert ledger.samples(at(70.1)) == ()


def test_allocations_are_unknown_and_then_known_again() -> None:
    ledger = Ledger(ended_grace=60.0)
    ledger.set_allocations([held("stays"), held("goes", on=1)], Monotonic(0.0))
    ledger.set_allocations(None, Monotonic(10.0))
    assert ledger.samples(at(11.0)) == ()
    ledger.set_allocations(None, Monotonic(1000.0))
    ledger.set_allocations([held("stays")], Monotonic(1010.0))
    sample = only(ledger, 1015.0)
    assert sample.allocation.container.pod == "stays"
    assert sample.allocated_seconds == 15.0  # without the time in which it was unknown


def test_of_a_gpu_that_cannot_be_read_only_the_allocation_is_exported() -> None:
    ledger = Ledger(ended_grace=60.0)
    ledger.set_allocations([held("train")], Monotonic(0.0))
    busy(ledger, 0.0, 0.0)
    busy(ledger, 5.0, 5.0)
    ledger.away(GPU.uuid)
    sample = only(ledger, 10.0)
    assert sample.allocated_seconds == 10.0
    assert (sample.busy_seconds, sample.utilization_ratio) == (None, None)
    busy(ledger, 0.0, 20.0)
    assert only(ledger, 20.0).busy_seconds == 5.0


def test_idle_goes_on_while_allocations_are_unknown_and_starts_anew_with_a_new_container() -> None:
    ledger = Ledger(ended_grace=60.0)
    ledger.set_allocations([held("notebook")], Monotonic(0.0))
    busy(ledger, 0.0, 3590.0, ratio=0.0)
    ledger.set_allocations(None, Monotonic(3600.0))
    ledger.set_allocations([held("notebook")], Monotonic(3700.0))
    busy(ledger, 0.0, 3705.0, ratio=0.0)
    assert only(ledger, 3705.0).idle_seconds == 3705.0
    ledger.set_allocations([], Monotonic(3710.0))
    ledger.set_allocations([held("notebook")], Monotonic(3720.0))
    busy(ledger, 0.0, 3725.0, ratio=0.0)
    assert only(ledger, 3725.0).idle_seconds == 5.0


def test_what_a_device_did_while_shared_is_booked_on_nobody() -> None:
    ledger = Ledger(ended_grace=60.0)
    a, shared_a, b = held("a"), held("a", sole=False, share=0.5), held("b", sole=False, share=0.5)
    ledger.set_allocations([a], Monotonic(0.0))
    busy(ledger, 0.0, 0.0)
    ledger.set_allocations([shared_a, b], Monotonic(6.0))
    ledger.set_allocations([a], Monotonic(29.0))
    busy(ledger, 30.0, 30.0, ratio=1.0)
    (first, _) = ledger.samples(at(30.0))
    assert first.busy_seconds == pytest.approx(1.0)


def test_what_a_device_did_while_it_could_not_be_read_is_booked_on_nobody() -> None:
    ledger = Ledger(ended_grace=60.0)
    ledger.set_allocations([held("old")], Monotonic(0.0))
    busy(ledger, 0.0, 0.0)
    ledger.away(GPU.uuid)
    ledger.set_allocations([held("new")], Monotonic(5.0))
    busy(ledger, 5.0, 10.0, ratio=1.0)
    busy(ledger, 5.0, 15.0, ratio=1.0)
    by_pod = {s.allocation.container.pod: s.busy_seconds for s in ledger.samples(at(15.0))}
    assert by_pod == {"old": 0.0, "new": pytest.approx(5.0)}


def test_a_busy_counter_is_absent_while_the_device_reports_none() -> None:
    ledger = Ledger(ended_grace=60.0)
    ledger.set_allocations([held("train")], Monotonic(0.0))
    busy(ledger, 0.0, 0.0)
    busy(ledger, 5.0, 5.0)
    ledger.busy(GPU.uuid, [], at(10.0))
    assert only(ledger, 10.0).busy_seconds is None
    busy(ledger, 10.0, 15.0)
    assert only(ledger, 15.0).busy_seconds == 15.0


# Each pod on each device, as its only holder and as one of two.
WAYS = [
    held(pod, on=on, sole=sole, share=1.0 if sole else 0.5)
    for pod in ("a", "b")
    for on in (0, 1)
    for sole in (True, False)
]


def as_resolve_does(picked: Iterable[int]) -> list[Allocation]:
    """One allocation per container and device, and a sole holder only where there is one."""
    chosen = {(WAYS[n].container, WAYS[n].device_uuid): WAYS[n] for n in picked}.values()
    holders = Counter(allocation.device_uuid for allocation in chosen)
    return [a for a in chosen if not a.sole or holders[a.device_uuid] == 1]


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(
            st.floats(0.1, 10),
            st.floats(0, 1),
            st.lists(st.integers(0, len(WAYS) - 1), max_size=4),
            st.booleans(),
            st.booleans(),
        ),
        max_size=25,
    )
)
def test_containers_never_exceed_their_device_and_never_go_back(
    steps: list[tuple[float, float, list[int], bool, bool]],
) -> None:
    """Over any comings, goings, sharing, losses of GPU 0, and times of unknown allocations."""
    ledger = Ledger(ended_grace=1e9)
    now, drew = 0.0, 0.0
    did: dict[str, float] = defaultdict(float)
    floors: dict[object, tuple[float, ...]] = {}
    for gap, ratio, picked, known, lost in steps:
        now += gap / 2
        ledger.set_allocations(as_resolve_does(picked) if known else None, Monotonic(now))
        now += gap / 2
        if lost:
            ledger.away(gpu(0).uuid)
        for on in (1,) if lost else (0, 1):
            busy(ledger, ratio * gap, now, ratio, on)
            did[gpu(on).uuid] += ratio * gap
        energy(ledger, 100 * gap, now)
        drew += 100 * gap
        samples = ledger.samples(at(now))
        sums: dict[str, float] = defaultdict(float)
        for sample in samples:
            sums[sample.allocation.device_uuid] += sample.busy_seconds or 0.0
        assert all(sums[uuid] <= did[uuid] + 1e-6 for uuid in sums)
        assert sum(sample.energy_joules or 0.0 for sample in samples) <= drew + 1e-6
        if not known:
            floors.clear()
        for sample in samples:
            key = (sample.allocation.container, sample.allocation.device_uuid)
            before = floors.get(key, (0.0, 0.0, 0.0))
            counters = (sample.allocated_seconds, sample.busy_seconds, sample.energy_joules)
            floors[key] = tuple(
                floor if value is None else value
                for floor, value in zip(before, counters, strict=True)
            )
            assert all(new >= old - 1e-9 for old, new in zip(before, floors[key], strict=True))
