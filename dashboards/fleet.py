"""GPU fleet: how many GPUs there are, how they are used, what is wrong, and who wastes them."""

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
    question="How many GPUs are there, how many of them are busy, who wastes them, and what is"
    " broken?",
    rows=(
        Row(
            "At a glance",
            (
                stat(
                    "GPUs",
                    Query("sum(gpu_exporter_gpus)"),
                    about="GPUs that the exporters know of, in any state.",
                ),
                stat(
                    "Allocated",
                    Query(or_zero(f"sum({ALLOCATED})")),
                    decimals=1,
                    about="GPUs that are allocated to containers. A slice or a share of a GPU"
                    " counts as its fraction of the GPU.",
                ),
                stat(
                    "Busy",
                    Query("sum(rate(gpu_busy_seconds_total[$__rate_interval]))"),
                    unit=units.SHORT,
                    decimals=1,
                    about="The sum of the mean utilization of all GPUs: 1.0 is one GPU that is"
                    " always busy.",
                ),
                stat(
                    "Allocated but idle",
                    Query(or_zero(f"count(count by (node, gpu) ({IS_IDLE} == 1))")),
                    thresholds=above(warning=1),
                    alerts=("GPUContainerIdle", "GPUMemoryHeldIdle"),
                    about="GPUs that are allocated to a container and idle, as the alert on idle"
                    " containers defines it.",
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
                    empty="The alert rules are not loaded: even the alert Watchdog is missing.",
                    about="Alerts on GPUs that are firing.",
                ),
            ),
        ),
        Row(
            "What needs attention",
            (
                table(
                    "Firing alerts",
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
                    about="Critical alerts first. The name of an alert leads to its runbook.",
                    span=2,
                ),
                table(
                    "Unhealthy GPUs",
                    ("node", "gpu"),
                    Column(
                        "State",
                        "max by (node, gpu) (gpu_exporter_gpu_state > 0)",
                        units.SHORT,
                        states=states(GPU_STATES),
                    ),
                    Column(
                        "Last read",
                        "max by (node, gpu) (1000 * gpu_exporter_last_sample_timestamp_seconds"
                        " and on (node, uuid) gpu_exporter_gpu_state > 0)",
                        unit=units.AGO,
                    ),
                    sort="Node",
                    rising=True,
                    empty="Every GPU can be read.",
                    alerts=("GPULost", "GPUHung", "GPUUnreadable"),
                    about="Lost: the GPU has fallen off the bus. Hung: a read of the GPU does not"
                    " return. Failed: a read returns an error.",
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
                    about="Mean utilization of each GPU over the last few scrapes. The name of a"
                    " node leads to its dashboard.",
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
                    Query(f"sum({ALLOCATED})", "allocated"),
                    Query("sum(rate(gpu_busy_seconds_total[$__rate_interval]))", "busy"),
                    unit=units.SHORT,
                    overrides=by_name("all", "allocated", "busy"),
                    about="All GPUs, the GPUs that are allocated, and the sum of their"
                    " utilization. The distance between the last two lines is allocated and not"
                    " used.",
                ),
                timeseries(
                    "Power",
                    Query("sum(gpu_power_draw_watts)", "drawn"),
                    Query("sum(gpu_power_limit_watts)", "limit"),
                    overrides=by_name("drawn", "limit"),
                    about="Power that all boards draw, and the sum of their limits.",
                ),
            ),
        ),
        Row(
            "Who wastes GPUs, and who uses them",
            (
                table(
                    "Most waste",
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
                    about="Pods with the most GPU-hours that were allocated to them and not used"
                    " in the time shown, and what those hours cost. The name of a workload leads"
                    " to its dashboard.",
                ),
                table(
                    "Most GPU-hours",
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
                    about="Namespaces with the most GPU-hours allocated in the time shown.",
                ),
            ),
        ),
    ),
)
