"""The driver's coming and going, and what the snapshot says meanwhile."""

import pytest

from exporter.gpus import GpuError
from exporter.model.claims import Claim, Claims, Container
from exporter.model.devices import Driver
from exporter.model.readings import Reason
from exporter.model.snapshot import GpuSample, GpuState, SourceHealth
from tests.doubles.scripted import Harness, gpu

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


def test_a_session_is_not_closed_under_a_hung_read() -> None:
    harness = Harness(count=3)
    harness.workers["gpu-0"].hold = True
    harness.backend.gpus[1].error = GpuError(Reason.GPU_LOST, "GPU is lost")
    harness.run(200)
    assert harness.backend.closed == 0
    assert sample(harness, 2).data is not None


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
    assert "a read of a GPU whose driver is gone has hung" in harness.sampler.dead()
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


def test_sessions_that_do_not_last_are_opened_ever_more_rarely() -> None:
    harness = Harness()
    for reader in harness.backend.gpus:
        reader.error = GpuError(Reason.DRIVER_NOT_LOADED, "the driver is not loaded")
    harness.run(600)
    assert harness.backend.opened <= 14
    for reader in harness.backend.gpus:
        reader.error = None
    harness.run(61)
    assert all(s.data for s in harness.sampler.snapshot.gpus)
    # One that has lasted is followed by the next at once.
    harness.run(100)
    opened = harness.backend.opened
    harness.backend.gpus[0].error = GpuError(Reason.DRIVER_NOT_LOADED, "the driver is not loaded")
    harness.run(1)
    harness.backend.gpus[0].error = None
    harness.run(2)
    assert harness.backend.opened == opened + 1
    assert all(s.data for s in harness.sampler.snapshot.gpus)


def test_a_fault_in_the_backend_is_logged_once_with_where_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    harness = Harness()
    harness.backend.gpus[0].error = ZeroDivisionError("division by zero")
    harness.run(120)
    (record,) = [r for r in caplog.records if "division" in r.getMessage()]
    assert record.exc_info
