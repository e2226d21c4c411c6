"""When the present run of each container began."""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

from exporter.model.claims import Container, PodName
from exporter.model.clocks import UnixSeconds
from exporter.model.pods import PodRecord


class Starts:
    """Knows when the present runs of containers began, by the pod watch or by their claims.

    A container that gets its device while this program runs starts when its claim is first seen. If
    a container had its device before this program started, only the pod watch knows the start. An
    unknown start is left out, because otherwise the start of this program would take its place.
    """

    def __init__(self) -> None:
        self._first_seen: dict[Container, UnixSeconds | None] | None = None

    def update(self, containers: AbstractSet[Container], now: UnixSeconds) -> None:
        """Take the containers that have claims now. Only for times at which these are known."""
        seen = self._first_seen
        if seen is None:
            self._first_seen = dict.fromkeys(containers)
        else:
            self._first_seen = {each: seen.get(each, now) for each in containers}

    def of(
        self, containers: Iterable[Container], pods: Mapping[PodName, PodRecord]
    ) -> Mapping[Container, UnixSeconds]:
        """Return the starts of these containers, as far as they are known."""
        starts = {}
        for container in containers:
            start = _reported(container, pods.get(container.pod_name))
            if start is None:
                start = (self._first_seen or {}).get(container)
            if start is not None:
                starts[container] = start
        return starts


def _reported(container: Container, pod: PodRecord | None) -> UnixSeconds | None:
    for record in pod.containers if pod else ():
        if record.name == container.name:
            return record.running_since
    return None
