"""Panels over time: lines, states, and a heat map."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import matplotlib as mpl
from matplotlib.axes import Axes

from setup.demo.picture.canvas import GRID, MUTED, SMALL, TEXT, Box, Canvas
from setup.demo.picture.fields import Field
from setup.demo.picture.query import Json, Series
from setup.demo.picture.units import ticks, written

_TIME_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200)
_DAY = 86400.0
_LEGEND_LINE = 18.0
_AXIS = 20.0
"""Height of the time axis."""
_DASHES = {"dash": (0, (5, 3)), "dot": (0, (1, 2)), "solid": "-"}


@dataclass(frozen=True, slots=True)
class Shown:
    """What a panel draws: its place, its answers, the time shown and the step of its queries."""

    canvas: Canvas
    box: Box
    panel: Json
    answers: Mapping[str, Sequence[Series]]
    """By the letter of the query."""
    start: float
    end: float
    step: float
    notes: Sequence[tuple[float, str]] = ()
    """Times of annotations, and their colours."""

    @property
    def series(self) -> list[Series]:
        return [series for answer in self.answers.values() for series in answer]


def timeseries(shown: Shown) -> None:
    fields = [Field.of(shown.panel, series.name) for series in shown.series]
    legend = shown.panel["options"]["legend"]
    box = shown.box
    if legend["displayMode"] == "table":
        box = _legend_table(shown, fields, legend["calcs"])
    elif legend["showLegend"]:
        names = [(series.name, _colour(field, series)) for series, field in _pairs(shown, fields)]
        box = _legend_list(shown.canvas, box, names)
    common = Field.of(shown.panel, "")
    stacked = common.get("custom.stacking", {}).get("mode") == "normal"
    gapped = [_gapped(series, shown.step) for series in shown.series]
    curves = _stacked(shown.series) if stacked else gapped
    low, high = _limits(common, [v for _, values in curves for v in values if math.isfinite(v)])
    axes = _time_axes(shown, box, _left(shown, low, high, common.unit))
    axes.set_ylim(low, high)
    _value_axis(shown.canvas, axes, common.unit)
    under = [0.0] * len(curves[0][0])
    for (series, field), (times, values) in zip(_pairs(shown, fields), curves, strict=True):
        colour, width = _colour(field, series), 0.75 * field.get("custom.lineWidth", 1)
        style = _DASHES[field.get("custom.lineStyle", {}).get("fill", "solid")]
        axes.plot(times, values, color=colour, lw=width, ls=style, label=series.name)
        if stacked:
            opacity = field.get("custom.fillOpacity", 0) / 100
            axes.fill_between(times, under, values, color=colour, alpha=opacity, lw=0)
            under = values
    if common.get("custom.thresholdsStyle", {}).get("mode") == "dashed":
        for step in common.steps:
            if step["value"] is not None:
                axes.axhline(step["value"], color=step["color"], lw=1, ls=_DASHES["dash"])
    for at, colour in shown.notes:
        axes.axvline(at, color=colour, lw=0.6, ls=_DASHES["dash"], alpha=0.6)


def state_timeline(shown: Shown) -> None:
    options = shown.panel["options"]
    page = options.get("perPage", len(shown.series))
    series, more = shown.series[:page], len(shown.series) - page
    box = shown.box
    fields = [Field.of(shown.panel, each.name) for each in series]
    states = {
        field.text(value, shown.end): field.colour(value)
        for each, field in zip(series, fields, strict=True)
        for value in sorted(set(each.values))
    }
    if options["legend"]["showLegend"]:
        box = _legend_list(shown.canvas, box, list(states.items()))
    if more > 0:
        text = f"1-{page} of {len(shown.series)}"
        shown.canvas.text(box.right, box.bottom - 6, text, size=SMALL, align="right", colour=MUTED)
        box = box.inside(0, 0, 0, 16)
    size = min(SMALL, (box.height - _AXIS) / len(series) * 0.9)
    widest = min(max(shown.canvas.measure(each.name, size) for each in series) + 8, box.width * 0.4)
    axes = _time_axes(shown, box, widest)
    axes.set_ylim(len(series), 0)
    plot = box.inside(widest, 0, 8, _AXIS)
    for row, (each, field) in enumerate(zip(series, fields, strict=True)):
        place = plot.y + (row + 0.5) * plot.height / len(series)
        name = shown.canvas.fitted(each.name, widest - 8, size)
        shown.canvas.text(plot.x - 8, place, name, size=size, align="right", colour=MUTED)
        for since, until, value in _states(each, shown.step, shown.end):
            colour, text = field.colour(value), field.text(value, shown.end)
            axes.barh(
                row + 0.5, until - since, left=since, height=0.9, color=colour, alpha=0.85, lw=0
            )
            second = plot.width / (shown.end - shown.start)
            room = (until - since) * second - 6
            if options["showValue"] == "auto" and shown.canvas.measure(text, size) < room:
                left = plot.x + max(0, since - shown.start) * second + 4
                shown.canvas.text(left, place, text, size=size, colour="#FFFFFF")


def heatmap(shown: Shown) -> None:
    options = shown.panel["options"]
    unit, colours = options["cellValues"]["unit"], options["color"]
    if options["calculate"] or colours["scheme"] != "Viridis":
        raise ValueError("a heat map is drawn of rows, in viridis")
    canvas, scale = shown.canvas, mpl.colormaps["viridis"]
    box = shown.box.inside(0, 0, 0, 30)
    widest = max(canvas.measure(each.name, SMALL) for each in shown.series) + 8
    axes = _time_axes(shown, box, widest)
    rows = shown.series if options["yAxis"]["reverse"] else shown.series[::-1]
    axes.set_ylim(len(rows), 0)
    plot = box.inside(widest, 0, 8, _AXIS)
    low, high = colours["min"], colours["max"]
    for row, each in enumerate(rows):
        place = plot.y + (row + 0.5) * plot.height / len(rows)
        canvas.text(plot.x - 8, place, each.name, size=SMALL, align="right", colour=MUTED)
        axes.broken_barh(
            [(at - shown.step, shown.step) for at in each.times],
            (row + 0.02, 0.96),
            facecolors=[scale((value - low) / (high - low)) for value in each.values],
            linewidth=0,
        )
    bar = Box(plot.x, shown.box.bottom - 20, 180, 8)
    canvas.axes(bar).imshow([[n / 63 for n in range(64)]], aspect="auto", cmap=scale)
    for x, value in ((bar.x, low), (bar.right, high)):
        text = written(value, unit)
        canvas.text(x, bar.bottom + 8, text, size=SMALL - 1, align="center", colour=MUTED)


def _pairs(shown: Shown, fields: Sequence[Field]) -> list[tuple[Series, Field]]:
    return list(zip(shown.series, fields, strict=True))


def _colour(field: Field, series: Series) -> str:
    return field.colour(series.values[-1])


def _gapped(series: Series, step: float) -> tuple[list[float], list[float]]:
    """Return times and values with a gap where a step has no value."""
    times, values = [], []
    for index, (at, value) in enumerate(zip(series.times, series.values, strict=True)):
        if index and at - series.times[index - 1] > 1.5 * step:
            times.append(at - step)
            values.append(math.nan)
        times.append(at)
        values.append(value)
    return times, values


def _stacked(series: Sequence[Series]) -> list[tuple[list[float], list[float]]]:
    """Return each series on top of those before it; where it has no value it adds nothing."""
    times = sorted({at for each in series for at in each.times})
    under, curves = [0.0] * len(times), []
    for each in series:
        values = dict(zip(each.times, each.values, strict=True))
        under = [base + values.get(at, 0.0) for base, at in zip(under, times, strict=True)]
        curves.append((times, under))
    return curves


def _states(series: Series, step: float, end: float) -> list[tuple[float, float, float]]:
    """Return since when, until when and in which state it was; a missing value is no state."""
    found: list[tuple[float, float, float]] = []
    for at, value in zip(series.times, series.values, strict=True):
        if found and found[-1][2] == value and at <= found[-1][1] + step / 2:
            found[-1] = (found[-1][0], min(at + step, end), value)
        else:
            found.append((at, min(at + step, end), value))
    return found


def _limits(field: Field, values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of the value axis: as set, else around the values."""
    least, most = min(values, default=0.0), max(values, default=1.0)
    pad = 0.1 * (most - least) or 0.1 * abs(most) or 0.5
    low = float(field.get("min", least - pad))
    high = float(field.get("max", most + 0.1 * (most - low)))
    return low, high if high > low else low + 1


