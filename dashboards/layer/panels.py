"""Panels of each kind, as all dashboards have them.

Each takes its title, its queries, and what differs from the rule: unit, description and the text
for "no data" come from the metric table by the first query. ``alerts`` are those that watch what
the panel shows; it links to their runbooks. ``span`` weighs a panel's width against that of its
neighbours, ``height`` is in grid units of 30 pixels; ``outline`` turns them into places.
"""

from collections.abc import Sequence
from typing import Any

from grafanalib import core

from dashboards.layer import colours
from dashboards.layer.colours import Steps
from dashboards.layer.links import runbooks
from dashboards.layer.queries import DATASOURCE, Query

Overrides = Sequence[dict[str, Any]]
_TOOLTIP = {"mode": "multi", "sort": "desc", "hideZeros": False}
_LAST = {"calcs": ["lastNotNull"], "fields": "", "values": False}


def _common(
    title: str,
    queries: Sequence[Query],
    about: str,
    *,
    instant: bool,
    alerts: Sequence[str],
    span: float,
    height: int,
    points: int | None = None,
) -> dict[str, Any]:
    """Return what panels of every kind have."""
    return {
        "dataSource": DATASOURCE,
        "targets": [query.target(i, instant=instant) for i, query in enumerate(queries)],
        "title": title,
        "description": about or queries[0].help,
        "links": runbooks(alerts),
        "span": span,
        "height": height,
        "maxDataPoints": points,
    }


def _defaults(queries: Sequence[Query], unit: str, empty: str, **fields: object) -> dict[str, Any]:
    defaults = {"unit": unit or queries[0].unit, "noValue": empty or queries[0].empty, **fields}
    return {key: value for key, value in defaults.items() if value is not None}


def timeseries(
    title: str,
    *queries: Query,
    about: str = "",
    unit: str = "",
    empty: str = "",
    stacked: bool = False,
    most: float | None = None,
    least: float | None = 0,
    thresholds: Steps | None = None,
    overrides: Overrides = (),
    legend: str = "list",
    alerts: Sequence[str] = (),
    span: float = 1,
    height: int = 8,
) -> Any:
    """Lines over time. ``legend``: ``list`` below, or a ``table`` beside, for many series."""
    table = legend == "table"
    return core.TimeSeries(
        **_common(title, queries, about, instant=False, alerts=alerts, span=span, height=height),
        lineWidth=1 if stacked else 2,
        fillOpacity=40 if stacked else 0,
        showPoints="never",
        stacking={"mode": "normal" if stacked else "none", "group": "A"},
        colorMode="palette-classic-by-name",
        thresholds=thresholds or colours.plain(),
        thresholdsStyleMode="dashed" if thresholds else "off",
        overrides=list(overrides),
        legendDisplayMode=legend,
        legendPlacement="right" if table else "bottom",
        legendCalcs=["lastNotNull", "max"] if table else [],
        tooltipMode="multi",
        tooltipSort="desc",
        extraJson={
            "fieldConfig": {
                "defaults": _defaults(queries, unit, empty, min=least, max=most),
            },
            "options": {"legend": {"showLegend": True}, "tooltip": _TOOLTIP},
        },
    )


def stat(
    title: str,
    query: Query,
    *,
    about: str = "",
    unit: str = "",
    empty: str = "",
    thresholds: Steps | None = None,
    decimals: int | None = None,
    points: int | None = None,
    alerts: Sequence[str] = (),
    span: float = 1,
    height: int = 4,
) -> Any:
    """Show one number: that of now, and none when there is none now.

    ``points``: into how many steps the query's ``$__interval`` cuts the time shown.
    """
    why = f"No data: {empty or query.empty}"
    return core.Stat(
        **_common(
            title,
            [query],
            f"{about or query.help} {why}",
            instant=True,
            alerts=alerts,
            span=span,
            height=height,
            points=points,
        ),
        colorMode="value",
        graphMode="none",
        reduceCalc="lastNotNull",
        color={"mode": "thresholds"},
        thresholds=thresholds or colours.plain(),
        decimals=decimals,
        # Grafana writes it as large as the number: the reason has room in the description.
        noValue="no data",
        format=unit or query.unit,
        extraJson={
            "options": {
                "wideLayout": True,
                "showPercentChange": False,
                "percentChangeColorMode": "standard",
            },
        },
    )


