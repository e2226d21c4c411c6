"""Finding and reading GPUs: one that hangs, refuses or lies about itself costs no other."""

import pytest

from exporter.gpus import GpuError
from exporter.model.readings import Reason
from exporter.model.snapshot import GpuState
from tests.doubles.scripted import Harness, ScriptedReader, gpu


def states(harness: Harness) -> dict[str, GpuState]:
    return {s.gpu.uuid: s.state for s in harness.sampler.snapshot.gpus}


def unloaded() -> GpuError:
    return GpuError(Reason.DRIVER_NOT_LOADED, "the driver is not loaded")


def test_a_gpu_that_hangs_while_it_is_looked_up_costs_no_other_and_has_a_name() -> None:
    harness = Harness(count=3, hold=("gpu-1",))
    harness.run(10)
    assert states(harness) == {
        gpu(0).uuid: GpuState.OK,
        "GPU-at-index-1": GpuState.HUNG,
        gpu(2).uuid: GpuState.OK,
    }
    harness.workers["gpu-1"].hold = False
    harness.run(5)
    assert states(harness) == {gpu(index).uuid: GpuState.OK for index in range(3)}


def test_a_known_gpu_that_hangs_in_the_next_session_keeps_its_name() -> None:
    harness = Harness(count=2)
    harness.run(5)
    harness.backend.gpus[0].error = unloaded()
    harness.run(1)
    harness.backend.gpus[0].error = None
    harness.workers["gpu-1"].hold = True
    harness.run(15)
    assert states(harness) == {gpu(0).uuid: GpuState.OK, gpu(1).uuid: GpuState.HUNG}


def test_a_gpu_without_a_name_is_known_until_it_has_one() -> None:
    harness = Harness(open_error=unloaded())
    harness.backend.gpus[0].find_error = GpuError(Reason.GPU_LOST, "GPU is lost")
    harness.backend.open_error = None
    harness.run(10)
    assert states(harness) == {"GPU-at-index-0": GpuState.LOST, gpu(1).uuid: GpuState.OK}
    harness.backend.gpus[0].find_error = None
    harness.run(2)
    assert states(harness) == {gpu(0).uuid: GpuState.OK, gpu(1).uuid: GpuState.OK}


def test_a_gpu_whose_uuid_can_not_be_read_has_data_under_its_number() -> None:
    harness = Harness(open_error=unloaded())
    harness.backend.gpus[0].uuid = ""
    harness.backend.open_error = None
    harness.run(10)
    assert states(harness) == {"GPU-at-index-0": GpuState.OK, gpu(1).uuid: GpuState.OK}
    assert all(s.data for s in harness.sampler.snapshot.gpus)


def test_a_known_gpu_whose_uuid_can_not_be_read_later_goes_on_as_itself() -> None:
    harness = Harness()
    harness.run(5)
    reader = harness.backend.gpus[0]
    reader.error = unloaded()
    harness.run(1)
    reader.error, reader.uuid = None, ""
    harness.run(15)
    assert states(harness) == {gpu(0).uuid: GpuState.OK, gpu(1).uuid: GpuState.OK}


def test_gpus_with_one_uuid_are_told_apart_and_it_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    harness = Harness(count=3, open_error=unloaded())
    for reader in harness.backend.gpus:
        reader.uuid = gpu(0).uuid
    harness.backend.open_error = None
    harness.run(60)
    assert states(harness) == {
        gpu(0).uuid: GpuState.OK,
        "GPU-at-index-1": GpuState.FAILED,
        "GPU-at-index-2": GpuState.FAILED,
    }
    twins = [r for r in caplog.records if "it has the UUID of GPU 0" in r.getMessage()]
    assert len(twins) == 2
    by_uuid = {s.gpu.uuid: s for s in harness.sampler.snapshot.gpus}
    assert by_uuid["GPU-at-index-1"].read_failures["implausible"] > 0


def test_a_driver_that_is_slow_is_slow_and_does_not_hang() -> None:
    harness = Harness()
    harness.run(5)
    slow: ScriptedReader = harness.backend.gpus[0]
    harness.workers["gpu-0"].hold = True
    for _ in range(12):
        slow.returned += 8  # the visit goes on: calls return
        harness.run(1)
        assert states(harness)[slow.gpu.uuid] is GpuState.OK
    harness.workers["gpu-0"].hold = False
    harness.run(1)
    assert harness.sampler.snapshot.gpus[0].read_failures["timeout"] == 0


def test_a_call_that_does_not_return_hangs_however_many_did_before() -> None:
    harness = Harness()
    harness.run(5)
    slow = harness.backend.gpus[0]
    harness.workers["gpu-0"].hold = True
    for _ in range(8):
        slow.returned += 1
        harness.run(1)
    harness.run(4)
    assert states(harness)[slow.gpu.uuid] is GpuState.HUNG


def test_a_visit_that_never_ends_hangs_even_if_its_calls_return() -> None:
    harness = Harness()
    harness.run(5)
    slow = harness.backend.gpus[0]
    harness.workers["gpu-0"].hold = True
    for _ in range(40):
        slow.returned += 1
        harness.run(1)
    assert states(harness)[slow.gpu.uuid] is GpuState.HUNG


def test_threads_are_as_many_as_there_were_gpus_at_most() -> None:
    harness = Harness(count=4)
    for _ in range(20):
        harness.backend.gpus[0].error = unloaded()
        harness.run(1)
        harness.backend.gpus[0].error = None
        harness.run(70)
    assert len(harness.workers) == 2 + 2 * 4
