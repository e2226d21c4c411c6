"""Every field of the readings: its unit, and what becomes of it when NVML gives none."""

import dataclasses
import threading
from typing import Any

import pynvml
import pytest

from exporter.gpus import GpuError
from exporter.gpus.nvml.reader import NvmlReader
from exporter.model.readings import (
    FastReading,
    FieldFailure,
    FullReading,
    Memory,
    Process,
    ProcessType,
    Reason,
    SlowReading,
    UtilizationSample,
)
from tests.fake_gpus import MIB, NONE, gpu_uuid, h100, process
from tests.fake_nvml import (
    LOST,
    NO_PERMISSION,
    NOT_FOUND,
    NOT_SUPPORTED,
    UNKNOWN,
    Clock,
    Failure,
    FakeDevice,
    FakeNvml,
    opened,
)

FAST = ("memory", "processes")
FULL = (
    "utilization",
    "memory_busy_ratio",
    "engine_utilization_ratio",
    "power_draw_watts",
    "clock_hertz",
    "temperature_celsius",
    "clock_event_active",
    "performance_state",
)
SLOW = (
    "energy_joules",
    "clock_event_seconds",
    "power_limit_watts",
    "temperature_margin_celsius",
    "pcie_replays",
    "pcie_link_generation",
    "pcie_link_width",
    "nvlink_receive_bytes",
    "nvlink_transmit_bytes",
    "nvlink_active_links",
    "nvlink_errors",
    "ecc_errors",
    "remapped_rows",
    "row_remap_pending",
    "row_remap_failed",
    "row_remap_banks",
    "retired_pages",
    "retired_pages_pending",
    "recovery_action",
)


