"""Containers that requested GPUs and ended, but that the kubelet never listed with a device."""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace

from exporter.model.claims import Allocation, AllocationKey, Container
from exporter.model.clocks import UnixSeconds
from exporter.model.pods import Termination
from exporter.sampling.tenures import ASKED_AGAIN_SECONDS, Tenures


class Unlisted:
    """Keeps such containers for a while, so that the verdicts on them can be served.

    The kubelet lists no init container that runs once, and newer kubelets list no pod that has
    ended: a pod may end between two answers. The pod's spec says that the container requested a
    GPU. Which GPU it had is known only of init containers: their pod has it.
    """

    def __init__(self, kept_seconds: float) -> None:
        self._kept_seconds = kept_seconds
        self._kept: dict[Container, tuple[UnixSeconds, tuple[Allocation, ...]]] = {}

    @property
    def containers(self) -> AbstractSet[Container]:
        return self._kept.keys()

    @property
    def allocations(self) -> Mapping[AllocationKey, Allocation]:
        """The allocations that these containers must have had."""
        return {each.key: each for _, allocations in self._kept.values() for each in allocations}

    def add(
        self, container: Container, allocations: Iterable[Allocation], now: UnixSeconds
    ) -> None:
        self._kept[container] = UnixSeconds(now + self._kept_seconds), tuple(allocations)

    def forget(self, now: UnixSeconds) -> bool:
        """Drop the containers whose time is over; return whether there were any."""
        before = len(self._kept)
        self._kept = {each: kept for each, kept in self._kept.items() if kept[0] >= now}
        return len(self._kept) < before


def supposed_allocations(
    termination: Termination, tenures: Tenures, age: float
) -> tuple[Allocation, ...] | None:
    """Return what a container without a tenure must have had, as it ended ``age`` seconds ago.

    ``None``: it had nothing, or the kubelet may yet list it. Empty: it had devices, and nobody
    knows which.
    """
    if not termination.wants_devices:
        return None
    if termination.init:
        container = termination.container
        others = tenures.of_pod(container.pod_name, termination.pod_uid)
        if others:
            had = {each.device_uuid: replace(each, container=container) for each in others}
            return tuple(had.values())
    return () if age > ASKED_AGAIN_SECONDS else None
