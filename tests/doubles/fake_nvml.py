"""The NVML double, whole: the driver's own lists, samples and field values, GPM and events."""

# ruff: noqa: N802, PLR0917  functions are named like the ones in C, and get what those get

from typing import Any

import pynvml

from tests.doubles.fake_device import NOT_SUPPORTED, Failure, FakeDevice, Refused, fill
from tests.doubles.fake_events import FakeEvents
from tests.doubles.fake_gpm import FakeGpm


class FakeNvml(FakeGpm, FakeEvents):
    """A node's driver and library. Attributes named like C functions are those functions."""

    def __init__(self, *gpus: FakeDevice, driver: str = "580.159.04") -> None:
        super().__init__(*gpus, driver=driver)

    def _answer(self, device: FakeDevice, name: str, arguments: tuple[Any, ...]) -> int:
        if "RunningProcesses" in name:
            return self._list_processes(device, name, *arguments)
        return super()._answer(device, name, arguments)

    def _list_processes(self, device: FakeDevice, name: str, count: Any, into: Any) -> int:
        kind = name.removeprefix("nvmlDeviceGet").partition("Running")[0]
        if kind not in device.processes:
            raise Refused(pynvml.NVML_ERROR_NOT_SUPPORTED)
        listed = device.processes[kind]
        room = count._obj.value
        fill(count, len(listed))
        if len(listed) > room:
            return int(pynvml.NVML_ERROR_INSUFFICIENT_SIZE)
        for slot, process in enumerate(listed):
            fill(into[slot], process)
        return 0

    def _nvmlDeviceGetSamples(
        self, handle: Any, kind: Any, since: Any, value_type: Any, count: Any, into: Any
    ) -> None:
        device = self._device("nvmlDeviceGetSamples", handle)
        if isinstance(failure := device.answers.get("nvmlDeviceGetSamples"), Failure):
            raise Refused(failure.code)
        if device.samples is None:
            raise Refused(pynvml.NVML_ERROR_NOT_SUPPORTED)
        room = count._obj.value
        if into is None:
            fill(count, len(device.samples) + 2)
            return
        fresh = [sample for sample in device.samples if sample[0] > since.value]
        if not fresh:
            raise Refused(pynvml.NVML_ERROR_NOT_FOUND)
        if len(fresh) > room:
            raise Refused(pynvml.NVML_ERROR_INSUFFICIENT_SIZE)
        fill(value_type, device.sample_type)
        fill(count, len(fresh))
        for slot, (time, percent) in enumerate(fresh):
            into[slot].timeStamp = time
            if device.sample_type == pynvml.NVML_VALUE_TYPE_DOUBLE:
                into[slot].sampleValue.dVal = percent
            else:
                into[slot].sampleValue.ullVal = percent

    def _nvmlDeviceGetProcessUtilization(
        self, handle: Any, into: Any, count: Any, since: Any
    ) -> None:
        fresh = self._process_samples("nvmlDeviceGetProcessUtilization", handle, since.value)
        room = count._obj.value
        fill(count, len(fresh))
        _fill_processes(into, room, fresh)

    def _nvmlDeviceGetProcessesUtilizationInfo(self, handle: Any, info: Any) -> None:
        asked = info._obj
        name = "nvmlDeviceGetProcessesUtilizationInfo"
        fresh = self._process_samples(name, handle, asked.lastSeenTimeStamp)
        room, asked.processSamplesCount = asked.processSamplesCount, len(fresh)
        _fill_processes(asked.procUtilArray, room, fresh)

    def _process_samples(self, name: str, handle: Any, since: int) -> list[tuple[int, int, int]]:
        device = self._device(name, handle)
        if isinstance(failure := device.answers.get(name), Failure):
            raise Refused(failure.code)
        if device.process_samples is None:
            raise Refused(pynvml.NVML_ERROR_NOT_SUPPORTED)
        fresh = [sample for sample in device.process_samples if sample[0] > since]
        if not fresh:
            raise Refused(pynvml.NVML_ERROR_NOT_FOUND)
        return fresh

    def _nvmlDeviceGetAccountingBufferSize(self, handle: Any, size: Any) -> None:
        self._accounting("nvmlDeviceGetAccountingBufferSize", handle)
        fill(size, 4000)

    def _nvmlDeviceGetAccountingPids(self, handle: Any, count: Any, into: Any) -> None:
        kept = self._accounting("nvmlDeviceGetAccountingPids", handle)
        room = count._obj.value
        fill(count, len(kept))
        if len(kept) > room:
            raise Refused(pynvml.NVML_ERROR_INSUFFICIENT_SIZE)
        for slot, pid in enumerate(kept):
            into[slot] = pid

    def _nvmlDeviceGetAccountingStats(self, handle: Any, pid: Any, stats: Any) -> None:
        kept = self._accounting("nvmlDeviceGetAccountingStats", handle)
        if pid.value not in kept:
            raise Refused(pynvml.NVML_ERROR_NOT_FOUND)
        fill(stats, kept[pid.value])

    def _accounting(self, name: str, handle: Any) -> dict[int, dict[str, int]]:
        device = self._device(name, handle)
        if isinstance(failure := device.answers.get(name), Failure):
            raise Refused(failure.code)
        # The driver keeps nothing while the mode is off, and refuses to tell of it.
        if device.answers.get("nvmlDeviceGetAccountingMode") != pynvml.NVML_FEATURE_ENABLED:
            raise Refused(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return device.accounting

    def _nvmlDeviceGetFieldValues(self, handle: Any, count: Any, values: Any) -> None:
        device = self._device("nvmlDeviceGetFieldValues", handle)
        if isinstance(failure := device.answers.get("nvmlDeviceGetFieldValues"), Failure):
            raise Refused(failure.code)
        for value in values._obj:
            by_scope = (value.fieldId, value.scopeId)
            answer = device.fields.get(by_scope, device.fields.get(value.fieldId, NOT_SUPPORTED))
            if isinstance(answer, Failure):
                value.nvmlReturn = answer.code
            elif isinstance(answer, tuple):
                value.valueType, number = answer
                if value.valueType == pynvml.NVML_VALUE_TYPE_DOUBLE:
                    value.value.dVal = number
                elif value.valueType == pynvml.NVML_VALUE_TYPE_SIGNED_INT:
                    value.value.siVal = number
            else:
                value.valueType = pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG
                value.value.ullVal = answer


def _fill_processes(into: Any, room: int, samples: list[tuple[int, int, int]]) -> None:
    if len(samples) > room:
        raise Refused(pynvml.NVML_ERROR_INSUFFICIENT_SIZE)
    for slot, (time, pid, percent) in enumerate(samples):
        fill(into[slot], {"timeStamp": time, "pid": pid, "smUtil": percent})
