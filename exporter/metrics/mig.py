"""Families of MIG slices."""

from collections.abc import Callable, Iterator

from exporter.metrics.family import Family, Point
from exporter.metrics.gpu import readable
from exporter.model.devices import Slice
from exporter.model.readings import Activity, Memory
from exporter.model.snapshot import DeviceTotals, GpuData, Snapshot

_SLICE = ("uuid", "gpu", "gpu_uuid", "gpu_instance", "profile")


def _labels(part: Slice) -> tuple[str, ...]:
    return part.uuid, str(part.gpu_index), part.gpu_uuid, str(part.gpu_instance), part.profile


def _info(snapshot: Snapshot) -> Iterator[Point]:
    for sample, _ in readable(snapshot):
        for part in sample.gpu.slices:
            sm_count = "" if part.sm_count is None else str(part.sm_count)
            yield (*_labels(part), str(part.compute_instance), sm_count, sample.gpu.model), 1


def _per_instance(name: str, text: str, value: Callable[[GpuData, int], float | None]) -> Family:
    """Make a family with one series per GPU instance, under its first slice."""

    def points(snapshot: Snapshot) -> Iterator[Point]:
        for sample, data in readable(snapshot):
            for part in sample.gpu.leading_slices:
                if (number := value(data, part.gpu_instance)) is not None:
                    yield _labels(part), number

    return Family(name, text, _SLICE, points)


def _memory(name: str, text: str, value: Callable[[Memory], float | None]) -> Family:
    def of(data: GpuData, instance: int) -> float | None:
        memory = data.fast.instance_memory.get(instance)
        return value(memory) if memory else None

    return _per_instance(name, text, of)


def _activity(name: str, text: str, value: Callable[[Activity], float | None]) -> Family:
    def of(data: GpuData, instance: int) -> float | None:
        activity = data.full.instance_activity.get(instance)
        return value(activity) if activity else None

    return _per_instance(name, text, of)


def _totals(name: str, text: str, value: Callable[[DeviceTotals], float | None]) -> Family:
    def of(data: GpuData, instance: int) -> float | None:
        totals = data.slices.get(instance)
        return value(totals) if totals else None

    return _per_instance(name, text, of)


def _pipe_activity(snapshot: Snapshot) -> Iterator[Point]:
    for sample, data in readable(snapshot):
        for part in sample.gpu.leading_slices:
            activity = data.full.instance_activity.get(part.gpu_instance)
            for pipe, ratio in (activity.pipe_ratio if activity else {}).items():
                yield (*_labels(part), pipe), ratio


SLICES = (
    Family(
        "gpu_mig_info",
        "Facts about a MIG slice; the value is 1. Compute instances that share a GPU instance share"
        " its memory and activity, which are told once, under the first of them.",
        (*_SLICE, "compute_instance", "sm_count", "model"),
        _info,
    ),
    _memory(
        "gpu_mig_memory_total_bytes",
        "Device memory that the slice's GPU instance has.",
        lambda m: m.total_bytes,
    ),
    _memory(
        "gpu_mig_memory_used_bytes",
        "Device memory of the slice's GPU instance that is allocated by processes.",
        lambda m: m.used_bytes,
    ),
    _memory(
        "gpu_mig_memory_free_bytes",
        "Device memory of the slice's GPU instance that can still be allocated.",
        lambda m: m.free_bytes,
    ),
    _totals(
        "gpu_mig_memory_used_peak_bytes",
        "Highest memory use of the slice's GPU instance in the peak window.",
        lambda t: t.memory_used_peak_bytes,
    ),
    _totals(
        "gpu_mig_utilization_ratio",
        "Share of time in which the slice's engines did anything, mean over the last full tick."
        " Relative to the slice. Hopper and newer: before, the driver tells none.",
        lambda t: t.utilization_ratio,
    ),
    _totals(
        "gpu_mig_busy_seconds_total",
        "Time integral of the slice's utilization since the exporter started (Hopper and newer).",
        lambda t: t.busy_seconds,
    ),
    _activity(
        "gpu_mig_sm_activity_ratio",
        "Share of time in which an SM of the slice had a warp resident (Hopper and newer).",
        lambda a: a.sm_ratio,
    ),
    _activity(
        "gpu_mig_sm_occupancy_ratio",
        "Warps resident on the slice's SMs as a share of the most they can hold (Hopper and"
        " newer).",
        lambda a: a.sm_occupancy_ratio,
    ),
    _activity(
        "gpu_mig_dram_activity_ratio",
        "Share of the slice's memory bandwidth in use (Hopper and newer).",
        lambda a: a.dram_ratio,
    ),
    Family(
        "gpu_mig_pipe_activity_ratio",
        "Share of cycles in which a pipe of the slice's SMs was active (Hopper and newer).",
        (*_SLICE, "pipe"),
        _pipe_activity,
    ),
)
