"""Rule groups as Prometheus wants them, with places for the settings.

The same groups become rule files, where values go into the places, and the template of the chart,
where Helm's actions do.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from rules import accounting, recording, settings
from rules.alert import Alert
from rules.alerts import ALERT_GROUPS
from rules.setting import Value

Fields = Mapping[str, "str | Fields"]

OPTIONAL: Final = {"for": "0s", "keep_firing_for": "0s", "dashboard_url": ""}
"""Fields that a rule lacks while the first setting in them has this value."""

_DASHBOARD_VARIABLES: Final = ("node", "namespace", "pod", "workload", "gpu")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: its fields as in a rule file, with a place for each setting."""

    fields: Fields
    alert: Alert | None = None
    """The alert whose own settings may be in the places, beside the general ones."""

    @property
    def switch(self) -> str | None:
        """Path of the setting that switches the rule."""
        return self.alert.path("enabled") if self.alert else None

    def path(self, name: str) -> str:
        """Give the path of the setting that a place names.

        Raises :class:`KeyError` for a place that is neither the alert's nor general.
        """
        if self.alert and name in self.alert.every_setting:
            return self.alert.path(name)
        if name not in settings.GENERAL:
            raise KeyError(name)
        return name


@dataclass(frozen=True, slots=True)
class Group:
    """One group of rules."""

    name: str
    file: str
    """Name of the rule file that it is in."""
    rules: tuple[Rule, ...]
    switch: str | None = None
    """Path of the setting that switches the group."""
    interval: str | None = None
    priced: bool = False
    """Whether the price table's rules come first."""


def groups() -> Iterator[Group]:
    """Give every group: recording rules, then alerts."""
    for group in recording.RECORDING_GROUPS:
        yield Group(
            f"gpu-{group.name}",
            "reports" if group.switch else "recording",
            tuple(Rule({"record": rule.name, "expr": rule.expr}) for rule in group.recordings),
            switch=group.switch,
            interval=group.interval,
            priced=group.priced,
        )
    for alerts in ALERT_GROUPS:
        yield Group(
            f"gpu-{alerts.name}-alerts",
            alerts.name,
            tuple(_rule(alert) for alert in alerts.alerts),
            switch=alerts.switch,
        )


def price(model: str, value: str) -> Fields:
    """Make the rule that records a model's price."""
    return {
        "record": accounting.PRICE.name,
        "expr": f"vector({value})",
        "labels": {"model": model},
    }


def text_of(value: Value) -> str:
    """Give a setting's value as expressions and texts have it."""
    if isinstance(value, tuple):
        return "|".join(value)
    if isinstance(value, float | int) and not isinstance(value, bool):
        return f"{value:.15g}"
    return str(value)


def _rule(alert: Alert) -> Rule:
    return Rule(
        {
            "alert": alert.name,
            "expr": alert.filled_expr,
            "for": "${for}",
            "keep_firing_for": "${keepFiringFor}",
            "labels": {"severity": "${severity}", "audience": str(alert.audience)},
            "annotations": {
                "summary": alert.summary,
                "description": alert.filled_description,
                "runbook_url": f"${{runbooksUrl}}{alert.name}.md",
                "dashboard_url": _dashboard(alert),
            },
        },
        alert,
    )


def _dashboard(alert: Alert) -> str:
    variables = "&".join(
        f"var-{label}={{{{ $labels.{label} }}}}"
        for label in _DASHBOARD_VARIABLES
        if label in alert.labels
    )
    return f"${{dashboardsUrl}}/d/{alert.dashboard}" + (f"?{variables}" if variables else "")
