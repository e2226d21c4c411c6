"""Judges the ends of containers that held GPUs, each once, and counts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import floor, inf
from typing import NamedTuple, Self

from exporter.attribution.oom import host_oom, judge
from exporter.model.claims import Allocation, Container
from exporter.model.oom import Confidence, DeviceEvidence, OomEvidence, OomTotals, OomVerdict
from exporter.model.pods import Termination
from exporter.model.readings import XidEvent
from exporter.sampling.memory_history import MemoryHistory

# How long before its end a container may have failed: launchers give its other processes so long.
_WINDOW_SECONDS = 30.0
# An end is told in whole seconds, rounded down, and the sample before it may come in after it.
_LATE_SECONDS = 2.0
# The kubelet's claims may be later than the pod's status: so long an unknown container may yet turn
# out to hold a GPU. Also how long XIDs and accounted peaks are of use.
_PATIENCE_SECONDS = 180.0
# Pods show their last ends for as long as they live, and every new listing tells them again. One
# that is older is not judged any more, so that what has been judged need not be known for ever.
_JUDGED_WITHIN_SECONDS = 3600.0


class _End(NamedTuple):
    """What tells one end from all others."""

    pod_uid: str
    container: str
    restart_count: int


class _Xid(NamedTuple):
    """Rounded to seconds, so that a storm of them takes no room."""

    gpu_uuid: str
    xid: int
    timestamp: float


@dataclass(frozen=True, slots=True)
class _Window:
    """The last seconds of a run, by its own times alone: nothing of the run before it."""

    since: float
    until: float
    whole_run: bool

    @classmethod
    def of(cls, termination: Termination) -> Self:
        since = termination.finished_at - _WINDOW_SECONDS
        # Starts are rounded down as well: the run before may have ended in the same second.
        started = -inf if termination.started_at is None else termination.started_at + 1.0
        return cls(
            since=max(since, started),
            until=termination.finished_at + _LATE_SECONDS,
            whole_run=started >= since,
        )

    def covers(self, timestamp: float) -> bool:
        return self.since <= timestamp <= self.until


class _Accounted(NamedTuple):
    """What the driver's accounting kept of a process that has ended."""

    container: Container
    device_uuid: str
    timestamp: float
    peak_bytes: int


@dataclass(slots=True)
class _Counts:
    events: dict[Confidence, int]
    last: OomVerdict | None = None


