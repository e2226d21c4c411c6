"""Colours that readers with any colour vision can tell apart, and the steps of thresholds.

The hues are Okabe and Ito's (Color Universal Design, 2008); continuous scales are viridis, whose
lightness rises evenly.
"""

from collections.abc import Mapping
from typing import Any

BLUE = "#0072B2"
SKY = "#56B4E9"
GREEN = "#009E73"
YELLOW = "#F0E442"
ORANGE = "#E69F00"
VERMILLION = "#D55E00"
PURPLE = "#CC79A7"
GREY = "#8C8C8C"

SERIES = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILLION, YELLOW, GREY)

GOOD, WARNING, CRITICAL, NEUTRAL, ABSENT = GREEN, ORANGE, VERMILLION, BLUE, GREY

Steps = list[dict[str, Any]]
"""Threshold steps as Grafana has them: the first has no value, the others rise."""


def plain(colour: str = NEUTRAL) -> Steps:
    """One colour, whatever the value."""
    return [{"color": colour, "value": None}]


def above(warning: float | None = None, critical: float | None = None) -> Steps:
    """Good up to ``warning``, from where on it is worse the higher it gets."""
    found = ((WARNING, warning), (CRITICAL, critical))
    rest = [{"color": colour, "value": value} for colour, value in found if value is not None]
    return [*plain(GOOD), *rest]


def below(warning: float, critical: float | None = None) -> Steps:
    """Good from ``warning`` upwards, worse below it, worst below ``critical``."""
    if critical is None:
        return [*plain(WARNING), {"color": GOOD, "value": warning}]
    return [
        *plain(CRITICAL),
        {"color": WARNING, "value": critical},
        {"color": GOOD, "value": warning},
    ]


def states(names: Mapping[Any, tuple[str, str]]) -> list[dict[str, Any]]:
    """Map values, or labels, to texts and colours: ``{0: ("ok", GOOD), 1: ("lost", CRITICAL)}``."""
    options = {
        str(value): {"text": text, "color": colour, "index": index}
        for index, (value, (text, colour)) in enumerate(names.items())
    }
    return [{"type": "value", "options": options}]


def fixed(name: str, colour: str, *, regexp: bool = False) -> dict[str, Any]:
    """Give the series of that name, or of names that match, one colour."""
    matcher = {"id": "byRegexp" if regexp else "byName", "options": name}
    return {
        "matcher": matcher,
        "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
    }


def by_gpu(most: int = 16) -> list[dict[str, Any]]:
    """Give each GPU of a node a colour of its own; the second eight are dashed.

    For series whose names end in ``GPU <index>``.
    """
    overrides = []
    for index in range(most):
        override = fixed(f"/GPU {index}$/", SERIES[index % len(SERIES)], regexp=True)
        if index >= len(SERIES):
            dashed = {"fill": "dash", "dash": [10, 6]}
            override["properties"].append({"id": "custom.lineStyle", "value": dashed})
        overrides.append(override)
    return overrides


def by_name(*names: str) -> list[dict[str, Any]]:
    """Give known names a colour each, in their order."""
    return [fixed(name, colour) for name, colour in zip(names, SERIES, strict=False)]
