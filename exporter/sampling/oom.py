"""Judges the ends of containers that held GPUs, each once, and counts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from math import floor, inf
from typing import NamedTuple, Self

from exporter.attribution.oom import host_oom, judge
from exporter.model.claims import Allocation, Container
from exporter.model.oom import Confidence, DeviceEvidence, OomEvidence, OomTotals, OomVerdict
from exporter.model.pods import PodRecord, Termination
from exporter.model.readings import EndedProcess, XidEvent
from exporter.sampling.memory_history import EVIDENCE_SECONDS, MemoryHistory

# How long before its end a container may have failed: launchers give its other processes so long.
_WINDOW_SECONDS = 30.0
# An end is told in whole seconds, rounded down, and the sample before it may come in after it.
_LATE_SECONDS = 2.0
# The kubelet's claims and the pod's status come by ways of their own, and either may be the later:
# so long an unknown container may yet turn out to hold a GPU, and one that holds none any more may
# turn out to have ended badly.
_PATIENCE_SECONDS = 180.0
# By then the kubelet has been asked again: every 30 s at least, by its option and its back-off.
_ASKED_AGAIN_SECONDS = 60.0
# Pods show their last ends for as long as they live, and every new listing tells them again. One
# that is older is not judged any more, so that what has been judged need not be known for ever.
_JUDGED_WITHIN_SECONDS = 3600.0


class _End(NamedTuple):
    """What tells one end from all others."""

    pod_uid: str
    container: str
    restart_count: int
    finished_at: float
    """A lost status begins its count anew, and two short runs may end in one second."""

    @classmethod
    def of(cls, termination: Termination) -> Self:
        return cls(
            termination.pod_uid,
            termination.container.name,
            termination.restart_count,
            termination.finished_at,
        )


class _Xid(NamedTuple):
    """Rounded to seconds, so that a storm of them takes no room."""

    gpu_uuid: str
    xid: int
    timestamp: float


@dataclass(frozen=True, slots=True)
class _Window:
    """The last seconds of a run, by its own times alone: nothing of the run before it."""

    started: float
    """When the run did; ``-inf``: nobody knows."""
    since: float
    until: float

    @classmethod
    def of(cls, termination: Termination) -> Self:
        started = -inf if termination.started_at is None else termination.started_at
        return cls(
            started=started,
            # Starts are rounded down as well: the run before may have ended in the same second.
            since=max(termination.finished_at - _WINDOW_SECONDS, started + 1.0),
            until=termination.finished_at + _LATE_SECONDS,
        )

    def covers(self, timestamp: float) -> bool:
        return self.since <= timestamp <= self.until

    def saw_end_of(self, process: "_Accounted") -> bool:
        """Whether it is a process of this run, and was there in the window."""
        return self.started <= process.started_at <= self.until and process.ended_by >= self.since


class _Accounted(NamedTuple):
    """What the driver's accounting kept of a process that has ended."""

    container: Container
    device_uuid: str
    started_at: float
    ended_by: float
    peak_bytes: int


@dataclass(slots=True)
class _Holding:
    """An allocation to one pod, and from when to when it was told of."""

    allocation: Allocation
    pod_uid: str | None
    """``None``: the pod was not known then."""
    since: float
    ended: float | None = None
    kept_until: float = inf

    def away_from(self, timestamp: float) -> float:
        """Return how many seconds lie between the holding and a time; 0: it was held then."""
        ended = inf if self.ended is None else self.ended
        return max(self.since - timestamp, timestamp - ended, 0.0)


class Judgement(NamedTuple):
    """An end that counts: a verdict, or ``None`` for a kill for want of the host's memory."""

    held: tuple[Allocation, ...]
    """What the container held as it ended."""
    verdict: OomVerdict | None


@dataclass(slots=True)
class _Counts:
    events: dict[Confidence, int]
    last: OomVerdict | None = None


