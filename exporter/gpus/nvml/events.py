"""The driver's events, of all GPUs in one event set."""

import contextlib
import ctypes
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pynvml

from exporter.gpus.nvml.identity import Handle
from exporter.gpus.nvml.library import CallError, gpu_error, nvml
from exporter.model.clocks import UnixSeconds
from exporter.model.readings import Event, GpuChanged, Reason, XidEvent

XID = pynvml.nvmlEventTypeXidCriticalError

CHANGES = (
    pynvml.nvmlEventTypeDoubleBitEccError
    | pynvml.nvmlEventMigConfigChange
    | pynvml.nvmlEventTypeDramRetirementEvent
    | pynvml.nvmlEventTypeDramRetirementFailure
    | pynvml.nvmlEventTypeGpuUnavailableError
    | pynvml.nvmlEventTypeGpuRecoveryAction
)
"""Events after which something that is read rarely is not what it was."""

_AT_MOST = 64
"""Events taken at a time: a storm must not keep us from handing them over."""


@dataclass(frozen=True, slots=True)
class Source:
    """A GPU to hear from. ``attachment`` changes when it is found again after a loss."""

    uuid: str
    handle: Handle
    attachment: int


class Events:
    """Waits for events. For one thread. ``clock`` gives Unix seconds, ``sleep`` waits seconds."""

    def __init__(self, clock: Callable[[], float], sleep: Callable[[float], object]) -> None:
        self._clock = clock
        self._sleep = sleep
        self._set: Any = None
        self._asked: dict[str, int] = {}
        self._uuids: dict[int | None, str] = {}

    def wait(self, sources: Iterable[Source], timeout_seconds: float) -> tuple[Event, ...]:
        """Hear from ``sources`` until an event comes or the time is over.

        Raises :class:`~exporter.gpus.GpuError`, after which a wait starts anew.
        """
        self._register(sources)
        if not self._uuids:
            self._sleep(timeout_seconds)
            return ()
        events: list[Event] = []
        timeout = round(timeout_seconds * 1000)
        try:
            for _ in range(_AT_MOST):
                events += self._translate(nvml.nvmlEventSetWait_v2(self._set, timeout))
                timeout = 0
        except CallError as error:
            if error.code == pynvml.NVML_ERROR_TIMEOUT:
                return tuple(events)
            self.close()
            if error.reason not in {Reason.GPU_LOST, Reason.RESET_REQUIRED}:
                raise gpu_error("events", error) from error
            # One GPU's trouble, which its reader tells. The set would say nothing more about the
            # others: the next wait makes one of those that are left.
            self._sleep(timeout / 1000)
        return tuple(events)

    def close(self) -> None:
        """Let go of the set. Never raises."""
        if self._set is not None:
            # It fails when the library is gone, and the set with it.
            with contextlib.suppress(CallError):
                nvml.nvmlEventSetFree(self._set)
        self._set = None
        self._asked.clear()
        self._uuids.clear()

    def _register(self, sources: Iterable[Source]) -> None:
        for source in sources:
            if self._asked.get(source.uuid) == source.attachment:
                continue
            try:
                if self._set is None:
                    self._set = nvml.nvmlEventSetCreate()
                supported = nvml.nvmlDeviceGetSupportedEventTypes(source.handle)
                if wanted := supported & (XID | CHANGES):
                    nvml.nvmlDeviceRegisterEvents(source.handle, wanted, self._set)
                    self._uuids[_address(source.handle)] = source.uuid
            except CallError as error:
                reason = error.reason
                if reason.ends_session:
                    self.close()
                    raise gpu_error("events", error) from error
                if reason is not Reason.NOT_SUPPORTED:
                    # Its reader says what is wrong with it. Tried again before the next wait.
                    continue
            self._asked[source.uuid] = source.attachment

    def _translate(self, event: Any) -> tuple[Event, ...]:
        uuid = self._uuids.get(_address(event.device))
        if uuid is None:
            return ()
        if event.eventType & XID:
            # Under MIG the event also tells the instances; the XID is counted for the board.
            return (XidEvent(uuid, UnixSeconds(self._clock()), event.eventData),)
        return (GpuChanged(uuid),)


def _address(handle: Handle) -> int | None:
    return ctypes.cast(handle, ctypes.c_void_p).value
