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
        self.event_sets: set[int] = set()

    def _nvmlShutdown(self) -> None:
        super()._nvmlShutdown()
        self.registered.clear()

    def _nvmlEventSetCreate(self, event_set: Any) -> None:
        new = new_address()
        self.event_sets.add(new)
        point(event_set, new)

    def _nvmlEventSetFree(self, event_set: Any) -> None:
        self.event_sets.remove(address(event_set))
        self.registered.clear()

    def _nvmlDeviceRegisterEvents(self, handle: Any, types: Any, event_set: Any) -> None:
        device = self._device("nvmlDeviceRegisterEvents", handle)
        assert address(event_set) in self.event_sets
        supported = device.answers["nvmlDeviceGetSupportedEventTypes"]
        if types.value & ~supported:
            raise Refused(pynvml.NVML_ERROR_NOT_SUPPORTED)
        self.registered[device.uuid] = types.value

    def _nvmlEventSetWait_v2(self, event_set: Any, data: Any, timeout: Any) -> None:
        assert address(event_set) in self.event_sets
        if self.lost & self.registered.keys():
            raise Refused(pynvml.NVML_ERROR_GPU_IS_LOST)
        while self.events:
            uuid, event_type, number = self.events.popleft()
            if self.registered.get(uuid, 0) & event_type:
                event = data._obj
                of = next(gpu.address for gpu in self.gpus if gpu.uuid == uuid)
                event.device = ctypes.cast(ctypes.c_void_p(of), pynvml.c_nvmlDevice_t)
                event.eventType, event.eventData = event_type, number
                event.gpuInstanceId, event.computeInstanceId = 2, 0
                return
        raise Refused(pynvml.NVML_ERROR_TIMEOUT)
