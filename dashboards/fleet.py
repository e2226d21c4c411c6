"""GPU fleet: how many, how used, what is wrong, who wastes."""

from dashboards import thresholds
from dashboards.expressions import (
    ALLOCATED,
    BUSY,
    IDLE,
    IDLE_COST,
    IS_IDLE,
    POINTS,
    busy_share,
    hours,
    or_zero,
)
from dashboards.layer import units
from dashboards.layer.colours import above, below, by_name, states
from dashboards.layer.outline import Outline, Row
from dashboards.layer.panels import heatmap, stat, timeseries
from dashboards.layer.queries import Query
from dashboards.layer.tables import ROWS, Column, matrix, table
from dashboards.layer.words import GPU_STATES

_FIRING = 'ALERTS{alertname=~"GPU.+", alertstate="firing"}'
_RULES_LOADED = '0 * count(ALERTS{alertname="Watchdog", node=~".*"})'
_BROKEN = "gpu_exporter_gpu_state > 0 or gpu_recovery_action > 0"

FLEET = Outline(
    uid="gpu-fleet",
    title="GPU fleet",
    question="How many GPUs are there, how many of them work, who wastes them, and what is broken?",
    rows=(
        Row(
            "At a glance",
            (
                stat(
                    "GPUs",
                    Query("sum(gpu_exporter_gpus)"),
                    about="GPUs that the exporters know of, in whatever state.",
                ),
                stat(
                    "Held",
                    Query(or_zero(f"sum({ALLOCATED})")),
                    decimals=1,
                    about="GPUs that containers hold; a slice or a share counts by its part.",
                ),
                stat(
                    "At work",
                    Query("sum(rate(gpu_busy_seconds_total[$__rate_interval]))"),
                    unit=units.SHORT,
                    decimals=1,
                    about="GPUs' worth of busy time: the sum of the GPUs' mean utilization.",
                ),
                stat(
                    "Held but idle",
                    Query(or_zero(f"count(count by (node, gpu) ({IS_IDLE} == 1))")),
                    thresholds=above(warning=1),
                    alerts=("GPUContainerIdle", "GPUMemoryHeldIdle"),
                    about="GPUs that a container has and does not use, by the idle alert's rule.",
                ),
                stat(
                    "Broken",
                    Query(or_zero(f"count(count by (node, gpu) ({_BROKEN}))")),
                    thresholds=above(critical=1),
                    alerts=("GPULost", "GPUHung", "GPURecoveryActionNeeded"),
                    about="GPUs that are lost, hung or failing, or that need recovery.",
                ),
                stat(
                    "Alerts",
                    Query(f"count({_FIRING}) or {_RULES_LOADED}"),
                    thresholds=above(warning=1),
                    empty="The alert rules are not loaded: there is not even the Watchdog.",
                    about="Alerts on GPUs that fire.",
                ),
            ),
        ),
        Row(
            "What needs somebody",
            (
                table(
                    "Alerts that fire",
                    ("severity", "alertname", "node", "gpu", "namespace", "pod"),
                    Column(
                        "Since",
                        "max by (severity, alertname, node, gpu, namespace, pod) (1000 *"
                        ' ALERTS_FOR_STATE{alertname=~"GPU.+", severity=~"critical|warning"}'
                        f" and ignoring (alertstate) {_FIRING})",
                        unit=units.AGO,
                    ),
                    sort="Severity",
                    rising=True,
                    about="Critical ones first. An alert's name leads to its runbook.",
                    span=2,
                ),
                table(
                    "GPUs that are not well",
                    ("node", "gpu"),
                    Column(
                        "State",
                        "max by (node, gpu) (gpu_exporter_gpu_state > 0)",
                        units.SHORT,
                        states=states(GPU_STATES),
                    ),
                    Column(
                        "Read",
                        "max by (node, gpu) (1000 * gpu_exporter_last_sample_timestamp_seconds"
                        " and on (node, uuid) gpu_exporter_gpu_state > 0)",
                        unit=units.AGO,
                    ),
                    sort="Node",
                    rising=True,
                    empty="Every GPU can be read.",
                    alerts=("GPULost", "GPUHung", "GPUUnreadable"),
                    about="Lost: fallen off the bus; hung: a read does not return. Read: when it"
                    " last could be.",
                ),
            ),
        ),
        Row(
            "How busy they are",
            (
                matrix(
                    "Busy now, by node and GPU",
                    "avg by (node, gpu) (rate(gpu_busy_seconds_total[$__rate_interval]))",
                    row="node",
                    column="gpu",
                    about="True mean utilization of each GPU over the last few scrapes. A node's"
                    " name leads to the node.",
                ),
                heatmap(
                    "Busy over time, by node",
                    Query(
                        "avg by (node) (rate(gpu_busy_seconds_total[$__rate_interval]))", "{{node}}"
                    ),
                    about="Mean utilization of each node's GPUs.",
                ),
            ),
            (
                timeseries(
                    "GPUs over time",
                    Query("sum(gpu_exporter_gpus)", "all"),
                    Query(f"sum({ALLOCATED})", "held"),
                    Query("sum(rate(gpu_busy_seconds_total[$__rate_interval]))", "at work"),
                    unit=units.SHORT,
                    overrides=by_name("all", "held", "at work"),
                    about="All GPUs, those that containers hold, and busy time in GPUs' worth."
                    " What lies between the last two is held for nothing.",
                ),
                timeseries(
                    "Power",
                    Query("sum(gpu_power_draw_watts)", "drawn"),
                    Query("sum(gpu_power_limit_watts)", "limit"),
                    overrides=by_name("drawn", "limit"),
                    about="Power that all boards draw, and may draw.",
                ),
            ),
        ),
        Row(
            "Who wastes them, and who uses them",
            (
                table(
                    "Top waste",
                    ("namespace", "workload", "pod"),
                    Column(
                        "Idle GPU-hours",
                        f"topk({ROWS}, {hours(IDLE, 'namespace, workload, pod')})",
                        units.SHORT,
                    ),
                    Column(
                        "Busy",
                        busy_share("namespace, workload, pod"),
                        units.RATIO,
                        below(thresholds.BUSY_LOW),
                        full=1,
                    ),
                    Column("Cost", hours(IDLE_COST, "namespace, workload, pod"), units.SHORT),
                    span=3,
                    points=POINTS,
                    alerts=("GPUContainerIdle", "GPUContainerUnderutilized"),
                    about="Pods by the GPU-hours that they held and did not use in the time shown,"
                    " and what those cost. A workload's name leads to it.",
                ),
                table(
                    "Top users",
                    ("namespace",),
                    Column("GPU-hours", hours(ALLOCATED, "namespace"), units.SHORT),
                    Column("Busy GPU-hours", hours(BUSY, "namespace"), units.SHORT),
                    Column(
                        "Busy",
                        busy_share("namespace"),
                        units.RATIO,
                        below(thresholds.BUSY_LOW),
                        full=1,
                    ),
                    span=2,
                    points=POINTS,
                    about="Namespaces by the GPU-hours that they held in the time shown.",
                ),
            ),
        ),
    ),
)
