"""Rule groups as Prometheus wants them, with settings still to be filled in.

Every text may hold settings as ``${path}``. So the same groups become plain rule files, where
values take the places, and a Helm template, where expressions on the chart's values do.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from rules import accounting, alerts, recording, settings
from rules.alert import Alert

PLACE: Final = re.compile(r"\$\{([\w.]+)\}")
"""A setting in a text; the group is its path."""

OPTIONAL: Final = {"for": "0s", "keep_firing_for": "0s", "dashboard_url": ""}
"""Fields that are left out while the first setting in them has this value."""

# Recording rules of a day are many samples each, and say little new from minute to minute.
_DAYS_INTERVAL: Final = "5m"
_DASHBOARD_VARIABLES: Final = ("node", "namespace", "pod", "workload", "gpu")


@dataclass(frozen=True, slots=True)
class Rule:
    body: dict[str, Any]
    """As in a rule file, but for what is left out when its setting is empty: see OPTIONAL."""
    switch: str | None = None
    """Path of the setting that it can be switched off with."""


@dataclass(frozen=True, slots=True)
class Group:
    name: str
    file: str
    """Name of the rule file that it is in."""
    rules: tuple[Rule, ...]
    switch: str | None = None
    interval: str | None = None
    priced: bool = False
    """Whether the price table's rules come first."""


def groups() -> Iterator[Group]:
    """Give every group: recording rules, then alerts."""
    for name, recordings in recording.GROUPS.items():
        yield Group(
            f"gpu-{name}",
            "recording",
            tuple(Rule({"record": rule.name, "expr": rule.expr}) for rule in recordings),
            interval=_DAYS_INTERVAL if name == "days" else None,
            priced=name == "cost",
        )
    for name, group in alerts.GROUPS.items():
        yield Group(
            f"gpu-{name}-alerts",
            name,
            tuple(_rule(alert) for alert in group),
            switch=f"groups.{name}.enabled",
        )


def price(model: str, value: str) -> dict[str, Any]:
    """Make the rule that tells a model's price."""
    return {
        "record": accounting.PRICE.name,
        "expr": accounting.PRICE.expr % value,
        "labels": {"model": model},
    }


def _rule(alert: Alert) -> Rule:
    path = f"alerts.{alert.name}"

    def qualified(text: str) -> str:
        return PLACE.sub(lambda match: f"${{{_path(alert, match[1])}}}", text)

    return Rule(
        {
            "alert": alert.name,
            "expr": qualified(alert.filled_expr),
            "for": f"${{{path}.for}}",
            "keep_firing_for": f"${{{path}.keepFiringFor}}",
            "labels": {"severity": f"${{{path}.severity}}", "audience": str(alert.audience)},
            "annotations": {
                "summary": alert.summary,
                "description": qualified(alert.filled_description),
                "runbook_url": f"${{runbooksUrl}}{alert.name}.md",
                "dashboard_url": _dashboard(alert),
            },
        },
        f"{path}.enabled",
    )


def _path(alert: Alert, name: str) -> str:
    if name in settings.ALERTS[alert.name]:
        return f"alerts.{alert.name}.{name}"
    if name not in settings.GENERAL:
        raise KeyError(name)
    return name


def _dashboard(alert: Alert) -> str:
    variables = "&".join(
        f"var-{label}={{{{ $labels.{label} }}}}"
        for label in _DASHBOARD_VARIABLES
        if label in alert.labels
    )
    return f"${{dashboardsUrl}}/d/{alert.dashboard}" + (f"?{variables}" if variables else "")
