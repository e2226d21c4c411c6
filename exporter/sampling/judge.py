"""Judges why each container that used GPUs ended, once, and counts the verdicts."""

from collections import Counter
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from exporter.attribution import causes, oom
from exporter.model.claims import Allocation, AllocationKey, Container, PodName
from exporter.model.clocks import UnixSeconds
from exporter.model.ends import Cause
from exporter.model.oom import Confidence, OomTotals, OomVerdict
from exporter.model.pods import PodRecord, Termination
from exporter.model.readings import EndedProcess, XidEvent
from exporter.model.verdicts import EndCounts, EndEvidence, EndVerdict
from exporter.sampling.evidence import LATE_SECONDS, Evidence
from exporter.sampling.gangs import Gangs
from exporter.sampling.memory_history import MemoryHistory
from exporter.sampling.tenures import Tenures
from exporter.sampling.unlisted import Unlisted, supposed_allocations

_PATIENCE_SECONDS: Final = 180.0
"""How long the exporter waits for the second of two messages that belong together.

The kubelet's claims and the pod's status arrive independently. A container that ended may yet turn
out to have had a GPU, and a container whose GPU was released may yet turn out to have ended badly.
"""
_PEERS_SECONDS: Final = 20.0
"""How long an end that names a peer waits for the end of that peer to be reported."""
_JUDGED_WITHIN_SECONDS: Final = 3600.0
"""Ends that are older than this are not judged.

A pod shows its last end for as long as it exists, and each new list of pods reports the end again.
With this limit the exporter need not remember for ever which ends it has judged.
"""


class _End(NamedTuple):
    """Identifies an end."""

    pod_uid: str
    container: str
    restart_count: int
    finished_at: UnixSeconds
    """Two ends may have one restart count: a status that is lost begins its count anew. Two short
    runs may end in one second. So both numbers are needed."""

    @classmethod
    def of(cls, termination: Termination) -> Self:
        return cls(
            termination.pod_uid,
            termination.container.name,
            termination.restart_count,
            termination.finished_at,
        )


class Judgement(NamedTuple):
    """An end, and the verdict on it."""

    allocations: tuple[Allocation, ...]
    """The devices that the container had as it ended."""
    verdict: EndVerdict


@dataclass(slots=True)
class _Counts:
    events: dict[Confidence, int]
    last: OomVerdict | None = None


