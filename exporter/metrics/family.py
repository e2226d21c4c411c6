"""What a metric family is."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from exporter.model.snapshot import Snapshot

Point = tuple[tuple[str, ...], float]
"""Label values, in the order of the family's labels, and a value in base units."""

UNITS: Final = ("bytes", "seconds", "watts", "joules", "celsius", "hertz", "ratio")


class Kind(StrEnum):
    GAUGE = "gauge"
    COUNTER = "counter"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Family:
    """One family. The name implies the kind and the unit, so that they are not stated twice."""

    name: str
    """The name in a scrape, with ``_total`` or ``_info``."""
    help: str
    labels: tuple[str, ...]
    points: Callable[[Snapshot], Iterable[Point]]
    pod_labels: bool = False
    """Whether the pod labels that the configuration allows follow the family's own."""

    @property
    def kind(self) -> Kind:
        if self.name.endswith("_total"):
            return Kind.COUNTER
        return Kind.INFO if self.name.endswith("_info") else Kind.GAUGE

    @property
    def base_name(self) -> str:
        """The name in the metadata of OpenMetrics, without the suffix of the kind."""
        return self.name.removesuffix("_total").removesuffix("_info")

    @property
    def unit(self) -> str:
        """The base unit, or an empty string for a plain number."""
        last = self.base_name.rpartition("_")[2]
        return last if last in UNITS else ""
