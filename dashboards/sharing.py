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
_NOBODYS = "gpu_unattributed_memory_bytes"
_PARTS = 'gpu_allocation_info{sharing!="exclusive"}'
_TENANT = ("node", "gpu", "sharing", "profile", "namespace", "pod")
_SLICE = ("node", "gpu", "gpu_instance", "profile")
_TENANT_NAME = "{{namespace}}/{{pod}} {{node}} GPU {{gpu}}"


def _per_tenant(value: str, when: str = "") -> str:
    """Tell a figure of containers by who holds which part of what; ``when`` may be ``@ end()``."""
    return (
        f"sum by ({', '.join(_TENANT)}) ({value} * on ({CONTAINER}) group_left (sharing, profile)"
        f" max by ({CONTAINER}, sharing, profile) ({_PARTS} {when}))"
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
    question="Who shares GPUs with whom, who takes how much, and what is left to give?",
    since="now-3h",
    rows=(
        Row(
            "At a glance",
            (
                stat(
                    "MIG slices",
                    Query(or_zero("count(gpu_mig_info)")),
                    about="Slices that the GPUs are cut into.",
                ),
                stat(
                    "Slices held",
                    Query(
                        or_zero('count(count by (node, uuid) (gpu_allocation_info{profile!=""}))')
                    ),
                    about="Slices that a container holds, alone or with others.",
                ),
                stat(
                    "Shared devices",
                    Query(or_zero(f"count(count by (node, uuid) ({_SHARED}))")),
                    about="GPUs and slices that are shared by time-slicing, MPS or DRA.",
                ),
                stat(
                    "Most on one device",
                    Query(or_zero(f"max(count by (node, uuid) ({_SHARED}))")),
                    about="Containers on the shared device that has the most.",
                ),
                stat(
                    "Devices to give",
                    Query(f"sum({FREE})"),
                    about="Device-plugin devices that no container holds; each share of a shared"
                    " device is one.",
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
                        "Last used",
                        _per_tenant("gpu_container_idle_seconds"),
                    ),
                    sort="Memory",
                    rows=50,
                    height=10,
                    alerts=("GPUSharedOversubscribed",),
                    about="Pods that hold a slice or a share, the largest first. On time-sliced and"
                    " MPS devices the figures are those of the pod's own processes; what cannot be"
                    " told apart is left out.",
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
                    about="Device memory of those who hold a slice or a share; the 12 largest.",
                ),
                timeseries(
                    "Utilization by tenant",
                    Query(
                        _top_tenants("gpu_container_utilization_ratio"),
                        _TENANT_NAME,
                    ),
                    legend="table",
                    most=1,
                    about="Of a slice: of the slice. Of a share: the part of the device that the"
                    " pod's processes had. The 12 highest.",
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
                    about="What each slice has in use, of what it has. Utilization and activity"
                    " take Hopper or newer.",
                ),
            ),
        ),
        Row(
            "What is left to give",
            (
                bargauge(
                    "Free by resource",
                    Query(f"sort_desc(sum by (resource) ({FREE}) > 0)", "{{resource}}"),
                    empty="Every device is held, or the kubelets could not be asked.",
                    about="Devices of each resource that no container holds. A pod that asks for a"
                    " profile waits while there is none of it, however much else is free.",
                ),
                table(
                    "Free by node",
                    ("node", "resource"),
                    Column("Free", f"sum by (node, resource) ({FREE})", units.SHORT),
                    Column("Of", "sum by (node, resource) (gpu_allocatable_devices)", units.SHORT),
                    span=1.5,
                    rows=50,
                    about="Where they are.",
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
                    about="What the cut leaves over on boards in MIG mode.",
                ),
            ),
            (
                timeseries(
                    "Free over time, by resource",
                    Query(f"sum by (resource) ({FREE})", "{{resource}}"),
                    about="Devices of each resource that no container holds.",
                ),
                timeseries(
                    "Memory of shared devices that is nobody's",
                    Query(
                        highest(
                            f"sum by (node, gpu) ({_NOBODYS} and on (node, uuid) {_SHARED})",
                            f"max by (node, gpu) (avg_over_time({_NOBODYS}[$__range] @ end())"
                            f" and on (node, uuid) {_SHARED} @ end())",
                        ),
                        "{{node}} GPU {{gpu}}",
                    ),
                    overrides=by_gpu(),
                    about="Device memory that no container's process holds; the driver's own"
                    " contexts included. The 16 GPUs with the most.",
                ),
            ),
        ),
        Row(
            "Who had the memory when it ran out",
            (
                table(
                    "Co-tenants at the last out-of-memory",
                    ("namespace", "pod", "cotenant_namespace", "cotenant_pod"),
                    Column(
                        "Held",
                        "max by (namespace, pod, cotenant_namespace, cotenant_pod)"
                        " (gpu_container_oom_cotenant_memory_bytes)",
                    ),
                    empty="Nobody ran out of memory on a shared device.",
                ),
            ),
        ),
    ),
)
