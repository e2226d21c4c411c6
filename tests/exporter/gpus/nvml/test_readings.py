"""Every field of the readings: its unit, and what becomes of it when NVML gives none."""

import pynvml
import pytest

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
from tests.doubles.fake_device import (
    NO_PERMISSION,
    NOT_FOUND,
    NOT_SUPPORTED,
    TIMEOUT,
    UNKNOWN,
    Failure,
    FakeDevice,
)
from tests.doubles.fake_gpus import MIB, NONE, gpu_uuid, h100, process
from tests.doubles.fake_nvml import FakeNvml
from tests.doubles.nvml_session import read_all, reader_of

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
        utilization_source="samples",
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
    bare = FakeDevice(gpu_uuid(0), {"nvmlDeviceGetUUID": gpu_uuid(0)})
    nvml = FakeNvml(bare)
    reader = reader_of(nvml, monkeypatch)
    read = read_all(reader)
    assert read.pop("failures") == ()
    assert read.pop("gpu") == reader.gpu
    assert {name for name, value in read.items() if value not in (None, {}, ())} == set()

    nvml.calls.clear()
    assert read_all(reader)["failures"] == ()
    assert nvml.calls == []


@pytest.mark.parametrize(
    "failure", [UNKNOWN, NO_PERMISSION, NOT_FOUND, TIMEOUT], ids=lambda f: str(f.code)
)
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
            {
                UNKNOWN: Reason.UNKNOWN,
                NO_PERMISSION: Reason.NO_PERMISSION,
                NOT_FOUND: Reason.NOT_FOUND,
                TIMEOUT: Reason.TIMEOUT,
            }[failure]
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


@pytest.mark.parametrize("kind", ["Compute", "Graphics", "MPSCompute"])
def test_a_process_list_with_gaps_is_no_list(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    gpu = h100()
    nvml = FakeNvml(gpu)
    reader = reader_of(nvml, monkeypatch)
    nvml.errors[f"nvmlDeviceGet{kind}RunningProcesses_v2"] = pynvml.NVML_ERROR_NO_PERMISSION
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


def test_throughput_that_sleeps_is_never_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(h100())
    read_all(reader_of(nvml, monkeypatch))
    assert "nvmlDeviceGetPcieThroughput" not in nvml.calls


def test_an_instance_id_of_none_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100()
    gpu.processes["Compute"] = [process(1, 1, 2, NONE)]
    (found,) = reader_of(FakeNvml(gpu), monkeypatch).read_fast().processes or ()
    assert (found.gpu_instance, found.compute_instance) == (2, None)


SRAM_PARTS = (
    pynvml.NVML_MEMORY_LOCATION_L1_CACHE,
    pynvml.NVML_MEMORY_LOCATION_L2_CACHE,
    pynvml.NVML_MEMORY_LOCATION_REGISTER_FILE,
    pynvml.NVML_MEMORY_LOCATION_TEXTURE_MEMORY,
    pynvml.NVML_MEMORY_LOCATION_TEXTURE_SHM,
    pynvml.NVML_MEMORY_LOCATION_CBU,
)


def ecc_gpu(*, sram: int | Failure) -> FakeDevice:
    """Describe a board whose parts of SRAM counted an error each."""
    gpu = h100()
    for error_type in (0, 1):
        function = ("nvmlDeviceGetMemoryErrorCounter", error_type, pynvml.NVML_AGGREGATE_ECC)
        gpu.answers[*function, pynvml.NVML_MEMORY_LOCATION_SRAM] = sram
        for part in SRAM_PARTS:
            gpu.answers[*function, part] = 1
    return gpu


@pytest.mark.parametrize("sram", [6, UNKNOWN])
def test_an_ecc_error_in_sram_is_told_once(
    monkeypatch: pytest.MonkeyPatch, sram: int | Failure
) -> None:
    read = reader_of(FakeNvml(ecc_gpu(sram=sram)), monkeypatch).read_slow()
    # A total that can't be had now is not made up from its parts either.
    sram_locations = {"sram"} if isinstance(sram, int) else set()
    for severity in ("corrected", "uncorrected"):
        told = {location for s, location in read.ecc_errors if s == severity}
        assert told == {"dram"} | sram_locations


def test_a_board_without_a_total_of_sram_tells_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    read = reader_of(FakeNvml(ecc_gpu(sram=NOT_SUPPORTED)), monkeypatch).read_slow()
    told = {location for severity, location in read.ecc_errors if severity == "corrected"}
    parts = {"l1_cache", "l2_cache", "register_file", "texture_memory", "texture_shm", "cbu"}
    assert told == {"dram"} | parts
    assert read.failures == ()
