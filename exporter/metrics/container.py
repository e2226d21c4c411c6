"""Families of containers: who holds what, and what it was used for."""

from collections.abc import Callable, Iterator

from exporter.metrics.family import Family, Point
from exporter.metrics.gpu import readable
from exporter.model.claims import Allocation
from exporter.model.oom import OomTotals
from exporter.model.snapshot import ContainerSample, Snapshot, Unattributed

_CONTAINER = ("namespace", "pod", "container", "uuid", "gpu")


def _labels(allocation: Allocation) -> tuple[str, ...]:
    container = allocation.container
    return (
        container.namespace,
        container.pod,
        container.name,
        allocation.device_uuid,
        str(allocation.gpu.index),
    )


def _family(name: str, text: str, value: Callable[[ContainerSample], float | None]) -> Family:
    def points(snapshot: Snapshot) -> Iterator[Point]:
        for sample in snapshot.containers:
            if (number := value(sample)) is not None:
                yield _labels(sample.allocation), number

    return Family(name, text, _CONTAINER, points)


def _info(snapshot: Snapshot) -> Iterator[Point]:
    for sample in snapshot.containers:
        if not sample.ended:
            allocation, pod = sample.allocation, sample.pod
            labels = (
                *_labels(allocation),
                allocation.resource,
                allocation.sharing,
                allocation.gpu.uuid,
                allocation.slice.profile if allocation.slice else "",
                pod.workload_kind if pod else "",
                pod.workload if pod else "",
                allocation.claim_namespace,
                allocation.claim_name,
                ",".join(sorted(pod.exempt)) if pod else "",
                *(pod.labels.get(key, "") if pod else "" for key in snapshot.pod_labels),
            )
            yield labels, 1


def _oom_events(snapshot: Snapshot) -> Iterator[Point]:
    for sample in snapshot.containers:
        for confidence, count in (sample.oom.events if sample.oom else {}).items():
            yield (*_labels(sample.allocation), confidence), count


def _last_oom(name: str, text: str, value: Callable[[OomTotals], float | None]) -> Family:
    return _family(name, text, lambda c: value(c.oom) if c.oom and c.oom.last else None)


def _cotenant_memory(snapshot: Snapshot) -> Iterator[Point]:
    for sample in snapshot.containers:
        last = sample.oom.last if sample.oom else None
        for holder, held in (last.cotenant_bytes if last else {}).items():
            cotenant = (holder.namespace, holder.pod, holder.name)
            yield (*_labels(sample.allocation), *cotenant), held


def _host_oom_kills(snapshot: Snapshot) -> Iterator[Point]:
    for container, count in snapshot.host_oom_kills.items():
        yield (container.namespace, container.pod, container.name), count


def _unattributed(name: str, text: str, value: Callable[[Unattributed], float | None]) -> Family:
    def points(snapshot: Snapshot) -> Iterator[Point]:
        for sample, _ in readable(snapshot):
            for uuid in (sample.gpu.uuid, *(part.uuid for part in sample.gpu.slices)):
                rest = snapshot.unattributed.get(uuid)
                if rest and (number := value(rest)) is not None:
                    yield (uuid, str(sample.gpu.index)), number

    return Family(name, text, ("uuid", "gpu"), points)


