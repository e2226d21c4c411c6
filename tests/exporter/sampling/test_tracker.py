"""One GPU's readings in, its sample out."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.attribution.energy import energy_shares
from exporter.model.clocks import Monotonic, UnixSeconds
from exporter.model.devices import Gpu
from exporter.model.readings import (
    Activity,
    FastReading,
    FieldFailure,
    FullReading,
    Memory,
    Process,
    ProcessType,
    Reason,
    SlowReading,
    UtilizationSample,
    XidEvent,
)
from exporter.model.snapshot import GpuData, GpuState
from exporter.sampling.tracker import GpuTracker
from tests.doubles.scripted import GIB, MIG_GPU, at, gpu, mig_slice


def buffer(until: float, ratio: float) -> tuple[UtilizationSample, ...]:
    newest = int(until * 5)
    return tuple(UtilizationSample(n / 5, ratio) for n in range(newest - 70, newest + 1))


def activity(ratio: float, seconds: float = 5.0) -> Activity:
    return Activity(
        seconds, graphics_ratio=ratio, pcie_receive_bytes=100.0, pcie_transmit_bytes=10.0
    )


def data(tracker: GpuTracker, now: float) -> GpuData:
    found = tracker.sample(at(now)).data
    assert found is not None
    return found


def tracked(described: Gpu) -> GpuTracker:
    return GpuTracker(described, peak_window=60.0)


def test_energy_of_compute_instances_goes_by_the_activity_of_their_gpu_instance() -> None:
    shared = gpu(0, mig_enabled=True, sm_count=100, slices=(mig_slice(1, 40), mig_slice(1, 20, 1)))
    tracker = tracked(shared)
    reading = FullReading(shared, instance_activity={1: activity(0.5)})
    tracker.slow(SlowReading(energy_joules=0.0), at(0.0))
    tracker.full(reading, at(5.0))
    steps = tracker.slow(SlowReading(energy_joules=1000.0), at(5.0))
    assert {step.device_uuid: step.joules for step in steps} == {
        "MIG-1-0": pytest.approx(1000 * (0.5 * 0.4 + 0.7 * 0.4)),
        "MIG-1-1": pytest.approx(1000 * (0.5 * 0.2 + 0.7 * 0.2)),
        shared.uuid: pytest.approx(1000 * 0.7 * 0.4),
    }


def test_no_data_before_the_first_full_reading() -> None:
    tracker = tracked(gpu(0))
    tracker.fast(FastReading(), at(1.0), UnixSeconds(1.0))
    assert tracker.sample(at(1.0)).data is None
    tracker.full(FullReading(gpu(0)), at(1.0))
    assert data(tracker, 1.0).device.utilization_ratio is None


def test_utilization_busy_and_peaks() -> None:
    tracker = tracked(gpu(0))
    tracker.full(FullReading(gpu(0), utilization=buffer(100.0, 1.0)), at(100.0))
    steps = tracker.full(FullReading(gpu(0), utilization=buffer(105.0, 0.4)), at(105.0))
    device = data(tracker, 105.0).device
    assert device.busy_seconds == pytest.approx(2.0)
    assert device.utilization_ratio == pytest.approx(0.4)
    assert device.utilization_peak_ratio == 1.0
    assert {s.device_uuid: s.busy.seconds for s in steps} == {gpu(0).uuid: pytest.approx(2.0)}


def test_memory_peak_outlives_the_reading_that_saw_it() -> None:
    tracker = tracked(gpu(0))
    for second, used in enumerate((10, 79, 3)):
        tracker.fast(FastReading(Memory(80 * GIB, used * GIB, 0)), at(second), UnixSeconds(second))
    tracker.full(FullReading(gpu(0)), at(3.0))
    assert data(tracker, 3.0).device.memory_used_peak_bytes == 79 * GIB
    assert data(tracker, 100.0).device.memory_used_peak_bytes is None


def test_counters_go_on_after_a_loss_and_a_reset() -> None:
    tracker = tracked(gpu(0))
    tracker.full(
        FullReading(gpu(0), utilization=buffer(100.0, 1.0), activity=activity(1.0)),
        at(100.0),
    )
    tracker.slow(
        SlowReading(energy_joules=1000.0, ecc_errors={("corrected", "dram"): 7}), at(100.0)
    )
    tracker.failed(Reason.GPU_LOST, UnixSeconds(0.0))
    away = tracker.sample(at(101.0))
    assert (away.state, away.data) == (GpuState.LOST, None)

    tracker.fast(FastReading(), at(200.0), UnixSeconds(200.0))
    tracker.full(
        FullReading(gpu(0), utilization=buffer(200.0, 1.0), activity=activity(1.0)),
        at(200.0),
    )
    tracker.slow(SlowReading(energy_joules=50.0, ecc_errors={("corrected", "dram"): 8}), at(200.0))
    back = data(tracker, 200.0)
    assert back.totals.energy_joules == 1050.0
    assert back.totals.ecc_errors == {("corrected", "dram"): 8}
    assert back.totals.pcie_receive_bytes == 200.0
    assert back.device.busy_seconds == 0.0


def test_a_counter_that_is_not_read_is_absent_and_not_frozen() -> None:
    tracker = tracked(gpu(0))
    tracker.full(FullReading(gpu(0), activity=activity(1.0)), at(1.0))
    tracker.slow(SlowReading(energy_joules=1000.0, nvlink_errors={"crc": 1}), at(1.0))
    tracker.full(FullReading(gpu(0)), at(6.0))
    tracker.slow(SlowReading(), at(31.0))
    totals = data(tracker, 31.0).totals
    assert totals.energy_joules is None
    assert totals.pcie_receive_bytes is None
    assert totals.nvlink_errors == {}


@pytest.mark.parametrize(
    ("reason", "state"),
    [
        (Reason.GPU_LOST, GpuState.LOST),
        (Reason.RESET_REQUIRED, GpuState.FAILED),
        (Reason.TIMEOUT, GpuState.FAILED),
        (Reason.UNKNOWN, GpuState.FAILED),
    ],
)
def test_states_of_failed_reads(reason: Reason, state: GpuState) -> None:
    tracker = tracked(gpu(0))
    assert tracker.sample(at(0.0)).read_failures[reason] == 0  # before its first
    tracker.failed(reason, UnixSeconds(0.0))
    sample = tracker.sample(at(0.0))
    assert (sample.state, sample.read_failures[reason]) == (state, 1)


def test_a_hung_read_that_is_only_late_loses_no_busy_time() -> None:
    tracker = tracked(gpu(0))
    tracker.full(FullReading(gpu(0), utilization=buffer(100.0, 1.0)), at(100.0))
    tracker.hung()
    assert (tracker.sample(at(105.0)).state, tracker.sample(Monotonic(105.0)).data) == (
        GpuState.HUNG,
        None,
    )
    assert tracker.sample(at(105.0)).read_failures["timeout"] == 1
    tracker.fast(FastReading(), at(108.0), UnixSeconds(108.0))
    tracker.full(FullReading(gpu(0), utilization=buffer(108.0, 1.0)), at(108.0))
    assert data(tracker, 108.0).device.busy_seconds == pytest.approx(8.0)


def test_busy_seconds_are_absent_while_utilization_is_unknown() -> None:
    tracker = tracked(gpu(0))
    tracker.full(FullReading(gpu(0), utilization=buffer(100.0, 1.0)), at(100.0))
    tracker.full(FullReading(gpu(0), utilization=()), at(105.0))
    assert data(tracker, 105.0).device.busy_seconds is None
    tracker.full(FullReading(gpu(0), utilization=buffer(110.0, 1.0)), at(110.0))
    assert data(tracker, 110.0).device.busy_seconds == pytest.approx(10.0)


def test_failed_fields_are_counted_by_reason() -> None:
    tracker = tracked(gpu(0))
    failure = FieldFailure("power", Reason.NO_PERMISSION)
    tracker.fast(FastReading(failures=(failure,)), at(1.0), UnixSeconds(1.0))
    tracker.full(
        FullReading(gpu(0), failures=(failure, FieldFailure("x", Reason.UNKNOWN))), at(1.0)
    )
    failures = tracker.sample(at(1.0)).read_failures
    assert {reason: n for reason, n in failures.items() if n} == {"no_permission": 2, "unknown": 1}


def test_xids_are_counted_also_while_the_gpu_is_lost() -> None:
    tracker = tracked(gpu(0))
    tracker.failed(Reason.GPU_LOST, UnixSeconds(0.0))
    for timestamp in (5.0, 6.0):
        tracker.xid(XidEvent(gpu(0).uuid, UnixSeconds(timestamp), 79))
    total = tracker.sample(at(7.0)).xids[79]
    assert (total.count, total.last_timestamp) == (2, 6.0)


def test_mps_shows_in_the_process_list() -> None:
    tracker = tracked(gpu(0))
    assert not tracker.view.runs_mps
    tracker.fast(FastReading(processes=(Process(1, ProcessType.MPS),)), at(1.0), UnixSeconds(1.0))
    assert tracker.view.runs_mps


def test_mig_board_is_the_mean_of_its_slices_by_sms() -> None:
    tracker = tracked(MIG_GPU)
    reading = FullReading(MIG_GPU, instance_activity={1: activity(1.0), 2: activity(0.5)})
    steps = tracker.full(reading, at(5.0))
    found = data(tracker, 5.0)
    assert found.device.utilization_ratio == pytest.approx(0.5)  # 40 SMs, and half of 20, of 100
    assert found.device.busy_seconds == pytest.approx(2.5)
    assert found.slices[2].busy_seconds == pytest.approx(2.5)
    assert {s.device_uuid: s.busy.seconds for s in steps} == {
        "MIG-1-0": pytest.approx(5.0),
        "MIG-2-0": pytest.approx(2.5),
        MIG_GPU.uuid: pytest.approx(2.5),
    }


def test_mig_without_activity_has_no_utilization() -> None:
    tracker = tracked(MIG_GPU)
    assert tracker.full(FullReading(MIG_GPU), at(5.0)) == []
    found = data(tracker, 5.0)
    assert found.device.utilization_ratio is None
    assert found.slices[1].busy_seconds is None


def test_instances_shared_by_compute_instances_are_exported_once() -> None:
    shared = replace(MIG_GPU, slices=(mig_slice(1, 20), mig_slice(1, 20, compute=1)))
    assert [part.uuid for part in shared.leading_slices] == ["MIG-1-0"]
    tracker = tracked(shared)
    tracker.fast(FastReading(instance_memory={1: Memory(GIB, GIB, 0)}), at(1.0), UnixSeconds(1.0))
    assert [uuid for uuid, _ in tracker.view.memory_by_device()] == ["MIG-1-0"]
    tracker.full(FullReading(shared, instance_activity={1: activity(1.0)}), at(5.0))
    assert data(tracker, 5.0).device.utilization_ratio == pytest.approx(0.4)


def test_a_new_mig_layout_replaces_the_slices_and_keeps_counters_of_those_that_stay() -> None:
    tracker = tracked(MIG_GPU)
    both = {1: activity(1.0), 2: activity(1.0)}
    tracker.full(FullReading(MIG_GPU, instance_activity=both), at(5.0))
    other = replace(MIG_GPU, slices=(mig_slice(1, 40), mig_slice(3, 20)))
    tracker.full(
        FullReading(other, instance_activity={1: activity(1.0), 3: activity(1.0)}), at(10.0)
    )
    slices = data(tracker, 10.0).slices
    assert {instance: totals.busy_seconds for instance, totals in slices.items()} == {
        1: 10.0,
        3: 5.0,
    }


def test_a_slice_goes_on_when_its_place_is_unknown_for_once() -> None:
    tracker, busy = tracked(MIG_GPU), {1: activity(1.0)}
    for now, place in ((5.0, 4), (10.0, None), (15.0, 4)):
        part = replace(mig_slice(1, 40), placement_start=place)
        reported = replace(MIG_GPU, slices=(part,))
        tracker.full(FullReading(reported, instance_activity=busy), at(now))
        assert data(tracker, now).slices[1].busy_seconds == now


def test_energy_of_a_whole_gpu_is_its_own() -> None:
    tracker = tracked(gpu(0))
    assert [s.joules for s in tracker.slow(SlowReading(energy_joules=1e6), at(0.0))] == [0.0]
    assert [s.joules for s in tracker.slow(SlowReading(energy_joules=1e6 + 300), at(30.0))] == [
        300.0
    ]


def test_energy_of_slices_follows_their_busy_time() -> None:
    tracker = tracked(MIG_GPU)
    tracker.slow(SlowReading(energy_joules=0.0), at(0.0))
    tracker.full(
        FullReading(MIG_GPU, instance_activity={1: activity(1.0, 30.0), 2: activity(0.0, 30.0)}),
        at(30.0),
    )
    steps = tracker.slow(SlowReading(energy_joules=1000.0), at(30.0))
    # Of 1000 J, 40 % is slice 1's busy part; 60 % is idle, and falls on slices by their SMs.
    assert {s.device_uuid: s.joules for s in steps} == {
        "MIG-1-0": pytest.approx(400 + 240),
        "MIG-2-0": pytest.approx(120),
        MIG_GPU.uuid: pytest.approx(240),  # of the SMs that belong to no slice
    }


@given(
    st.lists(st.tuples(st.integers(1, 98), st.floats(0, 1) | st.none()), max_size=7),
    st.none() | st.integers(98, 150),
)
def test_energy_shares_are_the_boards_energy(
    slices: list[tuple[int, float | None]], board: int | None
) -> None:
    fitting, left = [], board or 10_000
    for instance, (sm_count, ratio) in enumerate(slices):
        if sm_count <= left:
            left -= sm_count
            fitting.append((mig_slice(instance, sm_count), ratio))
    described = gpu(0, mig_enabled=True, sm_count=board, slices=tuple(s for s, _ in fitting))
    busy = {part.uuid: ratio for part, ratio in fitting if ratio is not None}
    shares = energy_shares(described, busy)
    assert sum(shares.values()) == pytest.approx(1.0)
    assert all(share >= 0 for share in shares.values())
