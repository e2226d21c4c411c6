"""What a recording rule is, and the labels of the levels that they record."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

CONTAINER: Final = ("node", "namespace", "pod", "container")
WORKLOAD: Final = ("namespace", "workload_kind", "workload")
ALLOCATION_KEY: Final = (*CONTAINER, "uuid")
"""The labels that identify an allocation."""
ALLOCATION_FACTS: Final = (
    *("gpu", "gpu_uuid", "resource", "sharing", "profile", "workload_kind", "workload"),
)
"""The labels that say more about an allocation."""
ALLOCATION: Final = (*ALLOCATION_KEY, *ALLOCATION_FACTS)

NAMED: Final = '{workload!=""}'
"""Selects what has a workload: without the pod watch, everything else would be one workload."""


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
        """The labels that identify a series; the others follow from these."""
        return _KEYS.get(self.name.partition(":")[0], self.labels)


_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "allocation": ALLOCATION_KEY,
    "container": CONTAINER,
    "pod": CONTAINER[:3],
}


def named(level: str) -> str:
    """Give the selector that a level needs: workloads are known only with the pod watch."""
    return NAMED if level == "workload" else ""
