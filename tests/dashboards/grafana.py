"""The generated dashboards, and what each asks."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dashboards.generate import DASHBOARDS

Json = dict[str, Any]


def dashboards() -> list[Json]:
    """Return every dashboard as it is generated."""
    return [json.loads(outline.json()) for outline in DASHBOARDS]


def panels(dashboard: Json) -> list[Json]:
    """Return the panels of a dashboard without its rows."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


@dataclass(frozen=True)
class Asked:
    """A query of a dashboard, and where it stands."""

    place: str
    expr: str
    instant: bool
    points: int
    """Into how many steps the time shown is cut."""


def queries(dashboard: Json) -> Iterator[Asked]:
    """Yield the queries of panels and annotations."""
    uid = dashboard["uid"]
    for panel in panels(dashboard):
        for target in panel["targets"]:
            place = f"{uid}: {panel['title']}: {target['refId']}"
            points = panel.get("maxDataPoints", 1000)
            yield Asked(place, target["expr"], target["instant"], points)
    for note in dashboard["annotations"]["list"]:
        if "target" in note:
            place = f"{uid}: {note['name']}: annotation"
            yield Asked(place, note["target"]["expr"], instant=False, points=1000)


def variables(dashboard: Json) -> Iterator[tuple[str, str, str]]:
    """Yield the name, the label and the series of each variable that asks for a label's values."""
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert found, variable
            yield variable["name"], found[2], found[1]
