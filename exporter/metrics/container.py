"""Families of containers: which devices they have, and what they use them for."""

from collections.abc import Callable, Iterator
from typing import Final

from exporter.metrics.family import Family, Point
from exporter.metrics.gpu import readable
from exporter.model.claims import Allocation
from exporter.model.ends import Cause
from exporter.model.oom import OomTotals
from exporter.model.snapshot import IDLE_RATIO, ContainerSample, Snapshot, Unattributed

_CONTAINER: Final = ("namespace", "pod", "container", "uuid", "gpu")


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
        for other, used in (last.cotenant_bytes if last else {}).items():
            cotenant = (other.namespace, other.pod, other.name)
            yield (*_labels(sample.allocation), *cotenant), used


def _host_oom_kills(snapshot: Snapshot) -> Iterator[Point]:
    for container, count in snapshot.host_oom_kills.items():
        yield (container.namespace, container.pod, container.name), count


def _host_oom_last(snapshot: Snapshot) -> Iterator[Point]:
    for container, time in snapshot.host_oom_last.items():
        yield (container.namespace, container.pod, container.name), time


def _starts(snapshot: Snapshot) -> Iterator[Point]:
    for container, time in snapshot.container_starts.items():
        yield (container.namespace, container.pod, container.name), time


def _ends(snapshot: Snapshot) -> Iterator[Point]:
    for container, counts in snapshot.container_ends.items():
        names = (container.namespace, container.pod, container.name)
        for (cause, confidence), count in counts.items():
            yield (*names, cause, confidence), count


def _unattributed(name: str, text: str, value: Callable[[Unattributed], float | None]) -> Family:
    def points(snapshot: Snapshot) -> Iterator[Point]:
        for sample, _ in readable(snapshot):
            for uuid in (sample.gpu.uuid, *(slice_.uuid for slice_ in sample.gpu.slices)):
                rest = snapshot.unattributed.get(uuid)
                if rest and (number := value(rest)) is not None:
                    yield (uuid, str(sample.gpu.index)), number

    return Family(name, text, ("uuid", "gpu"), points)


