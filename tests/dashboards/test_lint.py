"""What grafana/dashboard-linter holds dashboards to, and what else readers count on.

Not followed are ``template-job-rule``, ``template-instance-rule``, ``target-job-rule`` and
``target-instance-rule``: every series names its node, which people know, while ``instance`` is a
pod's address and ``job`` the user's choice. Nor is ``uneditable-dashboard``: who imports a file
wants to change it, and what is provisioned is read-only by its provider. Smaller exceptions are
below.
"""

import itertools
import re
from collections.abc import Iterator

import pytest

from dashboards.layer.links import RUNBOOKS
from dashboards.layer.queries import CHOSEN
from exporter.metrics.family import Kind
from exporter.metrics.table import TABLE
from rules.alert import Dashboard
from rules.alerts import ALERTS
from rules.recording import RECORDINGS
from tests.dashboards import grafana, promql
from tests.dashboards.grafana import Asked, Json

COUNTED_SINCE_START = {
    "gpu-health: XIDs: B": (
        "an XID's counter begins with its first event, which `increase` does not see"
    ),
}
OVER_THE_TIME_SHOWN = {"$__range", "$__range:$__interval"}
"""Ranges of totals, means and rankings over what the time picker says."""

FOREIGN = {
    "ALERTS": {"alertname", "alertstate", "severity", "node", "namespace", "pod", "gpu"},
    "ALERTS_FOR_STATE": {"alertname", "severity", "node", "namespace", "pod", "gpu"},
    "process_cpu_seconds_total": {"instance", "job"},
    "process_resident_memory_bytes": {"instance", "job"},
    "scrape_duration_seconds": {"instance", "job"},
    "scrape_samples_post_metric_relabeling": {"instance", "job"},
    "scrape_samples_scraped": {"instance", "job"},
}
"""What Prometheus and prometheus_client make, and its labels."""

LABELS = {
    **{family.name: {"node", *family.labels} for family in TABLE},
    **{name: set(recording.labels) for name, recording in RECORDINGS.items()},
    **FOREIGN,
}
TARGET_LABELS = {"instance", "job"}
COUNTERS = {family.name for family in TABLE if family.kind is Kind.COUNTER}
UNITS = {
    *(
        "binBps",
        "bytes",
        "celsius",
        "cps",
        "dateTimeFromNow",
        "hertz",
        "joule",
        "none",
        "percentunit",
    ),
    *("s", "short", "string", "watt", "watth"),
}
"""Grafana's names of units, of those that the linter knows, that are in use."""

DASHBOARDS = {document["uid"]: document for document in grafana.dashboards()}
every_dashboard = pytest.mark.parametrize("uid", DASHBOARDS)


def panels() -> Iterator[tuple[str, Json]]:
    for uid, dashboard in DASHBOARDS.items():
        for panel in grafana.panels(dashboard):
            yield f"{uid}: {panel['title']}", panel


def queries() -> Iterator[Asked]:
    for dashboard in DASHBOARDS.values():
        yield from grafana.queries(dashboard)


def test_there_is_a_dashboard_for_each_that_alerts_lead_to() -> None:
    assert DASHBOARDS.keys() == {dashboard.value for dashboard in Dashboard}


@every_dashboard
def test_the_data_source_can_be_chosen(uid: str) -> None:
    first = DASHBOARDS[uid]["templating"]["list"][0]
    assert (first["name"], first["type"]) == ("datasource", "datasource")
    assert (first["query"], first["label"]) == ("prometheus", "Data source")


@every_dashboard
def test_variables_are_the_same_everywhere_and_take_many_values(uid: str) -> None:
    _, *variables = DASHBOARDS[uid]["templating"]["list"]
    assert [variable["name"] for variable in variables] == list(CHOSEN)
    for variable in variables:
        assert variable["multi"]
        assert variable["includeAll"]
        assert variable["refresh"] == 2, "on a change of the time range, or the linter complains"
        assert variable["datasource"]["uid"] == "${datasource}"


@every_dashboard
def test_a_variable_shows_only_where_it_has_an_effect(uid: str) -> None:
    used = " ".join(asked.expr for asked in grafana.queries(DASHBOARDS[uid]))
    for variable in DASHBOARDS[uid]["templating"]["list"][1:]:
        if variable["hide"] == 0:
            name = f'"${variable["name"]}"'
            assert name in used or (
                '"$pod"' in used and variable["name"] in {"namespace", "workload"}
            )


@every_dashboard
def test_links_keep_choices_and_time(uid: str) -> None:
    (link,) = DASHBOARDS[uid]["links"]
    assert link["type"] == "dashboards"
    assert link["includeVars"]
    assert link["keepTime"]
    assert set(link["tags"]) <= set(DASHBOARDS[uid]["tags"])


