"""GPU workload: one job or deployment."""

from dashboards import thresholds
from dashboards.expressions import BUSY, IDLE, IS_IDLE, highest, or_zero
from dashboards.layer import units
from dashboards.layer.colours import BLUE, above, below, by_name, states
from dashboards.layer.outline import Outline, Row
from dashboards.layer.panels import stat, state_timeline, timeseries
from dashboards.layer.queries import Query
from dashboards.layer.tables import Column, table

_HELD = "and on (node, uuid) gpu_allocation_info"
_BY = "pod, container, node, gpu"
_NAMED = '{workload!=""}'
_FRACTION = f"allocation:gpu_fraction:ratio{_NAMED}"
_BUSY_NOW = f"{BUSY}{_NAMED} / {_FRACTION}"
_BUSY_MEAN = f"avg_over_time({BUSY}{_NAMED}[$__range]) / {_FRACTION}"
_BUSY_RANKING = f"avg_over_time({BUSY}{_NAMED}[$__range] @ end()) / {_FRACTION} @ end()"
"""Utilization of the device that a container of a known workload holds."""
_CONTAINER = "{{pod}}/{{container}} {{node}} GPU {{gpu}}"
_MEMORY_SHARE = "gpu_container_memory_used_bytes / gpu_container_memory_limit_bytes"
_SECONDS = "gpu_container_busy_seconds_total"
_OOM = "gpu_container_oom_events_total"


def _activity(name: str, more: str = "") -> str:
    """Mean of a profiling figure over the GPUs and slices that are held."""
    slices = name.replace("gpu_", "gpu_mig_")
    return f"avg(({name}{more} {_HELD}) or ({slices}{more} {_HELD}))"


def _behind(busy: str) -> str:
    """How far each container's utilization is above or below its workload's median."""
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
    question="Does this job or deployment use the GPUs that it holds, and what stands in its way?",
    since="now-3h",
    rows=(
        Row(
            "At a glance",
            (
                stat(
                    "Devices held",
                    Query(or_zero("count(count by (node, uuid) (gpu_allocation_info))")),
                    about="GPUs and MIG slices that the pods hold, alone or together with others.",
                ),
                stat(
                    "Busy",
                    Query(f"sum({BUSY}) / (sum({BUSY} + {IDLE}) > 0)"),
                    unit=units.RATIO,
                    thresholds=below(thresholds.BUSY_LOW),
                    about="Busy part of the GPU time held, mean over the last minutes.",
                ),
                stat(
                    "Idle devices",
                    Query(or_zero(f"sum({IS_IDLE})")),
                    thresholds=above(warning=1),
                    alerts=("GPUContainerIdle",),
                    about="Devices that its containers have and do not use, as the idle alert"
                    " counts them.",
                ),
                stat(
                    "Fullest memory",
                    Query(
                        "max(gpu_container_memory_peak_bytes / gpu_container_memory_limit_bytes)"
                    ),
                    unit=units.RATIO,
                    thresholds=above(thresholds.MEMORY_FULL),
                    empty="It holds no device alone, so that no memory limit is its own.",
                    about="Highest peak of memory on one of its devices, of what the device has.",
                ),
                stat(
                    "Out of memory",
                    Query(f"sum(round(increase({_OOM}[$__range])))"),
                    thresholds=above(critical=1),
                    about="Ends of its containers for want of GPU memory in the time shown, however"
                    " certain.",
                ),
                stat(
                    "Power",
                    Query("sum(rate(gpu_container_energy_joules_total[$__rate_interval]))"),
                    about="Power of its devices, as far as it is booked on its containers.",
                ),
            ),
        ),
        Row(
            "Which GPUs, and are they used",
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
                    about="True mean share of time in which a kernel of the container ran; the 16"
                    " highest.",
                    span=2,
                ),
                state_timeline(
                    "GPUs held",
                    Query(
                        "max by (gpu, node, namespace, pod) (gpu_allocation_info)",
                        "{{pod}} · {{node}} GPU {{gpu}}",
                    ),
                    states=states({1: ("holds", BLUE)}),
                    show_value=False,
                    height=8,
                    about="Which of its pods held which GPU, or a part of it, and when.",
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
                    about="Means over the devices held. Utilization alone misleads: one busy SM of"
                    " 132 reads 100 %. High utilization with low SM activity and low bandwidth"
                    " means small kernels or waiting for data; high bandwidth means memory-bound"
                    " work, such as decoding. All but the first need Hopper or newer.",
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
                    empty="It holds no device alone, so that no memory limit is its own.",
                    about="Device memory in use as a part of what the device has. Servers that"
                    " preallocate are full from the start. The 16 fullest.",
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
                    about="Each container's utilization less its workload's median. One that stays"
                    " apart slows the rest, or waits for it. The 16 furthest below.",
                    alerts=("GPUSlowerThanPeers",),
                ),
                table(
                    "Slowest first",
                    ("workload", "pod", "container", "node", "gpu"),
                    Column("From median", _behind(_BUSY_MEAN), units.RATIO),
                    Column(
                        "Busy",
                        f"min by (workload, {_BY}) ({_BUSY_MEAN})",
                        units.RATIO,
                        full=1,
                    ),
                    span=1.4,
                    rising=True,
                    about="Mean utilization over the time shown, against the workload's median.",
                ),
            ),
        ),
        Row(
            "Out of memory, and memory",
            (
                table(
                    "Ends for want of memory",
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
                        "Host's memory",
                        "sum by (namespace, pod, container)"
                        " (round(increase(gpu_container_host_oom_kills_total[$__range]))) > 0",
                        units.SHORT,
                    ),
                    about="Ends of containers in the time shown for want of GPU memory, by how"
                    " certain that is, and how often the kernel killed them for want of the"
                    " host's.",
                    alerts=(
                        "GPUOutOfMemory",
                        "GPUOutOfMemoryLoop",
                        "GPUContainerHostOOMKilled",
                    ),
                    span=2,
                ),
                timeseries(
                    "Ends for want of GPU memory over time",
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
                    about="Over all devices of a container. On a shared one no limit is its own.",
                ),
            ),
        ),
    ),
)