class EndJudge:
    """Turns ends of containers into verdicts and counters.

    An end is judged once, however often it is reported and in whatever order ends are reported.
    Ends before ``since``, the start of this program, are never judged, because the program that ran
    before it may have counted them.

    The counters of a container on a device start at 0 with the allocation. They stay for
    ``grace_seconds`` after the last moment at which an end could still be judged: that is three
    minutes after the allocation ended. A later judgement prolongs their time as much again.
    """

    def __init__(self, history: MemoryHistory, since: UnixSeconds, grace_seconds: float) -> None:
        # No end is judged sooner than that, so a program before this one has not judged these.
        self._oldest = since - LATE_SECONDS
        self._evidence = Evidence(history)
        self._tenures = Tenures(_PATIENCE_SECONDS + grace_seconds)
        self._unlisted = Unlisted(_PATIENCE_SECONDS + grace_seconds)
        self._counts: dict[AllocationKey, _Counts] = {}
        self._host_kills: dict[Container, int] = {}
        self._host_kill_times: dict[Container, UnixSeconds] = {}
        self._ends: dict[Container, Counter[tuple[Cause, Confidence]]] = {}
        self._gangs = Gangs()
        self._pods: Mapping[PodName, PodRecord] = {}
        self._waiting: dict[_End, Termination] = {}
        self._judged: dict[_End, UnixSeconds] = {}

    def set_allocations(
        self,
        allocations: Iterable[Allocation],
        pods: Mapping[PodName, PodRecord],
        now: UnixSeconds,
    ) -> None:
        """Take the present allocations, and the pods that the pod watch knows."""
        self._pods = pods
        self._tenures.update(allocations, pods, now)
        self._begin_counters()

    def xid(self, event: XidEvent) -> None:
        """Take an XID, which may be the cause of an end."""
        self._evidence.add_xid(event)

    def gpu_lost(self, gpu_uuid: str) -> None:
        """Take it that a GPU fell off the bus."""
        self._evidence.gpu_lost(gpu_uuid)

    def gpu_found(self, gpu_uuid: str) -> None:
        """Take it that a GPU was read."""
        self._evidence.gpu_found(gpu_uuid)

    def process_ended(
        self, container: Container, device_uuid: str, process: EndedProcess, now: UnixSeconds
    ) -> None:
        """Take what the driver's accounting kept of a container's process that ended by ``now``."""
        self._evidence.add_process(container, device_uuid, process, now)

    def terminated(self, termination: Termination) -> None:
        """Take the end of any container of the node, whether or not it is known to use a GPU."""
        end = _End.of(termination)
        if termination.finished_at >= self._oldest and end not in self._judged:
            self._waiting[end] = termination

    def step(self, now: UnixSeconds) -> tuple[Judgement, ...]:
        """Judge the ends whose last readings are in."""
        judgements = []
        for end, termination in sorted(self._waiting.items(), key=_by_time):
            age = now - termination.finished_at
            tenures = self._tenures.at_end(termination, age)
            allocations: tuple[Allocation, ...] | None
            if tenures:
                allocations = tuple(tenure.allocation for tenure in tenures)
            else:
                allocations = supposed_allocations(termination, self._tenures, age)
            if allocations is not None and self._is_due(termination, age):
                self._judged[end] = termination.finished_at
                if tenures:
                    self._tenures.prolong(tenures, now)
                else:
                    self._unlisted.add(termination.container, allocations, now)
                    self._begin_counters()
                judgements.append(self._judge(termination, allocations))
            elif age <= _PATIENCE_SECONDS:
                continue
            del self._waiting[end]
        self._forget(now)
        return tuple(judgements)

    def totals(self, container: Container, device_uuid: str) -> OomTotals | None:
        """Return the verdicts on a container and device; ``None``: the allocation is unknown."""
        counts = self._counts.get(AllocationKey(container, device_uuid))
        return OomTotals(dict(counts.events), counts.last) if counts else None

    @property
    def host_kills(self) -> Mapping[Container, int]:
        """How often each container was killed because the host was out of memory."""
        return self._host_kills

    @property
    def host_kill_times(self) -> Mapping[Container, UnixSeconds]:
        """When each container was last killed because the host was out of memory."""
        return self._host_kill_times

    @property
    def ends(self) -> Mapping[Container, EndCounts]:
        """How often each container ended, by cause and confidence."""
        return self._ends

    @property
    def unlisted(self) -> Unlisted:
        """The containers that ended, and that the kubelet never listed with a device."""
        return self._unlisted

    @property
    def _containers(self) -> AbstractSet[Container]:
        """The containers that have counters."""
        return self._tenures.containers | self._unlisted.containers

    @property
    def _keys(self) -> AbstractSet[AllocationKey]:
        """The allocations that have counters."""
        return self._tenures.keys | self._unlisted.allocations.keys()

    def _begin_counters(self) -> None:
        for container in self._containers:
            self._host_kills.setdefault(container, 0)
            self._ends.setdefault(container, Counter())
        for key in self._keys:
            self._counts.setdefault(key, _Counts(dict.fromkeys(Confidence, 0)))

    def _is_due(self, termination: Termination, age: float) -> bool:
        if termination.words.blames is Cause.PEER and age <= _PEERS_SECONDS:
            return self._gangs.first(termination, self._pods) is not None and age > LATE_SECONDS
        return LATE_SECONDS < age <= _JUDGED_WITHIN_SECONDS

    def _judge(self, termination: Termination, allocations: tuple[Allocation, ...]) -> Judgement:
        if oom.host_oom(termination):
            self._count_kill(termination)
        memory = self._evidence.of(termination, allocations)
        ran_out = oom.judge(memory)
        if ran_out and ran_out.device_uuid:
            self._count(ran_out)
        verdict = causes.judge(
            EndEvidence(
                memory=memory,
                oom=ran_out,
                exclusive=all(each.sole and each.slice is None for each in allocations),
                gpu_lost=self._evidence.lost(allocations),
                first=self._gangs.first(termination, self._pods),
            )
        )
        self._ends[termination.container][verdict.cause, verdict.confidence] += 1
        self._gangs.add(verdict, self._pods)
        return Judgement(allocations, verdict)

    def _count(self, verdict: OomVerdict) -> None:
        ended = verdict.termination
        counts = self._counts[AllocationKey(ended.container, verdict.device_uuid)]
        counts.events[verdict.confidence] += 1
        if not counts.last or counts.last.termination.finished_at <= ended.finished_at:
            counts.last = verdict

    def _count_kill(self, termination: Termination) -> None:
        container, times = termination.container, self._host_kill_times
        self._host_kills[container] += 1
        times[container] = max(
            times.get(container, termination.finished_at), termination.finished_at
        )

    def _forget(self, now: UnixSeconds) -> None:
        """Drop whatever is too old to be needed."""
        self._judged = {
            end: finished
            for end, finished in self._judged.items()
            if now - finished <= _JUDGED_WITHIN_SECONDS
        }
        self._evidence.forget(now)
        self._gangs.forget(now)
        # Not "or": both have to forget.
        if self._tenures.forget(now) | self._unlisted.forget(now):
            containers, keys = self._containers, self._keys
            self._host_kills = {container: self._host_kills[container] for container in containers}
            times = self._host_kill_times.items()
            self._host_kill_times = {each: time for each, time in times if each in containers}
            self._ends = {container: self._ends[container] for container in containers}
            self._counts = {key: self._counts[key] for key in keys}


def _by_time(waiting: tuple[_End, Termination]) -> UnixSeconds:
    """Sort by time: a first failure is judged before those that follow it."""
    return waiting[1].finished_at
