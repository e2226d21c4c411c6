"""Ticks, deadlines, losses: what the snapshot says when things happen."""

import threading
import time
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.gpus import GpuError
from exporter.model.claims import Claim, Claims, Container, Sharing
from exporter.model.clocks import UnixSeconds
from exporter.model.readings import (
    Activity,
    Memory,
    Process,
    ProcessType,
    Reason,
    SlowReading,
    XidEvent,
)
from exporter.model.snapshot import ContainerSample, GpuSample, GpuState, SourceHealth
from exporter.sampling.worker import ThreadWorker
from tests.doubles.scripted import GIB, MIG_GPU, Harness, gpu

TRAIN = Container("ml", "train-0", "main")
HELD = Claims(
    held=(Claim(TRAIN, "nvidia.com/gpu", gpu(0).uuid),),
    allocatable={"nvidia.com/gpu": (gpu(0).uuid, gpu(1).uuid)},
)


def sample(harness: Harness, index: int) -> GpuSample:
    return harness.sampler.snapshot.gpus[index]


def source(harness: Harness, name: str) -> SourceHealth:
    return next(s for s in harness.sampler.snapshot.sources if s.name == name)


def failures(harness: Harness, name: str) -> dict[str, int]:
    return {reason: count for reason, count in source(harness, name).failures.items() if count}


def containers(harness: Harness) -> Sequence[ContainerSample]:
    return harness.sampler.snapshot.containers


def test_everything_is_read_at_once_then_by_its_tick() -> None:
    harness = Harness()
    reads = harness.backend.gpus[0].reads
    assert reads == ["full", "fast", "slow"]
    assert sample(harness, 0).data is not None
    reads.clear()
    harness.run(30)
    assert (reads.count("fast"), reads.count("full"), reads.count("slow")) == (30, 6, 1)


def test_a_snapshot_is_replaced_by_full_ticks_and_not_by_fast_ones() -> None:
    harness = Harness()
    before = harness.sampler.snapshot
    harness.run(4)
    assert harness.sampler.snapshot is before
    harness.run(1)
    assert harness.sampler.snapshot is not before


def test_busy_seconds_are_the_integral_of_utilization() -> None:
    harness = Harness()
    harness.backend.gpus[0].ratio = 0.25
    harness.run(100)
    data = sample(harness, 0).data
    assert data is not None
    assert data.device.busy_seconds is not None
    assert abs(data.device.busy_seconds - 25.0) < 0.5


def test_an_allocation_is_joined_with_what_its_gpu_does() -> None:
    harness = Harness(claims=HELD)
    harness.backend.gpus[0].slow = SlowReading(energy_joules=0.0)
    harness.run(30)
    harness.backend.gpus[0].slow = SlowReading(energy_joules=9000.0)
    harness.run(35)
    (container,) = harness.sampler.snapshot.containers
    assert container.allocation.container == TRAIN
    assert container.allocation.sharing is Sharing.EXCLUSIVE
    assert container.allocated_seconds == 65.0
    assert container.busy_seconds is not None
    assert abs(container.busy_seconds - 32.5) < 0.5
    assert container.energy_joules == 9000.0
    assert container.memory_used_bytes == 10 * GIB
    assert harness.sampler.snapshot.allocatable == {"nvidia.com/gpu": 2}
    assert harness.sampler.snapshot.allocated == {"nvidia.com/gpu": 1}


def test_a_memory_peak_between_full_ticks_is_seen() -> None:
    harness = Harness(claims=HELD)
    reader = harness.backend.gpus[0]
    harness.run(6)
    reader.memory = Memory(80 * GIB, 79 * GIB, GIB)
    harness.run(1)
    reader.memory = Memory(80 * GIB, GIB, 79 * GIB)
    harness.run(3)
    data = sample(harness, 0).data
    assert data is not None
    assert data.device.memory_used_peak_bytes == 79 * GIB
    assert harness.sampler.snapshot.containers[0].memory_peak_bytes == 79 * GIB


