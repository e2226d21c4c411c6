"""What the backend says a GPU is, and which GPUs it finds."""

import pynvml
import pytest

from exporter.gpus import GpuError
from exporter.model.devices import Gpu
from exporter.model.readings import Reason
from tests.doubles.fake_device import UNKNOWN, FakeDevice
from tests.doubles.fake_gpus import gpu_uuid, h100
from tests.doubles.fake_nvml import FakeNvml
from tests.doubles.nvml_session import identified, opened


def gpu_of(gpu: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> Gpu:
    (reader,) = identified(opened(FakeNvml(gpu), monkeypatch))
    return reader.gpu


def test_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu_of(h100(), monkeypatch) == Gpu(
        uuid=gpu_uuid(0),
        index=0,
        model="NVIDIA H100 80GB HBM3",
        minor_number=7,
        serial="1650000000001",
        pci_bus_id="0000:30:0a.0",
        architecture="Hopper",
        vbios_version="96.00.A5.00.01",
        sm_count=132,
        mig_enabled=False,
        clock_max_hertz={"graphics": 1.98e9, "sm": 1.98e9, "memory": 2.619e9, "video": 1.545e9},
        temperature_threshold_celsius={
            "shutdown": 92.0,
            "slowdown": 89.0,
            "memory_max": 95.0,
            "gpu_max": 87.0,
        },
        pcie_link_generation_max=5,
        pcie_link_width_max=16,
    )


def test_a_board_that_tells_next_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeDevice(gpu_uuid(3), {"nvmlDeviceGetUUID": gpu_uuid(3)})
    assert gpu_of(gpu, monkeypatch) == Gpu(uuid=gpu_uuid(3), index=0, model="")


@pytest.mark.parametrize(
    ("info", "bus_id"),
    [
        ({"domain": 0, "bus": 0x3B, "device": 0}, "0000:3b:00.0"),
        ({"domain": 0xA, "bus": 0xAF, "device": 0x1F}, "000a:af:1f.0"),
        ({"domain": 0x10000, "bus": 1, "device": 0}, "10000:01:00.0"),
    ],
)
def test_pci_bus_id_is_the_kernels(
    monkeypatch: pytest.MonkeyPatch, info: dict[str, int], bus_id: str
) -> None:
    gpu = h100()
    gpu.answers["nvmlDeviceGetPciInfo_v3"] = info
    assert gpu_of(gpu, monkeypatch).pci_bus_id == bus_id


@pytest.mark.parametrize(
    ("cores", "capability", "sm_count"),
    [(6912, (8, 0), 108), (16896, (9, 0), 132), (2560, (7, 5), 40), (18176, (8, 9), 142)],
)
def test_sm_count_follows_from_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, capability: tuple[int, int], sm_count: int
) -> None:
    gpu = h100()
    gpu.answers |= {
        "nvmlDeviceGetNumGpuCores": cores,
        "nvmlDeviceGetCudaComputeCapability": capability,
    }
    assert gpu_of(gpu, monkeypatch).sm_count == sm_count


def test_sm_count_of_a_board_younger_than_we_are(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100()
    gpu.answers |= {
        "nvmlDeviceGetCudaComputeCapability": (99, 0),
        "nvmlDeviceGetArchitecture": 99,
    }
    found = gpu_of(gpu, monkeypatch)
    assert found.sm_count is None
    assert found.architecture is None


def test_a_fact_that_fails_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100()
    gpu.fail("nvmlDeviceGetSerial", UNKNOWN)
    (reader,) = opened(FakeNvml(gpu), monkeypatch).readers()
    assert [(f.field, f.reason) for f in reader.read_fast().failures] == [("gpu", Reason.UNKNOWN)]
    assert reader.gpu.serial is None
    assert reader.gpu.minor_number == 7
    assert reader.read_fast().failures == ()


def test_readers_are_in_the_order_of_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    readers = opened(FakeNvml(h100(0), h100(1)), monkeypatch).readers()
    assert [reader.index for reader in readers] == [0, 1]
    assert [reader.find() for reader in readers] == [gpu_uuid(0), gpu_uuid(1)]


def test_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    assert opened(FakeNvml(), monkeypatch).readers() == []


@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_UNKNOWN, pynvml.NVML_ERROR_NO_PERMISSION])
def test_gpus_that_can_not_be_counted_can_not_be_listed(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    nvml = FakeNvml(h100(0))
    nvml.errors["nvmlDeviceGetCount_v2"] = code
    with pytest.raises(GpuError):
        opened(nvml, monkeypatch).readers()


def test_a_driver_that_goes_away_meanwhile_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(h100(0), h100(1))
    backend = opened(nvml, monkeypatch)
    for function in ("nvmlDeviceGetUUID", "nvmlSystemGetDriverVersion"):
        nvml.errors[function] = pynvml.NVML_ERROR_DRIVER_NOT_LOADED
    with pytest.raises(GpuError) as raised:
        backend.readers()[0].find()
    assert raised.value.reason is Reason.DRIVER_NOT_LOADED
