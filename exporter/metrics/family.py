"""What a metric family is."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from exporter.model.snapshot import Snapshot

Point = tuple[tuple[str, ...], float]
"""Label values, in the order of the family's labels, and a value in base units."""

UNITS = ("bytes", "seconds", "watts", "joules", "celsius", "hertz", "ratio")


class Kind(StrEnum):
    GAUGE = "gauge"
    COUNTER = "counter"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Family:
    """One family. Its name tells its kind and its unit, so neither is said twice."""

    name: str
    """As it is scraped, with ``_total`` or ``_info``."""
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
        """The name as OpenMetrics writes it in metadata: without the kind's suffix."""
        return self.name.removesuffix("_total").removesuffix("_info")

    @property
    def unit(self) -> str:
        """The base unit, or an empty string for a plain number."""
        last = self.base_name.rpartition("_")[2]
        return last if last in UNITS else ""