def bargauge(
    title: str,
    *queries: Query,
    about: str = "",
    unit: str = "",
    empty: str = "",
    most: float | None = None,
    thresholds: Steps | None = None,
    alerts: Sequence[str] = (),
    span: float = 1,
    height: int = 8,
) -> Any:
    """One bar for each series, in the query's order. ``most`` is where a bar is full."""
    return core.BarGauge(
        **_common(title, queries, about, instant=True, alerts=alerts, span=span, height=height),
        displayMode="basic",
        orientation="horizontal",
        thresholds=thresholds or colours.plain(),
        extraJson={
            "fieldConfig": {
                "defaults": _defaults(
                    queries, unit, empty, min=0, max=most, color={"mode": "thresholds"}
                ),
                "overrides": [],
            },
            "options": {
                "reduceOptions": _LAST,
                "valueMode": "color",
                "namePlacement": "auto",
                "showUnfilled": True,
                "sizing": "auto",
                "minVizWidth": 8,
                "minVizHeight": 16,
                "maxVizHeight": 300,
                "legend": {
                    "showLegend": False,
                    "displayMode": "list",
                    "placement": "bottom",
                    "calcs": [],
                },
            },
        },
    )


def state_timeline(
    title: str,
    *queries: Query,
    states: Sequence[dict[str, Any]],
    about: str = "",
    unit: str = "none",
    empty: str = "",
    show_value: bool = True,
    page: int = 20,
    alerts: Sequence[str] = (),
    span: float = 1,
    height: int = 10,
) -> Any:
    """Show a row for each series, coloured by its state; ``page`` rows at a time."""
    return core.StateTimeline(
        **_common(title, queries, about, instant=False, alerts=alerts, span=span, height=height),
        mappings=list(states),
        thresholds=colours.plain(colours.ABSENT),
        showValue="auto" if show_value else "never",
        tooltipMode="single",
        extraJson={
            "fieldConfig": {"defaults": _defaults(queries, unit, empty)},
            "options": {
                "perPage": page,
                "legend": {"showLegend": bool(show_value), "calcs": []},
                "tooltip": {"sort": "none"},
            },
        },
    )


def heatmap(
    title: str,
    query: Query,
    *,
    about: str = "",
    unit: str = "",
    empty: str = "",
    most: float = 1,
    alerts: Sequence[str] = (),
    span: float = 1,
    height: int = 10,
) -> Any:
    """Show a row for each series, its value as a colour over time; zero is shown too."""
    return core.Heatmap(
        **_common(title, [query], about, instant=False, alerts=alerts, span=span, height=height),
        options={
            "calculate": False,
            "cellGap": 1,
            "cellValues": {"unit": unit or query.unit},
            "color": {
                "mode": "scheme",
                "scheme": "Viridis",
                "scale": "linear",
                "exponent": 0.5,
                "fill": colours.BLUE,
                "min": 0,
                "max": most,
                "reverse": False,
                "steps": 64,
            },
            "exemplars": {"color": colours.VERMILLION},
            "filterValues": {"le": -1},
            "legend": {"show": True},
            "rowsFrame": {"layout": "auto", "value": title},
            "selectionMode": "x",
            "showValue": "never",
            "tooltip": {"mode": "single", "showColorScale": True, "yHistogram": False},
            "yAxis": {"axisPlacement": "left", "reverse": True, "unit": "none"},
        },
        extraJson={
            "fieldConfig": {
                "defaults": {
                    **_defaults([query], unit, empty),
                    "thresholds": None,
                    "custom": {
                        "hideFrom": {"legend": False, "tooltip": False, "viz": False},
                        "scaleDistribution": {"type": "linear"},
                    },
                },
                "overrides": [],
            },
        },
    )