def _left(shown: Shown, low: float, high: float, unit: str) -> float:
    """Return how much room the value axis takes."""
    return max(shown.canvas.measure(label, SMALL) for label in ticks(low, high, unit)[1]) + 10


def _time_axes(shown: Shown, box: Box, left: float) -> Axes:
    """Return axes over the time shown, with the times below."""
    plot = box.inside(left, 0, 8, _AXIS)
    axes = shown.canvas.axes(plot)
    axes.set_xlim(shown.start, shown.end)
    length = shown.end - shown.start
    room = max(2, plot.width / 72)
    step = next(
        (s for s in _TIME_STEPS if length / s <= room), _DAY * math.ceil(length / _DAY / room)
    )
    form = "%H:%M:%S" if step < 60 else "%H:%M" if step < _DAY else "%m/%d"
    at = math.ceil(shown.start / step) * step
    while at <= shown.end:
        axes.axvline(at, color=GRID, lw=0.7, zorder=0)
        x = plot.x + (at - shown.start) / length * plot.width
        text = datetime.fromtimestamp(at, UTC).strftime(form)
        half = shown.canvas.measure(text, SMALL) / 2
        if box.x <= x - half and x + half <= box.right + 8:
            y = plot.bottom + _AXIS / 2 + 2
            shown.canvas.text(x, y, text, size=SMALL, align="center", colour=MUTED)
        at += step
    return axes


