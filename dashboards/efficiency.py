"""GPU efficiency and cost: to whom GPUs were allocated, for how long, and how they were used."""

from typing import Any

from dashboards import thresholds
from dashboards.expressions import (
    ALLOCATED,
    BUSY,
    COST,
    FREE,
    IDLE,
    IDLE_COST,
    POINTS,
    POWER,
    busy_share,
    highest,
    hours,
)
from dashboards.layer import units
from dashboards.layer.colours import above, below, by_name
from dashboards.layer.outline import Outline, Row
from dashboards.layer.panels import bargauge, stat, timeseries
from dashboards.layer.queries import Query
from dashboards.layer.tables import Column, table

_SHARE = below(thresholds.BUSY_LOW)
_CURRENCY = "In the currency of the price table, or of OpenCost."

_OUTSIDE = "gpu_unattributed_busy_seconds_total"
_PEAK = (
    "max by (node, uuid) (max_over_time(gpu_container_memory_peak_bytes[$__range])"
    ' and on (node, uuid) gpu_allocation_info{sharing="exclusive", profile=""})'
)
_SM = "max by (node, uuid) (avg_over_time(gpu_sm_activity_ratio[$__range]))"
_FITS = (
    f"bottomk by (node, uuid) (1, gpu:gpu_mig_profile_memory:bytes > on (node, uuid)"
    f" group_left () {_PEAK} and on (node, uuid, profile)"
    f" gpu:gpu_mig_profile_sm:ratio > on (node, uuid) group_left () {_SM})"
    ' and on (node, uuid, profile) gpu:gpu_mig_profile_memory:bytes{profile!~"7g.*"}'
)
"""The smallest profile that fits the container's peak of memory and its mean SM activity."""


def _total(title: str, recorded: str, about: str, unit: str = units.SHORT) -> Any:
    return stat(title, Query(hours(recorded)), unit=unit, points=POINTS, about=about)


def _of_candidates(value: str) -> str:
    """Narrow a figure of GPUs to those whose container would fit into a slice."""
    return (
        f"max by (namespace, pod, node, gpu) ({value} and on (node, uuid) ({_FITS})"
        " * on (node, uuid) group_left () max by (node, uuid) (gpu_info))"
    )


def _who(*keys: str) -> tuple[Column, ...]:
    """Return the columns of a table of who GPUs are allocated to."""
    by = ", ".join(keys)
    return (
        Column("GPU-hours", hours(ALLOCATED, by), units.SHORT),
        Column("Idle GPU-hours", hours(IDLE, by), units.SHORT),
        Column("Busy", busy_share(by), units.RATIO, _SHARE, full=1),
        Column("Energy", hours(POWER, by), "watth"),
        Column("Cost", hours(COST, by), units.SHORT),
        Column("Idle cost", hours(IDLE_COST, by), units.SHORT),
    )


