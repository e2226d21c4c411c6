"""Links among the dashboards, and from an alert to its runbook. Choices and time range go along."""

from collections.abc import Iterable, Mapping
from typing import Any

from grafanalib import core

from dashboards.layer import words
from dashboards.layer.colours import states
from dashboards.layer.queries import CHOSEN
from rules.alerts import ALERTS
from rules.settings import GENERAL

TAG = "kube-gpu-exporter"
"""Of all our dashboards: each links to the others by it."""
RUNBOOKS = str(GENERAL["runbooksUrl"].default)

_TARGETS = {
    "node": ("gpu-node", "This node"),
    "namespace": ("gpu-efficiency", "This namespace's use of GPUs"),
    "workload": ("gpu-workload", "This workload"),
    "pod": ("gpu-workload", "This pod"),
}
"""Where a cell of that label leads."""


def to_all() -> Any:
    """Return the links to all of our dashboards, at the top of each."""
    return core.DashboardLink(
        type="dashboards",
        title="GPU dashboards",
        tags=[TAG],
        icon="dashboard",
        includeVars=True,
        keepTime=True,
        asDropdown=False,
    )


def runbooks(alerts: Iterable[str]) -> list[Any]:
    """Return a panel's links to the runbooks of the alerts that watch what it shows."""
    unknown = set(alerts) - ALERTS.keys()
    if unknown:
        raise KeyError(*unknown)
    return [
        core.DashboardLink(
            type="link",
            title=f"Runbook: {alert}",
            uri=f"{RUNBOOKS}{alert}.md",
            icon="doc",
            keepTime=False,
            targetBlank=True,
        )
        for alert in alerts
    ]


def dashboard_url(uid: str, **choices: str) -> str:
    """Return the address of a dashboard with some choices made, the others kept."""
    kept = [f"${{{label}:queryparam}}" for label in ("datasource", *CHOSEN) if label not in choices]
    made = [f"var-{label}={value}" for label, value in choices.items()]
    return f"/d/{uid}?" + "&".join(["${__url_time_range}", *kept, *made])


def links_of(columns: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the overrides of a table's label columns, by label and by column name."""
    overrides: list[dict[str, Any]] = []
    for label, column in columns.items():
        properties: list[dict[str, Any]] = [{"id": "noValue", "value": "-"}]
        if label in words.WIDTHS:
            properties.append({"id": "custom.width", "value": words.WIDTHS[label]})
        if label in words.LEAST_WIDTHS:
            least = words.LEAST_WIDTHS[label]
            properties.append({"id": "custom.minWidth", "value": least})
        if label in words.VALUES:
            properties += [
                {"id": "mappings", "value": states(words.VALUES[label])},
                {"id": "custom.cellOptions", "value": {"type": "color-text"}},
            ]
        if label == "alertname":
            url = RUNBOOKS + "${__value.raw}.md"
            link = core.DataLink(title="Runbook", linkUrl=url, isNewTab=True)
            properties.append({"id": "links", "value": [link.to_json_data()]})
        elif label in _TARGETS:
            uid, title = _TARGETS[label]
            url = dashboard_url(uid, **{label: "${__value.raw}"})
            link = core.DataLink(title=title, linkUrl=url)
            properties.append({"id": "links", "value": [link.to_json_data()]})
        overrides.append({"matcher": {"id": "byName", "options": column}, "properties": properties})
    return overrides
