"""A snapshot as Prometheus reads it. prometheus_client writes the formats."""

import gzip
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from exporter.metrics.family import Family, Point
from exporter.metrics.lines import Lines
from exporter.metrics.table import TABLE
from exporter.model.labels import label_name
from exporter.model.snapshot import Snapshot

# Formats are few, but clients can name any number of versions of them.
_MOST_FORMATS = 8
# Longer than anybody's scrape interval.
_LATELY_SECONDS = 150.0


class SnapshotCollector(Collector):
    """Hands families of the table over the current snapshot to a registry.

    ``node`` becomes a label of every series when it is set, and each key of ``pod_labels`` one of
    the families that take them: ``app.kubernetes.io/name`` as ``label_app_kubernetes_io_name``.
    """

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        node: str = "",
        pod_labels: Sequence[str] = (),
        families: Sequence[Family] = TABLE,
    ) -> None:
        self._snapshot = snapshot
        self.families = families
        self._node = {"node": node} if node else {}
        self._pod_labels = tuple(label_name(key) for key in pod_labels)

    def collect(self) -> Iterator[Metric]:
        snapshot = self._snapshot()
        for family in self.families:
            metric = self.metric(family, family.points(snapshot))
            if metric.samples:
                yield metric

    def describe(self) -> Iterable[Metric]:
        """Tell the registry our names, so that it finds duplicates and serves ``name[]``."""
        return [self.metric(family, ()) for family in self.families]

    def metric(self, family: Family, points: Iterable[Point]) -> Metric:
        """Return a family with its samples as prometheus_client has them."""
        metric = Metric(family.base_name, family.help, family.kind, family.unit)
        names = family.labels + (self._pod_labels if family.pod_labels else ())
        for values, number in points:
            labels = dict(zip(names, values, strict=True))
            metric.add_sample(family.name, self._node | labels, float(number))
        return metric


class Exposition:
    """Renders the current snapshot, and keeps the bytes for as long as it is current.

    ``beside`` holds further collectors, such as of the process itself. ``clock`` is monotonic.
    """

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        *,
        node: str = "",
        pod_labels: Sequence[str] = (),
        families: Sequence[Family] = TABLE,
        beside: CollectorRegistry,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._snapshot = snapshot
        self._collector = SnapshotCollector(snapshot, node, pod_labels, families)
        self._beside = beside
        self._clock = clock
        self._all = CollectorRegistry()
        self._all.register(self._collector)
        self._formats: dict[str, Lines] = {}
        self._asked: dict[tuple[str, bool], float] = {}
        """When each format, zipped or not, was last asked for."""
        self._kept: dict[tuple[str, bool], bytes] = {}
        self._kept_of: Snapshot | None = None

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
        if content_type not in self._formats:
            if len(self._formats) >= _MOST_FORMATS:
                for kept in (self._formats, self._asked, self._kept):
                    kept.clear()
            self._formats[content_type] = Lines(encode, self._collector.metric)
        self._asked[content_type, zipped] = self._clock()
        return self._bytes(content_type, zipped=zipped), content_type

    def refresh(self) -> None:
        """Render a new snapshot in the formats of late, so that no scrape has to wait for it."""
        now = self._clock()
        for (content_type, zipped), asked in list(self._asked.items()):
            if now - asked < _LATELY_SECONDS:
                self._bytes(content_type, zipped=zipped)
            else:
                del self._asked[content_type, zipped]

    def _bytes(self, content_type: str, *, zipped: bool) -> bytes:
        snapshot = self._snapshot()
        if snapshot is not self._kept_of:
            self._kept_of = snapshot
            self._kept.clear()
        key = content_type, zipped
        if key not in self._kept:
            self._kept[key] = (
                _zip(self._bytes(content_type, zipped=False))
                if zipped
                else self._encode(snapshot, self._formats[content_type])
            )
        return self._kept[key]

    def _encode(self, snapshot: Snapshot, lines: Lines) -> bytes:
        families = self._collector.families
        ours = "".join([lines.encode(family, family.points(snapshot)) for family in families])
        return ours.encode() + lines.format(self._beside)


def _zip(body: bytes) -> bytes:
    # Level 1 is three times as fast as the default, and leaves 9 % of the text instead of 6 %.
    return gzip.compress(body, compresslevel=1, mtime=0)
