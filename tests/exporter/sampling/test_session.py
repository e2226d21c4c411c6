"""The driver's coming and going, its events, and what the snapshot says meanwhile."""

import pytest

from exporter.gpus import GpuError
from exporter.model.claims import Claim, Claims, Container
from exporter.model.clocks import UnixSeconds
from exporter.model.devices import Driver
from exporter.model.readings import (
    GpuChanged,
    Reason,
    XidEvent,
)
from exporter.model.snapshot import GpuSample, GpuState, SourceHealth
from tests.doubles.scripted import Harness, ScriptedReader, gpu

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


def test_no_driver_at_start_and_loaded_later() -> None:
    gone = GpuError(Reason.DRIVER_NOT_LOADED, "the driver is not loaded")
    harness = Harness(open_error=gone)
    assert harness.sampler.snapshot.gpus == ()
    assert not source(harness, "nvml").up
    harness.run(11)
    assert source(harness, "nvml").message == "the driver is not loaded"
    assert source(harness, "nvml").failures["driver_not_loaded"] == 3
    harness.backend.open_error = None
    harness.run(5)
    assert source(harness, "nvml").up
    assert sample(harness, 0).data is not None


def test_a_driver_that_does_not_answer_is_reported_and_may_still_come() -> None:
    harness = Harness(hold=("driver",))
    harness.run(2)
    assert source(harness, "nvml").message == "not opened yet"
    harness.run(6)
    assert source(harness, "nvml").message == "no answer in 3 s"
    assert failures(harness, "nvml") == {"timeout": 1}
    harness.workers["driver"].hold = False
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


def test_a_session_is_not_closed_under_a_hung_read() -> None:
    harness = Harness(count=3)
    harness.workers["gpu-0"].hold = True
    harness.backend.gpus[1].error = GpuError(Reason.GPU_LOST, "GPU is lost")
    harness.run(200)
    assert harness.backend.closed == 0
    assert sample(harness, 2).data is not None


def test_a_wait_for_events_that_hangs_is_reported_and_delays_nobody() -> None:
    harness = Harness()
    harness.workers["events"].hold = True
    harness.run(6)
    assert failures(harness, "events") == {"timeout": 1}
    assert source(harness, "events").message == "no answer in 3 s"
    harness.backend.gpus[0].error = GpuError(Reason.GPU_LOST, "GPU is lost")
    harness.run(200)
    assert failures(harness, "events") == {"timeout": 1}
    assert harness.backend.closed == 0  # not under the wait
    assert sample(harness, 1).last_sample_timestamp >= harness.clock.wall() - 5  # type: ignore[operator]
    harness.workers["events"].hold = False
    harness.run(70)
    assert source(harness, "events").up
    assert harness.backend.closed >= 1


def test_a_session_that_cannot_be_closed_shows_no_data_and_calls_for_a_new_process() -> None:
    harness = Harness(count=3)
    harness.run(5)
    harness.workers["gpu-0"].hold = True
    harness.run(4)
    harness.backend.gpus[1].error = GpuError(Reason.DRIVER_NOT_LOADED, "the driver is gone")
    harness.run(5)
    assert [s.data for s in harness.sampler.snapshot.gpus] == [None] * 3
    assert not source(harness, "nvml").up
    assert harness.sampler.dead() == ""
    harness.run(60)
    assert "a call into the driver has hung" in harness.sampler.dead()
    harness.workers["gpu-0"].hold = False
    harness.backend.gpus[1].error = None
    harness.run(10)
    assert harness.sampler.dead() == ""
    assert all(s.data for s in harness.sampler.snapshot.gpus)