def _value_axis(canvas: Canvas, axes: Axes, unit: str) -> None:
    low, high = axes.get_ylim()
    place = axes.get_position()
    top, height = canvas.height * (1 - place.y1), canvas.height * place.height
    for value, label in zip(*ticks(low, high, unit), strict=True):
        axes.axhline(value, color=GRID, lw=0.7, zorder=0)
        y = top + (high - value) / (high - low) * height
        x = canvas.width * place.x0 - 6
        canvas.text(x, y, label, size=SMALL, align="right", colour=MUTED)


def _legend_list(canvas: Canvas, box: Box, names: Sequence[tuple[str, str]]) -> Box:
    """Write the legend in lines at the bottom, as many as may be; return the room above it."""
    lines: list[list[tuple[float, str, str]]] = [[]]
    x = box.x
    for name, colour in names:
        name = canvas.fitted(name, box.width - 20, SMALL)  # noqa: PLW2901 # as it is written
        width = 20 + canvas.measure(name, SMALL) + 12
        if lines[-1] and x + width > box.right + 12:
            lines.append([])
            x = box.x
        lines[-1].append((x, name, colour))
        x += width
    lines = lines[: max(1, int(box.height * 0.35 / _LEGEND_LINE))]
    top = box.bottom - len(lines) * _LEGEND_LINE
    for index, line in enumerate(lines):
        y = top + (index + 0.5) * _LEGEND_LINE
        for x, name, colour in line:
            canvas.box(Box(x, y - 2, 14, 4), colour, rounding=2)
            canvas.text(x + 20, y, name, size=SMALL)
    return box.inside(0, 0, 0, len(lines) * _LEGEND_LINE + 4)


_CALCS: Mapping[str, tuple[str, Callable[[Sequence[float]], float]]] = {
    "lastNotNull": ("Last *", lambda values: values[-1]),
    "max": ("Max", max),
}


def _legend_table(shown: Shown, fields: Sequence[Field], calcs: Sequence[str]) -> Box:
    """Write the legend as a table on the right; return the room beside it."""
    canvas, box, column = shown.canvas, shown.box, 76.0
    widest = max(canvas.measure(series.name, SMALL) for series in shown.series) + 24
    width = min(widest + column * len(calcs), box.width * 0.6)
    left, names = box.right - width, width - column * len(calcs)
    for index, calc in enumerate(calcs):
        x = left + names + column * (index + 1)
        canvas.text(x, box.y + 8, _CALCS[calc][0], size=SMALL, align="right", colour=MUTED)
    for row, (series, field) in enumerate(_pairs(shown, fields)):
        y = box.y + 8 + (row + 1) * _LEGEND_LINE
        if y > box.bottom - 8:
            break
        canvas.box(Box(left, y - 2, 14, 4), _colour(field, series), rounding=2)
        canvas.text(left + 20, y, canvas.fitted(series.name, names - 24, SMALL), size=SMALL)
        for index, calc in enumerate(calcs):
            text = field.text(_CALCS[calc][1](series.values), shown.end)
            x = left + names + column * (index + 1)
            canvas.text(x, y, text, size=SMALL, align="right", colour=TEXT)
        canvas.rule(left, y + _LEGEND_LINE / 2, width)
    return box.inside(0, 0, width + 12, 0)
