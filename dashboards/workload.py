"""GPU workload: one job or deployment."""

from dashboards import thresholds
from dashboards.expressions import BUSY, IDLE, IS_IDLE, highest, or_zero
from dashboards.layer import units
from dashboards.layer.colours import BLUE, above, below, by_name, states
from dashboards.layer.outline import Outline, Row
from dashboards.layer.panels import stat, state_timeline, timeseries
from dashboards.layer.queries import Query
from dashboards.layer.tables import Column, table

_ALLOCATED = "and on (node, uuid) gpu_allocation_info"
_BY = "pod, container, node, gpu"
_NAMED = '{workload!=""}'
_FRACTION = f"allocation:gpu_fraction:ratio{_NAMED}"
_BUSY_NOW = f"{BUSY}{_NAMED} / {_FRACTION}"
_BUSY_MEAN = f"avg_over_time({BUSY}{_NAMED}[$__range]) / {_FRACTION}"
_BUSY_RANKING = f"avg_over_time({BUSY}{_NAMED}[$__range] @ end()) / {_FRACTION} @ end()"
"""Utilization of the device that is allocated to a container of a known workload."""
_CONTAINER = "{{pod}}/{{container}} {{node}} GPU {{gpu}}"
_MEMORY_SHARE = "gpu_container_memory_used_bytes / gpu_container_memory_limit_bytes"
_SECONDS = "gpu_container_busy_seconds_total"
_OOM = "gpu_container_oom_events_total"


def _activity(name: str, more: str = "") -> str:
    """Return the mean of a profiling figure over the GPUs and slices that are allocated."""
    slices = name.replace("gpu_", "gpu_mig_")
    return f"avg(({name}{more} {_ALLOCATED}) or ({slices}{more} {_ALLOCATED}))"


def _behind(busy: str) -> str:
    """Return how far each container's utilization is above or below its workload's median."""
    median = f"quantile by (namespace, workload) (0.5, {busy})"
    return f"min by (workload, {_BY}) (({busy}) - on (namespace, workload) group_left () {median})"


def _ooms(confidence: str) -> str:
    return (
        "sum by (namespace, pod, container)"
        f' (round(increase({_OOM}{{confidence="{confidence}"}}[$__range]))) > 0'
    )


