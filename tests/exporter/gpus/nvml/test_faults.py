"""The table of faults, over both doubles: one wrong answer of one GPU costs that field alone."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pynvml
import pytest

from exporter.gpus import Reader
from exporter.gpus.nvml import NvmlBackend
from exporter.model.readings import FieldFailure, Reason
from tests.doubles.machines import Fake, Machine, Scripted
from tests.doubles.nvml_session import Clock, read_all
from tests.doubles.scripted_nvml import needs_compiler

MACHINES = [
    pytest.param(Fake, id="python"),
    pytest.param(Scripted, id="c", marks=needs_compiler),
]

INT, UINT, LONG = 2**31 - 1, 2**32 - 1, 2**64 - 1


@dataclass(frozen=True)
class Fault:
    """A number that no hardware has, and the field that it costs."""

    function: str
    numbers: tuple[float, ...]
    field: str
    part: str | None = None
    """Of a field that is a mapping: what else it has is still there."""
    is_replaced: bool = False
    """Another source steps in, or some of it is still there."""

    def __str__(self) -> str:
        return self.function


FAULTS = [
    Fault("nvmlDeviceGetMemoryInfo_v2.used", (LONG, 2**40, 81560 * 2**20), "memory"),
    Fault("nvmlDeviceGetMemoryInfo_v2.total", (LONG, 1), "memory"),
    Fault("nvmlDeviceGetMemoryInfo_v2", (LONG, 0), "memory"),
    Fault("nvmlDeviceGetComputeRunningProcesses_v2.pid", (0, UINT), "processes"),
    Fault("nvmlDeviceGetSamples", (UINT, 250, 101), "utilization", is_replaced=True),
    Fault("nvmlGpmMetricsGet", (250, -5, 1e30, float("inf")), "activity", is_replaced=True),
    Fault("nvmlDeviceGetUtilizationRates.memory", (255, UINT), "memory_busy_ratio"),
    Fault("nvmlDeviceGetEncoderUtilization", (200, UINT), "engine_utilization_ratio", "encoder"),
    Fault("nvmlDeviceGetPowerUsage", (UINT, 1_400_001), "power_draw_watts"),
    Fault("nvmlDeviceGetClockInfo", (UINT, 5239), "clock_hertz", ""),
    Fault("nvmlDeviceGetTemperatureV.temperature", (UINT, INT, 151), "temperature_celsius", "gpu"),
    Fault("field.82", (UINT, LONG, 151), "temperature_celsius", "memory"),
    Fault("nvmlDeviceGetCurrentClocksEventReasons", (LONG, 2**40), "clock_event_active", ""),
    Fault("nvmlDeviceGetPerformanceState", (99, UINT), "performance_state"),
    Fault("nvmlDeviceGetTotalEnergyConsumption", (LONG, 2**60), "energy_joules"),
    Fault("field.74", (LONG, 2**63), "clock_event_seconds", "sw_power_cap"),
    Fault("nvmlDeviceGetEnforcedPowerLimit", (UINT, 0), "power_limit_watts"),
    Fault("nvmlDeviceGetMarginTemperature.marginTemperature", (INT,), "temperature_margin_celsius"),
    Fault("nvmlDeviceGetPcieReplayCounter", (UINT,), "pcie_replays"),
    Fault("nvmlDeviceGetCurrPcieLinkGeneration", (UINT, 99), "pcie_link_generation"),
    Fault("nvmlDeviceGetCurrPcieLinkWidth", (UINT, 99, 0), "pcie_link_width"),
    Fault("field.138", (LONG, 2**60), "nvlink_transmit_bytes"),
    Fault("field.139", (LONG, 2**60), "nvlink_receive_bytes"),
    Fault("field.91", (INT, UINT, 2**63 - 1), "nvlink_active_links"),
    Fault("nvmlDeviceGetNvLinkState", (UINT,), "nvlink_active_links"),
    Fault("nvmlDeviceGetMemoryErrorCounter", (LONG, 2**62), "ecc_errors", ""),
    Fault("nvmlDeviceGetRemappedRows.correctable", (UINT, INT), "remapped_rows", "correctable"),
    Fault("nvmlDeviceGetRowRemapperHistogram.max", (UINT,), "row_remap_banks", "max"),
    Fault("field.29", (LONG, 2**40), "retired_pages", "single_bit"),
    Fault("field.31", (LONG, 2), "retired_pages_pending"),
    Fault("field.230", (LONG, 99), "recovery_action"),
]


def read_twice(reader: Reader) -> dict[str, Any]:
    """Read again, for GPM has no mean before."""
    read_all(reader)
    return read_all(reader)


def plausible(value: Any) -> bool:
    """Whether every ratio in it can be."""
    if dataclasses.is_dataclass(value):
        named = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
        return all(
            0 <= inner <= 1 if name.endswith("ratio") and isinstance(inner, float) else True
            for name, inner in named
        )
    return all(plausible(one) for one in value)


@pytest.fixture(params=MACHINES)
def machine(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Machine:
    made: Machine = request.param(tmp_path)
    made.install(monkeypatch)
    return made


@pytest.fixture
def readers(machine: Machine) -> list[Reader]:
    backend = NvmlBackend(monotonic=Clock(step=1.0))
    backend.open()
    return list(backend.readers())


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_what_no_hardware_has_costs_its_field_alone(
    machine: Machine, readers: list[Reader], fault: Fault
) -> None:
    reader, other = readers
    well = read_twice(reader)
    assert well["failures"] == ()
    for number in fault.numbers:
        machine.answer(fault.function, 0, number)
        read = read_all(reader)
        assert read["failures"] == (FieldFailure(fault.field, Reason.IMPLAUSIBLE),), number
        gone = read[fault.field]
        if fault.part:
            assert gone.keys() == well[fault.field].keys() - {fault.part}
        elif fault.is_replaced:
            assert plausible(gone)
        else:
            assert not gone
        others = {name for name, value in well.items() if value} - {fault.field, "nvlink_errors"}
        if fault.field == "nvlink_active_links":
            others -= {"nvlink_receive_bytes", "nvlink_transmit_bytes"}
        assert {name for name in others if not read[name]} <= {"utilization_source", "utilization"}
        assert read_all(other)["failures"] == ()
        machine.mend()
        after = read_all(reader)
        if after["failures"]:  # a counter is believed again by its next value
            after = read_all(reader)
        assert after["failures"] == ()


CODES = [code for code in range(1, 30) if code not in {pynvml.NVML_ERROR_GPU_IS_LOST, 16}] + [
    pynvml.NVML_ERROR_UNKNOWN,
    1234,
]


@pytest.mark.parametrize(
    "function",
    [
        "nvmlDeviceGetPowerUsage",
        "nvmlDeviceGetSamples",
        "nvmlDeviceGetMarginTemperature",
        "nvmlDeviceGetMinorNumber",
        "nvmlDeviceGetSerial",
        "field.82",
    ],
)
def test_no_code_of_one_function_costs_more_than_its_field(
    machine: Machine, readers: list[Reader], function: str
) -> None:
    for code in CODES:
        machine.fail(function, 0, code)
        for reader in readers:
            read = read_all(reader)
            assert read["memory"] is not None, code
            assert read["energy_joules"] is not None, code
            assert len({failure.field for failure in read["failures"]}) <= 1, code
        machine.mend()