CONTAINERS = (
    Family(
        "gpu_allocation_info",
        "A container holds a device: a whole GPU, a MIG slice, or a share of either; the value"
        " is 1. sharing: exclusive, mig, time_sliced, mps, dra. With the pod watch on, it names"
        " what brought the pod about, and has a label_… for each pod label that is allowed. exempt:"
        " underuse, memory, all, of which alerts the pod's kube-gpu-exporter/exempt wants none.",
        (
            *_CONTAINER,
            "resource",
            "sharing",
            "gpu_uuid",
            "profile",
            "workload_kind",
            "workload",
            "claim_namespace",
            "claim_name",
            "exempt",
        ),
        _info,
        pod_labels=True,
    ),
    _family(
        "gpu_container_allocated_seconds_total",
        "Device-seconds that the container has held; on a shared device, in proportion to the"
        " shares held of those that the node advertises.",
        lambda c: c.allocated_seconds,
    ),
    _family(
        "gpu_container_busy_seconds_total",
        "Time integral of the device's utilization while the container held it; of a shared GPU,"
        " the part that its processes had, where those can be told apart.",
        lambda c: c.busy_seconds,
    ),
    _family(
        "gpu_container_utilization_ratio",
        "Utilization of the container's device, mean over the last full tick; of a shared GPU, the"
        " part that its processes had.",
        lambda c: c.utilization_ratio,
    ),
    _family(
        "gpu_container_utilization_peak_ratio",
        "Highest utilization of the container's device since the exporter heard that the container"
        " was last started, of the driver's samples (some 5 a second), under MIG of the means over"
        " a full tick; of a shared GPU, of those of its part. Without the pod watch, since it got"
        " the device.",
        lambda c: c.utilization_peak_ratio,
    ),
    _family(
        "gpu_container_idle_seconds",
        "Time since the container's device was last busy (1 % or more over a full tick), or since"
        " the container got it, as far as the exporter has seen.",
        lambda c: c.idle_seconds,
    ),
    _family(
        "gpu_container_memory_used_bytes",
        "Device memory in use on the container's device; of a shared device, what its processes"
        " hold.",
        lambda c: c.memory_used_bytes,
    ),
    _family(
        "gpu_container_memory_limit_bytes",
        "Device memory of the device that the container holds alone. Of a shared device none is"
        " its own.",
        lambda c: c.memory_limit_bytes,
    ),
    _family(
        "gpu_container_memory_peak_bytes",
        "Highest device memory use since the exporter heard that the container was last started, as"
        " the fast tick saw it; without the pod watch, since the container got the device.",
        lambda c: c.memory_peak_bytes,
    ),
    _family(
        "gpu_container_energy_joules_total",
        "The board's energy while the container held it: by its busy time, and its part of the idle"
        " time. Under MIG the busy part is split by SMs in use, the idle part by the slices' size.",
        lambda c: c.energy_joules,
    ),
    Family(
        "gpu_container_oom_events_total",
        "Ends of the container for want of GPU memory, by how certain that is: confirmed, likely,"
        " possible. With the pod watch on.",
        (*_CONTAINER, "confidence"),
        _oom_events,
    ),
    _last_oom(
        "gpu_container_oom_last_timestamp_seconds",
        "When the container last ended for want of GPU memory, in Unix time.",
        lambda oom: oom.last.termination.finished_at if oom.last else None,
    ),
    Family(
        "gpu_container_oom_cotenant_memory_bytes",
        "What others held of a shared device when the container last ended for want of memory.",
        (*_CONTAINER, "cotenant_namespace", "cotenant_pod", "cotenant_container"),
        _cotenant_memory,
    ),
    Family(
        "gpu_container_host_oom_kills_total",
        "How often the kernel killed the container for want of the host's memory, while it held a"
        " GPU. With the pod watch on.",
        ("namespace", "pod", "container"),
        _host_oom_kills,
    ),
)

UNATTRIBUTED = (
    _unattributed(
        "gpu_unattributed_busy_seconds_total",
        "Busy time of a device that is booked on no container: of processes outside Kubernetes, of"
        " times when nobody held it, of claims that can't be resolved (gpu_unresolved_claims), or"
        " of which nobody can tell whose it was.",
        lambda rest: rest.busy_seconds,
    ),
    _unattributed(
        "gpu_unattributed_energy_joules_total",
        "Energy of a device that is booked on no container, as its busy time is; also of what was"
        " idle while nobody held it.",
        lambda rest: rest.energy_joules,
    ),
    _unattributed(
        "gpu_unattributed_memory_bytes",
        "Device memory that no container's process holds; the driver's own contexts included, and"
        " what containers hold whose claims can't be resolved (gpu_unresolved_claims).",
        lambda rest: rest.memory_bytes,
    ),
)
