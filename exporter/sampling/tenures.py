"""Which pod had which device, and when. Kept for a while after the device was released."""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import chain
from math import inf
from typing import Final

from exporter.model.claims import Allocation, AllocationKey, Container, PodName
from exporter.model.clocks import UnixSeconds
from exporter.model.pods import PodRecord, Termination

ASKED_AGAIN_SECONDS: Final = 60.0
"""After this time the exporter has surely asked the kubelet again.

The interval between two questions is at most 30 s, and so is the back-off after a failure.
"""


_ALWAYS: Final = UnixSeconds(inf)


@dataclass(slots=True)
class Tenure:
    """The time for which a device was allocated to a container of one pod."""

    allocation: Allocation
    pod_uid: str | None
    """``None``: the pod watch did not know the pod as the tenure began."""
    since: UnixSeconds
    ended: UnixSeconds | None = None
    kept_until: UnixSeconds = _ALWAYS

    def distance(self, timestamp: UnixSeconds) -> float:
        """Return the seconds between the tenure and ``timestamp``; 0 if it lies in the tenure."""
        ended = inf if self.ended is None else self.ended
        return max(self.since - timestamp, timestamp - ended, 0.0)


class Tenures:
    """Keeps the tenures of all containers, to find the devices that a container had as it ended.

    A tenure is identified by the pod's UID, because pods of one name may follow each other within
    seconds, and on different devices. Where the UID is unknown, times decide.

    The pod's status reports an end, and the kubelet's claims show that a device was released.
    Either may arrive first. So a tenure is kept for ``kept_seconds`` after its device was released.
    """

    def __init__(self, kept_seconds: float) -> None:
        self._kept_seconds = kept_seconds
        self._by_container: dict[Container, list[Tenure]] = {}

    @property
    def containers(self) -> AbstractSet[Container]:
        """The containers that have a tenure."""
        return self._by_container.keys()

    @property
    def keys(self) -> set[AllocationKey]:
        """The keys of all tenures' allocations."""
        return {tenure.allocation.key for tenure in self._all()}

    def update(
        self,
        allocations: Iterable[Allocation],
        pods: Mapping[PodName, PodRecord],
        now: UnixSeconds,
    ) -> None:
        """Begin and end tenures by the present allocations, and by the pods of the pod watch.

        An allocation that another pod of the same name has taken over begins a new tenure.
        """
        uids = {name: pod.uid for name, pod in pods.items()}
        current = {allocation.key: allocation for allocation in allocations}
        for tenure in self._all():
            if tenure.ended is None:
                key = tenure.allocation.key
                uid = uids.get(key.container.pod_name, tenure.pod_uid)
                if key in current and uid == tenure.pod_uid:
                    tenure.allocation = current.pop(key)
                else:
                    tenure.ended = now
                    self._keep(tenure, now)
        for key, allocation in current.items():
            uid = uids.get(key.container.pod_name)
            tenure = Tenure(allocation, uid, since=now)
            self._by_container.setdefault(key.container, []).append(tenure)

    def at_end(self, termination: Termination, age: float) -> list[Tenure]:
        """Return the tenures of the container as it ended, ``age`` seconds ago.

        Of the tenures that may be meant, those nearest to the end are meant.
        """
        known = self._by_container.get(termination.container, [])
        candidates = [tenure for tenure in known if tenure.pod_uid == termination.pod_uid]
        if not candidates:
            candidates = [tenure for tenure in known if _may_be_of(tenure, termination, age)]
        distances = [tenure.distance(termination.finished_at) for tenure in candidates]
        nearest = min(distances, default=0.0)
        return [
            tenure
            for tenure, distance in zip(candidates, distances, strict=True)
            if distance == nearest
        ]

    def of_pod(self, pod: PodName, uid: str) -> list[Allocation]:
        """Return the allocations that the containers of a pod have or had."""
        return [
            tenure.allocation
            for tenure in self._all()
            if tenure.pod_uid == uid and tenure.allocation.container.pod_name == pod
        ]

    def prolong(self, tenures: Iterable[Tenure], now: UnixSeconds) -> None:
        """Keep tenures that have ended for a further ``kept_seconds``."""
        for tenure in tenures:
            if tenure.ended is not None:
                self._keep(tenure, now)

    def forget(self, now: UnixSeconds) -> bool:
        """Drop the tenures whose time is over; return whether there were any."""
        if all(tenure.kept_until >= now for tenure in self._all()):
            return False
        kept = {
            container: [tenure for tenure in tenures if tenure.kept_until >= now]
            for container, tenures in self._by_container.items()
        }
        self._by_container = {container: tenures for container, tenures in kept.items() if tenures}
        return True

    def _all(self) -> Iterable[Tenure]:
        return chain.from_iterable(self._by_container.values())

    def _keep(self, tenure: Tenure, now: UnixSeconds) -> None:
        tenure.kept_until = UnixSeconds(now + self._kept_seconds)


def _may_be_of(tenure: Tenure, termination: Termination, age: float) -> bool:
    """Whether a tenure may be of the run that ended, though the pod's UID does not say so.

    - A tenure whose pod was unknown may be, if the end came within a minute of the tenure. A pod
      that became known only after the end is a later pod.
    - A tenure of another pod of the same name may be, if the end came within the tenure. The pod
      that ended may have taken the device over between two answers of the kubelet. This is decided
      a minute after the end, when the kubelet has been asked again.
    """
    distance = tenure.distance(termination.finished_at)
    if tenure.pod_uid is None:
        return distance <= ASKED_AGAIN_SECONDS
    return age > ASKED_AGAIN_SECONDS and distance == 0.0
