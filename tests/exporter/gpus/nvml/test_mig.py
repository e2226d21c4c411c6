"""GPUs that MIG divides: enumeration, values per GPU instance, and layouts that change."""

from dataclasses import replace

import pynvml
import pytest

from exporter.gpus import GpuError
from exporter.model.devices import Slice
from exporter.model.readings import FieldFailure, Memory, Process, ProcessType, Reason
from tests.doubles.fake_device import LOST, NO_PERMISSION, NOT_SUPPORTED, TIMEOUT, UNKNOWN, Failure
from tests.doubles.fake_gpus import (
    MIB,
    enable_mig,
    gpu_uuid,
    h100,
    h100_mig,
    mig_slice,
    mig_slices,
    mig_uuid,
)
from tests.doubles.fake_nvml import FakeNvml
from tests.doubles.nvml_session import Clock, identified, opened


def test_slices_are_found_across_holes(monkeypatch: pytest.MonkeyPatch) -> None:
    (reader,) = identified(opened(FakeNvml(h100_mig()), monkeypatch))
    assert reader.gpu.mig_enabled is True
    assert reader.gpu.sm_count == 132
    assert reader.gpu.slices == tuple(
        Slice(mig_uuid(number), gpu_uuid(0), 0, gpu_instance, 0, profile, sm_count)
        for number, gpu_instance, profile, sm_count in [
            (1, 2, "3g.40gb", 60),
            (2, 3, "2g.20gb", 32),
            (3, 9, "1g.10gb", 16),
            (4, 10, "1g.10gb", 16),
        ]
    )


def test_where_slices_lie_is_told_where_it_may_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100_mig()
    for part, start in zip(filter(None, gpu.mig or ()), (0, 4, 6, 7), strict=True):
        placement = pynvml.c_nvmlGpuInstancePlacement_t(start, 1)
        part.answers["nvmlGpuInstanceGetInfo"] = {"placement": placement}
    fake = FakeNvml(gpu)
    (reader,) = identified(opened(fake, monkeypatch))
    assert [part.placement_start for part in reader.gpu.slices] == [0, 4, 6, 7]
    fake.errors["nvmlDeviceGetGpuInstanceById"] = pynvml.NVML_ERROR_NO_PERMISSION
    (reader,) = identified(opened(fake, monkeypatch))
    assert [part.placement_start for part in reader.gpu.slices] == [None] * 4
    assert reader.read_full().failures == ()


def test_readings_of_a_divided_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    (reader,) = identified(opened(FakeNvml(h100_mig()), monkeypatch, Clock(step=1.0)))
    fast = reader.read_fast()
    assert fast.memory == Memory(81559 * MIB, 11124 * MIB, 69956 * MIB, 479 * MIB)
    assert fast.instance_memory == {
        2: Memory(40448 * MIB, 11091 * MIB, 29357 * MIB, 0),
        3: Memory(20096 * MIB, 17 * MIB, 20079 * MIB, 0),
        9: Memory(9984 * MIB, 9 * MIB, 9975 * MIB, 0),
        10: Memory(9984 * MIB, 9 * MIB, 9975 * MIB, 0),
    }
    assert fast.processes == (
        Process(21180, ProcessType.COMPUTE, 2296 * MIB, 2, 0),
        Process(21198, ProcessType.COMPUTE, 7484 * MIB, 2, 0),
    )
    assert fast.failures == ()

    assert reader.read_full().instance_activity == {}
    full = reader.read_full()
    assert full.utilization is None
    assert full.memory_busy_ratio is None
    assert full.engine_utilization_ratio == {}
    assert full.activity is None
    assert {i: a.sm_ratio for i, a in full.instance_activity.items()} == {
        2: 0.02,
        3: 0.03,
        9: 0.09,
        10: 0.1,
    }
    assert full.instance_activity[2].pcie_receive_bytes is None
    assert full.power_draw_watts == 432.21
    assert full.temperature_celsius == {"gpu": 53.0, "memory": 58.0}
    assert full.failures == ()

    slow = reader.read_slow()
    assert slow.nvlink_active_links is None
    assert slow.nvlink_errors == {}
    assert slow.energy_joules == 123456.789
    assert slow.failures == ()


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("NVIDIA H100 80GB HBM3 MIG 1c.3g.40gb", "1c.3g.40gb"),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb+me", "1g.5gb+me"),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb.me", "1g.5gb.me"),
        ("NVIDIA H200 MIG 7g.141gb", "7g.141gb"),
    ],
)
def test_the_profile_is_what_the_driver_writes(
    monkeypatch: pytest.MonkeyPatch, name: str, profile: str
) -> None:
    gpu = h100_mig()
    part = mig_slice(1, "1g.10gb", gpu_instance=2, sm_count=16, total=9984, used=0)
    part.answers["nvmlDeviceGetName"] = name
    enable_mig(gpu, [part])
    (reader,) = identified(opened(FakeNvml(gpu), monkeypatch))
    assert reader.gpu.slices[0].profile == profile