class OomJudge:
    """Turns ends of containers into verdicts and counters.

    An end is judged once, however often and in whatever order it is told. ``since`` is when the
    program started, in Unix seconds like all times here: ends that a program before us may have
    counted are never judged.
    """

    def __init__(self, history: MemoryHistory, since: float) -> None:
        self._history = history
        # Nobody judges an end sooner than that, so a program before us has not judged these.
        self._oldest = since - _LATE_SECONDS
        self._held: dict[Container, tuple[Allocation, ...]] = {}
        self._counts: dict[tuple[Container, str], _Counts] = {}
        self._host_kills: dict[Container, int] = {}
        self._waiting: dict[_End, Termination] = {}
        self._judged: dict[_End, float] = {}
        self._xids: set[_Xid] = set()
        self._accounted: set[_Accounted] = set()

    def live(self, allocations: Iterable[Allocation]) -> None:
        """Take every allocation that is still told of, those that ended a grace ago included.

        Counters of a container start at 0 here, and go when it is no longer among them.
        """
        held: dict[Container, tuple[Allocation, ...]] = {}
        for allocation in allocations:
            held[allocation.container] = (*held.get(allocation.container, ()), allocation)
        self._held = held
        self._host_kills = {container: self._host_kills.get(container, 0) for container in held}
        self._counts = {
            key: self._counts.get(key) or _Counts(dict.fromkeys(Confidence, 0))
            for key in ((a.container, a.device_uuid) for each in held.values() for a in each)
        }

    def xid(self, event: XidEvent) -> None:
        self._xids.add(_Xid(event.gpu_uuid, event.xid, floor(event.timestamp)))

    def accounted(
        self, container: Container, device_uuid: str, peak_bytes: int, timestamp: float
    ) -> None:
        """Take the peak that the driver's accounting kept of a process that ended at ``timestamp``.

        It sees what comes and goes between two fast readings. Not when: it is of the whole life of
        the process.
        """
        self._accounted.add(_Accounted(container, device_uuid, timestamp, peak_bytes))

    def terminated(self, termination: Termination) -> None:
        """Take the end of any container of the node; that it held a GPU may become known later."""
        end = _End(termination.pod_uid, termination.container.name, termination.restart_count)
        if termination.finished_at >= self._oldest and end not in self._judged:
            self._waiting[end] = termination

    def step(self, now: float) -> tuple[OomVerdict, ...]:
        """Judge the ends of which all that matters has been seen; return the new verdicts."""
        verdicts = []
        for end, termination in list(self._waiting.items()):
            age = now - termination.finished_at
            held = self._held.get(termination.container)
            if held and _LATE_SECONDS < age <= _JUDGED_WITHIN_SECONDS:
                self._judged[end] = termination.finished_at
                verdicts.append(self._judge(termination, held))
            elif age <= _PATIENCE_SECONDS:
                continue
            del self._waiting[end]
        self._forget(now)
        return tuple(verdict for verdict in verdicts if verdict)

    def totals(self, container: Container, device_uuid: str) -> OomTotals | None:
        """Return what was judged of a container on a device; ``None`` if it is not live."""
        counts = self._counts.get((container, device_uuid))
        return OomTotals(dict(counts.events), counts.last) if counts else None

    @property
    def host_kills(self) -> Mapping[Container, int]:
        """How often host memory ran out for each live container, whatever devices it holds."""
        return self._host_kills

    def _judge(self, termination: Termination, held: tuple[Allocation, ...]) -> OomVerdict | None:
        container = termination.container
        if host_oom(termination):
            self._host_kills[container] += 1
        verdict = judge(self._evidence(termination, held))
        if verdict:
            counts = self._counts[container, verdict.device_uuid]
            counts.events[verdict.confidence] += 1
            if not counts.last or counts.last.termination.finished_at <= termination.finished_at:
                counts.last = verdict
        return verdict

    def _evidence(self, termination: Termination, held: tuple[Allocation, ...]) -> OomEvidence:
        window = _Window.of(termination)
        gpus = {allocation.gpu.uuid for allocation in held}
        return OomEvidence(
            termination=termination,
            devices=tuple(self._device(allocation, window) for allocation in held),
            xids=frozenset(
                xid.xid
                for xid in self._xids
                if xid.gpu_uuid in gpus and window.covers(xid.timestamp)
            ),
        )

    def _device(self, allocation: Allocation, window: _Window) -> DeviceEvidence:
        container, uuid = allocation.container, allocation.device_uuid
        peak = self._history.peak(_whose_memory(allocation), window.since, window.until)
        if peak is None:
            return DeviceEvidence(uuid)
        accounted = max(
            (
                process.peak_bytes
                for process in self._accounted
                if (process.container, process.device_uuid) == (container, uuid)
                and window.covers(process.timestamp)
            ),
            default=0,
        )
        return DeviceEvidence(
            uuid=uuid,
            limit_bytes=peak.total_bytes,
            peak_bytes=max(peak.used_bytes, accounted),
            # A peak of a process that started before the window may have been before it, too.
            rise_bytes=max(peak.rise_bytes, accounted if window.whole_run else 0),
            cotenant_bytes={
                holder: held for holder, held in peak.held_bytes.items() if holder != container
            },
        )

    def _forget(self, now: float) -> None:
        self._judged = {
            end: finished
            for end, finished in self._judged.items()
            if now - finished <= _JUDGED_WITHIN_SECONDS
        }
        recent = now - _PATIENCE_SECONDS
        self._xids = {xid for xid in self._xids if xid.timestamp >= recent}
        self._accounted = {kept for kept in self._accounted if kept.timestamp >= recent}


def _whose_memory(allocation: Allocation) -> str:
    """Return the device under whose uuid the memory is told: the first slice of a GPU instance."""
    part = allocation.slice
    if part is None:
        return allocation.gpu.uuid
    leading = (s for s in allocation.gpu.leading_slices if s.gpu_instance == part.gpu_instance)
    return next((slice_.uuid for slice_ in leading), part.uuid)
