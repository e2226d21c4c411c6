"""A snapshot as Prometheus reads it. prometheus_client writes the formats."""

import gzip
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from functools import partial
from types import MappingProxyType
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from exporter.metrics.family import Family, Point
from exporter.metrics.lines import Encode, Lines
from exporter.metrics.table import TABLE
from exporter.model.labels import label_name
from exporter.model.snapshot import Snapshot

_LATELY_SECONDS: Final = 150.0
"""Longer than anybody's scrape interval."""


class Format(Enum):
    """What an exposition can be written as."""

    TEXT = "text"
    OPENMETRICS = "openmetrics"


_ENCODERS: Final[Mapping[Format, Encode]] = MappingProxyType(
    {
        Format.TEXT: generate_latest,
        Format.OPENMETRICS: partial(openmetrics.generate_latest, version="1.0.0"),
    }
)


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

    def metric(self, family: Family, points: Iterable[Point]) -> Metric:
        """Return a family with its samples as prometheus_client has them."""
        metric = Metric(family.base_name, family.help, family.kind, family.unit)
        names = family.labels + (self._pod_labels if family.pod_labels else ())
        for values, number in points:
            labels = dict(zip(names, map(_writable, values), strict=True))
            metric.add_sample(family.name, self._node | labels, float(number))
        return metric


def _writable(text: str) -> str:
    """Return a text that UTF-8 can write: JSON, for one, can say half of a pair of surrogates."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


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
        self._formats = {
            form: Lines(encode, self._collector.metric) for form, encode in _ENCODERS.items()
        }
        self._asked: dict[tuple[Format, bool], float] = {}
        """When each format, zipped or not, was last asked for."""
        self._kept: dict[tuple[Format, bool], bytes] = {}
        self._kept_of: Snapshot | None = None

    def render(
        self, form: Format = Format.TEXT, *, zipped: bool = False, names: Collection[str] = ()
    ) -> bytes:
        """Return the exposition, gzipped or not.

        ``names`` narrows it to some families or series, as ``name[]`` does for other Prometheus
        clients. Nothing is kept of such an answer.
        """
        if names:
            body = _ENCODERS[form](_Narrowed((self._collector, self._beside), frozenset(names)))
            return _zip(body) if zipped else body
        self._asked[form, zipped] = self._clock()
        return self._bytes(form, zipped=zipped)

    def refresh(self) -> None:
        """Render a new snapshot in the formats of late, so that no scrape has to wait for it."""
        now = self._clock()
        for (form, zipped), asked in list(self._asked.items()):
            if now - asked < _LATELY_SECONDS:
                self._bytes(form, zipped=zipped)
            else:
                del self._asked[form, zipped]

    def _bytes(self, form: Format, *, zipped: bool) -> bytes:
        snapshot = self._snapshot()
        if snapshot is not self._kept_of:
            self._kept_of = snapshot
            self._kept.clear()
        key = form, zipped
        if key not in self._kept:
            self._kept[key] = (
                _zip(self._bytes(form, zipped=False))
                if zipped
                else self._encode(snapshot, self._formats[form])
            )
        return self._kept[key]

    def _encode(self, snapshot: Snapshot, lines: Lines) -> bytes:
        families = self._collector.families
        ours = "".join([lines.encode(family, family.points(snapshot)) for family in families])
        return ours.encode() + lines.format(self._beside)


class _Narrowed(Collector):
    """The series of collectors that have some names; a family's name stands for all its series."""

    def __init__(self, collectors: Iterable[Collector], names: Collection[str]) -> None:
        self._collectors = collectors
        self._names = names

    def collect(self) -> Iterator[Metric]:
        for collector in self._collectors:
            for metric in collector.collect():
                if metric.name not in self._names:
                    metric.samples = [s for s in metric.samples if s.name in self._names]
                if metric.samples:
                    yield metric


def _zip(body: bytes) -> bytes:
    # Level 1 is three times as fast as the default, and leaves 9 % of the text instead of 6 %.
    return gzip.compress(body, compresslevel=1, mtime=0)
