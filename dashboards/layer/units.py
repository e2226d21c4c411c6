"""Base units of the metric table as Grafana names them."""

import re

from exporter.metrics.family import Family
from rules.recording import Recording

_GRAFANA = {
    "": "short",
    "bytes": "bytes",
    "seconds": "s",
    "watts": "watt",
    "joules": "joule",
    "celsius": "celsius",
    "hertz": "hertz",
    "ratio": "percentunit",
    "gpus": "short",
    "devices": "short",
    "hours": "short",
    "currency": "short",
}
_PER_SECOND = {"": "cps", "bytes": "binBps", "seconds": "percentunit", "joules": "watt"}

SHORT = "short"
RATIO = "percentunit"
SECONDS = "s"
AGO = "dateTimeFromNow"
"""Of a time in milliseconds: how long ago it was."""


def unit_of(named: Family | Recording, expr: str) -> str:
    """Return the unit of a family or recording in an expression: its own, its rate's, a count's."""
    if re.search(r"\bcount\b", expr):
        return SHORT
    if re.search(rf"\brate\(\s*{named.name}\b", expr):
        return _PER_SECOND[named.unit]
    return _GRAFANA[named.unit]
