"""The driver's events of one GPU, in an event set of its own."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pynvml

from exporter.gpus import GpuError
from exporter.gpus.nvml.gate import Gate
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

_UNREAD_SECONDS = 0.1
"""How long to wait while the GPU has not been read yet, so that it is heard soon."""


@dataclass(frozen=True, slots=True)
class Source:
    """A GPU to hear from. ``attachment`` changes when it is found again after a loss."""

    uuid: str
    handle: Handle
    attachment: int


class Events:
    """Waits for one GPU's events, on one thread.

    Each GPU has a set of its own: a call on a GPU that hangs, or a GPU that is lost, silences no
    other. ``gate`` checks what is reported; ``clock`` gives Unix seconds, ``sleep`` waits seconds.
    """

    def __init__(
        self, gate: Gate, clock: Callable[[], UnixSeconds], sleep: Callable[[float], object]
    ) -> None:
        self._gate = gate
        self._clock = clock
        self._sleep = sleep
        self._set: Any = None
        self._attachment = 0
        self._uuid = ""
        """Of the GPU that was heard last; empty as long as none was."""

    def wait(self, source: Source | None, timeout_seconds: float) -> tuple[Event, ...]:
        """Hear from ``source`` until an event comes or the time is over.

        A GPU that is away has no source; it is heard as long as the set can be waited for, since
        the XID that says why comes late. Raises :class:`~exporter.gpus.GpuError`, after which a
        wait starts anew.
        """
        if source is not None and source.attachment != self._attachment:
            self._register(source)
        if self._set is None:
            # Nobody knows when one that is away is back: nothing is gained by looking often.
            self._sleep(timeout_seconds if self._uuid else min(timeout_seconds, _UNREAD_SECONDS))
            return ()
        raw: list[Any] = []
        timeout = round(timeout_seconds * 1000)
        try:
            for _ in range(_AT_MOST):
                raw.append(nvml.nvmlEventSetWait_v2(self._set, timeout))
                timeout = 0
        except CallError as error:
            if error.code != pynvml.NVML_ERROR_TIMEOUT:
                self.close()
                raise gpu_error("events", error) from error
        return self._translated(raw)

    def close(self) -> None:
        """Let go of the set. Never raises."""
        if self._set is not None:
            # It fails when the library is gone, and the set with it.
            with contextlib.suppress(CallError):
                nvml.nvmlEventSetFree(self._set)
        self._set = None
        self._attachment = 0

    def _register(self, source: Source) -> None:
        self.close()
        try:
            supported = nvml.nvmlDeviceGetSupportedEventTypes(source.handle)
            if not supported & XID:
                raise GpuError(Reason.NOT_SUPPORTED, "events: the GPU reports no XIDs")
            self._set = nvml.nvmlEventSetCreate()
            nvml.nvmlDeviceRegisterEvents(source.handle, supported & (XID | CHANGES), self._set)
        except CallError as error:
            self.close()
            raise gpu_error("events", error) from error
        self._attachment, self._uuid = source.attachment, source.uuid

    def _translated(self, raw: list[Any]) -> tuple[Event, ...]:
        """Raise :class:`GpuError` if all that came is implausible."""
        events: list[Event] = []
        for event in raw:
            made: Event | None
            if event.eventType & XID:
                # Under MIG the event also names the instances; the XID is counted for the board.
                made = self._gate.piece(
                    "events",
                    XidEvent,
                    gpu_uuid=self._uuid,
                    timestamp=self._clock(),
                    xid=event.eventData,
                )
            else:
                made = self._gate.piece("events", GpuChanged, gpu_uuid=self._uuid)
            events += [made] if made is not None else []
        if raw and not events:
            raise GpuError(Reason.IMPLAUSIBLE, f"events: no XID has the number {raw[0].eventData}")
        return tuple(events)
