"""GPUs that are lost, broken or hung, before a session or in it, and how they come back."""

import threading

import pynvml
import pytest

from exporter.gpus import GpuError
from exporter.model.clocks import UnixSeconds
from exporter.model.devices import Gpu
from exporter.model.readings import Reason, XidEvent
from tests.doubles.fake_device import LOST, NO_PERMISSION, NOT_SUPPORTED, TIMEOUT, UNKNOWN, Failure
from tests.doubles.fake_gpus import gpu_uuid, h100
from tests.doubles.fake_nvml import FakeNvml
from tests.doubles.nvml_session import Clock, found, opened, read_all, reader_of


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (pynvml.NVML_ERROR_GPU_IS_LOST, Reason.GPU_LOST),
        (pynvml.NVML_ERROR_RESET_REQUIRED, Reason.RESET_REQUIRED),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, Reason.DRIVER_NOT_LOADED),
        (pynvml.NVML_ERROR_UNINITIALIZED, Reason.DRIVER_NOT_LOADED),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, Reason.LIBRARY_MISMATCH),
    ],
)
@pytest.mark.parametrize(
    ("read", "function"),
    [
        ("read_fast", "nvmlDeviceGetMemoryInfo_v2"),
        ("read_fast", "nvmlDeviceGetComputeRunningProcesses_v2"),
        ("read_full", "nvmlDeviceGetMigMode"),
        ("read_full", "nvmlDeviceGetSamples"),
        ("read_full", "nvmlGpmSampleGet"),
        ("read_full", "nvmlDeviceGetPowerUsage"),
        ("read_slow", "nvmlDeviceGetFieldValues"),
        ("read_slow", "nvmlDeviceGetTotalEnergyConsumption"),
    ],
)
def test_an_error_of_the_whole_gpu_is_raised_and_it_comes_back(
    monkeypatch: pytest.MonkeyPatch, read: str, function: str, code: int, reason: Reason
) -> None:
    nvml = FakeNvml(h100())
    reader = reader_of(nvml, monkeypatch)
    read_all(reader)
    nvml.errors[function] = code
    if reason.ends_session:
        nvml.errors["nvmlSystemGetDriverVersion"] = code
    with pytest.raises(GpuError) as raised:
        getattr(reader, read)()
    assert raised.value.reason is reason
    assert reader.gpu.uuid == gpu_uuid(0)

    nvml.errors.clear()
    assert read_all(reader)["failures"] == ()


def test_one_field_value_may_say_that_the_gpu_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100()
    gpu.fields[pynvml.NVML_FI_DEV_MEMORY_TEMP] = LOST
    with pytest.raises(GpuError) as raised:
        reader_of(FakeNvml(gpu), monkeypatch).read_full()
    assert raised.value.reason is Reason.GPU_LOST


