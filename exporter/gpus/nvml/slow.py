"""The slow reading of one GPU: what is expensive to read or hardly changes."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pynvml

from exporter.gpus.nvml.asking import Asker
from exporter.gpus.nvml.gate import Gate
from exporter.gpus.nvml.identity import Handle
from exporter.gpus.nvml.library import nvml
from exporter.gpus.nvml.nvlink import read_nvlink
from exporter.model.readings import SlowReading

CLOCK_EVENT_COUNTERS = {
    "sw_power_cap": pynvml.NVML_FI_DEV_PERF_POLICY_POWER,
    "sync_boost": pynvml.NVML_FI_DEV_PERF_POLICY_SYNC_BOOST,
    # NVML_FI_DEV_CLOCKS_EVENT_REASON_*, whose numbers nvidia-ml-py 13.580.65 has wrong.
    "sw_thermal_slowdown": 269,
    "hw_thermal_slowdown": 270,
    "hw_power_brake_slowdown": 271,
    # These have no bit. Thermal is what older drivers tell in place of the two slowdowns.
    "thermal": pynvml.NVML_FI_DEV_PERF_POLICY_THERMAL,
    "board_limit": pynvml.NVML_FI_DEV_PERF_POLICY_BOARD_LIMIT,
    "reliability": pynvml.NVML_FI_DEV_PERF_POLICY_RELIABILITY,
}
"""Field values, in nanoseconds. Named like the active reasons: nvml.h equates 74 and 76 to them."""

_ECC_SEVERITIES = {
    "corrected": pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED,
    "uncorrected": pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
}

_ECC_LOCATIONS = {
    "dram": pynvml.NVML_MEMORY_LOCATION_DRAM,
    "sram": pynvml.NVML_MEMORY_LOCATION_SRAM,
}
"""What boards tell from Turing on; ``sram`` is all memory on the chip."""

_ECC_SRAM_PARTS = {
    "l1_cache": pynvml.NVML_MEMORY_LOCATION_L1_CACHE,
    "l2_cache": pynvml.NVML_MEMORY_LOCATION_L2_CACHE,
    "register_file": pynvml.NVML_MEMORY_LOCATION_REGISTER_FILE,
    "texture_memory": pynvml.NVML_MEMORY_LOCATION_TEXTURE_MEMORY,
    "texture_shm": pynvml.NVML_MEMORY_LOCATION_TEXTURE_SHM,
    "cbu": pynvml.NVML_MEMORY_LOCATION_CBU,
}
"""What older boards tell instead. Where a board tells both, these are in ``sram`` already."""

_RETIRED_PAGES = {
    "single_bit": pynvml.NVML_FI_DEV_RETIRED_SBE,
    "double_bit": pynvml.NVML_FI_DEV_RETIRED_DBE,
}


def slow(handle: Handle, gate: Gate) -> SlowReading:
    """Raise :class:`~exporter.gpus.GpuError` when the GPU is gone."""
    asker = gate.asker

    def ask(field: str, function: Callable[[Handle], Any]) -> Any:
        return asker.ask(field, partial(function, handle))

    values = asker.ask_values(
        handle,
        [
            *(("clock_event_seconds", r, f, 0) for r, f in CLOCK_EVENT_COUNTERS.items()),
            *(("retired_pages", cause, f, 0) for cause, f in _RETIRED_PAGES.items()),
            ("retired_pages_pending", None, pynvml.NVML_FI_DEV_RETIRED_PENDING, 0),
            # nvml.h's nvmlDeviceGpuRecoveryAction_t, of which older nvidia-ml-py 13 names five.
            ("recovery_action", None, pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION, 0),
        ],
    )

    def parts(field: str) -> dict[str, float]:
        return {str(part): value for (name, part), value in values.items() if name == field}

    links = read_nvlink(handle, asker)
    rows = ask("remapped_rows", nvml.nvmlDeviceGetRemappedRows) or (None,) * 4
    banks = ask("row_remap_banks", nvml.nvmlDeviceGetRowRemapperHistogram)
    return gate.reading(
        SlowReading,
        energy_joules=ask("energy_joules", nvml.nvmlDeviceGetTotalEnergyConsumption),
        clock_event_seconds=parts("clock_event_seconds"),
        power_limit_watts=ask("power_limit_watts", nvml.nvmlDeviceGetEnforcedPowerLimit),
        temperature_margin_celsius=ask(
            "temperature_margin_celsius", nvml.nvmlDeviceGetMarginTemperature
        ),
        pcie_replays=ask("pcie_replays", nvml.nvmlDeviceGetPcieReplayCounter),
        pcie_link_generation=ask("pcie_link_generation", nvml.nvmlDeviceGetCurrPcieLinkGeneration),
        pcie_link_width=ask("pcie_link_width", nvml.nvmlDeviceGetCurrPcieLinkWidth),
        nvlink_receive_bytes=links.receive_kibibytes,
        nvlink_transmit_bytes=links.transmit_kibibytes,
        nvlink_active_links=links.active_links,
        nvlink_errors=links.errors,
        ecc_errors=_ecc_errors(handle, asker),
        remapped_rows={"correctable": rows[0], "uncorrectable": rows[1]},
        row_remap_pending=rows[2],
        row_remap_failed=rows[3],
        row_remap_banks={
            level: getattr(banks, level, None)
            for level in ("max", "high", "partial", "low", "none")
        },
        retired_pages=parts("retired_pages"),
        retired_pages_pending=values.get(("retired_pages_pending", None)),
        recovery_action=values.get(("recovery_action", None)),
    )


def _ecc_errors(handle: Handle, asker: Asker) -> dict[tuple[str, str], int]:
    """Count over the board's life: all of ``sram``, or its parts where it is not supported."""
    counts: dict[tuple[str, str], int] = {}

    def ask(severity: str, locations: Mapping[str, int]) -> None:
        for location, place in locations.items():
            call = partial(
                nvml.nvmlDeviceGetMemoryErrorCounter,
                handle,
                _ECC_SEVERITIES[severity],
                pynvml.NVML_AGGREGATE_ECC,
                place,
            )
            count = asker.ask("ecc_errors", call, (severity, location))
            if count is not None:
                counts[severity, location] = count

    for severity in _ECC_SEVERITIES:
        ask(severity, _ECC_LOCATIONS)
        if not asker.supported("ecc_errors", (severity, "sram")):
            ask(severity, _ECC_SRAM_PARTS)
    return counts
