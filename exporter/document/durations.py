"""The one grammar of durations, in every place where a user writes one.

Prometheus' own: whole numbers with units, each unit at most once and the largest first, such as
``1h30m`` or ``500ms``. Beside it a bare number is seconds, with at most three decimals. Flags,
environment variables, configuration files, scenarios, settings of the rules and values of the chart
take the same texts.
https://prometheus.io/docs/prometheus/latest/configuration/configuration/#configuration-file
"""

import re
from typing import Final

_UNITS: Final = {
    "y": 365 * 86_400_000,
    "w": 7 * 86_400_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1_000,
    "ms": 1,
}
"""Milliseconds of each unit, the largest first. A year has 365 days, as it has in Prometheus."""

UNITS_PATTERN: Final = "".join(rf"(?:[0-9]{{1,9}}{unit})?" for unit in _UNITS)
"""A duration in units, or nothing, as a regular expression that Go takes as well."""
_SECONDS: Final = r"[0-9]{1,9}(?:\.[0-9]{1,3})?"
_DURATION: Final = re.compile(rf"(?=[0-9]){UNITS_PATTERN}|{_SECONDS}")
_PART: Final = re.compile(r"([0-9.]+)(ms|[ywdhms])")
# What somebody means who writes units in another order, twice, or with decimals.
_MEANT: Final = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:ms|[ywdhms]))+")


class DurationError(ValueError):
    """A text that is no duration. The message is one line that quotes the text."""


def parse_duration(text: str) -> float:
    """Return the seconds of a duration, to the millisecond. Raises :class:`DurationError`."""
    if not _DURATION.fullmatch(text):
        raise DurationError(f"{shown(text)} is not a duration ({_advice(text)})")
    parts = _PART.findall(text)
    if not parts:
        return float(text)
    return sum(int(number) * _UNITS[unit] for number, unit in parts) / 1000


def format_duration(seconds: float) -> str:
    """Write seconds with the largest unit up to hours that divides them: ``90s``, ``1h``.

    Rounds to the millisecond.
    """
    milliseconds = round(seconds * 1000)
    for unit in ("h", "m", "s"):
        if milliseconds and milliseconds % _UNITS[unit] == 0:
            return f"{milliseconds // _UNITS[unit]}{unit}"
    return f"{milliseconds}ms" if milliseconds else "0s"


def shown(text: str) -> str:
    """Quote a text of a user for a message of one line, cut where it is long."""
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def _advice(text: str) -> str:
    if len(text) <= 60 and _MEANT.fullmatch(text):
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text)) / 1000
        return f"write {format_duration(seconds)}"
    return "such as 5s"
