"""Queries in plain PromQL, narrowed to what the reader has chosen.

A dashboard writes ``rate(gpu_busy_seconds_total[$__rate_interval])``. Each known name gets a
matcher for each variable that its labels allow, so that no query can forget one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from grafanalib import core

from dashboards.layer import units
from dashboards.layer.absence import why_empty
from exporter.metrics.family import Family
from exporter.metrics.table import TABLE
from rules.recording import RECORDINGS, Recording

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
Named = Family | Recording
NAMED: Mapping[str, Named] = {**{family.name: family for family in TABLE}, **RECORDINGS}
"""What has a name, a unit and a help text: the metric table and the recording rules."""
CHOSEN = ("node", "namespace", "workload", "pod", "gpu")
"""Labels that there is a variable of the same name for."""

LABELS: Mapping[str, tuple[str, ...]] = {
    **{family.name: ("node", *family.labels) for family in TABLE},
    **{name: recording.labels for name, recording in RECORDINGS.items()},
    "ALERTS": ("node", "namespace", "gpu"),
    "ALERTS_FOR_STATE": ("node", "namespace", "gpu"),
}
"""The labels of each name that a query may use and that can be narrowed."""

_NAME = re.compile(r"(?<![\w$.:\"])([a-zA-Z_:][\w:]*)(?:\{([^{}]*)\})?")
_CHOSEN_ALREADY = re.compile(r"(\w+)\s*=")


def narrowed(expr: str) -> str:
    """Add a matcher of each variable to each known name of an expression that has its label."""
    return _NAME.sub(_narrow, " ".join(expr.split()))


def _narrow(found: re.Match[str]) -> str:
    name, given = found[1], found[2] or ""
    if name not in LABELS:
        return found[0]
    matched = _CHOSEN_ALREADY.findall(given)
    matchers = [
        f'{label}=~"${label}"' for label in CHOSEN if label in LABELS[name] and label not in matched
    ]
    return f"{name}{{{', '.join([*matchers, *filter(None, [given])])}}}"


def names_in(expr: str) -> list[str]:
    """Return the known names that an expression uses, in order."""
    return [found[1] for found in _NAME.finditer(expr) if found[1] in LABELS]


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel. ``legend`` names its series, in Grafana's ``{{label}}`` form."""

    expr: str
    legend: str = ""

    @property
    def named(self) -> Named | None:
        """The first family or recording that it uses."""
        return next((NAMED[name] for name in names_in(self.expr) if name in NAMED), None)

    @property
    def help(self) -> str:
        """What that says of itself."""
        return self.named.help if self.named else ""

    @property
    def unit(self) -> str:
        """The unit that it gives; a panel may know better."""
        return units.unit_of(self.named, self.expr) if self.named else units.SHORT

    @property
    def empty(self) -> str:
        """Why it may have no data."""
        return why_empty(next(iter(names_in(self.expr)), ""))

    def target(self, index: int, *, instant: bool, table: bool = False) -> Any:
        """Return it as a grafanalib target, the ``index``-th of its panel."""
        return core.Target(
            datasource=DATASOURCE,
            expr=narrowed(self.expr),
            legendFormat=self.legend or "__auto",
            refId=chr(ord("A") + index),
            instant=instant,
            format="table" if table else "time_series",
        )
