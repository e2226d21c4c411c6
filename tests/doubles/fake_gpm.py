"""GPM in the NVML double: samples that have to be allocated, and freed."""

# ruff: noqa: N802  functions are named like the ones in C

from typing import Any

import pynvml

from tests.doubles.fake_device import (
    NOT_SUPPORTED,
    Failure,
    FakeDevice,
    Refused,
    address,
    fill,
    new_address,
    point,
)
from tests.doubles.fake_driver import FakeDriver


class FakeGpm(FakeDriver):
    def __init__(self, *gpus: FakeDevice, driver: str) -> None:
        super().__init__(*gpus, driver=driver)
        self.gpm_samples: dict[int, tuple[str, int | None] | None] = {}
        """Allocated GPM samples, with what they were taken of."""
        self.gpm_allocated = 0

    def _nvmlGpmQueryDeviceSupport(self, handle: Any, support: Any) -> None:
        device = self._device("nvmlGpmQueryDeviceSupport", handle)
        fill(support, {"isSupportedDevice": int(bool(device.gpm))})

    def _nvmlGpmSampleAlloc(self, sample: Any) -> None:
        new = new_address()
        self.gpm_samples[new] = None
        self.gpm_allocated += 1
        point(sample, new)

    def _nvmlGpmSampleFree(self, sample: Any) -> None:
        del self.gpm_samples[address(sample)]

    def _nvmlGpmSampleGet(self, handle: Any, sample: Any) -> None:
        self._take("nvmlGpmSampleGet", handle, None, sample)

    def _nvmlGpmMigSampleGet(self, handle: Any, instance: int, sample: Any) -> None:
        self._take("nvmlGpmMigSampleGet", handle, instance, sample)

    def _take(self, name: str, handle: Any, instance: int | None, sample: Any) -> None:
        device = self._device(name, handle)
        if isinstance(failure := device.answers.get(name), Failure):
            raise Refused(failure.code)
        if instance not in device.gpm:
            raise Refused(pynvml.NVML_ERROR_NOT_SUPPORTED)
        assert address(sample) in self.gpm_samples, "a sample that was freed"
        self.gpm_samples[address(sample)] = (device.uuid, instance)

    def _nvmlGpmMetricsGet(self, asked: Any) -> None:
        asked = asked._obj
        before = self.gpm_samples[address(asked.sample1)]
        after = self.gpm_samples[address(asked.sample2)]
        assert before == after, "samples of two things"
        assert after is not None
        uuid, instance = after
        metrics = next(gpu for gpu in self.gpus if gpu.uuid == uuid).gpm[instance]
        for slot in range(asked.numMetrics):
            metric = asked.metrics[slot]
            answer = metrics.get(metric.metricId, NOT_SUPPORTED)
            metric.nvmlReturn = answer.code if isinstance(answer, Failure) else 0
            metric.value = 0.0 if isinstance(answer, Failure) else answer