def test_what_was_read_of_a_driver_that_is_gone_is_dropped() -> None:
    harness = Harness()
    harness.workers["gpu-0"].hold = True
    harness.run(1)
    harness.backend.gpus[1].error = GpuError(Reason.DRIVER_NOT_LOADED, "the driver is gone")
    harness.backend.open_error = GpuError(Reason.DRIVER_NOT_LOADED, "the driver is gone")
    harness.run(1)
    harness.workers["gpu-0"].hold = False
    harness.run(1)
    assert [s.state for s in harness.sampler.snapshot.gpus] == [GpuState.FAILED] * 2


def test_a_gpu_without_a_name_is_known_until_it_has_one() -> None:
    nameless = gpu(0, uuid="GPU-at-index-0")
    unloaded = GpuError(Reason.DRIVER_NOT_LOADED, "the driver is not loaded")
    harness = Harness(listed=[nameless, gpu(1)], open_error=unloaded)
    stand_in, real = harness.backend.gpus
    stand_in.error = GpuError(Reason.GPU_LOST, "GPU is lost")
    harness.backend.open_error = None
    harness.run(10)
    assert sample(harness, 0).state is GpuState.LOST
    named = ScriptedReader(gpu(0), harness.clock)
    harness.backend.listed = [named, real]
    harness.run(62)
    assert {s.gpu.uuid: s.state for s in harness.sampler.snapshot.gpus} == {
        gpu(0).uuid: GpuState.OK,
        gpu(1).uuid: GpuState.OK,
    }


def test_a_storm_of_xids_is_counted_and_neither_logged_nor_read_each_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    harness = Harness()
    harness.backend.gpus[0].reads.clear()
    for _ in range(30):
        harness.backend.events = [XidEvent(gpu(0).uuid, UnixSeconds(5.0), 31)] * 100
        harness.run(1)
    assert sample(harness, 0).xids[31].count == 3000
    assert len([r for r in caplog.records if "XID" in r.message]) == 1
    assert harness.backend.gpus[0].reads.count("slow") <= 7


def test_events_bring_rare_reads_forward() -> None:
    harness = Harness()
    harness.run(7)
    harness.backend.gpus[0].reads.clear()
    harness.backend.events = [
        GpuChanged(gpu(0).uuid),
        XidEvent("GPU-unknown", UnixSeconds(1.0), 31),
    ]
    harness.run(1)
    assert harness.backend.gpus[0].reads == ["full", "fast", "slow"]


def test_events_that_say_the_driver_is_gone_end_the_session() -> None:
    harness = Harness()
    harness.backend.event_error = GpuError(Reason.LIBRARY_MISMATCH, "library mismatch")
    harness.run(1)
    assert failures(harness, "nvml") == failures(harness, "events") == {"library_mismatch": 1}
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
    assert failures(harness, "events")["no_permission"] > 20
    assert not source(harness, "events").up
    harness.backend.event_error = None
    harness.backend.events = [XidEvent(gpu(0).uuid, UnixSeconds(5.0), 31)]
    harness.run(3)
    assert sample(harness, 0).xids[31].count == 1


@pytest.mark.parametrize("reason", [Reason.LIBRARY_NOT_FOUND, Reason.LIBRARY_MISMATCH])
def test_a_container_without_the_drivers_library_calls_for_a_new_one(reason: Reason) -> None:
    harness = Harness(open_error=GpuError(reason, "no library"), claims=HELD)
    harness.run(655)
    assert harness.sampler.dead() == ""
    harness.run(10)
    assert "while the kubelet advertises GPUs" in harness.sampler.dead()
    harness.backend.open_error = None
    harness.run(10)
    assert harness.sampler.dead() == ""


def test_a_node_without_gpus_or_without_its_driver_stays_as_it_is() -> None:
    harness = Harness(open_error=GpuError(Reason.LIBRARY_NOT_FOUND, "no library"))
    harness.run(1000)
    assert harness.sampler.dead() == ""
    harness = Harness(open_error=GpuError(Reason.DRIVER_NOT_LOADED, "none"), claims=HELD)
    harness.run(1000)
    assert harness.sampler.dead() == ""