def test_a_lost_gpu_takes_only_its_own_data_along() -> None:
    harness = Harness(claims=HELD)
    harness.run(10)
    harness.backend.gpus[0].error = GpuError(Reason.GPU_LOST, "GPU is lost")
    harness.backend.gpus[0].events = [XidEvent(gpu(0).uuid, UnixSeconds(5.0), 79)]
    harness.run(1)
    lost, other = harness.sampler.snapshot.gpus
    assert (lost.state, lost.data) == (GpuState.LOST, None)
    assert lost.xids[79].count == 1
    assert other.data is not None
    (container,) = harness.sampler.snapshot.containers
    assert container.busy_seconds is None
    assert container.allocated_seconds == 11.0

    harness.backend.gpus[0].error = None
    harness.run(2)
    assert sample(harness, 0).data is not None
    assert harness.sampler.snapshot.containers[0].busy_seconds is not None


def test_a_hung_gpu_is_reported_within_the_deadline_and_comes_back() -> None:
    harness = Harness()
    harness.run(5)
    harness.workers["gpu-0"].hold = True
    harness.run(4)
    hung, other = harness.sampler.snapshot.gpus
    assert (hung.state, hung.data) == (GpuState.HUNG, None)
    assert hung.read_failures["timeout"] == 1
    assert other.data is not None
    harness.run(60)
    assert len(harness.workers["gpu-0"].waiting) == 1  # one read in flight at most
    assert sample(harness, 0).read_failures["timeout"] == 1
    assert (sample(harness, 1).last_sample_timestamp or 0) >= harness.clock.wall() - 5

    harness.workers["gpu-0"].hold = False
    harness.run(2)
    assert sample(harness, 0).state is GpuState.OK
    assert sample(harness, 0).data is not None


def test_a_loop_that_stands_still_is_dead() -> None:
    harness = Harness()
    harness.clock.now += 9.0
    assert harness.sampler.dead() == ""
    harness.clock.now += 1.0
    assert harness.sampler.dead() == "no sampling step for 10 s"


def test_steps_that_come_a_little_late_do_not_make_ticks_slip() -> None:
    harness = Harness()
    harness.backend.gpus[0].reads.clear()
    for number in range(60):
        harness.clock.now += 1.002 if number % 2 else 0.998
        harness.step()
    assert harness.backend.gpus[0].reads.count("full") == 12


def test_the_cost_of_reading_is_absent_while_nothing_is_read() -> None:
    harness = Harness()
    assert source(harness, "nvml").duration_seconds is not None
    for reader in harness.backend.gpus:
        reader.error = GpuError(Reason.GPU_LOST, "GPU is lost")
    harness.run(6)
    assert source(harness, "nvml").duration_seconds is None


def test_allocated_devices_are_counted_once_however_many_claim_them() -> None:
    other = Container("ml", "train-1", "main")
    claims = Claims(held=(*HELD.held, Claim(other, "nvidia.com/gpu", gpu(0).uuid)))
    assert Harness(claims=claims).sampler.snapshot.allocated == {"nvidia.com/gpu": 1}


FAULTS = [None, Reason.GPU_LOST, Reason.UNKNOWN, Reason.DRIVER_NOT_LOADED, "hang"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),
            st.sampled_from(FAULTS),
            st.integers(1, 40),
            st.floats(0, 1),
            st.floats(0, 1e6),
            st.booleans(),
        ),
        max_size=12,
    )
)
def test_counters_never_go_back_and_containers_never_exceed_their_device(
    story: list[tuple[int, Reason | str | None, int, float, float, bool]],
) -> None:
    """Over any sequence of losses, hangs, driver reloads, counter resets and kubelet outages."""
    harness = Harness(claims=HELD)
    floors: dict[object, float] = {}
    for index, fault, seconds, ratio, energy, kubelet in story:
        reader = harness.backend.gpus[index]
        reader.error = GpuError(fault, "fault") if isinstance(fault, Reason) else None
        reader.ratio, reader.slow = ratio, SlowReading(energy_joules=energy)
        harness.workers[f"gpu-{index}"].hold = fault == "hang"
        harness.claims.current = HELD if kubelet else None
        harness.run(seconds)
        busy: dict[str, float] = {}
        for one in harness.sampler.snapshot.gpus:
            if one.data and one.data.device.busy_seconds is not None:
                busy[one.gpu.uuid] = one.data.device.busy_seconds
                _not_back(floors, (one.gpu.uuid, "busy"), one.data.device.busy_seconds)
                _not_back(floors, (one.gpu.uuid, "energy"), one.data.totals.energy_joules)
        for held in containers(harness):
            key = held.allocation.container
            _not_back(floors, (key, "allocated"), held.allocated_seconds)
            _not_back(floors, (key, "busy"), held.busy_seconds)
            if held.busy_seconds is not None:
                assert held.busy_seconds <= busy[held.allocation.device_uuid] + 1e-6
                assert held.busy_seconds <= held.allocated_seconds + 1.0
    assert harness.clock.now - 1000.0 + 1.0 >= max([0.0, *busy.values()] if story else [0.0])


