"""What a recording rule is, and the labels of the levels that they record."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

CONTAINER: Final = ("node", "namespace", "pod", "container")
WORKLOAD: Final = ("namespace", "workload_kind", "workload")
HELD: Final = ("gpu", "gpu_uuid", "resource", "sharing", "profile", "workload_kind", "workload")
"""What is known of a container's hold on a device."""
ALLOCATION: Final = (*CONTAINER, "uuid", *HELD)


NAMED: Final = '{workload!=""}'
"""Selects what has a workload: without the pod watch, all else would be one."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording rule."""

    name: str
    labels: tuple[str, ...]
    """Every label that its series may have."""
    unit: str
    """``gpus``, ``devices``, ``ratio``, ``bytes``, ``watts``, ``joules``, ``hours``, ``hertz``,
    ``currency`` (that of the price table, or of OpenCost), or empty."""
    help: str
    expr: str

    @property
    def key(self) -> tuple[str, ...]:
        """Labels that tell its series apart; the others follow from these."""
        return _KEYS.get(self.name.partition(":")[0], self.labels)


_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "allocation": (*CONTAINER, "uuid"),
    "container": CONTAINER,
    "pod": CONTAINER[:3],
}


def named(level: str) -> str:
    """Select what has a workload: without the pod watch, all else would be one."""
    return NAMED if level == "workload" else ""