def test_a_lost_gpu_is_found_again_by_its_uuid(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100()
    nvml = FakeNvml(gpu, h100(1))
    reader, other = found(opened(nvml, monkeypatch))
    reader.read_full()
    nvml.lost.add(gpu.uuid)
    for _ in range(2):
        with pytest.raises(GpuError) as raised:
            reader.read_fast()
        assert raised.value.reason is Reason.GPU_LOST
        assert other.read_fast().memory is not None

    nvml.gpus.remove(gpu)
    with pytest.raises(GpuError) as raised:
        reader.read_slow()
    assert raised.value.reason is Reason.GPU_LOST

    back = h100()
    back.answers["nvmlDeviceGetVbiosVersion"] = "96.00.FF.00.01"
    back.fields.pop(pynvml.NVML_FI_DEV_MEMORY_TEMP)
    nvml.gpus.insert(0, back)
    nvml.lost.clear()
    read = reader.read_full()
    assert read.gpu.vbios_version == "96.00.FF.00.01"
    assert read.utilization is not None
    assert len(read.utilization) == 5


def test_a_gpu_whose_call_hangs_does_not_hold_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(h100(0), h100(1))
    gate = threading.Event()
    nvml.blocked["nvmlDeviceGetMemoryInfo_v2", gpu_uuid(0)] = gate.wait
    hung, well = opened(nvml, monkeypatch, Clock()).readers()
    thread = threading.Thread(target=hung.read_fast, daemon=True)
    thread.start()
    assert well.read_fast().memory is not None
    assert well.read_full().failures == ()
    assert thread.is_alive()
    gate.set()
    thread.join()


@pytest.mark.parametrize(
    "function",
    ["nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetUUID", "nvmlDeviceGetName"],
)
def test_a_gpu_that_hangs_before_it_is_known_does_not_hold_the_others(
    monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    nvml = FakeNvml(h100(0), h100(1), h100(2))
    gate = threading.Event()
    nvml.blocked[function, gpu_uuid(1)] = gate.wait
    first, hung, last = opened(nvml, monkeypatch).readers()
    thread = threading.Thread(target=hung.read_fast, daemon=True)
    thread.start()
    for reader in (first, last):
        assert reader.read_fast().memory is not None
        assert reader.read_full().gpu.model == "NVIDIA H100 80GB HBM3"
    assert thread.is_alive()
    # Nor does it hold the events of the others.
    nvml.events.append((gpu_uuid(2), pynvml.nvmlEventTypeXidCriticalError, 31))
    assert last.wait_events(1.0) == (XidEvent(gpu_uuid(2), UnixSeconds(1000.0), 31),)
    assert nvml.registered.keys() == {gpu_uuid(2)}
    gate.set()
    thread.join()
    assert hung.gpu.model == "NVIDIA H100 80GB HBM3"


def test_calls_that_have_returned_are_counted_while_one_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nvml = FakeNvml(h100(0))
    gate, entered = threading.Event(), threading.Event()

    def block() -> None:
        entered.set()
        gate.wait()

    (reader,) = opened(nvml, monkeypatch).readers()
    assert reader.returned == 0
    reader.read_fast()
    before = reader.returned
    assert before > 20
    nvml.blocked["nvmlDeviceGetComputeRunningProcesses_v2", gpu_uuid(0)] = block
    thread = threading.Thread(target=reader.read_fast, daemon=True)
    thread.start()
    entered.wait()
    hanging = reader.returned
    assert hanging > before  # that of the memory
    assert reader.returned == hanging
    gate.set()
    thread.join()
    assert reader.returned > hanging


def test_listing_gpus_makes_no_call_on_any(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(h100(0), h100(1))
    backend = opened(nvml, monkeypatch)
    nvml.calls.clear()
    backend.readers()
    assert nvml.calls == ["nvmlDeviceGetCount_v2"]


@pytest.mark.parametrize("read", ["read_fast", "read_full", "read_slow"])
def test_any_read_identifies_the_gpu_and_only_the_first(
    monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    nvml = FakeNvml(h100())
    reader = reader_of(nvml, monkeypatch)
    getattr(reader, read)()
    assert reader.gpu.model == "NVIDIA H100 80GB HBM3"
    read_all(reader)
    assert nvml.calls.count("nvmlDeviceGetName") == 1


def test_a_gpu_lost_before_it_is_known_is_known_once_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nvml = FakeNvml(h100())
    reader = reader_of(nvml, monkeypatch)
    nvml.lost.add(gpu_uuid(0))
    with pytest.raises(GpuError):
        reader.read_fast()
    assert reader.gpu == Gpu(uuid=gpu_uuid(0), index=0, model="")
    nvml.lost.clear()
    assert reader.read_full().gpu.model == "NVIDIA H100 80GB HBM3"


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (LOST, Reason.GPU_LOST),
        (UNKNOWN, Reason.UNKNOWN),
        (NO_PERMISSION, Reason.NO_PERMISSION),
        (TIMEOUT, Reason.TIMEOUT),
    ],
)
@pytest.mark.parametrize("function", ["nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetUUID"])
def test_a_gpu_that_can_not_be_found_says_why_and_is_found_later(
    monkeypatch: pytest.MonkeyPatch, function: str, failure: Failure, reason: Reason
) -> None:
    nvml = FakeNvml(h100(0))
    nvml.errors[function] = failure.code
    (reader,) = opened(nvml, monkeypatch).readers()
    for call in (reader.find, reader.read_fast, reader.read_full, reader.read_slow):
        with pytest.raises(GpuError) as raised:
            call()
        assert raised.value.reason is reason
    nvml.errors.clear()
    assert reader.find() == gpu_uuid(0)
    assert reader.read_full().gpu.uuid == gpu_uuid(0)


def test_a_gpu_is_known_as_it_was_whatever_number_it_has_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (_, reader) = opened(FakeNvml(h100(0), h100(1)), monkeypatch).readers()
    reader.find()
    reader.known_as(gpu_uuid(1), 7)
    gpu = reader.read_full().gpu
    assert (gpu.uuid, gpu.index, reader.index) == (gpu_uuid(1), 7, 1)


def test_a_gpu_whose_uuid_can_not_be_read_is_read_under_the_name_that_it_gets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = h100()
    gpu.answers["nvmlDeviceGetUUID"] = b"\xff" * 20
    nvml = FakeNvml(gpu)
    (reader,) = opened(nvml, monkeypatch).readers()
    assert reader.find() == ""
    reader.known_as("GPU-at-index-0", 0)
    assert reader.read_full().gpu.uuid == "GPU-at-index-0"
    nvml.refusing[gpu.uuid] = UNKNOWN
    with pytest.raises(GpuError):
        reader.read_fast()
    nvml.refusing.clear()
    assert reader.read_full().gpu.uuid == "GPU-at-index-0"


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (UNKNOWN, Reason.UNKNOWN),
        (NO_PERMISSION, Reason.NO_PERMISSION),
        (TIMEOUT, Reason.TIMEOUT),
    ],
)
@pytest.mark.parametrize("read_before", [True, False])
def test_a_gpu_that_refuses_every_call_has_failed_and_comes_back(
    monkeypatch: pytest.MonkeyPatch, failure: Failure, reason: Reason, *, read_before: bool
) -> None:
    nvml = FakeNvml(h100(0), h100(1))
    reader, other = found(opened(nvml, monkeypatch, Clock(step=1.0)))
    if read_before:
        read_all(reader)
    nvml.refusing[gpu_uuid(0)] = failure
    for _ in range(2):
        with pytest.raises(GpuError) as raised:
            reader.read_fast()
        assert raised.value.reason is reason
        assert other.read_fast().failures == ()
    # Its handle may be what is broken: it is looked up again.
    nvml.calls.clear()
    with pytest.raises(GpuError):
        reader.read_fast()
    assert nvml.calls[0] == "nvmlDeviceGetHandleByUUID"

    nvml.refusing.clear()
    reader.read_fast()
    assert read_all(reader)["failures"] == ()
    assert reader.gpu.model == "NVIDIA H100 80GB HBM3"


@pytest.mark.parametrize("kept", ["memory", "processes"])
def test_a_gpu_that_still_tells_something_has_not_failed(
    monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    nvml = FakeNvml(h100())
    reader = reader_of(nvml, monkeypatch)
    if kept != "memory":
        nvml.errors["nvmlDeviceGetMemoryInfo_v2"] = UNKNOWN.code
    if kept != "processes":
        nvml.errors["nvmlDeviceGetComputeRunningProcesses_v2"] = UNKNOWN.code
    read = reader.read_fast()
    assert (read.memory is not None, read.processes is not None) == (
        kept == "memory",
        kept == "processes",
    )
    assert len(read.failures) == 1


def test_a_board_without_memory_of_its_own_has_not_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100()
    gpu.fail("nvmlDeviceGetMemoryInfo_v2", NOT_SUPPORTED)
    gpu.fail("nvmlDeviceGetMemoryInfo", NOT_SUPPORTED)
    nvml = FakeNvml(gpu)
    nvml.errors["nvmlDeviceGetComputeRunningProcesses_v2"] = NO_PERMISSION.code
    read = reader_of(nvml, monkeypatch).read_fast()
    assert (read.memory, read.processes) == (None, None)