def test_compute_instances_share_their_gpu_instances_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = h100_mig()
    shared = {"gpu_instance": 2, "total": 40448, "used": 100}
    enable_mig(
        gpu,
        [
            mig_slice(1, "1c.3g.40gb", sm_count=16, compute_instance=0, **shared),
            mig_slice(2, "2c.3g.40gb", sm_count=32, compute_instance=1, **shared),
        ],
    )
    nvml = FakeNvml(gpu)
    (reader,) = identified(opened(nvml, monkeypatch, Clock(step=1.0)))
    assert [s.compute_instance for s in reader.gpu.slices] == [0, 1]
    nvml.calls.clear()
    assert list(reader.read_fast().instance_memory) == [2]
    assert nvml.calls.count("nvmlDeviceGetMemoryInfo_v2") == 2
    reader.read_full()
    assert list(reader.read_full().instance_activity) == [2]


def test_a_reconfiguration_is_seen_at_the_next_full_read(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100_mig()
    nvml = FakeNvml(gpu)
    (reader,) = identified(opened(nvml, monkeypatch, Clock(step=1.0)))
    reader.read_full()
    assert reader.read_full().instance_activity.keys() == {2, 3, 9, 10}
    # GPU instance 2 is given out again at once, to another shape.
    new = mig_slice(7, "7g.80gb", gpu_instance=2, sm_count=132, total=81056, used=1)
    enable_mig(gpu, [new])
    read = reader.read_full()
    assert [s.profile for s in read.gpu.slices] == ["7g.80gb"]
    assert read.gpu == reader.gpu
    # No means over two layouts.
    assert read.instance_activity == {}
    assert reader.read_fast().instance_memory == {2: Memory(81056 * MIB, MIB, 81055 * MIB, 0)}
    assert reader.read_full().instance_activity.keys() == {2}


def test_the_same_uuid_in_another_shape_is_another_layout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = h100_mig()
    (reader,) = identified(opened(FakeNvml(gpu), monkeypatch))
    enable_mig(gpu, [mig_slice(1, "4g.40gb", gpu_instance=2, sm_count=64, total=40448, used=11091)])
    assert [s.sm_count for s in reader.read_full().gpu.slices] == [64]


def test_an_unchanged_layout_is_not_identified_again(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(h100_mig())
    (reader,) = identified(opened(nvml, monkeypatch))
    before = reader.gpu
    nvml.calls.clear()
    assert reader.read_full().gpu is before
    assert "nvmlDeviceGetSerial" not in nvml.calls
    assert nvml.calls.count("nvmlDeviceGetMigMode") == 1


def test_handles_that_are_new_under_the_same_layout_are_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = h100_mig()
    (reader,) = identified(opened(FakeNvml(gpu), monkeypatch))
    gpu.mig = mig_slices()
    dangling = reader.read_fast()
    assert dangling.instance_memory == {}
    assert dangling.failures == (FieldFailure("instance_memory", Reason.UNKNOWN),)
    reader.read_full()
    assert reader.read_fast().instance_memory.keys() == {2, 3, 9, 10}


def test_mig_switched_on_and_off(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100()
    (reader,) = identified(opened(FakeNvml(gpu), monkeypatch))
    whole = reader.gpu
    enable_mig(gpu, mig_slices())
    gpu.fail("nvmlDeviceGetUtilizationRates", NOT_SUPPORTED)
    read = reader.read_full()
    assert len(read.gpu.slices) == 4
    assert read.memory_busy_ratio is None
    gpu.answers |= {
        "nvmlDeviceGetMigMode": (0, 0),
        "nvmlDeviceGetUtilizationRates": {"gpu": 1, "memory": 2},
    }
    read = reader.read_full()
    assert read.gpu == replace(whole, slices=())
    assert read.memory_busy_ratio == 0.02
    assert read.failures == ()


def test_a_board_without_mig_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100()
    gpu.fail("nvmlDeviceGetMigMode", NOT_SUPPORTED)
    nvml = FakeNvml(gpu)
    (reader,) = identified(opened(nvml, monkeypatch))
    assert reader.gpu.mig_enabled is None
    nvml.calls.clear()
    reader.read_full()
    assert "nvmlDeviceGetMigMode" not in nvml.calls


@pytest.mark.parametrize("function", ["nvmlDeviceGetMigMode", "nvmlDeviceGetMaxMigDeviceCount"])
def test_a_layout_that_can_not_be_read_now_stays(
    monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    gpu = h100_mig()
    nvml = FakeNvml(gpu)
    (reader,) = identified(opened(nvml, monkeypatch))
    before = reader.gpu
    nvml.errors[function] = pynvml.NVML_ERROR_UNKNOWN
    read = reader.read_full()
    assert read.gpu is before
    assert read.failures == (FieldFailure("gpu", Reason.UNKNOWN),)


@pytest.mark.parametrize("function", ["nvmlDeviceGetUUID", "nvmlDeviceGetAttributes_v2"])
def test_a_slice_that_fails_leaves_the_layout_as_it_was(
    monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    gpu = h100_mig()
    (reader,) = identified(opened(FakeNvml(gpu), monkeypatch))
    before = reader.gpu
    assert gpu.mig
    assert gpu.mig[1]
    gpu.mig[1].fail(function, UNKNOWN)
    read = reader.read_full()
    assert read.gpu is before
    assert read.failures == (FieldFailure("gpu", Reason.UNKNOWN),)


def test_slices_that_we_may_not_see_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(h100_mig())
    nvml.errors["nvmlDeviceGetMigDeviceHandleByIndex"] = NO_PERMISSION.code
    (reader,) = identified(opened(nvml, monkeypatch))
    assert reader.gpu.slices == ()
    assert reader.gpu.mig_enabled is True
    reader.read_fast()
    read = reader.read_full()
    assert read.failures == (FieldFailure("gpu", Reason.NO_PERMISSION),)


def test_processes_that_we_may_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(h100_mig())
    nvml.errors["nvmlDeviceGetComputeRunningProcesses_v2"] = NO_PERMISSION.code
    (reader,) = identified(opened(nvml, monkeypatch))
    read = reader.read_fast()
    assert read.processes is None
    assert read.instance_memory.keys() == {2, 3, 9, 10}
    assert read.failures == (FieldFailure("processes", Reason.NO_PERMISSION),)


def test_slices_that_can_not_be_told_at_first_are_found_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = h100_mig()
    assert gpu.mig
    assert gpu.mig[0]
    gpu.mig[0].fail("nvmlDeviceGetGpuInstanceId", UNKNOWN)
    (reader,) = identified(opened(FakeNvml(gpu), monkeypatch))
    assert reader.gpu.slices == ()
    gpu.mig[0].answers["nvmlDeviceGetGpuInstanceId"] = 2
    assert [s.gpu_instance for s in reader.read_full().gpu.slices] == [2, 3, 9, 10]


def test_slices_without_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100_mig()
    for part in gpu.mig or ():
        if part:
            part.fail("nvmlDeviceGetAttributes_v2", NOT_SUPPORTED)
    (reader,) = identified(opened(FakeNvml(gpu), monkeypatch))
    assert [s.sm_count for s in reader.gpu.slices] == [None] * 4
    assert reader.read_full().failures == ()


def test_a_gpu_lost_while_its_profiles_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100_mig()
    gpu.answers["nvmlDeviceGetGpuInstanceProfileInfoV", 0] = LOST
    with pytest.raises(GpuError) as raised:
        identified(opened(FakeNvml(gpu), monkeypatch))
    assert raised.value.reason is Reason.GPU_LOST


def test_profiles_of_an_old_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100_mig()
    gpu.answers["nvmlDeviceGetGpuInstanceProfileInfo", 4] = {"multiprocessorCount": 98}
    nvml = FakeNvml(gpu)
    nvml.missing.add("nvmlDeviceGetGpuInstanceProfileInfoV")
    (reader,) = identified(opened(nvml, monkeypatch))
    assert reader.gpu.sm_count == 98


@pytest.mark.parametrize("failure", [TIMEOUT, UNKNOWN])
def test_a_profile_that_can_not_be_read_leaves_the_sm_count_open(
    monkeypatch: pytest.MonkeyPatch, failure: Failure
) -> None:
    # Else the largest of the others would pass for the board.
    gpu = h100_mig()
    largest = pynvml.NVML_GPU_INSTANCE_PROFILE_7_SLICE
    gpu.answers["nvmlDeviceGetGpuInstanceProfileInfoV", largest] = failure
    (reader,) = opened(FakeNvml(gpu), monkeypatch).readers()
    assert [f.field for f in reader.read_fast().failures] == ["gpu"]
    assert reader.gpu.sm_count is None
    assert len(reader.gpu.slices) == 4