WORKLOAD = Outline(
    uid="gpu-workload",
    title="GPU workload",
    question="Does this job or deployment use the GPUs that are allocated to it, and what slows it"
    " down?",
    since="now-3h",
    rows=(
        Row(
            "At a glance",
            (
                stat(
                    "Devices allocated",
                    Query(or_zero("count(count by (node, uuid) (gpu_allocation_info))")),
                    about="GPUs and MIG slices that are allocated to the pods. A device that is"
                    " shared with other pods counts as one.",
                ),
                stat(
                    "Busy",
                    Query(f"sum({BUSY}) / (sum({BUSY} + {IDLE}) > 0)"),
                    unit=units.RATIO,
                    thresholds=below(thresholds.BUSY_LOW),
                    about="Share of the allocated GPU time that was busy, as a mean over five"
                    " minutes.",
                ),
                stat(
                    "Idle devices",
                    Query(or_zero(f"sum({IS_IDLE})")),
                    thresholds=above(warning=1),
                    alerts=("GPUContainerIdle",),
                    about="Devices that are allocated to its containers and idle, as the alert on"
                    " idle containers defines it.",
                ),
                stat(
                    "Fullest memory",
                    Query(
                        "max(gpu_container_memory_peak_bytes / gpu_container_memory_limit_bytes)"
                    ),
                    unit=units.RATIO,
                    thresholds=above(thresholds.MEMORY_FULL),
                    empty="No device is allocated to it alone, so no memory limit applies to it"
                    " alone.",
                    about="The highest peak of memory on one of its devices, as a share of the"
                    " device's memory.",
                ),
                stat(
                    "Out of memory",
                    Query(f"sum(round(increase({_OOM}[$__range])))"),
                    thresholds=above(critical=1),
                    about="How often its containers ended because they ran out of GPU memory in"
                    " the time shown, with any certainty.",
                ),
                stat(
                    "Power",
                    Query("sum(rate(gpu_container_energy_joules_total[$__rate_interval]))"),
                    about="Power of its devices, as far as it is attributed to its containers.",
                ),
            ),
        ),
        Row(
            "Which GPUs, and how they are used",
            (
                timeseries(
                    "Utilization by container",
                    Query(
                        highest(
                            f"sum by ({_BY}) (rate({_SECONDS}[$__rate_interval]))",
                            f"sum by ({_BY}) (rate({_SECONDS}[$__range] @ end()))",
                            by=_BY,
                        ),
                        _CONTAINER,
                    ),
                    unit=units.RATIO,
                    most=1,
                    legend="table",
                    about="Mean share of time in which a kernel of the container ran. The 16"
                    " highest containers are shown.",
                    span=2,
                ),
                state_timeline(
                    "Allocations over time",
                    Query(
                        "max by (gpu, node, namespace, pod) (gpu_allocation_info)",
                        "{{pod}} · {{node}} GPU {{gpu}}",
                    ),
                    states=states({1: ("allocated", BLUE)}),
                    show_value=False,
                    height=8,
                    about="Which GPU, slice or share of a GPU was allocated to which of its pods,"
                    " and when.",
                ),
            ),
            (
                timeseries(
                    "What the busy time is made of",
                    Query(_activity("gpu_utilization_ratio"), "any kernel ran"),
                    Query(_activity("gpu_sm_activity_ratio"), "SMs active"),
                    Query(_activity("gpu_pipe_activity_ratio", '{pipe="tensor"}'), "tensor cores"),
                    Query(_activity("gpu_dram_activity_ratio"), "memory bandwidth"),
                    unit=units.RATIO,
                    most=1,
                    overrides=by_name(
                        "any kernel ran", "SMs active", "tensor cores", "memory bandwidth"
                    ),
                    about="Means over the allocated devices. Utilization alone misleads: if one of"
                    " 132 SMs is busy, utilization is 100 %. High utilization with low SM activity"
                    " and low bandwidth means small kernels, or waiting for data. High bandwidth"
                    " means work that is bound by memory, such as decoding. All but the first line"
                    " need Hopper or newer.",
                ),
                timeseries(
                    "Memory against the limit",
                    Query(
                        highest(
                            f"max by ({_BY}) ({_MEMORY_SHARE})",
                            f"max by ({_BY}) (gpu_container_memory_peak_bytes @ end()"
                            " / gpu_container_memory_limit_bytes @ end())",
                            by=_BY,
                        ),
                        _CONTAINER,
                    ),
                    unit=units.RATIO,
                    most=1,
                    thresholds=above(thresholds.MEMORY_FULL),
                    empty="No device is allocated to it alone, so no memory limit applies to it"
                    " alone.",
                    about="Memory in use, as a share of the device's memory. Servers that"
                    " preallocate are full from the start. The 16 fullest containers are shown.",
                    alerts=("GPUMemoryGrowing", "GPUMemoryNearlyFull"),
                ),
            ),
        ),
        Row(
            "Stragglers",
            (
                timeseries(
                    "Distance from the workload's median",
                    Query(
                        f"({_behind(_BUSY_NOW)}) and on (workload, {_BY})"
                        f" bottomk(16, {_behind(_BUSY_RANKING)})",
                        _CONTAINER,
                    ),
                    unit=units.RATIO,
                    least=None,
                    about="Each container's utilization minus the median of its workload. A"
                    " container that stays below the median slows the others down, or waits for"
                    " them. The 16 that are furthest below are shown.",
                    alerts=("GPUSlowerThanPeers",),
                ),
                table(
                    "Slowest first",
                    ("workload", "pod", "container", "node", "gpu"),
                    Column("Against median", _behind(_BUSY_MEAN), units.RATIO),
                    Column(
                        "Busy",
                        f"min by (workload, {_BY}) ({_BUSY_MEAN})",
                        units.RATIO,
                        full=1,
                    ),
                    span=1.4,
                    rising=True,
                    about="Mean utilization in the time shown, minus the median of the workload.",
                ),
            ),
        ),
        Row(
            "Out of memory",
            (
                table(
                    "Containers that ran out of memory",
                    ("namespace", "pod", "container"),
                    Column(
                        "Last",
                        "max by (namespace, pod, container)"
                        " (1000 * gpu_container_oom_last_timestamp_seconds)",
                        units.AGO,
                    ),
                    Column("Confirmed", _ooms("confirmed"), units.SHORT),
                    Column("Likely", _ooms("likely"), units.SHORT),
                    Column("Possible", _ooms("possible"), units.SHORT),
                    Column(
                        "Host memory",
                        "sum by (namespace, pod, container)"
                        " (round(increase(gpu_container_host_oom_kills_total[$__range]))) > 0",
                        units.SHORT,
                    ),
                    about="How often containers ended in the time shown because they ran out of"
                    " GPU memory, by how certain that is, and how often the kernel killed them"
                    " because they ran out of host memory.",
                    alerts=(
                        "GPUOutOfMemory",
                        "GPUOutOfMemoryLoop",
                        "GPUContainerHostOOMKilled",
                    ),
                    span=2,
                ),
                timeseries(
                    "Out of GPU memory over time",
                    Query(
                        f"sum by (confidence) (round(increase({_OOM}[$__rate_interval])))",
                        "{{confidence}}",
                    ),
                    unit=units.SHORT,
                    overrides=by_name("confirmed", "likely", "possible"),
                ),
            ),
            (
                table(
                    "Memory by container",
                    ("namespace", "pod", "container"),
                    Column(
                        "Used",
                        "sum by (namespace, pod, container) (gpu_container_memory_used_bytes)",
                    ),
                    Column(
                        "Peak",
                        "sum by (namespace, pod, container) (gpu_container_memory_peak_bytes)",
                    ),
                    Column(
                        "Limit",
                        "sum by (namespace, pod, container) (gpu_container_memory_limit_bytes)",
                    ),
                    about="The sum over all devices of a container. A container has no limit of"
                    " its own on a shared device.",
                ),
            ),
        ),
    ),
)
