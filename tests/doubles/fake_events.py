"""Event sets in the NVML double."""

# ruff: noqa: N802  functions are named like the ones in C

import ctypes
from collections import deque
from typing import Any

import pynvml

from tests.doubles.fake_device import FakeDevice, Refused, address, new_address, point
from tests.doubles.fake_driver import FakeDriver


class FakeEvents(FakeDriver):
    def __init__(self, *gpus: FakeDevice, driver: str) -> None:
        super().__init__(*gpus, driver=driver)
        self.events: deque[tuple[str, int, int]] = deque()
        """(UUID, event type, data) that are to come."""
        self.registered: dict[str, int] = {}
        self.event_sets: dict[int, set[str]] = {}
        """By address: the UUIDs of the GPUs in it."""

    def _nvmlShutdown(self) -> None:
        super()._nvmlShutdown()
        self.registered.clear()

    def _nvmlEventSetCreate(self, event_set: Any) -> None:
        new = new_address()
        self.event_sets[new] = set()
        point(event_set, new)

    def _nvmlEventSetFree(self, event_set: Any) -> None:
        for uuid in self.event_sets.pop(address(event_set)):
            self.registered.pop(uuid, None)

    def _nvmlDeviceRegisterEvents(self, handle: Any, types: Any, event_set: Any) -> None:
        device = self._device("nvmlDeviceRegisterEvents", handle)
        supported = device.answers["nvmlDeviceGetSupportedEventTypes"]
        if types.value & ~supported:
            raise Refused(pynvml.NVML_ERROR_NOT_SUPPORTED)
        self.registered[device.uuid] = types.value
        self.event_sets[address(event_set)].add(device.uuid)

    def _nvmlEventSetWait_v2(self, event_set: Any, data: Any, timeout: Any) -> None:
        heard = self.event_sets[address(event_set)]
        if self.lost & heard:
            raise Refused(pynvml.NVML_ERROR_GPU_IS_LOST)
        for uuid, event_type, number in list(self.events):
            if uuid in heard:
                self.events.remove((uuid, event_type, number))
                if self.registered.get(uuid, 0) & event_type:
                    event = data._obj
                    of = next(gpu.address for gpu in self.gpus if gpu.uuid == uuid)
                    event.device = ctypes.cast(ctypes.c_void_p(of), pynvml.c_nvmlDevice_t)
                    event.eventType, event.eventData = event_type, number
                    event.gpuInstanceId, event.computeInstanceId = 2, 0
                    return
        raise Refused(pynvml.NVML_ERROR_TIMEOUT)
