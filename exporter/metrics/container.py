"""Families of containers: who holds what, and what it was used for."""

from collections.abc import Callable, Iterator

from exporter.metrics.family import Family, Point
from exporter.model.claims import Allocation
from exporter.model.snapshot import ContainerSample, Snapshot

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
            allocation = sample.allocation
            profile = allocation.slice.profile if allocation.slice else ""
            extra = (allocation.resource, allocation.sharing, allocation.gpu.uuid, profile)
            yield (*_labels(allocation), *extra), 1


CONTAINERS = (
    Family(
        "gpu_allocation_info",
        "A container holds a device: a whole GPU, a MIG slice, or a share of either; the value"
        " is 1. sharing: exclusive, mig, time_sliced, mps, dra.",
        (*_CONTAINER, "resource", "sharing", "gpu_uuid", "profile"),
        _info,
    ),
    _family(
        "gpu_container_allocated_seconds_total",
        "Device-seconds that the container has held; on a shared device, in proportion to the"
        " shares held of those that the node advertises.",
        lambda c: c.allocated_seconds,
    ),
    _family(
        "gpu_container_busy_seconds_total",
        "Time integral of the device's utilization while the container held it alone.",
        lambda c: c.busy_seconds,
    ),
    _family(
        "gpu_container_utilization_ratio",
        "Utilization of the device that the container holds alone, mean over the last full tick.",
        lambda c: c.utilization_ratio,
    ),
    _family(
        "gpu_container_idle_seconds",
        "Time since the container's device was last busy (1 % or more over a full tick), or since"
        " the container got it, as far as the exporter has seen.",
        lambda c: c.idle_seconds,
    ),
    _family(
        "gpu_container_memory_used_bytes",
        "Device memory in use on the device that the container holds alone.",
        lambda c: c.memory_used_bytes,
    ),
    _family(
        "gpu_container_memory_limit_bytes",
        "Device memory of the device that the container holds alone.",
        lambda c: c.memory_limit_bytes,
    ),
    _family(
        "gpu_container_memory_peak_bytes",
        "Highest device memory use since the container got the device, as the fast tick saw it.",
        lambda c: c.memory_peak_bytes,
    ),
    _family(
        "gpu_container_energy_joules_total",
        "The board's energy while the container held it. Under MIG the busy part is split by SMs"
        " in use, and the idle part by the slices' size.",
        lambda c: c.energy_joules,
    ),
)
