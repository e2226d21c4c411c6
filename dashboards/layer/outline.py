"""A dashboard as its outline: rows of lines of panels. Places and ids come from that alone."""

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import attr
from grafanalib import _gen, core

from dashboards.layer import links
from dashboards.layer.today import today
from dashboards.layer.variables import variables

WIDTH = 24
"""Columns of Grafana's grid."""
SCHEMA_VERSION = 42
"""Of the dashboard model in @grafana/schema; a test compares it."""

Line = Sequence[Any]
"""Panels side by side; they share the width by their ``span``."""


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    lines: tuple[Line, ...]

    def __init__(self, title: str, *lines: Line) -> None:
        object.__setattr__(self, "title", title)
        object.__setattr__(self, "lines", lines)


@dataclass(frozen=True, slots=True)
class Outline:
    """A dashboard: the question that it answers, and its rows, most important first."""

    uid: str
    title: str
    question: str
    rows: tuple[Row, ...]
    since: str = "now-6h"
    refresh: str = "1m"
    annotations: tuple[dict[str, Any], ...] = ()

    def dashboard(self) -> Any:
        """Return it as grafanalib's dashboard."""
        panels = list(self._placed())
        ids = [panel.id for panel in panels]
        if len(set(ids)) < len(ids):
            raise ValueError(f"{self.uid}: two panels have one title, or their ids collide")
        return core.Dashboard(
            uid=self.uid,
            title=self.title,
            description=self.question,
            tags=[links.TAG, "gpu", "kubernetes"],
            links=[links.to_all()],
            annotations=core.Annotations([_BUILT_IN, *self.annotations]),
            templating=core.Templating(variables(self._queries(panels))),
            panels=panels,
            time=core.Time(self.since, "now"),
            timezone="browser",
            refresh=self.refresh,
            graphTooltip=core.GRAPH_TOOLTIP_MODE_SHARED_CROSSHAIR,
            schemaVersion=SCHEMA_VERSION,
            version=1,
        )

    def json(self) -> bytes:
        """Return it as Grafana of today reads it."""
        text = json.dumps(self.dashboard(), cls=_gen.DashboardEncoder)
        return (json.dumps(today(json.loads(text)), indent=2) + "\n").encode()

    def _queries(self, panels: Sequence[Any]) -> list[str]:
        asked = [target.expr for panel in panels for target in panel.targets]
        return [*asked, *(note["target"]["expr"] for note in self.annotations)]

    def _placed(self) -> Iterator[Any]:
        y = 0
        for row in self.rows:
            place = core.GridPos(h=1, w=WIDTH, x=0, y=y)
            yield core.RowPanel(title=row.title, id=_id("row", row.title), gridPos=place)
            y += 1
            for line in row.lines:
                height = max(panel.height for panel in line)
                for panel, (start, end) in zip(line, _shares(line), strict=True):
                    place = core.GridPos(h=height, w=end - start, x=start, y=y)
                    yield attr.evolve(panel, id=_id("panel", panel.title), gridPos=place)
                y += height


_BUILT_IN = {
    "builtIn": 1,
    "datasource": {"type": "grafana", "uid": "-- Grafana --"},
    "enable": True,
    "hide": True,
    "iconColor": "rgba(0, 211, 255, 1)",
    "name": "Annotations & Alerts",
    "type": "dashboard",
}


def _shares(line: Line) -> list[tuple[int, int]]:
    """Return where each panel of a line begins and ends."""
    total = sum(panel.span for panel in line)
    ends = [round(WIDTH * part / total) for part in accumulate(panel.span for panel in line)]
    return list(zip([0, *ends[:-1]], ends, strict=True))


def _id(kind: str, title: str) -> int:
    """Return an id that stays when other panels come and go, so that links to it hold."""
    return zlib.crc32(f"{kind} {title}".encode()) % 1_000_000 + 1