def reader_of(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> NvmlReader:
    return opened(nvml, monkeypatch, Clock(step=1.0)).readers()[0]


def values(reading: FastReading | FullReading | SlowReading) -> dict[str, Any]:
    return {f.name: getattr(reading, f.name) for f in dataclasses.fields(reading)}


def read_all(reader: NvmlReader) -> dict[str, Any]:
    fast, full, slow = reader.read_fast(), reader.read_full(), reader.read_slow()
    failures = (*fast.failures, *full.failures, *slow.failures)
    return values(fast) | values(full) | values(slow) | {"failures": failures}


def test_a_fast_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100()
    gpu.processes["Graphics"] = [process(7, 1)]
    gpu.processes["MPSCompute"] = [process(8, 2)]
    gpu.processes["Compute"][1]["usedGpuMemory"] = 2**64 - 1
    assert reader_of(FakeNvml(gpu), monkeypatch).read_fast() == FastReading(
        memory=Memory(81559 * MIB, 11124 * MIB, 69956 * MIB, 479 * MIB),
        processes=(
            Process(21180, ProcessType.COMPUTE, 2296 * MIB),
            Process(21198, ProcessType.COMPUTE, None),
            Process(7, ProcessType.GRAPHICS, 1 * MIB),
            Process(8, ProcessType.MPS, 2 * MIB),
        ),
    )


def test_a_full_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100()
    gpu.answers |= {
        "nvmlDeviceGetNumFans": 2,
        ("nvmlDeviceGetFanSpeed_v2", 0): 30,
        ("nvmlDeviceGetFanSpeed_v2", 1): 45,
        "nvmlDeviceGetSupportedClocksEventReasons": 0x4 | 0x8,
        "nvmlDeviceGetCurrentClocksEventReasons": 0x4 | 0x100,
    }
    reader = reader_of(FakeNvml(gpu), monkeypatch)
    assert reader.read_full() == FullReading(
        gpu=reader.gpu,
        utilization=tuple(UtilizationSample((10 + 2 * i) / 10, (90 + i) / 100) for i in range(5)),
        memory_busy_ratio=0.41,
        engine_utilization_ratio={"encoder": 0.0, "decoder": 0.12, "jpeg": 0.07, "ofa": 0.01},
        power_draw_watts=432.21,
        clock_hertz={"graphics": 1.755e9, "sm": 1.755e9, "memory": 2.619e9, "video": 1.38e9},
        temperature_celsius={"gpu": 53.0, "memory": 58.0},
        fan_speed_ratio={"0": 0.3, "1": 0.45},
        clock_event_active={"sw_power_cap": True, "hw_slowdown": False},
        performance_state=0,
    )


def test_a_slow_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reader_of(FakeNvml(h100()), monkeypatch).read_slow() == SlowReading(
        energy_joules=123456.789,
        clock_event_seconds={
            "sw_power_cap": 2.5,
            "sync_boost": 0.0,
            "sw_thermal_slowdown": 0.6,
            "hw_thermal_slowdown": 0.4,
            "hw_power_brake_slowdown": 0.0,
            "thermal": 1.0,
            "board_limit": 0.0,
            "reliability": 0.25,
        },
        power_limit_watts=700.0,
        temperature_margin_celsius=24.0,
        pcie_replays=9,
        pcie_link_generation=5,
        pcie_link_width=16,
        nvlink_receive_bytes=2048 * 1024,
        nvlink_transmit_bytes=1024 * 1024,
        nvlink_active_links=2,
        # Link 1 does not tell replays; flit errors come as a total.
        nvlink_errors={"crc_flit": 6, "recovery": 0, "replay": 5},
        ecc_errors={
            ("corrected", "dram"): 3,
            ("corrected", "sram"): 0,
            ("uncorrected", "dram"): 0,
            ("uncorrected", "sram"): 1,
        },
        remapped_rows={"correctable": 1, "uncorrectable": 2},
        row_remap_pending=False,
        row_remap_failed=True,
        row_remap_banks={"max": 2559, "high": 1, "partial": 0, "low": 0, "none": 0},
        retired_pages={"single_bit": 5, "double_bit": 1},
        retired_pages_pending=False,
        recovery_action="none",
    )


def test_what_is_not_supported_is_absent_and_not_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bare = FakeDevice(gpu_uuid(0), {"nvmlDeviceGetUUID": gpu_uuid(0), "nvmlDeviceGetIndex": 0})
    nvml = FakeNvml(bare)
    reader = reader_of(nvml, monkeypatch)
    read = read_all(reader)
    assert read.pop("failures") == ()
    assert read.pop("gpu") == reader.gpu
    assert {name for name, value in read.items() if value not in (None, {})} == set()

    nvml.calls.clear()
    assert read_all(reader)["failures"] == ()
    assert nvml.calls == []


@pytest.mark.parametrize("failure", [UNKNOWN, NO_PERMISSION, NOT_FOUND], ids=lambda f: str(f.code))
@pytest.mark.parametrize(
    ("function", "fields"),
    [
        ("nvmlDeviceGetMemoryInfo_v2", ["memory"]),
        ("nvmlDeviceGetUtilizationRates", ["memory_busy_ratio"]),
        ("nvmlDeviceGetDecoderUtilization", ["engine_utilization_ratio"]),
        ("nvmlDeviceGetPowerUsage", ["power_draw_watts"]),
        ("nvmlDeviceGetClockInfo", ["clock_hertz"]),
        ("nvmlDeviceGetTemperatureV", ["temperature_celsius"]),
        ("nvmlDeviceGetCurrentClocksEventReasons", ["clock_event_active"]),
        ("nvmlDeviceGetPerformanceState", ["performance_state"]),
        ("nvmlDeviceGetTotalEnergyConsumption", ["energy_joules"]),
        ("nvmlDeviceGetEnforcedPowerLimit", ["power_limit_watts"]),
        ("nvmlDeviceGetMarginTemperature", ["temperature_margin_celsius"]),
        ("nvmlDeviceGetPcieReplayCounter", ["pcie_replays"]),
        ("nvmlDeviceGetCurrPcieLinkGeneration", ["pcie_link_generation"]),
        ("nvmlDeviceGetCurrPcieLinkWidth", ["pcie_link_width"]),
        ("nvmlDeviceGetNvLinkState", ["nvlink_active_links"]),
        ("nvmlDeviceGetMemoryErrorCounter", ["ecc_errors"]),
        ("nvmlDeviceGetRemappedRows", ["remapped_rows", "row_remap_pending", "row_remap_failed"]),
        ("nvmlDeviceGetRowRemapperHistogram", ["row_remap_banks"]),
        (
            "nvmlDeviceGetFieldValues",
            [
                "temperature_celsius",
                "clock_event_seconds",
                "nvlink_receive_bytes",
                "nvlink_transmit_bytes",
                "nvlink_active_links",
                "nvlink_errors",
                "retired_pages",
                "retired_pages_pending",
                "recovery_action",
            ],
        ),
    ],
)
def test_a_field_that_fails_is_counted_and_its_neighbours_are_kept(
    monkeypatch: pytest.MonkeyPatch, function: str, fields: list[str], failure: Failure
) -> None:
    whole = read_all(reader_of(FakeNvml(h100()), monkeypatch))
    gpu = h100()
    gpu.fail(function, failure)
    reader = reader_of(FakeNvml(gpu), monkeypatch)
    for _ in range(2):
        read = read_all(reader)
        reasons = {f.field: f.reason for f in read.pop("failures")}
        assert set(reasons.values()) == {
            {UNKNOWN: Reason.UNKNOWN, NO_PERMISSION: Reason.NO_PERMISSION}.get(
                failure, Reason.NOT_FOUND
            )
        }
        assert set(reasons) <= set(fields)
        assert fields[0] in reasons
        for name in (*FAST, *FULL[1:], *SLOW):
            if name not in fields:
                assert read[name] == whole[name], name
            else:
                assert read[name] != whole[name], name


def test_a_failing_field_value_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100()
    gpu.fields[pynvml.NVML_FI_DEV_PERF_POLICY_POWER] = UNKNOWN
    gpu.fields[pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION] = NO_PERMISSION
    # A type younger than we are, and an id younger than the driver.
    gpu.fields[pynvml.NVML_FI_DEV_RETIRED_PENDING] = (99, 1)
    gpu.fields[269] = Failure(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    read = reader_of(FakeNvml(gpu), monkeypatch).read_slow()
    assert read.recovery_action is None
    assert read.retired_pages_pending is None
    assert sorted(read.clock_event_seconds) == [
        "board_limit",
        "hw_power_brake_slowdown",
        "hw_thermal_slowdown",
        "reliability",
        "sync_boost",
        "thermal",
    ]
    assert read.failures == (
        FieldFailure("clock_event_seconds", Reason.UNKNOWN),
        FieldFailure("retired_pages_pending", Reason.UNKNOWN),
        FieldFailure("recovery_action", Reason.NO_PERMISSION),
    )


def test_an_nvlink_error_that_one_link_fails_to_tell_has_no_sum(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = h100()
    gpu.fields[pynvml.NVML_FI_DEV_NVLINK_ERROR_DL_RECOVERY, 1] = UNKNOWN
    read = reader_of(FakeNvml(gpu), monkeypatch).read_slow()
    assert read.nvlink_errors == {"crc_flit": 6, "replay": 5}
    assert read.failures == (FieldFailure("nvlink_errors", Reason.UNKNOWN),)


@pytest.mark.parametrize("kind", ["Compute", "Graphics", "MPSCompute"])
def test_a_process_list_with_gaps_is_no_list(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    gpu = h100()
    nvml = FakeNvml(gpu)
    reader = reader_of(nvml, monkeypatch)
    nvml.errors[f"nvmlDeviceGet{kind}RunningProcesses_v3"] = pynvml.NVML_ERROR_NO_PERMISSION
    read = reader.read_fast()
    assert read.processes is None
    assert read.memory is not None
    assert read.failures == (FieldFailure("processes", Reason.NO_PERMISSION),)


def test_no_process_is_an_empty_list(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100()
    gpu.processes = {"Compute": []}
    read = reader_of(FakeNvml(gpu), monkeypatch).read_fast()
    assert read.processes == ()
    assert read.failures == ()


@pytest.mark.parametrize(
    ("action", "word"),
    [
        (1, "reset"),
        (2, "reboot_node"),
        (3, "drain_p2p"),
        (4, "drain_and_reset"),
        (5, "recover_imex_domain"),
        (6, "bus_reset"),
        (7, "system_reboot"),
        (8, "unknown"),
    ],
)
def test_recovery_action(monkeypatch: pytest.MonkeyPatch, action: int, word: str) -> None:
    gpu = h100()
    gpu.fields[pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION] = (
        pynvml.NVML_VALUE_TYPE_SIGNED_INT,
        action,
    )
    assert reader_of(FakeNvml(gpu), monkeypatch).read_slow().recovery_action == word


def test_an_unknown_performance_state_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100()
    gpu.answers["nvmlDeviceGetPerformanceState"] = pynvml.NVML_PSTATE_UNKNOWN
    assert reader_of(FakeNvml(gpu), monkeypatch).read_full().performance_state is None


def test_a_temperature_below_zero_and_a_field_of_type_double(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = h100()
    gpu.answers["nvmlDeviceGetTemperatureV"] = {"temperature": -5}
    gpu.fields[pynvml.NVML_FI_DEV_MEMORY_TEMP] = (pynvml.NVML_VALUE_TYPE_DOUBLE, -6.5)
    read = reader_of(FakeNvml(gpu), monkeypatch).read_full()
    assert read.temperature_celsius == {"gpu": -5.0, "memory": -6.5}


class TestUtilization:
    """The driver's own samples."""

    def test_only_what_is_new_is_fetched(self, monkeypatch: pytest.MonkeyPatch) -> None:
        gpu = h100()
        nvml = FakeNvml(gpu)
        reader = reader_of(nvml, monkeypatch)
        first = reader.read_full().utilization
        assert first is not None
        assert len(first) == 5
        assert reader.read_full().utilization == ()
        gpu.samples = [(2_000_000, 50)]
        nvml.calls.clear()
        assert reader.read_full().utilization == (UtilizationSample(2.0, 0.5),)
        assert nvml.calls.count("nvmlDeviceGetSamples") == 1

    def test_a_buffer_that_has_grown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        gpu = h100()
        reader = reader_of(FakeNvml(gpu), monkeypatch)
        reader.read_full()
        gpu.samples = [(3_000_000 + i, 1) for i in range(20)]
        read = reader.read_full()
        assert read.utilization is None
        assert read.failures == (FieldFailure("utilization", Reason.UNKNOWN),)
        again = reader.read_full().utilization
        assert again is not None
        assert len(again) == 20

    def test_samples_come_oldest_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        gpu = h100()
        gpu.samples = [(1_800_000, 2), (1_600_000, 1)]
        read = reader_of(FakeNvml(gpu), monkeypatch).read_full().utilization
        assert read is not None
        assert [sample.timestamp for sample in read] == [1.6, 1.8]

    @pytest.mark.parametrize(
        "sample_type",
        [
            pynvml.NVML_VALUE_TYPE_DOUBLE,
            pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG,
            pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG,
            pynvml.NVML_VALUE_TYPE_SIGNED_INT,
        ],
    )
    def test_of_any_type(self, monkeypatch: pytest.MonkeyPatch, sample_type: int) -> None:
        gpu = h100()
        gpu.samples, gpu.sample_type = [(1_500_000, 25)], sample_type
        read = reader_of(FakeNvml(gpu), monkeypatch).read_full()
        assert read.utilization == (UtilizationSample(1.5, 0.25),)

    def test_of_a_type_younger_than_we_are(self, monkeypatch: pytest.MonkeyPatch) -> None:
        gpu = h100()
        gpu.sample_type = 99
        read = reader_of(FakeNvml(gpu), monkeypatch).read_full()
        assert read.utilization is None
        assert read.failures == (FieldFailure("utilization", Reason.UNKNOWN),)

    @pytest.mark.parametrize(
        ("failure", "expected"),
        [(NOT_FOUND, ()), (Failure(pynvml.NVML_ERROR_NO_DATA), ()), (NOT_SUPPORTED, None)],
    )
    def test_none_are_there(
        self, monkeypatch: pytest.MonkeyPatch, failure: Failure, expected: object
    ) -> None:
        gpu = h100()
        gpu.fail("nvmlDeviceGetSamples", failure)
        read = reader_of(FakeNvml(gpu), monkeypatch).read_full()
        assert read.utilization == expected
        assert read.failures == ()


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


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (pynvml.NVML_ERROR_GPU_IS_LOST, Reason.GPU_LOST),
        (pynvml.NVML_ERROR_RESET_REQUIRED, Reason.RESET_REQUIRED),
        (pynvml.NVML_ERROR_TIMEOUT, Reason.TIMEOUT),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, Reason.DRIVER_NOT_LOADED),
        (pynvml.NVML_ERROR_UNINITIALIZED, Reason.DRIVER_NOT_LOADED),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, Reason.LIBRARY_MISMATCH),
    ],
)
@pytest.mark.parametrize(
    ("read", "function"),
    [
        ("read_fast", "nvmlDeviceGetMemoryInfo_v2"),
        ("read_fast", "nvmlDeviceGetComputeRunningProcesses_v3"),
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
    with pytest.raises(GpuError) as raised:
        getattr(reader, read)()
    assert raised.value.reason is reason
    assert reader.gpu.uuid == gpu_uuid(0)

    del nvml.errors[function]
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
    reader, other = opened(nvml, monkeypatch).readers()
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


def test_what_was_not_supported_is_asked_again_after_a_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = h100()
    limit = gpu.answers.pop("nvmlDeviceGetEnforcedPowerLimit")
    nvml = FakeNvml(gpu)
    reader = reader_of(nvml, monkeypatch)
    assert reader.read_slow().power_limit_watts is None
    gpu.answers["nvmlDeviceGetEnforcedPowerLimit"] = limit
    assert reader.read_slow().power_limit_watts is None
    nvml.lost.add(gpu.uuid)
    with pytest.raises(GpuError):
        reader.read_slow()
    nvml.lost.clear()
    assert reader.read_slow().power_limit_watts == 700.0


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


def test_throughput_that_sleeps_is_never_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(h100())
    read_all(reader_of(nvml, monkeypatch))
    assert "nvmlDeviceGetPcieThroughput" not in nvml.calls


def test_an_instance_id_of_none_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100()
    gpu.processes["Compute"] = [process(1, 1, 2, NONE)]
    (found,) = reader_of(FakeNvml(gpu), monkeypatch).read_fast().processes or ()
    assert (found.gpu_instance, found.compute_instance) == (2, None)
