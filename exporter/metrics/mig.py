"""Families of MIG slices."""

from collections.abc import Callable, Iterator
from typing import Final

from exporter.metrics.family import Family, Point
from exporter.metrics.gpu import readable
from exporter.model.devices import Slice
from exporter.model.readings import Activity, Memory
from exporter.model.snapshot import DeviceTotals, GpuData, Snapshot

_SLICE: Final = ("uuid", "gpu", "gpu_uuid", "gpu_instance", "profile")


def _labels(slice_: Slice) -> tuple[str, ...]:
    gpu, instance = str(slice_.gpu_index), str(slice_.gpu_instance)
    return slice_.uuid, gpu, slice_.gpu_uuid, instance, slice_.profile


def _info(snapshot: Snapshot) -> Iterator[Point]:
    for sample, _ in readable(snapshot):
        for slice_ in sample.gpu.slices:
            sm_count = "" if slice_.sm_count is None else str(slice_.sm_count)
            yield (*_labels(slice_), str(slice_.compute_instance), sm_count, sample.gpu.model), 1


def _per_instance(name: str, text: str, value: Callable[[GpuData, int], float | None]) -> Family:
    """Make a family with one series per GPU instance, under the instance's leading slice."""

    def points(snapshot: Snapshot) -> Iterator[Point]:
        for sample, data in readable(snapshot):
            for slice_ in sample.gpu.leading_slices:
                if (number := value(data, slice_.gpu_instance)) is not None:
                    yield _labels(slice_), number

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
        for slice_ in sample.gpu.leading_slices:
            activity = data.full.instance_activity.get(slice_.gpu_instance)
            for pipe, ratio in (activity.pipe_ratio if activity else {}).items():
                yield (*_labels(slice_), pipe), ratio


SLICES: Final = (
    Family(
        "gpu_mig_info",
        "Facts about a MIG slice; the value is 1. Compute instances of one GPU instance share its"
        " memory and its activity, which are exported once, under the first of them.",
        (*_SLICE, "compute_instance", "sm_count", "model"),
        _info,
    ),
    _memory(
        "gpu_mig_memory_total_bytes",
        "Device memory of the slice's GPU instance.",
        lambda m: m.total_bytes,
    ),
    _memory(
        "gpu_mig_memory_used_bytes",
        "Device memory in use of the slice's GPU instance.",
        lambda m: m.used_bytes,
    ),
    _memory(
        "gpu_mig_memory_free_bytes",
        "Device memory of the slice's GPU instance that can still be allocated.",
        lambda m: m.free_bytes,
    ),
    _totals(
        "gpu_mig_memory_used_peak_bytes",
        "Highest use of the memory of the slice's GPU instance in the peak window.",
        lambda t: t.memory_used_peak_bytes,
    ),
    _totals(
        "gpu_mig_utilization_ratio",
        "Share of time in which the slice's engines did anything, mean over the last full tick."
        " Relative to the slice. Only on Hopper and newer: on older GPUs the driver reports none.",
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
