"""What is booked on containers, and that it never exceeds what their devices did."""

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.model.claims import Allocation, Container, Sharing
from exporter.model.readings import Memory
from exporter.model.snapshot import ContainerSample
from exporter.sampling.ledger import Ledger
from exporter.sampling.tracker import BusyStep, EnergyStep
from tests.scripted import GIB, gpu

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
    ledger.busy(uuid, [BusyStep(uuid, seconds, ratio)], now)


def energy(ledger: Ledger, joules: float, now: float) -> None:
    ledger.energy([EnergyStep(GPU.uuid, joules)], now)


def only(ledger: Ledger, now: float) -> ContainerSample:
    (sample,) = ledger.samples(now)
    return sample


def test_a_sole_holder_gets_what_the_device_did() -> None:
    ledger = Ledger(ended_grace=60.0)
    ledger.hold([held("train")], 0.0)
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


def test_counters_stand_at_zero_from_the_first_sample() -> None:
    ledger = Ledger(ended_grace=60.0)
    busy(ledger, 3.0, 0.0)
    energy(ledger, 100.0, 0.0)
    ledger.hold([held("train")], 1.0)
    sample = only(ledger, 1.0)
    assert (sample.busy_seconds, sample.energy_joules, sample.allocated_seconds) == (0, 0, 0)


def test_a_device_that_tells_no_utilization_has_no_busy_seconds() -> None:
    ledger = Ledger(ended_grace=60.0)
    ledger.hold([held("train")], 0.0)
    ledger.busy(GPU.uuid, [], 5.0)
    sample = only(ledger, 5.0)
    assert (sample.busy_seconds, sample.utilization_ratio, sample.idle_seconds) == (None,) * 3


def test_steps_are_divided_when_the_holder_changes_within_one() -> None:
    ledger = Ledger(ended_grace=60.0)
    ledger.hold([held("old")], 0.0)
    busy(ledger, 0.0, 0.0)
    ledger.hold([held("new")], 2.0)
    busy(ledger, 5.0, 5.0, ratio=1.0)
    by_pod = {s.allocation.container.pod: s for s in ledger.samples(5.0)}
    assert by_pod["old"].busy_seconds == pytest.approx(2.0)
    assert by_pod["new"].busy_seconds == pytest.approx(3.0)
    assert by_pod["old"].ended
    assert by_pod["old"].utilization_ratio is None


def test_idle_counts_from_the_last_activity_and_through_noise() -> None:
    ledger = Ledger(ended_grace=60.0)
    ledger.hold([held("notebook")], 0.0)
    busy(ledger, 1.0, 100.0, ratio=0.2)
    for now in range(105, 205, 5):
        busy(ledger, 0.02, float(now), ratio=0.004)
    assert only(ledger, 200.0).idle_seconds == 100.0


def test_shared_devices_get_their_share_of_allocated_seconds_and_nothing_invented() -> None:
    ledger = Ledger(ended_grace=60.0)
    ledger.hold([held("a", sole=False, share=0.25), held("b", sole=False, share=0.5)], 0.0)
    busy(ledger, 4.0, 0.0)
    busy(ledger, 4.0, 5.0)
    energy(ledger, 100.0, 5.0)
    ledger.memory(GPU.uuid, Memory(80 * GIB, 70 * GIB, 10 * GIB))
    samples = ledger.samples(10.0)
    assert [s.allocated_seconds for s in samples] == [2.5, 5.0]
    for sample in samples:
        assert sample.busy_seconds is None
        assert sample.energy_joules is None
        assert sample.utilization_ratio is None
        assert sample.memory_used_bytes is None


def test_ended_containers_keep_counters_for_a_grace() -> None:
    ledger = Ledger(ended_grace=60.0)
    ledger.hold([held("train")], 0.0)
    busy(ledger, 0.0, 0.0)
    busy(ledger, 5.0, 5.0, ratio=1.0)
    ledger.memory(GPU.uuid, Memory(80 * GIB, 70 * GIB, 10 * GIB))
    ledger.hold([], 10.0)
    sample = only(ledger, 70.0)
    assert sample.ended
    assert sample.allocated_seconds == 10.0
    assert sample.busy_seconds == 5.0
    assert sample.memory_peak_bytes == 70 * GIB
    assert (sample.utilization_ratio, sample.memory_used_bytes, sample.idle_seconds) == (None,) * 3
    assert ledger.samples(70.1) == ()


def test_nobody_can_tell_then_they_can_again() -> None:
    ledger = Ledger(ended_grace=60.0)
    ledger.hold([held("stays"), held("goes", on=1)], 0.0)
    ledger.hold(None, 10.0)
    assert ledger.samples(11.0) == ()
    ledger.hold(None, 1000.0)
    ledger.hold([held("stays")], 1010.0)
    sample = only(ledger, 1015.0)
    assert sample.allocation.container.pod == "stays"
    assert sample.allocated_seconds == 15.0  # not what passed while nobody could tell


def test_on_a_gpu_that_cannot_be_read_only_the_holder_is_told() -> None:
    ledger = Ledger(ended_grace=60.0)
    ledger.hold([held("train")], 0.0)
    busy(ledger, 0.0, 0.0)
    busy(ledger, 5.0, 5.0)
    ledger.away(GPU.uuid)
    sample = only(ledger, 10.0)
    assert sample.allocated_seconds == 10.0
    assert (sample.busy_seconds, sample.utilization_ratio) == (None, None)
    busy(ledger, 0.0, 20.0)
    assert only(ledger, 20.0).busy_seconds == 5.0


PODS = [held(pod, on=on) for pod in ("a", "b", "c") for on in (0, 1)]
Step = tuple[float, float, tuple[int, ...], bool]


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.floats(0.1, 10),
            st.floats(0, 1),
            st.lists(st.integers(0, 5), max_size=4).map(tuple),
            st.booleans(),
        ),
        max_size=25,
    )
)
def test_containers_never_sum_to_more_than_their_device(steps: list[Step]) -> None:
    """Over any comings and goings, with one holder per device at a time, as resolve sees to."""
    ledger = Ledger(ended_grace=1e9)
    now, did, drew = 0.0, defaultdict[str, float](float), 0.0
    floor: dict[tuple[str, str], float] = {}
    for gap, ratio, holders, known in steps:
        now += gap / 2
        by_device = {PODS[index].device_uuid: PODS[index] for index in holders}
        ledger.hold(list(by_device.values()) if known else None, now)
        now += gap / 2
        for on in (0, 1):
            busy(ledger, ratio * gap, now, ratio, on)
            did[gpu(on).uuid] += ratio * gap
        energy(ledger, 100 * gap, now)
        drew += 100 * gap
        sums, joules = defaultdict[str, float](float), 0.0
        for sample in ledger.samples(now):
            sums[sample.allocation.device_uuid] += sample.busy_seconds or 0.0
            joules += sample.energy_joules or 0.0
            key = (sample.allocation.container.pod, sample.allocation.device_uuid)
            assert sample.allocated_seconds >= floor.get(key, 0.0)
            if known:
                floor[key] = sample.allocated_seconds
        if not known:
            floor.clear()
        assert all(sums[uuid] <= did[uuid] + 1e-6 for uuid in sums)
        assert joules <= drew + 1e-6
