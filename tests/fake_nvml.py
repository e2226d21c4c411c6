"""libnvidia-ml in Python: what lies below pynvml, over a described machine.

The double stands in for the loaded library, so that all of pynvml runs for real. Its functions get
the ctypes arguments that C would get, and fill the structs that they point to.
"""

# ruff: noqa: N802  functions are named like the ones in C
# ruff: noqa: PLR0917  and get what those get

import ctypes
import itertools
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pynvml
import pytest

from exporter.gpus.nvml import NvmlBackend, library


@dataclass(frozen=True)
class Failure:
    """An answer that is an error."""

    code: int


NOT_SUPPORTED = Failure(pynvml.NVML_ERROR_NOT_SUPPORTED)
NOT_FOUND = Failure(pynvml.NVML_ERROR_NOT_FOUND)
UNKNOWN = Failure(pynvml.NVML_ERROR_UNKNOWN)
NO_PERMISSION = Failure(pynvml.NVML_ERROR_NO_PERMISSION)
LOST = Failure(pynvml.NVML_ERROR_GPU_IS_LOST)

_addresses = itertools.count(0x7F0000000000, 0x1000)


@dataclass
class FakeDevice:
    """A GPU or a MIG device: what it answers, by function, or by function and its numbers.

    An answer is a value, a tuple of them, a mapping for a struct, or a Failure. What is not here is
    not supported.
    """

    uuid: str
    answers: dict[Any, Any] = field(default_factory=dict)
    fields: dict[Any, Any] = field(default_factory=dict)
    """Field values by id, or by id and scope: a number, a (type, number) or a Failure."""
    processes: dict[str, list[dict[str, int]]] = field(default_factory=dict)
    """By the word in the function's name: Compute, Graphics, MPSCompute."""
    samples: list[tuple[int, int]] | None = None
    """Utilisation: (microseconds, percent)."""
    sample_type: int = pynvml.NVML_VALUE_TYPE_UNSIGNED_INT
    mig: list["FakeDevice | None"] | None = None
    """MIG devices by index, with holes; ``None``: no MIG."""
    gpm: dict[int | None, dict[int, Any]] = field(default_factory=dict)
    """GPM metrics by GPU instance, ``None`` for the GPU."""
    address: int = field(default_factory=lambda: next(_addresses))

    def fail(self, function: str, failure: Failure) -> None:
        """Let a function fail, whatever its other arguments."""
        for key in [k for k in self.answers if k == function or k[0] == function]:
            del self.answers[key]
        self.answers[function] = failure


