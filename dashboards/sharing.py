"""MIG and sharing."""

from dashboards import thresholds
from dashboards.expressions import CONTAINER, FREE, highest, or_zero
from dashboards.layer import units
from dashboards.layer.colours import above, by_gpu
from dashboards.layer.outline import Outline, Row
from dashboards.layer.panels import bargauge, stat, timeseries
from dashboards.layer.queries import Query
from dashboards.layer.tables import Column, table

_SHARED = 'gpu_allocation_info{sharing!~"exclusive|mig"}'
_UNATTRIBUTED = "gpu_unattributed_memory_bytes"
_SLICES_AND_SHARES = 'gpu_allocation_info{sharing!="exclusive"}'
_TENANT = ("node", "gpu", "sharing", "profile", "namespace", "pod")
_SLICE = ("node", "gpu", "gpu_instance", "profile")
_TENANT_NAME = "{{namespace}}/{{pod}} {{node}} GPU {{gpu}}"


def _per_tenant(value: str, when: str = "") -> str:
    """Return a figure of containers by slice or share; ``when`` may be ``@ end()``."""
    return (
        f"sum by ({', '.join(_TENANT)}) ({value} * on ({CONTAINER}) group_left (sharing, profile)"
        f" max by ({CONTAINER}, sharing, profile) ({_SLICES_AND_SHARES} {when}))"
    )


def _per_slice(value: str) -> str:
    return f"max by ({', '.join(_SLICE)}) ({value})"


def _top_tenants(name: str) -> str:
    """Keep the 12 tenants with the highest mean of a gauge over the time shown."""
    ranking = _per_tenant(f"avg_over_time({name}[$__range] @ end())", "@ end()")
    return highest(_per_tenant(name), ranking, 12, by=", ".join(_TENANT))


