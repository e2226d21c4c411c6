"""GPU hardware health."""

from typing import Any

from dashboards import thresholds
from dashboards.expressions import highest, or_zero
from dashboards.layer import units
from dashboards.layer.colours import (
    ABSENT,
    VERMILLION,
    above,
    below,
    by_gpu,
    by_name,
    fixed,
    states,
)
from dashboards.layer.outline import Outline, Row
from dashboards.layer.panels import stat, timeseries
from dashboards.layer.queries import DATASOURCE, Query, narrowed
from dashboards.layer.tables import Column, table
from dashboards.layer.words import RECOVERY

_GPU = "{{node}} GPU {{gpu}}"
_RECENT = "gpu_xid_last_timestamp_seconds > (time() - $__range_s)"
_FOR_OPERATORS = 'action!~"restart_app|ignore"'
_MEMORY_MARGIN = (
    'min by (node, gpu) (gpu_temperature_threshold_celsius{threshold="memory_max"})'
    ' - max by (node, gpu) (gpu_temperature_celsius{sensor="memory"})'
)
_UNCORRECTED = 'gpu_ecc_errors_total{severity="uncorrected"}'

_SERIOUS = (
    *("restart_node", "reset_gpu", "recovery_action", "check_ecc", "check_nvlink"),
    *("check_hardware", "contact_support"),
)
"""Actions with a colour of their own; the others are one, in grey."""

_SERIOUS_XIDS = "|".join(_SERIOUS)

_XIDS: dict[str, Any] = {
    "name": "XIDs",
    "datasource": DATASOURCE,
    "enable": True,
    "hide": False,
    "iconColor": VERMILLION,
    "target": {
        "refId": "Anno",
        "expr": narrowed("1000 * gpu_xid_last_timestamp_seconds"),
        "interval": "",
    },
    "useValueForTime": True,
    "titleFormat": "XID {{xid}}: {{action}}",
    "textFormat": "{{node}} GPU {{gpu}}",
    "tagKeys": "node,gpu,xid,action",
}
"""A mark on every panel where an XID was last reported."""


def _since(family: str) -> str:
    return f"sum by (node, gpu) (round(increase({family}[$__range])))"