class OomJudge:
    """Turns ends of containers into verdicts and counters.

    An end is judged once, however often and in whatever order it is told. ``since`` is when the
    program started, in Unix seconds like all times here: ends that a program before us may have
    counted are never judged. What was judged of a container is known for ``grace_seconds`` after
    the latest that an end of it could be judged, and after each that was.
    """

    def __init__(self, history: MemoryHistory, since: float, grace_seconds: float) -> None:
        self._history = history
        # Nobody judges an end sooner than that, so a program before us has not judged these.
        self._oldest = since - _LATE_SECONDS
        self._kept_seconds = _PATIENCE_SECONDS + grace_seconds
        self._holdings: dict[Container, list[_Holding]] = {}
        self._counts: dict[tuple[Container, str], _Counts] = {}
        self._host_kills: dict[Container, int] = {}
        self._waiting: dict[_End, Termination] = {}
        self._judged: dict[_End, float] = {}
        self._xids: set[_Xid] = set()
        self._accounted: set[_Accounted] = set()

    def hold(
        self,
        allocations: Iterable[Allocation],
        pods: Mapping[tuple[str, str], PodRecord],
        now: float,
    ) -> None:
        """Take who holds what from now on, and the pods that are known by namespace and name.

        Counters of a container start at 0 here. What is no longer held is kept for a while: its end
        may be told later than that it is gone. So is what another pod of that name holds now.
        """
        uids = {name: pod.uid for name, pod in pods.items()}
        current = {(a.container, a.device_uuid): a for a in allocations}
        for holding in chain.from_iterable(self._holdings.values()):
            if holding.ended is None:
                allocation = holding.allocation
                container = allocation.container
                key = container, allocation.device_uuid
                uid = uids.get((container.namespace, container.pod), holding.pod_uid)
                if key in current and uid == holding.pod_uid:
                    holding.allocation = current.pop(key)
                else:
                    holding.ended, holding.kept_until = now, now + self._kept_seconds
        for (container, device_uuid), allocation in current.items():
            uid = uids.get((container.namespace, container.pod))
            holding = _Holding(allocation, uid, since=now)
            self._holdings.setdefault(container, []).append(holding)
            self._host_kills.setdefault(container, 0)
            self._counts.setdefault((container, device_uuid), _Counts(dict.fromkeys(Confidence, 0)))

    def xid(self, event: XidEvent) -> None:
        self._xids.add(_Xid(event.gpu_uuid, event.xid, floor(event.timestamp)))

    def accounted(
        self, container: Container, device_uuid: str, process: EndedProcess, timestamp: float
    ) -> None:
        """Take what the driver's accounting kept of a process that had ended by ``timestamp``.

        It sees what comes and goes between two fast readings. Not when: its peak is of the whole
        life of the process.
        """
        self._accounted.add(
            _Accounted(
                container, device_uuid, process.started_at, timestamp, process.memory_peak_bytes
            )
        )

    def terminated(self, termination: Termination) -> None:
        """Take the end of any container of the node; that it held a GPU may become known later."""
        end = _End.of(termination)
        if termination.finished_at >= self._oldest and end not in self._judged:
            self._waiting[end] = termination

    def step(self, now: float) -> tuple[Judgement, ...]:
        """Judge the ends of which all that matters has been seen; return those that count."""
        judgements = []
        for end, termination in list(self._waiting.items()):
            age = now - termination.finished_at
            held = self._held_by(termination, age)
            if held and _LATE_SECONDS < age <= _JUDGED_WITHIN_SECONDS:
                self._judged[end] = termination.finished_at
                judgements.append(self._judge(termination, held, now))
            elif age <= _PATIENCE_SECONDS:
                continue
            del self._waiting[end]
        self._forget(now)
        return tuple(judgement for judgement in judgements if judgement)

    def totals(self, container: Container, device_uuid: str) -> OomTotals | None:
        """Return what was judged of a container on a device; ``None``: it is not known."""
        counts = self._counts.get((container, device_uuid))
        return OomTotals(dict(counts.events), counts.last) if counts else None

    @property
    def host_kills(self) -> Mapping[Container, int]:
        """How often host memory ran out for each container, whatever devices it holds."""
        return self._host_kills

    def _held_by(self, termination: Termination, age: float) -> list[_Holding]:
        """Return what the container held as it ended, ``age`` seconds ago.

        Pods of one name may follow each other within seconds, and on other devices.
        """
        known = self._holdings.get(termination.container, [])
        of_pod = [holding for holding in known if holding.pod_uid == termination.pod_uid]
        if not of_pod:
            # A pod may have taken the place of another of its name, and on the same device, between
            # two answers of the kubelet. A pod that was known only after the end is a later one.
            taken = age > _ASKED_AGAIN_SECONDS
            of_pod = [
                holding
                for holding in known
                if (taken or holding.pod_uid is None)
                and holding.away_from(termination.finished_at)
                <= (_ASKED_AGAIN_SECONDS if holding.pod_uid is None else 0.0)
            ]
        away = [holding.away_from(termination.finished_at) for holding in of_pod]
        nearest = min(away, default=0.0)
        return [h for h, seconds in zip(of_pod, away, strict=True) if seconds == nearest]

    def _judge(
        self, termination: Termination, holdings: list[_Holding], now: float
    ) -> Judgement | None:
        held = tuple(holding.allocation for holding in holdings)
        killed = host_oom(termination)
        if killed:
            self._host_kills[termination.container] += 1
        verdict = judge(self._evidence(termination, held))
        if verdict:
            counts = self._counts[termination.container, verdict.device_uuid]
            counts.events[verdict.confidence] += 1
            if not counts.last or counts.last.termination.finished_at <= termination.finished_at:
                counts.last = verdict
        if not verdict and not killed:
            return None
        for holding in holdings:
            if holding.ended is not None:
                holding.kept_until = now + self._kept_seconds
        return Judgement(held, verdict)

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
        peak = self._history.peak(allocation.measured_uuid, window.since, window.until)
        if peak is None:
            return DeviceEvidence(uuid)
        accounted = [
            process
            for process in self._accounted
            if (process.container, process.device_uuid) == (container, uuid)
            and window.saw_end_of(process)
        ]
        # Of a process that started before the window, the peak may have been before it, too.
        risen = [process for process in accounted if process.started_at >= window.since]
        return DeviceEvidence(
            uuid=uuid,
            limit_bytes=peak.total_bytes,
            peak_bytes=max(peak.used_bytes, *(process.peak_bytes for process in accounted), 0),
            rise_bytes=max(peak.rise_bytes, *(process.peak_bytes for process in risen), 0),
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
        recent = now - EVIDENCE_SECONDS
        self._xids = {xid for xid in self._xids if xid.timestamp >= recent}
        self._accounted = {kept for kept in self._accounted if kept.ended_by >= recent}
        if any(h.kept_until < now for h in chain.from_iterable(self._holdings.values())):
            self._forget_holdings(now)

    def _forget_holdings(self, now: float) -> None:
        kept = {
            container: [holding for holding in holdings if holding.kept_until >= now]
            for container, holdings in self._holdings.items()
        }
        self._holdings = {container: holdings for container, holdings in kept.items() if holdings}
        self._host_kills = {container: self._host_kills[container] for container in self._holdings}
        self._counts = {
            (a.container, a.device_uuid): self._counts[a.container, a.device_uuid]
            for a in (holding.allocation for held in self._holdings.values() for holding in held)
        }
