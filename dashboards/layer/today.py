"""What grafanalib writes, as the Grafana of today has it.

grafanalib 0.7.1 writes what Grafana 5 to 9 knew, and ``null`` for all that was not set. Here stays
what is in the dashboard model of @grafana/schema.
"""

from typing import Any

from dashboards.layer.variables import about

_DASHBOARD = {
    *("annotations", "description", "editable", "graphTooltip", "links", "panels", "refresh"),
    *("schemaVersion", "tags", "templating", "time", "timepicker", "timezone", "title", "uid"),
    "version",
}
_PANEL = {
    *("collapsed", "datasource", "description", "fieldConfig", "gridPos", "id", "interval"),
    *("links", "maxDataPoints", "options", "panels", "targets", "title", "transformations"),
    *("transparent", "type"),
}
_ROW = {"collapsed", "gridPos", "id", "panels", "title", "type"}
_TARGET = {"datasource", "expr", "format", "instant", "legendFormat", "refId"}
_VARIABLE = {
    *("allValue", "datasource", "hide", "includeAll", "label", "multi", "name"),
    *("options", "query", "refresh", "regex", "sort", "type"),
}
_OLD_OPTIONS = {"fieldOptions", "showThresholdLabels", "showThresholdMarkers"}
"""Of a bar gauge; ``fieldConfig`` has it all."""
_NULL_IS_MEANT = {"value", "from", "to"}
"""Of thresholds and ranges: from minus infinity, to infinity."""


def today(dashboard: dict[str, Any]) -> dict[str, Any]:
    """Return a dashboard of grafanalib's without what Grafana no longer knows."""
    found = _only(_DASHBOARD, dashboard)
    return {
        **found,
        "timepicker": {},
        "panels": [_panel(panel) for panel in found["panels"]],
        "templating": {"list": [_variable(item) for item in found["templating"]["list"]]},
    }


def _panel(panel: dict[str, Any]) -> dict[str, Any]:
    if panel["type"] == "row":
        return _only(_ROW, panel)
    found = _only(_PANEL, panel)
    return {
        **found,
        "options": {k: v for k, v in found["options"].items() if k not in _OLD_OPTIONS},
        "targets": [_target(target) for target in found["targets"]],
    }


def _target(target: dict[str, Any]) -> dict[str, Any]:
    found = _only(_TARGET, target)
    return {**found, "range": not found["instant"], "editorMode": "code", "exemplar": False}


def _variable(variable: dict[str, Any]) -> dict[str, Any]:
    found = _only(_VARIABLE, variable)
    chosen = variable["current"]["value"]
    current = {"current": {"selected": True, "text": ["All"], "value": [chosen]}} if chosen else {}
    return {**found, **current, "description": about(found["name"])}


def _only(known: set[str], given: dict[str, Any]) -> dict[str, Any]:
    return {key: _set(value) for key, value in given.items() if key in known and value is not None}


def _set(value: Any) -> Any:
    """Return a value without the ``null`` of what was not set, however deep."""
    if isinstance(value, dict):
        return {
            key: _set(item)
            for key, item in value.items()
            if item is not None or key in _NULL_IS_MEANT
        }
    return [_set(item) for item in value] if isinstance(value, list) else value
