"""The sources that say which container has which device, and what becomes of the containers."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from exporter.model.claims import Claims, DraName, PodName
from exporter.model.clocks import Monotonic
from exporter.model.pods import DraDevice, PodRecord, Termination
from exporter.model.snapshot import SourceHealth


class ClaimSource(Protocol):
    """Knows which devices the kubelet has given to which containers."""

    def claims(self, now: Monotonic) -> Claims | None:
        """Return the claims that hold at ``now``; ``None`` if the last answer is too old."""

    def health(self) -> SourceHealth: ...


class PodSource(Protocol):
    """Knows the node's pods: the watch on the API server."""

    def pods(self) -> Mapping[PodName, PodRecord]: ...

    def dra_devices(self) -> Mapping[DraName, DraDevice]:
        """Return the devices that DRA drivers publish."""

    def take_terminations(self) -> Sequence[Termination]:
        """Return the ends of containers that have not been returned before."""

    def health(self) -> SourceHealth: ...
