"""Jobs whose processes fail together: the first failure, and those that follow it."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from exporter.model.claims import Container, PodName
from exporter.model.clocks import UnixSeconds
from exporter.model.ends import Cause
from exporter.model.pods import PodRecord, Termination
from exporter.model.verdicts import EndVerdict, FirstFailure

_FOLLOW_SECONDS: Final = 1800.0
"""How long after a first failure its peers may notice: NCCL's longest default time-out."""
_CLOCK_SECONDS: Final = 5.0
"""Ends are in whole seconds, and a follower may be quicker to end than the first."""
_ALONE: Final = frozenset(
    {"Pod", "Deployment", "ReplicaSet", "ReplicationController", "DaemonSet", "Rollout"}
)
"""Kinds whose pods do not work on one thing together."""
_NO_FIRST: Final = {Cause.PEER, Cause.STOPPED, Cause.COMPLETED, Cause.UNKNOWN}
"""Causes that are nobody's first failure."""


class _Gang(NamedTuple):
    namespace: str
    kind: str
    name: str


class _Failure(NamedTuple):
    finished_at: UnixSeconds
    container: Container
    cause: Cause


class Gangs:
    """Keeps the failures of each workload on this node. Nodes do not see each other."""

    def __init__(self) -> None:
        self._failures: dict[_Gang, list[_Failure]] = {}

    def add(self, verdict: EndVerdict, pods: Mapping[PodName, PodRecord]) -> None:
        """Keep a verdict, if it may be a first failure."""
        gang = _gang(verdict.termination, pods)
        if gang is None or verdict.cause in _NO_FIRST:
            return
        ended = verdict.termination
        failure = _Failure(ended.finished_at, ended.container, verdict.cause)
        self._failures.setdefault(gang, []).append(failure)

    def first(
        self, termination: Termination, pods: Mapping[PodName, PodRecord]
    ) -> FirstFailure | None:
        """Return the first failure that an end may have followed; ``None``: none is known."""
        gang = _gang(termination, pods)
        at = termination.finished_at
        known = [
            failure
            for failure in (self._failures.get(gang, ()) if gang else ())
            if -_CLOCK_SECONDS <= at - failure.finished_at <= _FOLLOW_SECONDS
            and failure.container != termination.container
            and _ran_then(termination, failure.finished_at)
        ]
        earliest = min(known, default=None)
        return FirstFailure(earliest.container, earliest.cause) if earliest else None

    def forget(self, now: UnixSeconds) -> None:
        """Drop what nobody can follow any more."""
        oldest = now - _FOLLOW_SECONDS - _CLOCK_SECONDS
        kept = {
            gang: [failure for failure in failures if failure.finished_at >= oldest]
            for gang, failures in self._failures.items()
        }
        self._failures = {gang: failures for gang, failures in kept.items() if failures}


def _ran_then(termination: Termination, at: UnixSeconds) -> bool:
    """Whether a run that ended had begun before ``at``: a later try follows no earlier one."""
    return termination.started_at is None or termination.started_at <= at


def _gang(termination: Termination, pods: Mapping[PodName, PodRecord]) -> _Gang | None:
    pod = pods.get(termination.container.pod_name)
    if pod is None or pod.uid != termination.pod_uid or pod.workload_kind in _ALONE:
        return None
    return _Gang(pod.namespace, pod.workload_kind, pod.workload)
