"""Panels of the present: numbers, bars and tables."""

from collections.abc import Sequence
from dataclasses import replace

from matplotlib.colors import to_rgb

from setup.demo.picture.canvas import (
    LARGE,
    LINK,
    NORMAL,
    RAISED,
    SMALL,
    TEXT,
    Box,
    Canvas,
)
from setup.demo.picture.fields import Field
from setup.demo.picture.frames import Cell, framed, ordered, transformed
from setup.demo.picture.plots import Shown

_ROW, _HEADER = 30.0, 30.0
_MARGIN = 8.0
_BIGGEST = 38.0


def stat(shown: Shown) -> None:
    """Draw the last value of each series side by side, with the line that led to it."""
    width = shown.box.width / len(shown.series)
    for index, series in enumerate(shown.series):
        field = Field.of(shown.panel, series.name)
        value, canvas = series.values[-1], shown.canvas
        box = replace(shown.box, x=shown.box.x + index * width, width=width)
        colour, text = field.colour(value), field.text(value, shown.end)
        size = min(_BIGGEST, NORMAL * (width - 2 * _MARGIN) / canvas.measure(text))
        if len(shown.series) > 1:
            canvas.text(box.x + _MARGIN, box.y + 8, series.name, size=SMALL)
        middle = box.y + box.height * (
            0.4 if shown.panel["options"]["graphMode"] == "area" else 0.5
        )
        canvas.text(box.x + width / 2, middle, text, size=size, colour=colour, align="center")
        if shown.panel["options"]["graphMode"] == "area" and len(series.values) > 1:
            line = Box(box.x, box.y + box.height * 0.68, width, box.height * 0.32)
            axes = canvas.axes(line)
            axes.plot(series.times, series.values, color=colour, lw=1)
            least, most = min(series.values), max(series.values)
            axes.fill_between(series.times, series.values, least, color=colour, alpha=0.25, lw=0)
            axes.set(
                xlim=(shown.start, shown.end), ylim=(least, most + 0.2 * (most - least) + 1e-9)
            )


def bargauge(shown: Shown) -> None:
    canvas, box = shown.canvas, shown.box.inside(_MARGIN, 0, _MARGIN, 0)
    fields = [Field.of(shown.panel, series.name) for series in shown.series]
    values = [series.values[-1] for series in shown.series]
    texts = [field.text(value, shown.end) for field, value in zip(fields, values, strict=True)]
    names = min(max(canvas.measure(s.name) for s in shown.series) + 12, box.width * 0.5)
    numbers = max(canvas.measure(text, LARGE) for text in texts) + 16
    pitch = min(box.height / len(values), 64.0)
    most = max(*values, 1e-9)
    for row, (series, field, value, text) in enumerate(
        zip(shown.series, fields, values, texts, strict=True)
    ):
        y, colour = box.y + row * pitch, field.colour(value)
        middle = y + pitch / 2
        canvas.text(box.x, middle, canvas.fitted(series.name, names - 12))
        bar = Box(box.x + names, y + 4, box.width - names - numbers, pitch - 8)
        canvas.box(bar, RAISED)
        full = field.get("max", most)
        canvas.box(replace(bar, width=bar.width * min(1, max(0, value / full))), colour)
        canvas.text(box.right, middle, text, size=LARGE, colour=colour, align="right")


def table(shown: Shown) -> None:
    canvas, box, panel = shown.canvas, shown.box, shown.panel
    frame = transformed(framed(shown.answers), panel["transformations"])
    for sort in panel["options"]["sortBy"]:
        frame = ordered(frame, sort["displayName"], desc=sort["desc"])
    fields = [Field.of(panel, column) for column in frame.columns]
    rows = frame.rows[: int((box.height - _HEADER) / _ROW)]
    numeric = [not any(isinstance(row.get(c), str) for row in frame.rows) for c in frame.columns]
    x = box.x
    for field, number, width in zip(fields, numeric, _widths(fields, box.width), strict=True):
        side = (x + width - _MARGIN, "right") if number else (x + _MARGIN, "left")
        name = canvas.fitted(field.name, width - 2 * _MARGIN, bold=True)
        canvas.text(side[0], box.y + _HEADER / 2, name, bold=True, align=side[1])
        for index, row in enumerate(rows):
            place = Box(x, box.y + _HEADER + index * _ROW, width, _ROW)
            _cell(canvas, place, field, row.get(field.name), shown.end, align=side[1])
        x += width
    for index in range(len(rows) + 1):
        canvas.rule(box.x, box.y + _HEADER + index * _ROW, box.width)


def _widths(fields: Sequence[Field], room: float) -> list[float]:
    """Share the width evenly, but for columns that are set, or need more than their share.

    What does not fit is made to: Grafana has it scrolled, where a picture can't be.
    """
    known = {field.name: field.get("custom.width") for field in fields}
    share = room / len(fields)
    while free := [field for field in fields if not known[field.name]]:
        share = (room - sum(width or 0 for width in known.values())) / len(free)
        needy = [field for field in free if field.get("custom.minWidth", 50) > share]
        if not needy:
            break
        known |= {field.name: field.get("custom.minWidth", 50) for field in needy}
    widths = [known[field.name] or share for field in fields]
    return [width * min(1, room / sum(widths)) for width in widths]


def _cell(canvas: Canvas, box: Box, field: Field, value: Cell, now: float, *, align: str) -> None:
    kind = field.get("custom.cellOptions", {"type": "auto"})
    text, middle, colour = field.text(value, now), box.y + box.height / 2, TEXT
    if kind["type"] == "gauge" and isinstance(value, float):
        room = canvas.measure("0.0000%") + 2 * _MARGIN
        bar = box.inside(_MARGIN, 7, room, 7)
        canvas.box(bar, RAISED)
        canvas.box(replace(bar, width=bar.width * field.share(value)), field.colour(value))
    elif kind["type"] == "color-background" and isinstance(value, float):
        ground = field.colour(value)
        canvas.box(box.inside(1, 1, 1, 1), ground)
        red, green, blue = to_rgb(ground)
        colour = "#000000" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "#FFFFFF"
    elif kind["type"] == "color-text" and isinstance(value, float):
        colour = field.colour(value)
    elif kind["type"] not in {"auto", "gauge", "color-background", "color-text"}:
        raise ValueError(f"unknown kind of cell: {kind['type']}")
    elif field.get("links") and value is not None:
        colour = LINK
    text = canvas.fitted(text, box.width - 2 * _MARGIN)
    x = box.right - _MARGIN if align == "right" else box.x + _MARGIN
    canvas.text(x, middle, text, colour=colour, align=align)