CONTAINERS: Final = (
    Family(
        "gpu_allocation_info",
        "A device is allocated to a container: a whole GPU, a MIG slice, or a share of either. The"
        " value is 1. sharing is exclusive, mig, time_sliced, mps or dra. With the pod watch on,"
        " workload_kind and workload name what created the pod, each pod label that is allowed"
        " becomes a label_…, and exempt lists the groups of alerts (underuse, memory, all) that the"
        " pod declines with kube-gpu-exporter/exempt.",
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
    Family(
        "gpu_container_start_timestamp_seconds",
        "When the present run of the container began, in Unix time: by the pod watch, else when the"
        " exporter first saw the container. Absent if the container was there before the exporter.",
        ("namespace", "pod", "container"),
        _starts,
    ),
    _family(
        "gpu_container_allocated_seconds_total",
        "Device-seconds for which the device has been allocated to the container. On a shared"
        " device, they count in proportion to the container's shares of all shares that the node"
        " advertises.",
        lambda c: c.allocated_seconds,
    ),
    _family(
        "gpu_container_busy_seconds_total",
        "Time integral of the device's utilization while the device was allocated to the container."
        " On a shared GPU, only the work of the container's own processes counts, and the series is"
        " absent where processes can't be attributed to containers.",
        lambda c: c.busy_seconds,
    ),
    _family(
        "gpu_container_utilization_ratio",
        "Utilization of the container's device, mean over the last full tick. On a shared GPU, only"
        " the work of the container's own processes counts.",
        lambda c: c.utilization_ratio,
    ),
    _family(
        "gpu_container_utilization_peak_ratio",
        "Highest utilization of the container's device in the container's present run, by the"
        " driver's samples (about 5 per second). Under MIG and on a shared GPU, it is the highest"
        " mean over a full tick. Without the pod watch, it counts from the allocation.",
        lambda c: c.utilization_peak_ratio,
    ),
    _family(
        "gpu_container_idle_seconds",
        "Time since the container's device was last busy, which means a utilization of"
        f" {IDLE_RATIO * 100:g} % or more over a full tick. If the exporter never saw the device"
        " busy, it counts from the allocation, or from the start of the exporter.",
        lambda c: c.idle_seconds,
    ),
    _family(
        "gpu_container_memory_used_bytes",
        "Device memory in use on the container's device. On a shared device, only the memory of the"
        " container's own processes counts.",
        lambda c: c.memory_used_bytes,
    ),
    _family(
        "gpu_container_memory_limit_bytes",
        "All the memory of a device that is allocated to this container alone. A container on a"
        " shared device has no limit of its own.",
        lambda c: c.memory_limit_bytes,
    ),
    _family(
        "gpu_container_memory_peak_bytes",
        "Highest use of device memory in the container's present run, as the fast tick saw it."
        " Without the pod watch, it counts from the allocation.",
        lambda c: c.memory_peak_bytes,
    ),
    _family(
        "gpu_container_energy_joules_total",
        "Energy that the board used for the container: for its busy time, and for its share of the"
        " idle time. Under MIG, busy energy is split by the SMs in use, and idle energy by the size"
        " of the slices.",
        lambda c: c.energy_joules,
    ),
    Family(
        "gpu_container_oom_events_total",
        "How often the container ran out of GPU memory and ended, by how certain that is:"
        " confirmed, likely, possible. With the pod watch on.",
        (*_CONTAINER, "confidence"),
        _oom_events,
    ),
    _last_oom(
        "gpu_container_oom_last_timestamp_seconds",
        "When the container last ended because it ran out of GPU memory, in Unix time.",
        lambda oom: oom.last.termination.finished_at if oom.last else None,
    ),
    Family(
        "gpu_container_oom_cotenant_memory_bytes",
        "Memory that each other container on a shared device used when this container last ran out"
        " of GPU memory.",
        (*_CONTAINER, "cotenant_namespace", "cotenant_pod", "cotenant_container"),
        _cotenant_memory,
    ),
    Family(
        "gpu_container_host_oom_kills_total",
        "How often the kernel killed the container because the host ran out of memory, while a GPU"
        " was allocated to the container. With the pod watch on.",
        ("namespace", "pod", "container"),
        _host_oom_kills,
    ),
    Family(
        "gpu_container_host_oom_last_timestamp_seconds",
        "When the kernel last killed the container for want of the host's memory, in Unix time.",
        ("namespace", "pod", "container"),
        _host_oom_last,
    ),
    Family(
        "gpu_container_ends_total",
        "Ends of a container that had a GPU, by cause, and by how certain the cause is: confirmed,"
        f" likely, possible. cause: {', '.join(Cause)}. A cause that has not occurred has no"
        " series. With the pod watch on.",
        ("namespace", "pod", "container", "cause", "confidence"),
        _ends,
    ),
)

UNATTRIBUTED: Final = (
    _unattributed(
        "gpu_unattributed_busy_seconds_total",
        "Busy time of a device that is attributed to no container: of processes outside Kubernetes,"
        " of times in which the device was not allocated, of claims that match no device"
        " (gpu_unresolved_claims), and of times when the container could not be determined.",
        lambda rest: rest.busy_seconds,
    ),
    _unattributed(
        "gpu_unattributed_energy_joules_total",
        "Energy of a device that is attributed to no container: the energy of unattributed busy"
        " time, and the idle energy of times in which the device was not allocated.",
        lambda rest: rest.energy_joules,
    ),
    _unattributed(
        "gpu_unattributed_memory_bytes",
        "Device memory in use that is attributed to no container: of the driver, of processes"
        " outside Kubernetes, and of containers whose claims match no device"
        " (gpu_unresolved_claims).",
        lambda rest: rest.memory_bytes,
    ),
)