EFFICIENCY = Outline(
    uid="gpu-efficiency",
    title="GPU efficiency and cost",
    question="Who had GPUs allocated for how long, how much of that was used, and what could be"
    " freed?",
    since="now-7d",
    refresh="15m",
    rows=(
        Row(
            "GPU-hours in the time shown",
            (
                _total("Allocated", ALLOCATED, "GPU-hours that were allocated to containers."),
                _total("Busy", BUSY, "GPU-hours in which a kernel of the container ran."),
                _total("Idle", IDLE, "GPU-hours that were allocated and idle."),
                stat(
                    "Busy share",
                    Query(busy_share()),
                    unit=units.RATIO,
                    points=POINTS,
                    thresholds=_SHARE,
                    alerts=("GPUContainerUnderutilized", "GPULowActivity"),
                    about="Busy share of the allocated GPU-hours whose use can be attributed.",
                ),
                _total("Energy", POWER, "Energy that is attributed to containers.", "watth"),
                _total("Cost", COST, f"What the allocated GPU-hours cost. {_CURRENCY}"),
                _total("Cost of idling", IDLE_COST, f"What the idle GPU-hours cost. {_CURRENCY}"),
            ),
        ),
        Row(
            "Who",
            (
                table(
                    "By namespace",
                    ("namespace",),
                    *_who("namespace"),
                    points=POINTS,
                    about=f"GPU-hours in the time shown, the most first. {_CURRENCY}",
                ),
            ),
            (
                table(
                    "By workload",
                    ("namespace", "workload"),
                    *_who("namespace", "workload"),
                    points=POINTS,
                    about="The same by workload, such as a Deployment or a Job. Needs the pod"
                    " watch.",
                ),
            ),
        ),
        Row(
            "What could be freed",
            (
                table(
                    "GPUs that a slice could replace",
                    ("namespace", "pod", "node", "gpu", "profile"),
                    Column(
                        "Slice's memory",
                        f"max by (namespace, pod, node, gpu, profile) (({_FITS}) * on (node, uuid)"
                        " group_left (namespace, pod) max by (node, uuid, namespace, pod)"
                        ' (gpu_allocation_info{sharing="exclusive", profile=""}))',
                    ),
                    Column(
                        "Peak memory",
                        _of_candidates("gpu_container_memory_peak_bytes"),
                    ),
                    Column(
                        "Busy",
                        _of_candidates("gpu_container_utilization_ratio"),
                        full=1,
                    ),
                    sort="Peak memory",
                    rising=True,
                    empty="Every container with a whole GPU needs one, or the boards have no MIG,"
                    " or SM activity is not known (before Hopper).",
                    alerts=("GPUOversized",),
                    about="Containers with a whole GPU, and the smallest MIG profile that fits"
                    " both their peak of memory and their mean SM activity in the time shown.",
                    span=2,
                ),
                bargauge(
                    "Free devices",
                    Query(
                        f"sort_desc(sum by (resource) ({FREE}) > 0)",
                        "{{resource}}",
                    ),
                    empty="Every device is allocated, or the kubelets do not answer.",
                    alerts=("GPUUnallocated",),
                    about="Devices that the kubelets can still allocate to pods, by resource.",
                ),
            ),
        ),
        Row(
            "Trend",
            (
                timeseries(
                    "GPUs allocated and busy",
                    Query(f"sum({ALLOCATED})", "allocated"),
                    Query(f"sum({BUSY})", "busy"),
                    overrides=by_name("allocated", "busy"),
                    about="GPUs that were allocated to containers, and how many of them were busy.",
                ),
                timeseries(
                    "Idle GPUs by namespace",
                    Query(f"sum by (namespace) ({IDLE})", "{{namespace}}"),
                    stacked=True,
                    about="GPUs that were allocated and idle.",
                ),
            ),
            (
                timeseries(
                    "Busy share by namespace",
                    Query(
                        f"sum by (namespace) ({BUSY}) / (sum by (namespace) ({BUSY} + {IDLE}) > 0)",
                        "{{namespace}}",
                    ),
                    unit=units.RATIO,
                    most=1,
                    thresholds=_SHARE,
                    about="Busy share of the allocated GPU time.",
                ),
                timeseries(
                    "Unattributed use",
                    Query(
                        highest(
                            f"sum by (node) (rate({_OUTSIDE}[$__rate_interval]))",
                            f"sum by (node) (rate({_OUTSIDE}[$__range] @ end()))",
                            most=10,
                            by="node",
                        ),
                        "{{node}}",
                    ),
                    unit=units.SHORT,
                    thresholds=above(thresholds.BUSY_OUTSIDE),
                    alerts=("GPUUsedOutsidePods",),
                    about="Busy time that is attributed to no container, in GPUs: processes outside"
                    " Kubernetes, or use whose process was not seen. The ten nodes with the most"
                    " are shown.",
                ),
            ),
        ),
    ),
)
