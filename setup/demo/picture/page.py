"""A dashboard as one picture: its header, and each panel in its place on Grafana's grid."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from setup.demo.picture import cells, plots
from setup.demo.picture.canvas import (
    BORDER,
    LARGE,
    MUTED,
    PANEL,
    RAISED,
    SMALL,
    Box,
    Canvas,
)
from setup.demo.picture.plots import Shown
from setup.demo.picture.query import Ask, Json, Reader, Source

WIDTH = 1400.0
_COLUMNS, _CELL, _GAP = 24, 30.0, 8.0
_MARGIN, _HEADER, _TITLE, _PADDING = 16.0, 92.0, 32.0, 8.0

DRAWERS: Mapping[str, Callable[[Shown], None]] = {
    "timeseries": plots.timeseries,
    "state-timeline": plots.state_timeline,
    "heatmap": plots.heatmap,
    "stat": cells.stat,
    "bargauge": cells.bargauge,
    "table": cells.table,
}


def draw(dashboard: Json, ask: Ask, reader: Reader) -> Canvas:
    """Draw a dashboard for a reader, of what ``ask`` answers.

    Raises ``KeyError`` or ``ValueError`` for what is not known here: a kind of panel, a unit.
    """
    source = Source(ask, reader, dashboard)
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"])
    canvas = Canvas(WIDTH, _HEADER + rows * (_CELL + _GAP) + _MARGIN)
    _header(canvas, dashboard, reader)
    notes = _notes(dashboard, source)
    for panel in dashboard["panels"]:
        box = place(panel["gridPos"])
        if panel["type"] == "row":
            canvas.text(box.x + 4, box.y + box.height / 2, "⌄", size=LARGE)
            canvas.text(box.x + 24, box.y + box.height / 2, panel["title"], size=LARGE)
        else:
            _panel(canvas, box, panel, source, notes)
    return canvas


def _panel(
    canvas: Canvas, box: Box, panel: Json, source: Source, notes: list[tuple[float, str]]
) -> None:
    drawer = DRAWERS[panel["type"]]
    canvas.box(box, PANEL, edge=BORDER, rounding=3)
    title = canvas.fitted(panel["title"], box.width - 54)
    canvas.text(box.x + 10, box.y + _TITLE / 2, title)
    x, middle = box.x + 24 + canvas.measure(title), box.y + _TITLE / 2
    if panel.get("description"):
        canvas.box(Box(x - 6.5, middle - 6.5, 13, 13), PANEL, edge=MUTED, rounding=6.5)
        canvas.text(x, middle, "i", size=SMALL - 2, colour=MUTED, align="center")
    if panel.get("links"):
        canvas.text(x + 12, middle, "↗", size=SMALL, colour=MUTED)
    inner = box.inside(_PADDING, _TITLE, _PADDING, _PADDING)
    points = panel.get("maxDataPoints") or round(inner.width)
    answers = {target["refId"]: source.series(target, points) for target in panel["targets"]}
    if any(answers.values()):
        reader = source.reader
        step = reader.interval_ms(points) / 1000
        drawer(Shown(canvas, inner, panel, answers, reader.start, reader.end, step, notes))
    else:
        canvas.paragraph(inner.inside(12, 0, 12, 0), panel["fieldConfig"]["defaults"]["noValue"])


def _notes(dashboard: Json, source: Source) -> list[tuple[float, str]]:
    """Return when something was noted, and in which colour."""
    found = set()
    for annotation in dashboard["annotations"]["list"]:
        if "target" in annotation:
            for series in source.series(annotation["target"], round(WIDTH)):
                values = series.values if annotation.get("useValueForTime") else ()
                found |= {(value / 1000, annotation["iconColor"]) for value in values}
    return [note for note in sorted(found) if source.reader.start <= note[0] <= source.reader.end]


def place(grid: Mapping[str, int]) -> Box:
    column = (WIDTH - 2 * _MARGIN + _GAP) / _COLUMNS
    return Box(
        _MARGIN + grid["x"] * column,
        _HEADER + grid["y"] * (_CELL + _GAP),
        grid["w"] * column - _GAP,
        grid["h"] * (_CELL + _GAP) - _GAP,
    )


def _header(canvas: Canvas, dashboard: Json, reader: Reader) -> None:
    canvas.text(_MARGIN, 26, "Dashboards  /", size=LARGE, colour=MUTED)
    left = _MARGIN + canvas.measure("Dashboards  /", LARGE) + 12
    canvas.text(left, 26, dashboard["title"], size=LARGE, bold=True)
    start, end = (datetime.fromtimestamp(at, UTC) for at in (reader.start, reader.end))
    shown = f"{start:%Y-%m-%d %H:%M:%S} to {end:%H:%M:%S} UTC"
    width = canvas.measure(shown, SMALL) + 20
    canvas.box(Box(WIDTH - _MARGIN - width, 13, width, 26), RAISED, edge=BORDER, rounding=2)
    canvas.text(WIDTH - _MARGIN - 10, 26, shown, size=SMALL, align="right")
    x = _MARGIN
    for variable in dashboard["templating"]["list"]:
        if variable["hide"] == 0:
            x = _choice(canvas, x, variable, reader) + _GAP


def _choice(canvas: Canvas, x: float, variable: Json, reader: Reader) -> float:
    """Draw what is chosen of a variable; return where that ends."""
    chosen = reader.choices.get(variable["name"], ("All",))
    value = "Prometheus" if variable["type"] == "datasource" else " + ".join(chosen)
    label, value = variable["label"], canvas.fitted(value, 220, SMALL)
    middle, labelled = 62.0, canvas.measure(label, SMALL) + 16
    width = labelled + canvas.measure(value, SMALL) + 34
    canvas.box(Box(x, middle - 13, width, 26), PANEL, edge=BORDER, rounding=2)
    canvas.box(Box(x, middle - 13, labelled, 26), RAISED, edge=BORDER, rounding=2)
    canvas.text(x + 8, middle, label, size=SMALL)
    canvas.text(x + labelled + 8, middle, value, size=SMALL)
    canvas.text(x + width - 8, middle - 2, "⌄", size=SMALL, colour=MUTED, align="right")
    return x + width
