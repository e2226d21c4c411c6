"""Ticks, deadlines, losses: what the snapshot says when things happen."""

import threading
import time
from collections.abc import Sequence

from exporter.gpus import GpuError
from exporter.model.claims import Claim, Claims, Container, Sharing
from exporter.model.devices import Driver
from exporter.model.readings import (
    Activity,
    GpuChanged,
    Memory,
    Process,
    ProcessType,
    Reason,
    SlowReading,
    XidEvent,
)
from exporter.model.snapshot import ContainerSample, GpuSample, GpuState, SourceHealth
from exporter.sampling.worker import ThreadWorker
from tests.scripted import GIB, MIG_GPU, Harness, gpu

TRAIN = Container("ml", "train-0", "main")
HELD = Claims(
    held=(Claim(TRAIN, "nvidia.com/gpu", gpu(0).uuid),),
    allocatable={"nvidia.com/gpu": (gpu(0).uuid, gpu(1).uuid)},
)


def sample(harness: Harness, index: int) -> GpuSample:
    return harness.sampler.snapshot.gpus[index]


def source(harness: Harness, name: str) -> SourceHealth:
    return next(s for s in harness.sampler.snapshot.sources if s.name == name)


def containers(harness: Harness) -> Sequence[ContainerSample]:
    return harness.sampler.snapshot.containers


def test_everything_is_read_at_once_then_by_its_tick() -> None:
    harness = Harness()
    reads = harness.backend.gpus[0].reads
    assert reads == ["fast", "full", "slow"]
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


def test_no_driver_at_start_and_loaded_later() -> None:
    gone = GpuError(Reason.DRIVER_NOT_LOADED, "the driver is not loaded")
    harness = Harness(open_error=gone)
    assert harness.sampler.snapshot.gpus == ()
    assert not source(harness, "nvml").up
    harness.run(10)
    assert source(harness, "nvml").message == "the driver is not loaded"
    assert source(harness, "nvml").failures["driver_not_loaded"] == 3
    harness.backend.open_error = None
    harness.run(5)
    assert source(harness, "nvml").up
    assert sample(harness, 0).data is not None


def test_a_driver_that_does_not_answer_is_told_and_may_still_come() -> None:
    harness = Harness(hold=("driver",))
    harness.run(2)
    assert source(harness, "nvml").message == "not opened yet"
    harness.run(6)
    assert source(harness, "nvml").message == "no answer in 3 s"
    assert source(harness, "nvml").failures == {"timeout": 1}
    harness.workers["driver"].release()
    harness.run(1)
    assert source(harness, "nvml").up
    assert sample(harness, 0).data is not None


def test_driver_reloaded_under_us() -> None:
    harness = Harness(claims=HELD)
    harness.run(10)
    before = sample(harness, 0).data
    assert before is not None
    for reader in harness.backend.gpus:
        reader.error = GpuError(Reason.DRIVER_NOT_LOADED, "the driver is not loaded")
    harness.backend.open_error = GpuError(Reason.DRIVER_NOT_LOADED, "the driver is not loaded")
    harness.run(2)
    assert not source(harness, "nvml").up
    assert [s.data for s in harness.sampler.snapshot.gpus] == [None, None]
    assert harness.backend.closed == 1
    for reader in harness.backend.gpus:
        reader.error = None
    harness.backend.open_error = None
    harness.run(20)
    after = sample(harness, 0).data
    assert harness.sampler.snapshot.driver == Driver("nvidia", "580.159.04", "13.0")
    assert after is not None
    assert before.device.busy_seconds is not None
    assert after.device.busy_seconds is not None
    assert before.device.busy_seconds <= after.device.busy_seconds <= 16.0


def test_a_lost_gpu_takes_only_its_own_data_along() -> None:
    harness = Harness(claims=HELD)
    harness.run(10)
    harness.backend.gpus[0].error = GpuError(Reason.GPU_LOST, "GPU is lost")
    harness.backend.events = [XidEvent(gpu(0).uuid, 5.0, 79)]
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