def _not_back(floors: dict[object, float], key: object, value: float | None) -> None:
    if value is not None:
        assert value >= floors.get(key, 0.0) - 1e-9
        floors[key] = value


def test_a_fault_in_one_reader_costs_that_gpu_alone() -> None:
    harness = Harness()
    harness.backend.gpus[0].error = ZeroDivisionError("division by zero")
    harness.run(5)
    assert sample(harness, 0).state is GpuState.FAILED
    assert sample(harness, 1).data is not None


def test_mig_reconfiguration_is_seen_within_a_full_tick_memory_included() -> None:
    harness = Harness(count=1)
    reader = harness.backend.gpus[0]
    reader.gpu = MIG_GPU
    reader.full_extra = {
        "utilization": None,
        "instance_activity": {1: Activity(5.0, 0.5), 2: Activity(5.0, 0.5)},
    }
    reader.fast_extra = {"instance_memory": {1: Memory(GIB, GIB // 2, GIB // 2)}}
    harness.run(5)
    assert sample(harness, 0).gpu.slices == MIG_GPU.slices
    data = sample(harness, 0).data
    assert data is not None
    assert data.slices[1].memory_used_peak_bytes == GIB // 2


def test_kubelet_gone_for_longer_than_its_grace() -> None:
    harness = Harness(claims=HELD)
    harness.run(10)
    harness.claims.current = None
    harness.run(1)
    assert not containers(harness)
    assert not source(harness, "kubelet").up
    assert sample(harness, 0).data is not None
    harness.claims.current = HELD
    harness.run(1)
    assert containers(harness)[0].allocated_seconds == 11.0


def test_mps_processes_change_what_a_claim_means() -> None:
    claims = Claims(
        held=(Claim(TRAIN, "nvidia.com/gpu", f"{gpu(0).uuid}::0"),),
        allocatable={"nvidia.com/gpu": tuple(f"{gpu(0).uuid}::{n}" for n in range(4))},
    )
    harness = Harness(claims=claims)
    assert harness.sampler.snapshot.containers[0].allocation.sharing is Sharing.TIME_SLICED
    harness.backend.gpus[0].fast_extra = {"processes": (Process(7, ProcessType.MPS),)}
    harness.run(5)
    (container,) = harness.sampler.snapshot.containers
    assert container.allocation.sharing is Sharing.MPS
    assert container.allocated_seconds == 5.0 / 4
    assert container.busy_seconds is None


def test_stopping_stops_every_thread() -> None:
    harness = Harness()
    harness.sampler.stop()
    assert all(worker.stopped for worker in harness.workers.values())


def test_a_worker_hands_over_results_and_errors_one_at_a_time() -> None:
    delivered = threading.Event()
    results: list[object] = []

    def deliver(done: object) -> None:
        done()  # type: ignore[operator]
        if len(results) == 2:
            delivered.set()

    worker = ThreadWorker("test", deliver)
    worker.submit(lambda: 1, results.append)
    worker.submit(lambda: 1 // 0, results.append)
    assert delivered.wait(5.0)
    worker.stop()
    assert results[0] == 1
    assert isinstance(results[1], ZeroDivisionError)


def test_a_stuck_worker_holds_nobody() -> None:
    stuck, release = ThreadWorker("stuck", lambda done: done()), threading.Event()
    begun = time.monotonic()
    stuck.submit(release.wait, lambda _: None)
    stuck.stop()
    assert time.monotonic() - begun < 1.0
    release.set()
