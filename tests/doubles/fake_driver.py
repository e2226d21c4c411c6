"""libnvidia-ml in Python: what lies below pynvml, over a described machine.

The double stands in for the loaded library, so that all of pynvml runs for real. Its functions get
the ctypes arguments that C would get, and fill the structs that they point to.
"""

# ruff: noqa: N802  functions are named like the ones in C

import ctypes
from collections.abc import Callable
from typing import Any

import pynvml
import pytest

from exporter.gpus.nvml import library
from tests.doubles.fake_device import Failure, FakeDevice, Refused, fill, look_up, point


class FakeDriver:
    """A node's driver and library. Attributes named like C functions are those functions."""

    def __init__(self, *gpus: FakeDevice, driver: str) -> None:
        self.gpus = list(gpus)
        self.driver = driver
        self.missing: set[str] = set()
        """Functions that the library of this driver does not have."""
        self.errors: dict[str, int] = {}
        """By function: the code that it returns for every device."""
        self.lost: set[str] = set()
        """UUIDs of GPUs that have fallen off the bus."""
        self.refusing: dict[str, Failure] = {}
        """By UUID: the answer to every call for a GPU, but that it can be found."""
        self.blocked: dict[tuple[str, str], Callable[[], object]] = {}
        """By (function, UUID): what a call waits for before it returns."""
        self.installed = True
        self.calls: list[str] = []
        self.loads = 0
        self.unloads = 0
        self.initialized = False
        self.slept: list[float] = []
        """Waits that the backend did by itself."""

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Be the library that pynvml loads."""

        def load(name: str) -> Loaded:
            assert name == "libnvidia-ml.so.1"
            if not self.installed:
                raise OSError(f"{name}: cannot open shared object file")
            self.loads += 1
            return Loaded(self)

        unload_older: Callable[[int], None] = vars(library)["dlclose"]

        def unload(handle: int) -> None:
            if handle == id(self):
                self.unloads += 1
            else:
                unload_older(handle)

        monkeypatch.setattr(pynvml, "CDLL", load)
        monkeypatch.setattr(library, "dlclose", unload)
        monkeypatch.setattr(
            library, "file_on_disk", lambda handle: (0, id(self)) if self.installed else None
        )
        if not isinstance(pynvml.nvmlLib, Loaded):  # else it is a driver upgraded under a session
            monkeypatch.setattr(pynvml, "nvmlLib", None)
            monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
        monkeypatch.setattr(pynvml, "_nvmlLib_refcount", 0)

    def call(self, name: str, arguments: tuple[Any, ...]) -> int | bytes:
        self.calls.append(name)
        if name == "nvmlErrorString":
            return b"an error"
        try:
            return self._call(name, arguments)
        except Refused as failed:
            return failed.code

    def _call(self, name: str, arguments: tuple[Any, ...]) -> int:
        if name in self.errors:
            raise Refused(self.errors[name])
        if not self.initialized and not name.startswith("nvmlInit"):
            raise Refused(pynvml.NVML_ERROR_UNINITIALIZED)
        special: Callable[..., int | None] | None = getattr(self, "_" + name, None)
        if special:
            return special(*arguments) or 0
        device = self._device(name, arguments[0])
        return self._answer(device, name, arguments[1:])

    def _answer(self, device: FakeDevice, name: str, arguments: tuple[Any, ...]) -> int:
        return look_up(device, name, arguments)

    def _device(self, name: str, handle: Any) -> FakeDevice:
        address = ctypes.cast(handle, ctypes.c_void_p).value
        for gpu in self.gpus:
            for device in (gpu, *(part for part in gpu.mig or () if part)):
                if device.address == address:
                    if gate := self.blocked.get((name, gpu.uuid)):
                        gate()
                    if gpu.uuid in self.lost:
                        raise Refused(pynvml.NVML_ERROR_GPU_IS_LOST)
                    if gpu.uuid in self.refusing and name != "nvmlDeviceGetUUID":
                        raise Refused(self.refusing[gpu.uuid].code)
                    return device
        raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)

    # The functions that are more than an answer looked up.

    def _nvmlInitWithFlags(self, flags: int) -> None:
        self.initialized = True

    def _nvmlShutdown(self) -> None:
        self.initialized = False

    def _nvmlSystemGetDriverVersion(self, buffer: Any, size: Any) -> None:
        buffer.value = self.driver.encode()

    def _nvmlSystemGetCudaDriverVersion_v2(self, version: Any) -> None:
        fill(version, 13000)

    def _nvmlSystemGetCudaDriverVersion(self, version: Any) -> None:
        fill(version, 11040)

    def _nvmlDeviceGetCount_v2(self, count: Any) -> None:
        fill(count, len(self.gpus))

    def _nvmlDeviceGetHandleByIndex_v2(self, index: Any, handle: Any) -> None:
        gpu = self.gpus[index.value]
        if gate := self.blocked.get(("nvmlDeviceGetHandleByIndex_v2", gpu.uuid)):
            gate()
        if gpu.uuid in self.lost:
            raise Refused(pynvml.NVML_ERROR_GPU_IS_LOST)
        point(handle, gpu.address)

    def _nvmlDeviceGetHandleByUUID(self, uuid: Any, handle: Any) -> None:
        for gpu in self.gpus:
            if gpu.uuid.encode() == uuid.value:
                if gpu.uuid in self.lost:
                    raise Refused(pynvml.NVML_ERROR_GPU_IS_LOST)
                point(handle, gpu.address)
                return
        raise Refused(pynvml.NVML_ERROR_NOT_FOUND)

    def _nvmlDeviceGetMigDeviceHandleByIndex(self, handle: Any, index: Any, part: Any) -> None:
        gpu = self._device("nvmlDeviceGetMigDeviceHandleByIndex", handle)
        found = (gpu.mig or [])[index.value : index.value + 1]
        if not found or found[0] is None:
            raise Refused(pynvml.NVML_ERROR_NOT_FOUND)
        point(part, found[0].address)

    def _nvmlDeviceGetGpuInstanceById(self, handle: Any, number: int, instance: Any) -> None:
        gpu = self._device("nvmlDeviceGetGpuInstanceById", handle)
        for part in gpu.mig or []:
            if part and part.answers["nvmlDeviceGetGpuInstanceId"] == number:
                point(instance, part.address)
                return
        raise Refused(pynvml.NVML_ERROR_NOT_FOUND)


class Loaded:
    """The loaded library, as ctypes.CDLL would be."""

    def __init__(self, nvml: FakeDriver) -> None:
        self._nvml = nvml
        self._handle = id(nvml)

    def __getattr__(self, name: str) -> Callable[..., int | bytes]:
        if name in self._nvml.missing:
            raise AttributeError(name)

        def function(*arguments: Any) -> int | bytes:
            return self._nvml.call(name, arguments)

        return function