def test_a_gpu_that_stays_lost_is_looked_for_with_a_new_session() -> None:
    harness = Harness()
    reader = harness.backend.gpus[0]
    reader.error = GpuError(Reason.GPU_LOST, "GPU is lost")
    harness.backend.listed = harness.backend.gpus[1:]
    harness.run(59)
    assert harness.backend.opened == 1
    harness.run(3)
    assert harness.backend.opened == 2
    assert sample(harness, 0).state is GpuState.LOST
    assert sample(harness, 1).data is not None
    reader.error = None
    harness.backend.listed = harness.backend.gpus
    harness.run(62)
    assert sample(harness, 0).data is not None


def test_a_hung_gpu_is_told_within_the_deadline_and_comes_back() -> None:
    harness = Harness()
    harness.run(5)
    harness.workers["gpu-0"].hold = True
    harness.run(4)
    hung, other = harness.sampler.snapshot.gpus
    assert (hung.state, hung.data) == (GpuState.HUNG, None)
    assert hung.read_failures == {"timeout": 1}
    assert other.data is not None
    harness.run(60)
    assert len(harness.workers["gpu-0"].waiting) == 1  # one read in flight at most
    assert sample(harness, 0).read_failures == {"timeout": 1}
    assert (sample(harness, 1).last_sample_timestamp or 0) >= harness.clock.wall() - 5

    harness.workers["gpu-0"].release()
    harness.run(1)
    assert sample(harness, 0).state is GpuState.OK
    assert sample(harness, 0).data is not None


def test_a_session_is_not_closed_under_a_hung_read() -> None:
    harness = Harness(count=3)
    harness.workers["gpu-0"].hold = True
    harness.backend.gpus[1].error = GpuError(Reason.GPU_LOST, "GPU is lost")
    harness.run(200)
    assert harness.backend.closed == 0
    assert sample(harness, 2).data is not None


def test_a_fault_in_one_reader_costs_that_gpu_alone() -> None:
    harness = Harness()
    harness.backend.gpus[0].error = ZeroDivisionError("division by zero")
    harness.run(5)
    assert sample(harness, 0).state is GpuState.FAILED
    assert sample(harness, 1).data is not None


def test_mig_reconfiguration_is_seen_within_a_full_tick() -> None:
    harness = Harness(count=1)
    reader = harness.backend.gpus[0]
    reader.gpu = MIG_GPU
    reader.full_extra = {
        "utilization": None,
        "instance_activity": {1: Activity(5.0, 0.5), 2: Activity(5.0, 0.5)},
    }
    harness.run(5)
    assert sample(harness, 0).gpu.slices == MIG_GPU.slices


def test_events_bring_rare_reads_forward() -> None:
    harness = Harness()
    harness.run(7)
    harness.backend.gpus[0].reads.clear()
    harness.backend.events = [GpuChanged(gpu(0).uuid), XidEvent("GPU-unknown", 1.0, 31)]
    harness.run(1)
    assert harness.backend.gpus[0].reads == ["fast", "full", "slow"]


def test_events_that_say_the_driver_is_gone_end_the_session() -> None:
    harness = Harness()
    harness.backend.event_error = GpuError(Reason.LIBRARY_MISMATCH, "library mismatch")
    harness.run(1)
    assert source(harness, "nvml").failures == {"library_mismatch": 1}
    harness.backend.event_error = None
    harness.run(5)
    assert harness.backend.opened == 2
    assert sample(harness, 0).data is not None


def test_without_events_gpus_are_read_all_the_same_and_events_tried_again() -> None:
    harness = Harness()
    harness.backend.event_error = GpuError(Reason.NO_PERMISSION, "no permission for events")
    harness.run(30)
    assert sample(harness, 0).data is not None
    assert source(harness, "nvml").up
    assert source(harness, "nvml").failures["no_permission"] > 20
    harness.backend.event_error = None
    harness.backend.events = [XidEvent(gpu(0).uuid, 5.0, 31)]
    harness.run(3)
    assert sample(harness, 0).xids[31].count == 1


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
