"""Activity from the GPU performance monitor (GPM, Hopper and newer).

A GPM sample is a snapshot of counters; two of them give means over the time in between, however
long. So each GPU, and each GPU instance under MIG, keeps the last one.
"""

import contextlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pynvml

from exporter.gpus.nvml.bounds import flag
from exporter.gpus.nvml.gate import Gate
from exporter.gpus.nvml.identity import Handle
from exporter.gpus.nvml.library import CallError, nvml
from exporter.gpus.nvml.turnstile import Turnstile
from exporter.model.readings import Activity

SHORTEST_SECONDS = 0.1
"""NVML needs at least this long between two samples."""

_RATIOS = {
    "graphics": pynvml.NVML_GPM_METRIC_GRAPHICS_UTIL,
    "sm": pynvml.NVML_GPM_METRIC_SM_UTIL,
    "sm_occupancy": pynvml.NVML_GPM_METRIC_SM_OCCUPANCY,
    "dram": pynvml.NVML_GPM_METRIC_DRAM_BW_UTIL,
    "tensor": pynvml.NVML_GPM_METRIC_ANY_TENSOR_UTIL,
    "fp16": pynvml.NVML_GPM_METRIC_FP16_UTIL,
    "fp32": pynvml.NVML_GPM_METRIC_FP32_UTIL,
    "fp64": pynvml.NVML_GPM_METRIC_FP64_UTIL,
    "integer": pynvml.NVML_GPM_METRIC_INTEGER_UTIL,
}
"""In percent."""

_PIPES = ("tensor", "fp16", "fp32", "fp64", "integer")

_RATES = {
    "pcie_receive": pynvml.NVML_GPM_METRIC_PCIE_RX_PER_SEC,
    "pcie_transmit": pynvml.NVML_GPM_METRIC_PCIE_TX_PER_SEC,
}
"""In MiB per second. The board's, so never asked of an instance."""

Sample = Any
"""NVML's opaque pointer to a sample, which is ours to free."""


@dataclass(slots=True)
class _Kept:
    """The last sample with its time, and one to take the next into."""

    last: Sample | None = None
    last_time: float = 0.0
    spare: Sample | None = None


class Gpm:
    """The samples kept for one GPU. ``clock`` is monotonic, in seconds.

    All GPUs share ``turnstile``: NVML takes samples for one thread at a time.
    """

    def __init__(self, gate: Gate, clock: Callable[[], float], turnstile: Turnstile) -> None:
        self._gate = gate
        self._asker = gate.asker
        self._clock = clock
        self._turnstile = turnstile
        self._has_gpm: bool | None = None
        self._kept: dict[int | None, _Kept] = {}
        self._metrics = pynvml.c_nvmlGpmMetricsGet_t()
        self._metrics.version = pynvml.NVML_GPM_METRICS_GET_VERSION

    def read_gpu(self, handle: Handle) -> Activity | None:
        """Means since the last read; ``None`` the first time. Raises :class:`GpuError`."""
        take = partial(nvml.nvmlGpmSampleGet, handle)
        return self._read("activity", handle, None, take, {**_RATIOS, **_RATES})

    def read_instances(self, handle: Handle, instances: Collection[int]) -> dict[int, Activity]:
        """Means by GPU instance. Raises :class:`GpuError`."""
        read = {
            instance: self._read(
                "instance_activity",
                handle,
                instance,
                partial(nvml.nvmlGpmMigSampleGet, handle, instance),
                _RATIOS,
            )
            for instance in instances
        }
        return {instance: activity for instance, activity in read.items() if activity}

    def drop(self) -> None:
        """Free all samples: what they count is no more. Never raises."""
        for kept in self._kept.values():
            for sample in (kept.last, kept.spare):
                if sample is not None:
                    _free(sample)
        self._kept.clear()
        self._has_gpm = None

    def _read(
        self,
        field: str,
        handle: Handle,
        instance: int | None,
        take: Callable[[Sample], object],
        metrics: Mapping[str, int],
    ) -> Activity | None:
        if not self._supported(handle) or not self._asker.supported(field, instance):
            return None
        kept = self._kept.setdefault(instance, _Kept())
        if kept.last is not None and self._clock() - kept.last_time < SHORTEST_SECONDS:
            return None
        if kept.spare is None:
            kept.spare = self._asker.ask(field, nvml.nvmlGpmSampleAlloc, "sample")
        if kept.spare is None:
            return None
        in_turn = partial(self._turnstile, partial(take, kept.spare))
        if self._asker.ask(field, in_turn, instance) is None:
            return None
        now = self._clock()  # only now, because the turnstile may have made us wait
        before, seconds = kept.last, now - kept.last_time
        kept.last, kept.last_time, kept.spare = kept.spare, now, before
        if before is None:
            return None
        return self._activity(field, before, kept.last, seconds, metrics)

    def _supported(self, handle: Handle) -> bool:
        if self._has_gpm is None:
            self._has_gpm = self._asker.ask("activity", partial(_has_gpm, handle), "gpm")
        return bool(self._has_gpm)

    def _activity(
        self,
        field: str,
        before: Sample,
        after: Sample,
        seconds: float,
        metrics: Mapping[str, int],
    ) -> Activity | None:
        asked = self._metrics
        asked.sample1, asked.sample2, asked.numMetrics = before, after, len(metrics)
        for slot, metric in enumerate(metrics.values()):
            asked.metrics[slot].metricId = metric
        compute = partial(self._turnstile, partial(nvml.nvmlGpmMetricsGet, asked))
        if self._asker.ask(field, compute, "metrics") is None:
            return None
        values = {
            name: asked.metrics[slot].value
            for slot, name in enumerate(metrics)
            if asked.metrics[slot].nvmlReturn == pynvml.NVML_SUCCESS
        }
        # What was moved, in MiB.
        moved = {name: values[name] * seconds for name in _RATES if name in values}
        return self._gate.piece(
            field,
            Activity,
            interval_seconds=seconds,
            graphics_ratio=values.get("graphics"),
            sm_ratio=values.get("sm"),
            sm_occupancy_ratio=values.get("sm_occupancy"),
            dram_ratio=values.get("dram"),
            pipe_ratio={pipe: values.get(pipe) for pipe in _PIPES},
            pcie_receive_bytes=moved.get("pcie_receive"),
            pcie_transmit_bytes=moved.get("pcie_transmit"),
        )


def _has_gpm(handle: Handle) -> bool:
    return flag("GPM support", nvml.nvmlGpmQueryDeviceSupport(handle).isSupportedDevice)


def _free(sample: Sample) -> None:
    # It fails when the library is gone, and the memory with it.
    with contextlib.suppress(CallError):
        nvml.nvmlGpmSampleFree(sample)
