"""Encodes families as prometheus_client does, but the labels of each series only once."""

from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from exporter.metrics.family import Family, Point

_number: Callable[[float], str] = floatToGoString
Encode = Callable[[Collector], bytes]
EOF: Final = "# EOF\n"
"""The last line of an OpenMetrics exposition, after all families."""


class One(Collector):
    """A single family as a collector, which is what encoders take."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        return [self._metric]


class Lines:
    """Encodes families in one format.

    Most of the cost of an exposition is the escaping of labels, and few series come and go from one
    snapshot to the next. So the start of each series' line, up to its value, is kept, and the next
    exposition only appends a new value to it.
    """

    def __init__(self, encode: Encode, metric: Callable[[Family, Iterable[Point]], Metric]) -> None:
        self.format = encode
        self._metric = metric
        self._heads: dict[str, str] = {}
        self._starts: dict[str, dict[tuple[str, ...], str]] = {}

    def encode(self, family: Family, points: Iterable[Point]) -> str:
        """Return the family's lines of an exposition; an empty text if it has no points."""
        points = list(points)
        if not points:
            return ""
        known = self._starts.get(family.name, {})
        if new := [point for point in points if point[0] not in known]:
            known = known | self._learn(family, new)
        # Series that are gone are forgotten.
        self._starts[family.name] = {values: known[values] for values, _ in points}
        return self._heads[family.name] + "".join(
            [f"{known[values]} {_number(number)}\n" for values, number in points]
        )

    def _learn(self, family: Family, points: list[Point]) -> dict[tuple[str, ...], str]:
        text = self.format(One(self._metric(family, points))).decode().removesuffix(EOF)
        lines = text.removesuffix("\n").split("\n")
        heads = lines[: -len(points)]
        self._heads[family.name] = "".join(f"{line}\n" for line in heads)
        return {
            values: line.rpartition(" ")[0]
            for (values, _), line in zip(points, lines[len(heads) :], strict=True)
        }
