"""Answers as tables, and Grafana's transformations of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from setup.demo.picture.query import Json, Series

Cell = str | float | None
Row = Mapping[str, Cell]


@dataclass(frozen=True, slots=True)
class Frame:
    """A table: its columns in order, and rows that may lack some of them."""

    columns: Sequence[str]
    rows: Sequence[Row]


def framed(answers: Mapping[str, Sequence[Series]]) -> list[Frame]:
    """Return the answer to each query, by its letter, as a table."""
    frames = []
    for letter, series in answers.items():
        value = f"Value #{letter}" if len(answers) > 1 else "Value"
        labels = dict.fromkeys(label for each in series for label in each.labels)
        rows: list[Row] = [{"Time": s.times[-1], **s.labels, value: s.values[-1]} for s in series]
        frames.append(Frame(["Time", *labels, value], rows))
    return frames


def transformed(frames: Sequence[Frame], transformations: Sequence[Json]) -> Frame:
    """Return what is left to show. Raises ``KeyError`` at a transformation not known here."""
    for step in transformations:
        frames = _KNOWN[step["id"]](frames, step["options"])
    return frames[0]


def ordered(frame: Frame, column: str, *, desc: bool) -> Frame:
    """Sort rows by a column; those without a value are the least."""

    def key(row: Row) -> tuple[int, float, str]:
        cell = row.get(column)
        if isinstance(cell, str):
            return 1, 0, cell
        return (1, cell, "") if cell is not None else (0, 0, "")

    if column not in frame.columns:
        return frame
    return Frame(frame.columns, sorted(frame.rows, key=key, reverse=desc))


def _merge(frames: Sequence[Frame], _: Json) -> list[Frame]:
    """Join rows that agree in the columns of all frames, and in what else both of them have."""
    columns = list(dict.fromkeys(column for frame in frames for column in frame.columns))
    keys = [column for column in columns if all(column in frame.columns for frame in frames)]
    merged: dict[tuple[Cell, ...], list[dict[str, Cell]]] = {}
    for frame in frames:
        for row in frame.rows:
            alike = merged.setdefault(tuple(row.get(key) for key in keys), [])
            agreeing = [each for each in alike if all(each.get(k, v) == v for k, v in row.items())]
            for each in agreeing:
                each.update(row)
            if not agreeing:
                alike.append(dict(row))
    return [Frame(columns, [row for alike in merged.values() for row in alike])]


def _organize(frames: Sequence[Frame], options: Json) -> list[Frame]:
    hidden = {name for name, hide in options.get("excludeByName", {}).items() if hide}
    places, names = options.get("indexByName", {}), options.get("renameByName", {})
    organized = []
    for frame in frames:
        kept = [column for column in frame.columns if column not in hidden]
        kept.sort(key=lambda column: places.get(column, len(places)))
        rows = [{names.get(c, c): row.get(c) for c in kept} for row in frame.rows]
        organized.append(Frame([names.get(column, column) for column in kept], rows))
    return organized


def _sort_by(frames: Sequence[Frame], options: Json) -> list[Frame]:
    (sort,) = options["sort"]
    return [ordered(frame, sort["field"], desc=sort.get("desc", False)) for frame in frames]


def _limit(frames: Sequence[Frame], options: Json) -> list[Frame]:
    return [Frame(frame.columns, frame.rows[: options["limitField"]]) for frame in frames]


def _grouping_to_matrix(frames: Sequence[Frame], options: Json) -> list[Frame]:
    """Make a row for each value of one column, and a column for each of another."""
    row, column, value = (options[f"{name}Field"] for name in ("row", "column", "value"))
    corner = f"{row}\\{column}"
    rows: dict[Cell, dict[str, Cell]] = {}
    for found in frames[0].rows:
        cells = rows.setdefault(found.get(row), {corner: found.get(row)})
        cells[str(found.get(column))] = found.get(value)
    columns = dict.fromkeys(str(found.get(column)) for found in frames[0].rows)
    return [Frame([corner, *columns], list(rows.values()))]


_KNOWN: Mapping[str, Callable[[Sequence[Frame], Any], list[Frame]]] = {
    "merge": _merge,
    "organize": _organize,
    "sortBy": _sort_by,
    "limit": _limit,
    "groupingToMatrix": _grouping_to_matrix,
}