def test_panels_say_what_they_show() -> None:
    for place, panel in panels():
        assert panel["title"], place
        assert panel["description"].endswith("."), f"{place}: {panel['description']}"
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, place
        reason = panel["fieldConfig"]["defaults"]["noValue"]
        if panel["type"] == "stat":
            reason = panel["description"].partition("No data: ")[2]
        assert reason.endswith("."), place
        for override in panel["fieldConfig"]["overrides"]:
            for item in override["properties"]:
                assert item["id"] != "unit" or item["value"] in UNITS, place


def test_panels_ask_the_chosen_data_source() -> None:
    for place, panel in panels():
        assert panel["targets"], place
        for asked in (panel, *panel["targets"]):
            assert asked["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, place


def test_series_have_names_to_tell_them_apart() -> None:
    for place, panel in panels():
        for target in panel["targets"]:
            if target["format"] == "time_series" and panel["type"] != "stat":
                legend = target["legendFormat"]
                assert legend != "__auto", place
                assert set(re.findall(r"{{(\w+)}}", legend)) <= known_labels(target["expr"]), place


@every_dashboard
def test_panels_have_places_and_ids_of_their_own(uid: str) -> None:
    ids = [panel["id"] for panel in DASHBOARDS[uid]["panels"]]
    assert len(set(ids)) == len(ids)
    places = [panel["gridPos"] for panel in DASHBOARDS[uid]["panels"]]
    assert all(place["w"] > 0 and place["x"] + place["w"] <= 24 for place in places)
    for a, b in itertools.combinations(places, 2):
        across = a["x"] < b["x"] + b["w"] and b["x"] < a["x"] + a["w"]
        down = a["y"] < b["y"] + b["h"] and b["y"] < a["y"] + a["h"]
        assert not (across and down), (a, b)


def test_rates_are_over_the_rate_interval() -> None:
    for asked in queries():
        for function, name, window in promql.ranges(asked.expr):
            allowed = OVER_THE_TIME_SHOWN | {"$__rate_interval"}
            assert window in allowed, f"{asked.place}: {function}({name}[{window}])"


def test_counters_are_looked_at_as_rates() -> None:
    seen = set()
    for asked in queries():
        inside = [
            name
            for function, name, _ in promql.ranges(asked.expr)
            if function in {"rate", "increase"}
        ]
        bare = [name for name, _ in promql.selectors(asked.expr) if name in COUNTERS]
        if len(bare) > len([name for name in inside if name in COUNTERS]):
            seen.add(asked.place)
    assert seen == COUNTED_SINCE_START.keys()


def test_only_counters_have_rates() -> None:
    for asked in queries():
        for function, name, _ in promql.ranges(asked.expr):
            if function in {"rate", "increase"}:
                assert name.endswith("_total"), asked.place


def test_every_series_is_narrowed_by_what_the_reader_chose() -> None:
    for asked in queries():
        narrowed = promql.selectors(asked.expr)
        assert any('node=~"$node"' in matchers for _, matchers in narrowed), asked.place
        for name, matchers in narrowed:
            for label in set(CHOSEN) & LABELS[name]:
                if name in FOREIGN and label == "pod":
                    continue  # alerts on GPUs have none, and must not go when pods are chosen
                assert re.search(rf"\b{label}=", matchers), f"{asked.place}: {name}: {label}"


def known_labels(expr: str) -> set[str]:
    return set().union(*(LABELS[name] for name in promql.names(expr))) | TARGET_LABELS


def unknown(expr: str) -> set[str]:
    """Return the names and labels of an expression that nothing has."""
    strange = promql.names(expr) - LABELS.keys()
    return strange or promql.labels(expr) - known_labels(expr)


def test_names_and_labels_are_known() -> None:
    for asked in queries():
        assert not unknown(asked.expr), asked.place
    for dashboard in DASHBOARDS.values():
        for _, label, series in grafana.variables(dashboard):
            assert not unknown(series)
            assert label in known_labels(series)


@pytest.mark.parametrize(
    ("expr", "strange"),
    [
        ("sum by (node) (rate(gpu_busy_seconds_total[5m]))", set()),
        ("sum by (node) (rate(gpu_bussy_seconds_total[5m]))", {"gpu_bussy_seconds_total"}),
        ("sum by (nod) (gpu_power_draw_watts)", {"nod"}),
        ('gpu_power_draw_watts{sensor="gpu"}', {"sensor"}),
        ("a:b:c and on (node) gpu_info", {"a:b:c"}),
    ],
)
def test_what_nothing_has_is_found(expr: str, strange: set[str]) -> None:
    assert unknown(expr) == strange


def test_cells_and_panels_lead_somewhere() -> None:
    urls = re.findall(r'"url": "([^"]+)"', str(DASHBOARDS).replace("'", '"'))
    assert any(url.startswith(RUNBOOKS) for url in urls)
    for url in urls:
        if url.startswith("/d/"):
            assert url.removeprefix("/d/").partition("?")[0] in DASHBOARDS
            assert url.count("var-") == 1
            assert "${__url_time_range}" in url
        else:
            page = url.removeprefix(RUNBOOKS).removesuffix(".md")
            assert page in {*ALERTS, "${__value.raw}"}
