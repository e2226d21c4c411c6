"""GPU node: the GPUs of a node side by side."""

from dashboards import thresholds
from dashboards.expressions import highest
from dashboards.layer import units
from dashboards.layer.colours import (
    ABSENT,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    above,
    below,
    by_gpu,
    states,
)
from dashboards.layer.outline import Outline, Row
from dashboards.layer.panels import state_timeline, timeseries
from dashboards.layer.queries import Query
from dashboards.layer.tables import Column, table

_GPU = "{{node}} GPU {{gpu}}"

_REASONS = {
    "gpu_idle": ("idle", ABSENT),
    "applications_clocks_setting": ("clocks set", SKY),
    "display_clock_setting": ("clocks set for a display", SKY),
    "sync_boost": ("sync boost", PURPLE),
    "sw_power_cap": ("power limit", BLUE),
    "sw_thermal_slowdown": ("thermal (driver)", ORANGE),
    "hw_slowdown": ("hardware slowdown", VERMILLION),
    "hw_power_brake_slowdown": ("power brake", VERMILLION),
    "hw_thermal_slowdown": ("thermal (hardware)", VERMILLION),
}
"""Reasons for lower clocks, from the most harmless to the worst."""

_CLOCK_STATES = states({0: ("not throttled", GREEN), **dict(enumerate(_REASONS.values(), start=1))})
_CLOCK_REASON = (
    "max by (node, gpu) ("
    + " or ".join(
        f'{number} * gpu_clock_event_active{{reason="{reason}"}}'
        for number, reason in enumerate(_REASONS, start=1)
    )
    + ")"
)


def _lines(name: str, more: str = "") -> Query:
    """Show a gauge of single GPUs, the highest of them when there are more than fit."""
    return Query(highest(name + more, f"avg_over_time({name}{more}[$__range] @ end())"), _GPU)


def _rates(name: str) -> Query:
    ranking = f"rate({name}[$__range] @ end())"
    return Query(highest(f"rate({name}[$__rate_interval])", ranking), _GPU)


_MOST = "With more than 16 GPUs, only the 16 with the highest mean are shown."

NODE = Outline(
    uid="gpu-node",
    title="GPU node",
    question="What does each GPU of this node do, for whom, and what slows it down?",
    since="now-3h",
    rows=(
        Row(
            "Now",
            (
                table(
                    "GPUs side by side",
                    ("node", "gpu"),
                    Column(
                        "Busy",
                        "avg by (node, gpu) (rate(gpu_busy_seconds_total[$__rate_interval]))",
                        full=1,
                    ),
                    Column(
                        "Memory",
                        "max by (node, gpu) (gpu_memory_used_bytes / gpu_memory_total_bytes)",
                        units.RATIO,
                        above(thresholds.MEMORY_FULL),
                        full=1,
                    ),
                    Column("Power", "max by (node, gpu) (gpu_power_draw_watts)"),
                    Column(
                        "Temperature", 'max by (node, gpu) (gpu_temperature_celsius{sensor="gpu"})'
                    ),
                    Column(
                        "To slowdown",
                        "min by (node, gpu) (gpu_temperature_margin_celsius)",
                        thresholds=below(0),
                    ),
                    Column("Clocks", _CLOCK_REASON, "none", states=_CLOCK_STATES),
                    Column("Containers", "count by (node, gpu) (gpu_allocation_info)", units.SHORT),
                    sort="Node",
                    rising=True,
                    rows=64,
                    height=10,
                    about="Each GPU: mean utilization, memory in use, power, temperature, the"
                    " degrees that are left until the driver slows the GPU down, what limits its"
                    " clocks, and the number of containers to which the GPU or a share of it is"
                    " allocated.",
                ),
            ),
        ),
        Row(
            "Allocations",
            (
                state_timeline(
                    "Allocations over time",
                    Query(
                        "max by (gpu, node, namespace, pod) (gpu_allocation_info)",
                        "{{node}} GPU {{gpu}} · {{namespace}}/{{pod}}",
                    ),
                    states=states({1: ("allocated", BLUE)}),
                    show_value=False,
                    alerts=("GPUUsedOutsidePods",),
                    about="Which GPU, slice or share of a GPU was allocated to which pod, and"
                    " when.",
                ),
            ),
        ),
        Row(
            "Use",
            (
                timeseries(
                    "Utilization",
                    _rates("gpu_busy_seconds_total"),
                    most=1,
                    overrides=by_gpu(),
                    about=f"Mean share of time in which a kernel ran. {_MOST}",
                ),
                timeseries(
                    "Memory in use",
                    _lines("gpu_memory_used_bytes"),
                    overrides=by_gpu(),
                    about=f"Device memory that processes have allocated. {_MOST}",
                ),
            ),
            (
                timeseries(
                    "SM activity",
                    _lines("gpu_sm_activity_ratio"),
                    most=1,
                    overrides=by_gpu(),
                ),
                timeseries(
                    "Memory bandwidth",
                    _lines("gpu_dram_activity_ratio"),
                    most=1,
                    overrides=by_gpu(),
                ),
            ),
        ),
        Row(
            "What limits the clocks",
            (
                state_timeline(
                    "Limits of the clocks",
                    Query(_CLOCK_REASON, _GPU),
                    states=_CLOCK_STATES,
                    alerts=("GPUThermalSlowdown", "GPUPowerBrakeSlowdown"),
                    about="The most serious of the reasons for which a GPU's clocks are limited at"
                    " a time. A power limit is normal for a GPU that is busy; thermal reasons and"
                    " the power brake are not.",
                ),
            ),
            (
                timeseries(
                    "SM clock",
                    _lines("gpu_clock_hertz", '{domain="sm"}'),
                    least=None,
                    overrides=by_gpu(),
                    about=f"Clock of the SMs. {_MOST}",
                ),
                timeseries(
                    "Power",
                    _lines("gpu_power_draw_watts"),
                    overrides=by_gpu(),
                ),
                timeseries(
                    "Temperature",
                    _lines("gpu_temperature_celsius", '{sensor="gpu"}'),
                    least=None,
                    overrides=by_gpu(),
                    about=f"Temperature of the GPU's die. {_MOST}",
                ),
            ),
        ),
        Row(
            "Traffic",
            (
                timeseries(
                    "PCIe received", _rates("gpu_pcie_receive_bytes_total"), overrides=by_gpu()
                ),
                timeseries(
                    "PCIe sent", _rates("gpu_pcie_transmit_bytes_total"), overrides=by_gpu()
                ),
                timeseries(
                    "NVLink received", _rates("gpu_nvlink_receive_bytes_total"), overrides=by_gpu()
                ),
                timeseries(
                    "NVLink sent", _rates("gpu_nvlink_transmit_bytes_total"), overrides=by_gpu()
                ),
            ),
        ),
    ),
)