HEALTH = Outline(
    uid="gpu-health",
    title="GPU hardware health",
    question="Which boards fail or will soon, and what do the driver and NVIDIA say to do?",
    since="now-24h",
    annotations=(_XIDS,),
    rows=(
        Row(
            "At a glance",
            (
                stat(
                    "Unhealthy GPUs",
                    Query(or_zero('sum(gpu_exporter_gpus{state!="ok"})')),
                    thresholds=above(critical=1),
                    alerts=("GPULost", "GPUHung", "GPUUnreadable"),
                    about="GPUs that are lost, hung or failing.",
                ),
                stat(
                    "To recover",
                    Query(or_zero("count(gpu_recovery_action > 0)")),
                    thresholds=above(critical=1),
                    alerts=("GPURecoveryActionNeeded",),
                    about="GPUs for which the driver asks for a reset, a reboot or the like.",
                ),
                stat(
                    "XIDs for operators",
                    Query(
                        or_zero(
                            "count(gpu_xid_last_timestamp_seconds"
                            f"{{{_FOR_OPERATORS}}} > (time() - $__range_s))"
                        )
                    ),
                    thresholds=above(warning=1),
                    about="XIDs in the time shown that an operator must act on, each counted once"
                    " for each GPU. XIDs that an application causes or that need no action are"
                    " left out.",
                ),
                stat(
                    "Uncorrected ECC errors",
                    Query(f"sum(round(increase({_UNCORRECTED}[$__range])))"),
                    unit=units.SHORT,
                    decimals=0,
                    thresholds=above(critical=1),
                    alerts=("GPUEccUncorrectable",),
                    about="Memory errors in the time shown that ECC could not correct.",
                ),
                stat(
                    "Remapping pending",
                    Query("sum(gpu_row_remap_pending)"),
                    thresholds=above(warning=1),
                    alerts=("GPURowRemapPending", "GPURowRemapFailed"),
                    about="GPUs with memory rows that will be remapped at the next reset.",
                ),
                stat(
                    "Least margin",
                    Query("min(gpu_temperature_margin_celsius)"),
                    thresholds=below(0),
                    about="The fewest degrees that are left on any GPU until the driver slows it"
                    " down.",
                ),
            ),
        ),
        Row(
            "What to do",
            (
                table(
                    "XIDs",
                    ("node", "gpu", "xid", "action"),
                    Column(
                        "Last", f"max by (node, gpu, xid, action) (1000 * ({_RECENT}))", units.AGO
                    ),
                    Column(
                        "Since start",
                        f"max by (node, gpu, xid, action) (gpu_xid_errors_total and ({_RECENT}))",
                        units.SHORT,
                    ),
                    span=2,
                    alerts=(
                        "GPUXidResetGPU",
                        "GPUXidRestartNode",
                        "GPUXidHardware",
                        "GPUXidApplication",
                    ),
                    about="XIDs in the time shown, the latest first, with what NVIDIA says to do"
                    " and how many there were since the exporter started.",
                ),
                table(
                    "Recovery that the driver asks for",
                    ("node", "gpu"),
                    Column(
                        "Asked for",
                        "max by (node, gpu) (gpu_recovery_action > 0)",
                        units.SHORT,
                        states=states(RECOVERY),
                    ),
                    empty="The driver asks for nothing.",
                ),
            ),
            (
                timeseries(
                    "GPUs with an XID in the hour before, by what to do",
                    Query(
                        "count by (action) ("
                        f'gpu_xid_last_timestamp_seconds{{action=~"{_SERIOUS_XIDS}"}}'
                        " > (time() - 3600))",
                        "{{action}}",
                    ),
                    Query(
                        f'count(gpu_xid_last_timestamp_seconds{{action!~"{_SERIOUS_XIDS}"}}'
                        " > (time() - 3600))",
                        "others",
                    ),
                    unit=units.SHORT,
                    stacked=True,
                    overrides=[*by_name(*_SERIOUS), fixed("others", ABSENT)],
                    about="XIDs that GPUs reported within the last hour, each counted once for"
                    " each GPU, by what NVIDIA says to do.",
                ),
                timeseries(
                    "GPUs by state",
                    Query('sum by (state) (gpu_exporter_gpus{state!="ok"})', "{{state}}"),
                    overrides=by_name("lost", "hung", "failed"),
                    about="GPUs that cannot be read, by state.",
                ),
            ),
        ),
        Row(
            "Memory",
            (
                table(
                    "Memory errors by GPU",
                    ("node", "gpu"),
                    Column("Uncorrected", _since(_UNCORRECTED), units.SHORT, above(critical=1)),
                    Column(
                        "Corrected",
                        _since('gpu_ecc_errors_total{severity="corrected"}'),
                        units.SHORT,
                    ),
                    Column("Rows remapped", "sum by (node, gpu) (gpu_remapped_rows)", units.SHORT),
                    Column(
                        "Pending",
                        "max by (node, gpu) (gpu_row_remap_pending)",
                        units.SHORT,
                        above(warning=1),
                    ),
                    Column(
                        "Remapping failed",
                        "max by (node, gpu) (gpu_row_remap_failed)",
                        units.SHORT,
                        above(critical=1),
                    ),
                    Column(
                        "Banks without spares",
                        'sum by (node, gpu) (gpu_row_remap_banks{availability=~"low|none"})',
                        units.SHORT,
                        above(warning=1),
                    ),
                    Column(
                        "Retired pages",
                        "sum by (node, gpu) (gpu_retired_pages)",
                        units.SHORT,
                        above(thresholds.RETIRED_PAGES),
                    ),
                    alerts=("GPUEccUncorrectable", "GPURetiredPages"),
                    about="ECC errors in the time shown, and the rows that were remapped in the"
                    " life of the board, or pages that were retired on boards before Ampere.",
                ),
            ),
            (
                timeseries(
                    "ECC errors",
                    Query(
                        "sum by (severity, location)"
                        " (round(increase(gpu_ecc_errors_total[$__rate_interval])))",
                        "{{severity}} {{location}}",
                    ),
                    unit=units.SHORT,
                    overrides=by_name(
                        "corrected dram", "uncorrected dram", "corrected sram", "uncorrected sram"
                    ),
                ),
                timeseries(
                    "Rows remapped",
                    Query("sum by (cause) (gpu_remapped_rows)", "{{cause}}"),
                    overrides=by_name("correctable", "uncorrectable"),
                ),
            ),
        ),
        Row(
            "Heat and power",
            (
                timeseries(
                    "Degrees until slowdown",
                    Query(
                        "gpu_temperature_margin_celsius and on (node, gpu) bottomk(16,"
                        " min_over_time(gpu_temperature_margin_celsius[$__range] @ end()))",
                        _GPU,
                    ),
                    thresholds=below(0),
                    least=None,
                    overrides=by_gpu(),
                    about="Degrees that are left until the driver slows the GPU down. The 16 GPUs"
                    " with the fewest are shown.",
                ),
                timeseries(
                    "Degrees until the memory's maximum",
                    Query(
                        f"({_MEMORY_MARGIN}) and on (node, gpu) bottomk(16, min by (node, gpu)"
                        ' (gpu_temperature_threshold_celsius{threshold="memory_max"} @ end())'
                        " - max by (node, gpu) (max_over_time("
                        'gpu_temperature_celsius{sensor="memory"}[$__range] @ end())))',
                        _GPU,
                    ),
                    unit="celsius",
                    thresholds=below(thresholds.MEMORY_MARGIN_CELSIUS),
                    least=None,
                    overrides=by_gpu(),
                    alerts=("GPUMemoryHot",),
                    empty="None of these GPUs reports the temperature of its memory.",
                    about="Degrees that are left until the memory is as hot as it may be. The 16"
                    " GPUs with the fewest are shown.",
                ),
                timeseries(
                    "Time slowed down, by reason",
                    Query(
                        "sum by (reason) (rate(gpu_clock_event_seconds_total[$__rate_interval]))",
                        "{{reason}}",
                    ),
                    unit=units.SHORT,
                    alerts=("GPUThermalSlowdown", "GPUPowerBrakeSlowdown"),
                    about="Share of time in which a reason limited the clocks, summed over GPUs.",
                ),
            ),
        ),
        Row(
            "Links",
            (
                table(
                    "PCIe links with too few lanes",
                    ("node", "gpu"),
                    Column(
                        "Lanes",
                        "max by (node, gpu) (gpu_pcie_link_width < gpu_pcie_link_width_max)",
                        units.SHORT,
                    ),
                    Column(
                        "Of",
                        "max by (node, gpu) (gpu_pcie_link_width_max and"
                        " gpu_pcie_link_width < gpu_pcie_link_width_max)",
                        units.SHORT,
                    ),
                    sort="Lanes",
                    rising=True,
                    empty="Every link has all its lanes.",
                    alerts=("GPUPcieLinkDegraded",),
                    about="Links with fewer lanes than the board and the slot support. The"
                    " generation is no sign of a fault: it is lower while a GPU idles.",
                ),
                timeseries(
                    "PCIe replays",
                    Query(
                        highest(
                            "rate(gpu_pcie_replays_total[$__rate_interval])",
                            "rate(gpu_pcie_replays_total[$__range] @ end())",
                        ),
                        _GPU,
                    ),
                    thresholds=above(thresholds.REPLAYS_PER_MINUTE / 60),
                    overrides=by_gpu(),
                    alerts=("GPUPcieReplays",),
                    about="PCIe packets that were sent again, per second. The 16 GPUs with the"
                    " most are shown.",
                ),
                timeseries(
                    "NVLink errors",
                    Query(
                        "sum by (kind)"
                        " (round(increase(gpu_nvlink_errors_total[$__rate_interval])))",
                        "{{kind}}",
                    ),
                    unit=units.SHORT,
                    alerts=("GPUNvlinkErrors",),
                ),
                timeseries(
                    "NVLink links up",
                    Query(
                        "gpu_nvlink_active_links and on (node, gpu) bottomk(16,"
                        " min_over_time(gpu_nvlink_active_links[$__range] @ end()))",
                        _GPU,
                    ),
                    overrides=by_gpu(),
                    alerts=("GPUNvlinkDown",),
                    about="NVLink links that are up. The 16 GPUs with the fewest are shown.",
                ),
            ),
        ),
    ),
)
