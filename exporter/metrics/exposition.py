"""A snapshot as Prometheus reads it. prometheus_client writes the formats."""

import gzip
from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from exporter.metrics.family import Family, Point
from exporter.metrics.lines import Encode, Lines
from exporter.metrics.table import TABLE
from exporter.model.snapshot import Snapshot

# Formats are few, but clients can name any number of versions of them.
_MOST_FORMATS = 8


class SnapshotCollector(Collector):
    """Hands the table's families over the current snapshot to a registry.

    ``node`` becomes a label of every series when it is set.
    """

    def __init__(self, snapshot: Callable[[], Snapshot], node: str = "") -> None:
        self._snapshot = snapshot
        self._node = {"node": node} if node else {}

    def collect(self) -> Iterator[Metric]:
        snapshot = self._snapshot()
        for family in TABLE:
            metric = self.metric(family, family.points(snapshot))
            if metric.samples:
                yield metric

    def describe(self) -> Iterable[Metric]:
        """Tell the registry our names, so that it finds duplicates and serves ``name[]``."""
        return [self.metric(family, ()) for family in TABLE]

    def metric(self, family: Family, points: Iterable[Point]) -> Metric:
        """Return a family with its samples as prometheus_client has them."""
        metric = Metric(family.base_name, family.help, family.kind, family.unit)
        for values, number in points:
            labels = dict(zip(family.labels, values, strict=True))
            metric.add_sample(family.name, self._node | labels, float(number))
        return metric


class Exposition:
    """Renders the current snapshot, and keeps the bytes for as long as it is current.

    ``beside`` holds further collectors, such as of the process itself.
    """

    def __init__(
        self, snapshot: Callable[[], Snapshot], *, node: str = "", beside: CollectorRegistry
    ) -> None:
        self._snapshot = snapshot
        self._collector = SnapshotCollector(snapshot, node)
        self._beside = beside
        self._all = CollectorRegistry()
        self._all.register(self._collector)
        self._lines: dict[str, Lines] = {}
        self._rendered_from: Snapshot | None = None
        self._kept: dict[tuple[str, bool], bytes] = {}

    def render(
        self, accept: str = "", *, zipped: bool = False, names: Sequence[str] = ()
    ) -> tuple[bytes, str]:
        """Return the exposition, gzipped or not, and its content type for an ``Accept`` header.

        ``names`` narrows it to some metrics, as ``name[]`` does for other Prometheus clients.
        """
        encode, content_type = choose_encoder(accept)
        if names:
            body = encode(self._all.restricted_registry(names))
            return _zip(body) if zipped else body, content_type
        snapshot = self._snapshot()
        if snapshot is not self._rendered_from or len(self._kept) > 2 * _MOST_FORMATS:
            self._rendered_from = snapshot
            self._kept.clear()
        plain, wanted = (content_type, False), (content_type, zipped)
        if plain not in self._kept:
            self._kept[plain] = self._encode(snapshot, encode, content_type)
        if wanted not in self._kept:
            self._kept[wanted] = _zip(self._kept[plain])
        return self._kept[wanted], content_type

    def _encode(self, snapshot: Snapshot, encode: Encode, content_type: str) -> bytes:
        if len(self._lines) > _MOST_FORMATS:
            self._lines.clear()
        lines = self._lines.setdefault(content_type, Lines(encode, self._collector.metric))
        ours = "".join([lines.encode(family, family.points(snapshot)) for family in TABLE])
        return ours.encode() + encode(self._beside)


def _zip(body: bytes) -> bytes:
    # Level 1 is three times as fast as the default, and leaves 9 % of the text instead of 6 %.
    return gzip.compress(body, compresslevel=1, mtime=0)