class FakeNvml:
    """A node's driver and library. Attributes named like C functions are those functions."""

    def __init__(self, *gpus: FakeDevice, driver: str = "580.159.04") -> None:
        self.gpus = list(gpus)
        self.driver = driver
        self.missing: set[str] = set()
        """Functions that the library of this driver does not have."""
        self.errors: dict[str, int] = {}
        """By function: the code that it returns for every device."""
        self.lost: set[str] = set()
        """UUIDs of GPUs that have fallen off the bus."""
        self.blocked: dict[tuple[str, str], Callable[[], object]] = {}
        """By (function, UUID): what a call waits for before it returns."""
        self.installed = True
        self.calls: list[str] = []
        self.loads = 0
        self.unloads = 0
        self.initialized = False
        self.events: deque[tuple[str, int, int]] = deque()
        """(UUID, event type, data) that are to come."""
        self.registered: dict[str, int] = {}
        self.event_sets: set[int] = set()
        self.slept: list[float] = []
        """Waits that the backend did by itself."""
        self.gpm_samples: dict[int, tuple[str, int | None] | None] = {}
        """Allocated GPM samples, with what they were taken of."""
        self.gpm_allocated = 0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Be the library that pynvml loads."""

        def load(name: str) -> _Loaded:
            assert name == "libnvidia-ml.so.1"
            if not self.installed:
                raise OSError(f"{name}: cannot open shared object file")
            self.loads += 1
            return _Loaded(self)

        def unload(handle: int) -> None:
            assert handle == id(self)
            self.unloads += 1

        monkeypatch.setattr(pynvml, "CDLL", load)
        monkeypatch.setattr(library, "dlclose", unload)
        monkeypatch.setattr(pynvml, "nvmlLib", None)
        monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
        monkeypatch.setattr(pynvml, "_nvmlLib_refcount", 0)

    def call(self, name: str, arguments: tuple[Any, ...]) -> int | bytes:
        self.calls.append(name)
        if name == "nvmlErrorString":
            return b"an error"
        try:
            return self._call(name, arguments)
        except _Failed as failed:
            return failed.code

    def _call(self, name: str, arguments: tuple[Any, ...]) -> int:
        if name in self.errors:
            raise _Failed(self.errors[name])
        if not self.initialized and not name.startswith("nvmlInit"):
            raise _Failed(pynvml.NVML_ERROR_UNINITIALIZED)
        special: Callable[..., int | None] | None = getattr(self, "_" + name, None)
        if special:
            return special(*arguments) or 0
        device = self._device(name, arguments[0])
        if "RunningProcesses" in name:
            return self._list_processes(device, name, *arguments[1:])
        return _answer(device, name, arguments[1:])

    def _device(self, name: str, handle: Any) -> FakeDevice:
        address = ctypes.cast(handle, ctypes.c_void_p).value
        for gpu in self.gpus:
            for device in (gpu, *(part for part in gpu.mig or () if part)):
                if device.address == address:
                    if gate := self.blocked.get((name, gpu.uuid)):
                        gate()
                    if gpu.uuid in self.lost:
                        raise _Failed(pynvml.NVML_ERROR_GPU_IS_LOST)
                    return device
        raise _Failed(pynvml.NVML_ERROR_INVALID_ARGUMENT)

    # The functions that are more than an answer looked up.

    def _nvmlInitWithFlags(self, flags: int) -> None:
        self.initialized = True

    def _nvmlShutdown(self) -> None:
        self.initialized = False
        self.registered.clear()

    def _nvmlSystemGetDriverVersion(self, buffer: Any, size: Any) -> None:
        buffer.value = self.driver.encode()

    def _nvmlSystemGetCudaDriverVersion_v2(self, version: Any) -> None:
        _fill(version, 13000)

    def _nvmlSystemGetCudaDriverVersion(self, version: Any) -> None:
        _fill(version, 11040)

    def _nvmlDeviceGetCount_v2(self, count: Any) -> None:
        _fill(count, len(self.gpus))

    def _nvmlDeviceGetHandleByIndex_v2(self, index: Any, handle: Any) -> None:
        gpu = self.gpus[index.value]
        if gpu.uuid in self.lost:
            raise _Failed(pynvml.NVML_ERROR_GPU_IS_LOST)
        _point(handle, gpu.address)

    def _nvmlDeviceGetHandleByUUID(self, uuid: Any, handle: Any) -> None:
        for gpu in self.gpus:
            if gpu.uuid.encode() == uuid.value:
                if gpu.uuid in self.lost:
                    raise _Failed(pynvml.NVML_ERROR_GPU_IS_LOST)
                _point(handle, gpu.address)
                return
        raise _Failed(pynvml.NVML_ERROR_NOT_FOUND)

    def _nvmlDeviceGetMigDeviceHandleByIndex(self, handle: Any, index: Any, part: Any) -> None:
        gpu = self._device("nvmlDeviceGetMigDeviceHandleByIndex", handle)
        found = (gpu.mig or [])[index.value : index.value + 1]
        if not found or found[0] is None:
            raise _Failed(pynvml.NVML_ERROR_NOT_FOUND)
        _point(part, found[0].address)

    def _list_processes(self, device: FakeDevice, name: str, count: Any, into: Any) -> int:
        kind = name.removeprefix("nvmlDeviceGet").partition("Running")[0]
        if kind not in device.processes:
            raise _Failed(pynvml.NVML_ERROR_NOT_SUPPORTED)
        listed = device.processes[kind]
        room = count._obj.value
        _fill(count, len(listed))
        if len(listed) > room:
            return int(pynvml.NVML_ERROR_INSUFFICIENT_SIZE)
        for slot, process in enumerate(listed):
            _fill(into[slot], process)
        return 0

    def _nvmlDeviceGetSamples(
        self, handle: Any, kind: Any, since: Any, value_type: Any, count: Any, into: Any
    ) -> None:
        device = self._device("nvmlDeviceGetSamples", handle)
        if isinstance(failure := device.answers.get("nvmlDeviceGetSamples"), Failure):
            raise _Failed(failure.code)
        if device.samples is None:
            raise _Failed(pynvml.NVML_ERROR_NOT_SUPPORTED)
        room = count._obj.value
        if into is None:
            _fill(count, len(device.samples) + 2)
            return
        fresh = [sample for sample in device.samples if sample[0] > since.value]
        if not fresh:
            raise _Failed(pynvml.NVML_ERROR_NOT_FOUND)
        if len(fresh) > room:
            raise _Failed(pynvml.NVML_ERROR_INSUFFICIENT_SIZE)
        _fill(value_type, device.sample_type)
        _fill(count, len(fresh))
        for slot, (time, percent) in enumerate(fresh):
            into[slot].timeStamp = time
            if device.sample_type == pynvml.NVML_VALUE_TYPE_DOUBLE:
                into[slot].sampleValue.dVal = percent
            else:
                into[slot].sampleValue.ullVal = percent

    def _nvmlDeviceGetFieldValues(self, handle: Any, count: Any, values: Any) -> None:
        device = self._device("nvmlDeviceGetFieldValues", handle)
        if isinstance(failure := device.answers.get("nvmlDeviceGetFieldValues"), Failure):
            raise _Failed(failure.code)
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

    def _nvmlGpmQueryDeviceSupport(self, handle: Any, support: Any) -> None:
        device = self._device("nvmlGpmQueryDeviceSupport", handle)
        _fill(support, {"isSupportedDevice": int(bool(device.gpm))})

    def _nvmlGpmSampleAlloc(self, sample: Any) -> None:
        address = next(_addresses)
        self.gpm_samples[address] = None
        self.gpm_allocated += 1
        _point(sample, address)

    def _nvmlGpmSampleFree(self, sample: Any) -> None:
        del self.gpm_samples[_address(sample)]

    def _nvmlGpmSampleGet(self, handle: Any, sample: Any) -> None:
        self._take("nvmlGpmSampleGet", handle, None, sample)

    def _nvmlGpmMigSampleGet(self, handle: Any, instance: int, sample: Any) -> None:
        self._take("nvmlGpmMigSampleGet", handle, instance, sample)

    def _take(self, name: str, handle: Any, instance: int | None, sample: Any) -> None:
        device = self._device(name, handle)
        if isinstance(failure := device.answers.get(name), Failure):
            raise _Failed(failure.code)
        if instance not in device.gpm:
            raise _Failed(pynvml.NVML_ERROR_NOT_SUPPORTED)
        assert _address(sample) in self.gpm_samples, "a sample that was freed"
        self.gpm_samples[_address(sample)] = (device.uuid, instance)

    def _nvmlGpmMetricsGet(self, asked: Any) -> None:
        asked = asked._obj
        before = self.gpm_samples[_address(asked.sample1)]
        after = self.gpm_samples[_address(asked.sample2)]
        assert before == after, "samples of two things"
        assert after is not None
        uuid, instance = after
        metrics = next(gpu for gpu in self.gpus if gpu.uuid == uuid).gpm[instance]
        for slot in range(asked.numMetrics):
            metric = asked.metrics[slot]
            answer = metrics.get(metric.metricId, NOT_SUPPORTED)
            metric.nvmlReturn = answer.code if isinstance(answer, Failure) else 0
            metric.value = 0.0 if isinstance(answer, Failure) else answer

    def _nvmlEventSetCreate(self, event_set: Any) -> None:
        address = next(_addresses)
        self.event_sets.add(address)
        _point(event_set, address)

    def _nvmlEventSetFree(self, event_set: Any) -> None:
        self.event_sets.remove(_address(event_set))
        self.registered.clear()

    def _nvmlDeviceRegisterEvents(self, handle: Any, types: Any, event_set: Any) -> None:
        device = self._device("nvmlDeviceRegisterEvents", handle)
        assert _address(event_set) in self.event_sets
        supported = device.answers["nvmlDeviceGetSupportedEventTypes"]
        if types.value & ~supported:
            raise _Failed(pynvml.NVML_ERROR_NOT_SUPPORTED)
        self.registered[device.uuid] = types.value

    def _nvmlEventSetWait_v2(self, event_set: Any, data: Any, timeout: Any) -> None:
        assert _address(event_set) in self.event_sets
        if self.lost & self.registered.keys():
            raise _Failed(pynvml.NVML_ERROR_GPU_IS_LOST)
        while self.events:
            uuid, event_type, number = self.events.popleft()
            if self.registered.get(uuid, 0) & event_type:
                event = data._obj
                address = next(gpu.address for gpu in self.gpus if gpu.uuid == uuid)
                event.device = ctypes.cast(ctypes.c_void_p(address), pynvml.c_nvmlDevice_t)
                event.eventType, event.eventData = event_type, number
                event.gpuInstanceId, event.computeInstanceId = 2, 0
                return
        raise _Failed(pynvml.NVML_ERROR_TIMEOUT)


class _Failed(Exception):  # noqa: N818  an answer, caught at once
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class _Loaded:
    """The loaded library, as ctypes.CDLL would be."""

    def __init__(self, nvml: FakeNvml) -> None:
        self._nvml = nvml
        self._handle = id(nvml)

    def __getattr__(self, name: str) -> Callable[..., int | bytes]:
        if name in self._nvml.missing:
            raise AttributeError(name)

        def function(*arguments: Any) -> int | bytes:
            return self._nvml.call(name, arguments)

        return function


def _answer(device: FakeDevice, name: str, arguments: tuple[Any, ...]) -> int:
    """Look up what a device answers: numbers go in, pointers and buffers come out."""
    numbers = []
    outputs = []
    for argument in arguments:
        if hasattr(argument, "_obj") or isinstance(argument, ctypes.Array):
            outputs.append(argument)
        else:
            numbers.append(getattr(argument, "value", argument))
    if isinstance(next(iter(outputs), None), ctypes.Array):
        numbers = []  # a string buffer's size
    key = (name, *numbers) if numbers else name
    answer = device.answers.get(key, device.answers.get(name, NOT_SUPPORTED))
    if isinstance(answer, Failure):
        return answer.code
    answers = answer if isinstance(answer, tuple) else (answer,)
    for output, value in zip(outputs, answers, strict=True):
        _fill(output, value)
    return 0


def _fill(output: Any, value: Any) -> None:
    target = getattr(output, "_obj", output)
    if isinstance(value, Mapping):
        for name, part in value.items():
            setattr(target, name, part)
    else:
        target.value = value.encode() if isinstance(value, str) else value


def _point(pointer: Any, address: int) -> None:
    ctypes.c_void_p.from_buffer(pointer._obj).value = address


def _address(pointer: Any) -> int:
    return ctypes.cast(pointer, ctypes.c_void_p).value or 0


class Clock:
    """Seconds that pass only when told to, or by a step each time that one looks."""

    def __init__(self, now: float = 1000.0, step: float = 0.0) -> None:
        self.now = now
        self.step = step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def opened(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, clock: Clock | None = None
) -> NvmlBackend:
    """Open a backend on the machine."""
    nvml.install(monkeypatch)
    clock = clock or Clock()
    backend = NvmlBackend(clock=clock, monotonic=clock, sleep=nvml.slept.append)
    backend.open()
    return backend
