"""Drivers that lack newer functions, or what newer ones tell."""

import pynvml
import pytest

from exporter.model.readings import Memory
from tests.doubles.fake_device import UNKNOWN, Failure
from tests.doubles.fake_gpus import MIB, h100
from tests.doubles.fake_nvml import FakeNvml
from tests.doubles.nvml_session import read_all, reader_of

R470_LACKS = {
    "nvmlDeviceGetMemoryInfo_v2",
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetGraphicsRunningProcesses_v3",
    "nvmlDeviceGetMPSComputeRunningProcesses_v3",
    "nvmlDeviceGetMPSComputeRunningProcesses_v2",
    "nvmlDeviceGetTemperatureV",
    "nvmlDeviceGetMarginTemperature",
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetSupportedClocksEventReasons",
    "nvmlDeviceGetJpgUtilization",
    "nvmlDeviceGetOfaUtilization",
    "nvmlDeviceGetNumFans",
    "nvmlDeviceGetNumGpuCores",
    "nvmlDeviceGetGpuInstanceProfileInfoV",
    "nvmlGpmQueryDeviceSupport",
    "nvmlGpmSampleGet",
}


def test_an_old_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100()
    gpu.answers |= {
        "nvmlDeviceGetSupportedClocksThrottleReasons": 0x8,
        "nvmlDeviceGetCurrentClocksThrottleReasons": 0x8,
        "nvmlDeviceGetFanSpeed_v2": 33,
    }
    for young in (230, 269, 270, 271, 161, 162):
        gpu.fields[young] = Failure(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    nvml = FakeNvml(gpu, driver="470.57.02")
    nvml.missing = R470_LACKS
    reader = reader_of(nvml, monkeypatch)
    read = read_all(reader)
    assert read["failures"] == ()
    # Without version 2 there is no telling what the driver reserves: used holds it.
    assert read["memory"] == Memory(81559 * MIB, 11603 * MIB, 69956 * MIB, None)
    assert [p.pid for p in read["processes"]] == [21180, 21198]
    assert read["temperature_celsius"] == {"gpu": 53.0, "memory": 58.0}
    assert read["clock_event_active"] == {"hw_slowdown": True}
    assert read["fan_speed_ratio"] == {"0": 0.33}
    assert sorted(read["engine_utilization_ratio"]) == ["decoder", "encoder"]
    assert "thermal" in read["clock_event_seconds"]
    assert "sw_thermal_slowdown" not in read["clock_event_seconds"]
    assert read["temperature_margin_celsius"] is None
    assert read["recovery_action"] is None
    assert read["activity"] is None
    assert reader.gpu.sm_count is None

    nvml.calls.clear()
    assert read_all(reader)["memory"] == read["memory"]
    assert not {"nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetTemperatureV"} & set(nvml.calls)


def test_an_error_of_the_new_call_does_not_ask_the_old_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = h100()
    gpu.fail("nvmlDeviceGetMemoryInfo_v2", UNKNOWN)
    nvml = FakeNvml(gpu)
    read = reader_of(nvml, monkeypatch).read_fast()
    assert read.memory is None
    assert "nvmlDeviceGetMemoryInfo" not in nvml.calls
