"""Tables: a row for each thing, named by its labels, with a column for each query."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grafanalib import core

from dashboards.layer import colours
from dashboards.layer.colours import Steps
from dashboards.layer.links import links_of, runbooks
from dashboards.layer.queries import DATASOURCE, Query
from dashboards.layer.units import AGO
from dashboards.layer.words import COLUMNS

_NOTHING = {"id": "noValue", "value": "-"}
"""In a cell; in a whole panel it is said why there is nothing."""
ROWS = 20
"""The most rows of a table, the worst first: what a reader takes in, on any number of nodes."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of values. ``expr`` has to give the table's keys as labels, and no others."""

    name: str
    expr: str
    unit: str = ""
    thresholds: Steps | None = None
    full: float | None = None
    """Where a bar in the cell is full; without it there is a number alone."""
    states: Sequence[dict[str, Any]] = ()

    def override(self) -> dict[str, Any]:
        unit = self.unit or Query(self.expr).unit
        # Numbers take what they need, or what their name needs; names of things get the rest.
        least = {AGO: 150}.get(unit, 100 if self.full is None else 150)
        properties: list[dict[str, Any]] = [
            {"id": "unit", "value": unit},
            {"id": "custom.width", "value": max(least, 9 * len(self.name) + 24)},
            _NOTHING,
        ]
        if self.states:
            properties.append({"id": "mappings", "value": list(self.states)})
        if self.full is not None:
            gauge = {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"}
            properties += [
                {"id": "custom.cellOptions", "value": gauge},
                {"id": "min", "value": 0},
                {"id": "max", "value": self.full},
            ]
        elif self.thresholds or self.states:
            properties.append({"id": "custom.cellOptions", "value": {"type": "color-text"}})
        if self.thresholds or self.full is not None:
            steps = self.thresholds or colours.plain()
            properties.append({"id": "thresholds", "value": {"mode": "absolute", "steps": steps}})
            properties.append({"id": "color", "value": {"mode": "thresholds"}})
        return {"matcher": {"id": "byName", "options": self.name}, "properties": properties}


def table(
    title: str,
    keys: Sequence[str],
    *columns: Column,
    about: str = "",
    empty: str = "",
    sort: str = "",
    rising: bool = False,
    rows: int = ROWS,
    points: int | None = None,
    alerts: Sequence[str] = (),
    span: float = 1,
    height: int = 8,
) -> Any:
    """Make a table of ``keys`` and ``columns``, the ``rows`` first ones by the column ``sort``.

    ``points``: into how many steps the queries' ``$__interval`` cuts the time shown.
    """
    queries = [Query(column.expr) for column in columns]
    sort = sort or columns[0].name
    transformations: list[dict[str, Any]] = [
        *([{"id": "merge", "options": {}}] if len(columns) > 1 else []),
        _organize(keys, [column.name for column in columns]),
        {"id": "sortBy", "options": {"fields": {}, "sort": [{"field": sort, "desc": not rising}]}},
        {"id": "limit", "options": {"limitField": rows}},
    ]
    overrides = [column.override() for column in columns]
    return _panel(
        title,
        queries,
        transformations,
        overrides=[*overrides, *links_of({key: COLUMNS[key] for key in keys})],
        about=about or queries[0].help,
        empty=empty or queries[0].empty,
        sort=[core.TableSortByField(displayName=sort, desc=not rising)],
        points=points,
        alerts=alerts,
        span=span,
        height=height,
    )


def _organize(keys: Sequence[str], columns: Sequence[str]) -> dict[str, Any]:
    """Order the fields of the answer and give them their names."""
    values = (
        ["Value"] if len(columns) == 1 else [f"Value #{chr(65 + i)}" for i in range(len(columns))]
    )
    fields = [*keys, *values]
    names = [*(COLUMNS[key] for key in keys), *columns]
    return {
        "id": "organize",
        "options": {
            "excludeByName": {"Time": True},
            "indexByName": {field: index for index, field in enumerate(fields)},
            "renameByName": dict(zip(fields, names, strict=True)),
        },
    }


def matrix(
    title: str,
    expr: str,
    *,
    row: str,
    column: str,
    about: str = "",
    alerts: Sequence[str] = (),
    span: float = 1,
    height: int = 10,
) -> Any:
    """Make a table with a row for each value of one label and a column for each of another.

    Cells are coloured by their values, ratios from 0 to 1.
    """
    query = Query(expr)
    corner = f"{row}\\{column}"
    grouping = {"rowField": row, "columnField": column, "valueField": "Value"}
    colour: list[dict[str, Any]] = [
        {"id": "custom.cellOptions", "value": {"type": "auto"}},
        {"id": "unit", "value": "string"},
        {"id": "custom.minWidth", "value": 140},
    ]
    return _panel(
        title,
        [query],
        [
            {"id": "groupingToMatrix", "options": {**grouping, "emptyValue": "null"}},
            {"id": "organize", "options": {"renameByName": {corner: COLUMNS[row]}}},
            {"id": "sortBy", "options": {"fields": {}, "sort": [{"field": COLUMNS[row]}]}},
        ],
        overrides=[
            {"matcher": {"id": "byRegexp", "options": "/.*/"}, "properties": [_NOTHING]},
            {"matcher": {"id": "byName", "options": COLUMNS[row]}, "properties": colour},
            *links_of({row: COLUMNS[row]}),
        ],
        about=about or query.help,
        empty=query.empty,
        sort=[],
        alerts=alerts,
        span=span,
        height=height,
        defaults={
            "unit": query.unit,
            "min": 0,
            "max": 1,
            "decimals": 0,
            "color": {"mode": "continuous-viridis"},
        },
        cell={"type": "color-background", "mode": "basic"},
    )


def _panel(
    title: str,
    queries: Sequence[Query],
    transformations: list[dict[str, Any]],
    *,
    overrides: list[dict[str, Any]],
    about: str,
    empty: str,
    sort: list[Any],
    alerts: Sequence[str],
    span: float,
    height: int,
    points: int | None = None,
    defaults: Mapping[str, Any] | None = None,
    cell: Mapping[str, Any] | None = None,
) -> Any:
    return core.Table(
        dataSource=DATASOURCE,
        targets=[query.target(i, instant=True, table=True) for i, query in enumerate(queries)],
        title=title,
        description=about,
        links=runbooks(alerts),
        transformations=transformations,
        overrides=overrides,
        thresholds=colours.plain(),
        sortBy=sort,
        maxDataPoints=points,
        span=span,
        height=height,
        extraJson={
            "color": None,
            "mappings": None,
            "fieldConfig": {
                "defaults": {
                    "unit": "string",
                    "noValue": empty,
                    "custom": {
                        "displayMode": None,
                        "cellOptions": dict(cell or {"type": "auto"}),
                        "inspect": False,
                    },
                    **(defaults or {}),
                },
            },
            "options": {"frameIndex": 0, "cellHeight": "sm"},
        },
    )