SHARING = Outline(
    uid="gpu-sharing",
    title="GPU MIG and sharing",
    question="Who shares GPUs with whom, who uses how much, and what is free?",
    since="now-3h",
    rows=(
        Row(
            "At a glance",
            (
                stat(
                    "MIG slices",
                    Query(or_zero("count(gpu_mig_info)")),
                    about="MIG slices that exist.",
                ),
                stat(
                    "Slices allocated",
                    Query(
                        or_zero('count(count by (node, uuid) (gpu_allocation_info{profile!=""}))')
                    ),
                    about="MIG slices that are allocated to at least one container.",
                ),
                stat(
                    "Shared devices",
                    Query(or_zero(f"count(count by (node, uuid) ({_SHARED}))")),
                    about="GPUs and MIG slices that containers share by time-slicing, MPS or DRA.",
                ),
                stat(
                    "Most containers on one device",
                    Query(or_zero(f"max(count by (node, uuid) ({_SHARED}))")),
                    about="The number of containers on the shared device that has the most.",
                ),
                stat(
                    "Free devices",
                    Query(f"sum({FREE})"),
                    about="Devices of device plugins that are not allocated. Each share of a"
                    " shared device counts as one device.",
                ),
            ),
        ),
        Row(
            "Who shares with whom",
            (
                table(
                    "Tenants",
                    _TENANT,
                    Column("Memory", _per_tenant("gpu_container_memory_used_bytes")),
                    Column("Peak", _per_tenant("gpu_container_memory_peak_bytes")),
                    Column("Busy", _per_tenant("gpu_container_utilization_ratio"), full=1),
                    Column(
                        "Idle for",
                        _per_tenant("gpu_container_idle_seconds"),
                    ),
                    sort="Memory",
                    rows=50,
                    height=10,
                    alerts=("GPUSharedOversubscribed",),
                    about="Pods with a slice or a share of a device, the largest first. On"
                    " time-sliced and MPS devices the figures are those of the pod's own"
                    " processes. A figure that cannot be attributed is left out.",
                ),
            ),
            (
                timeseries(
                    "Memory by tenant",
                    Query(
                        _top_tenants("gpu_container_memory_used_bytes"),
                        _TENANT_NAME,
                    ),
                    legend="table",
                    about="Memory in use by pods with a slice or a share. The 12 largest are"
                    " shown.",
                ),
                timeseries(
                    "Utilization by tenant",
                    Query(
                        _top_tenants("gpu_container_utilization_ratio"),
                        _TENANT_NAME,
                    ),
                    legend="table",
                    most=1,
                    about="With a slice, the utilization of the slice. With a share, the"
                    " utilization of the device that the pod's processes caused. The 12 highest"
                    " are shown.",
                ),
            ),
        ),
        Row(
            "Slices",
            (
                table(
                    "Slices, fullest first",
                    _SLICE,
                    Column(
                        "Memory",
                        _per_slice("gpu_mig_memory_used_bytes / gpu_mig_memory_total_bytes"),
                        units.RATIO,
                        above(thresholds.MEMORY_FULL),
                        full=1,
                    ),
                    Column("Busy", _per_slice("gpu_mig_utilization_ratio"), full=1),
                    Column("SM activity", _per_slice("gpu_mig_sm_activity_ratio"), full=1),
                    Column("Bandwidth", _per_slice("gpu_mig_dram_activity_ratio"), full=1),
                    rows=50,
                    height=10,
                    about="Memory and utilization of each MIG slice. Utilization and activity need"
                    " Hopper or newer.",
                ),
            ),
        ),
        Row(
            "What is free",
            (
                bargauge(
                    "Free by resource",
                    Query(f"sort_desc(sum by (resource) ({FREE}) > 0)", "{{resource}}"),
                    empty="Every device is allocated, or the kubelets do not answer.",
                    about="Devices of each resource that are not allocated. A pod that requests a"
                    " profile waits while no slice of that profile is free, even if others are.",
                ),
                table(
                    "Free by node",
                    ("node", "resource"),
                    Column("Free", f"sum by (node, resource) ({FREE})", units.SHORT),
                    Column("Of", "sum by (node, resource) (gpu_allocatable_devices)", units.SHORT),
                    span=1.5,
                    rows=50,
                    about="Free devices of each node and resource.",
                ),
                table(
                    "Memory in no slice",
                    ("node", "gpu"),
                    Column(
                        "Memory",
                        "sum by (node, gpu) (gpu_memory_total_bytes -"
                        " gpu_memory_reserved_bytes and on (node, gpu) gpu_mig_info)"
                        " - sum by (node, gpu) (gpu_mig_memory_total_bytes)",
                    ),
                    about="Memory that belongs to no slice, on boards in MIG mode.",
                ),
            ),
            (
                timeseries(
                    "Free over time, by resource",
                    Query(f"sum by (resource) ({FREE})", "{{resource}}"),
                    about="Devices of each resource that are not allocated.",
                ),
                timeseries(
                    "Unattributed memory of shared devices",
                    Query(
                        highest(
                            f"sum by (node, gpu) ({_UNATTRIBUTED} and on (node, uuid) {_SHARED})",
                            f"max by (node, gpu) (avg_over_time({_UNATTRIBUTED}[$__range] @ end())"
                            f" and on (node, uuid) {_SHARED} @ end())",
                        ),
                        "{{node}} GPU {{gpu}}",
                    ),
                    overrides=by_gpu(),
                    about="Memory that is attributed to no container, the driver's own contexts"
                    " included. The 16 GPUs with the most are shown.",
                ),
            ),
        ),
        Row(
            "Who used the memory when it ran out",
            (
                table(
                    "Other pods on the device at the last out-of-memory",
                    ("namespace", "pod", "cotenant_namespace", "cotenant_pod"),
                    Column(
                        "Memory in use",
                        "max by (namespace, pod, cotenant_namespace, cotenant_pod)"
                        " (gpu_container_oom_cotenant_memory_bytes)",
                    ),
                    empty="No container ran out of memory on a shared device.",
                ),
            ),
        ),
    ),
)
