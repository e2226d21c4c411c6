"""What the exporter keeps to judge the end of a container that used GPUs."""

from dataclasses import dataclass
from math import floor, inf
from typing import Final, NamedTuple, Self

from exporter.model.claims import Allocation, AllocationKey, Container
from exporter.model.clocks import UnixSeconds
from exporter.model.oom import DeviceEvidence, OomEvidence
from exporter.model.pods import Termination
from exporter.model.readings import EndedProcess, XidEvent
from exporter.sampling.memory_history import EVIDENCE_SECONDS, MemoryHistory

LATE_SECONDS: Final = 2.0
"""How long after an end its last readings may come in.

An end is reported in whole seconds, rounded down, and the reading before it may arrive after it.
"""

_WINDOW_SECONDS: Final = 30.0
"""How long before its end a container may have failed.

Launchers give the other processes of a job this long to stop.
"""


_UNKNOWN: Final = UnixSeconds(-inf)


@dataclass(frozen=True, slots=True)
class _Window:
    """The last seconds of one run. They include nothing of the run before it."""

    started: UnixSeconds
    """When the run started; ``-inf`` if that is unknown."""
    since: UnixSeconds
    until: UnixSeconds

    @classmethod
    def of(cls, termination: Termination) -> Self:
        started = _UNKNOWN if termination.started_at is None else termination.started_at
        # Starts are rounded down as well: the run before may have ended in the same second.
        since = max(termination.finished_at - _WINDOW_SECONDS, started + 1.0)
        until = termination.finished_at + LATE_SECONDS
        return cls(started, UnixSeconds(since), UnixSeconds(until))

    def covers(self, timestamp: UnixSeconds) -> bool:
        return self.since <= timestamp <= self.until

    def saw_end_of(self, process: "_AccountedProcess") -> bool:
        """Whether a process belongs to this run and was still running in the window."""
        return self.started <= process.started_at <= self.until and process.ended_by >= self.since


class _Xid(NamedTuple):
    """An XID. The time is rounded to seconds, so that a storm of one XID takes no memory."""

    gpu_uuid: str
    xid: int
    timestamp: UnixSeconds


class _AccountedProcess(NamedTuple):
    """What the driver's accounting kept of a process that has ended."""

    container: Container
    device_uuid: str
    started_at: UnixSeconds
    ended_by: UnixSeconds
    """The process had ended at this time. When exactly it ended is unknown."""
    peak_bytes: int
    """The most memory that the process ever used."""


class Evidence:
    """Keeps XIDs, ended processes and the memory of devices for as long as they may matter.

    That is :data:`EVIDENCE_SECONDS`. :meth:`of` gathers what matters for one end.
    """

    def __init__(self, history: MemoryHistory) -> None:
        self._history = history
        self._xids: set[_Xid] = set()
        self._processes: set[_AccountedProcess] = set()
        self._lost: set[str] = set()

    def add_xid(self, event: XidEvent) -> None:
        second = UnixSeconds(floor(event.timestamp))
        self._xids.add(_Xid(event.gpu_uuid, event.xid, second))

    def gpu_lost(self, gpu_uuid: str) -> None:
        self._lost.add(gpu_uuid)

    def gpu_found(self, gpu_uuid: str) -> None:
        self._lost.discard(gpu_uuid)

    def add_process(
        self, container: Container, device_uuid: str, process: EndedProcess, now: UnixSeconds
    ) -> None:
        """Add what the driver's accounting kept of a process that had ended by ``now``.

        The accounting sees processes that come and go between two fast readings.
        """
        self._processes.add(
            _AccountedProcess(
                container, device_uuid, process.started_at, now, process.memory_peak_bytes
            )
        )

    def of(self, termination: Termination, allocations: tuple[Allocation, ...]) -> OomEvidence:
        """Return the evidence about an end of a container that had these allocations.

        Without allocations, the container had some device that nobody knows.
        """
        window = _Window.of(termination)
        gpus = {allocation.gpu.uuid for allocation in allocations}
        return OomEvidence(
            termination=termination,
            devices=tuple(self._device(allocation, window) for allocation in allocations)
            or (DeviceEvidence(uuid=""),),
            xids=frozenset(
                xid.xid
                for xid in self._xids
                if xid.gpu_uuid in gpus and window.covers(xid.timestamp)
            ),
        )

    def lost(self, allocations: tuple[Allocation, ...]) -> bool:
        """Return whether one of the GPUs is lost."""
        return any(allocation.gpu.uuid in self._lost for allocation in allocations)

    def forget(self, now: UnixSeconds) -> None:
        """Drop what is too old to matter."""
        oldest = now - EVIDENCE_SECONDS
        self._xids = {xid for xid in self._xids if xid.timestamp >= oldest}
        self._processes = {process for process in self._processes if process.ended_by >= oldest}

    def _ended_in(self, window: _Window, key: AllocationKey) -> list[_AccountedProcess]:
        return [
            process
            for process in self._processes
            if (process.container, process.device_uuid) == key and window.saw_end_of(process)
        ]

    def _device(self, allocation: Allocation, window: _Window) -> DeviceEvidence:
        container, uuid = allocation.key
        peak = self._history.peak(allocation.measured_uuid, window.since, window.until)
        if peak is None:
            return DeviceEvidence(uuid)
        accounted = self._ended_in(window, allocation.key)
        # A process that started before the window may have had its peak before the window, too.
        risen = [process for process in accounted if process.started_at >= window.since]
        return DeviceEvidence(
            uuid=uuid,
            limit_bytes=peak.total_bytes,
            peak_bytes=max(peak.used_bytes, *(process.peak_bytes for process in accounted), 0),
            rise_bytes=max(peak.rise_bytes, *(process.peak_bytes for process in risen), 0),
            cotenant_bytes={
                other: used for other, used in peak.container_bytes.items() if other != container
            },
        )
