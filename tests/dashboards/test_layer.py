"""What the layer over grafanalib promises."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards import generate
from dashboards.layer import colours
from dashboards.layer.absence import why_empty
from dashboards.layer.links import dashboard_url, runbooks
from dashboards.layer.outline import Outline, Row
from dashboards.layer.panels import stat, timeseries
from dashboards.layer.queries import Query, narrowed
from dashboards.layer.tables import Column, table
from dashboards.layer.words import VALUES
from exporter.model import xids
from exporter.model.readings import RECOVERY_ACTIONS
from rules.alerts import ALERTS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("gpu_power_draw_watts", 'gpu_power_draw_watts{node=~"$node", gpu=~"$gpu"}'),
        (
            'gpu_temperature_celsius{sensor="gpu"}',
            'gpu_temperature_celsius{node=~"$node", gpu=~"$gpu", sensor="gpu"}',
        ),
        (
            "max by (gpu, node) (gpu_allocatable_devices)",
            'max by (gpu, node) (gpu_allocatable_devices{node=~"$node"})',
        ),
        (
            'gpu_info{node=~".*"}',
            'gpu_info{gpu=~"$gpu", node=~".*"}',
        ),
        ("cluster:gpu_known:gpus", "cluster:gpu_known:gpus{}"),
        ("rate(process_cpu_seconds_total[1m])", "rate(process_cpu_seconds_total[1m])"),
    ],
)
def test_each_known_name_is_narrowed_by_what_its_labels_allow(written: str, asked: str) -> None:
    assert narrowed(written) == asked


def test_unit_help_and_empty_text_come_from_the_table() -> None:
    query = Query("sum(rate(gpu_energy_joules_total[$__rate_interval]))")
    assert query.unit == "watt"
    assert query.help == "Energy that the board has used since the driver was loaded."
    assert Query("gpu_energy_joules_total").unit == "joule"
    assert Query("allocation:gpu_cost:per_hour").unit == "short"
    assert "Hopper" in Query("gpu_sm_activity_ratio").empty
    assert "recording rules" in why_empty("allocation:gpu_busy:gpus")


def outline(*lines: tuple[Any, ...]) -> Outline:
    return Outline("gpu-test", "Test", "Does it work?", (Row("First", *lines),))


def placed(*lines: tuple[Any, ...]) -> dict[str, tuple[int, int, int, int]]:
    """Return x, y, width and height of each panel by its title."""
    panels = json.loads(outline(*lines).json())["panels"]
    return {panel["title"]: tuple(panel["gridPos"][key] for key in "xywh") for panel in panels}


UP = Query("sum(gpu_exporter_gpus)")


def test_panels_of_a_line_share_the_width() -> None:
    lines = (
        (stat("a", UP), stat("b", UP), stat("c", UP, span=2)),
        (timeseries("d", UP), timeseries("e", UP, height=12)),
        tuple(stat(f"s{n}", UP) for n in range(7)),
    )
    places = placed(*lines)
    assert places["First"] == (0, 0, 24, 1)
    assert [places[name] for name in "abc"] == [(0, 1, 6, 4), (6, 1, 6, 4), (12, 1, 12, 4)]
    assert [places[name] for name in "de"] == [(0, 5, 12, 12), (12, 5, 12, 12)]
    assert sum(places[f"s{n}"][2] for n in range(7)) == 24


def test_ids_stay_when_other_panels_come_and_go() -> None:
    def ids(*titles: str) -> dict[str, int]:
        made = json.loads(outline(tuple(stat(title, UP) for title in titles)).json())["panels"]
        return {panel["title"]: panel["id"] for panel in made}

    few, many = ids("a", "b"), ids("c", "b", "d", "a")
    assert few.items() <= many.items()


def test_two_panels_of_one_title_are_refused() -> None:
    with pytest.raises(ValueError, match="gpu-test"):
        outline((stat("a", UP), stat("a", UP))).json()


def test_variables_that_no_query_uses_are_hidden_but_there() -> None:
    made = json.loads(outline((stat("a", Query("gpu_power_draw_watts")),)).json())
    hidden = {v["name"]: v["hide"] for v in made["templating"]["list"]}
    assert hidden == {
        "datasource": 0,
        "node": 0,
        "gpu": 0,
        "namespace": 2,
        "workload": 2,
        "pod": 2,
    }


def test_a_tables_rows_are_merged_named_sorted_and_limited() -> None:
    made = table(
        "t",
        ("node",),
        Column("Power", "sum by (node) (gpu_power_draw_watts)"),
        Column("GPUs", "count by (node) (gpu_info)"),
        sort="GPUs",
        rows=5,
    ).to_json_data()
    merge, organize, sort, limit = made["transformations"]
    assert merge["id"] == "merge"
    named = {"node": "Node", "Value #A": "Power", "Value #B": "GPUs"}
    assert organize["options"]["renameByName"] == named
    assert sort["options"]["sort"] == [{"field": "GPUs", "desc": True}]
    assert limit["options"] == {"limitField": 5}


def test_thresholds_are_the_alerts_own() -> None:
    low = ALERTS["GPUContainerUnderutilized"].settings["busy"].number
    workload = json.loads(generate.generated()["dashboards/generated/gpu-workload.json"])
    busy = next(p for p in workload["panels"] if p["title"] == "Busy")["fieldConfig"]["defaults"]
    assert low in [step["value"] for step in busy["thresholds"]["steps"]]


def test_steps_of_thresholds_rise() -> None:
    for steps in (colours.above(1, 2), colours.below(2, 1), colours.below(3), colours.plain()):
        first, *values = [step["value"] for step in steps]
        assert first is None
        assert values == sorted(values)


def test_links_make_a_choice_and_keep_the_others() -> None:
    url = dashboard_url("gpu-node", node="${__value.raw}")
    assert url.startswith("/d/gpu-node?${__url_time_range}&${datasource:queryparam}&")
    assert "var-node=${__value.raw}" in url
    assert "${node:queryparam}" not in url
    assert "${gpu:queryparam}" in url


def test_a_runbook_of_no_alert_is_refused() -> None:
    with pytest.raises(KeyError, match="GPUNoSuchAlert"):
        runbooks(["GPUNoSuchAlert"])


def test_generated_files_are_the_same_each_time_and_up_to_date() -> None:
    files = generate.generated()
    assert files == generate.generated()
    for path, content in files.items():
        assert (ROOT / path).read_bytes() == content, f"{path}: run `make update`"
    kept = {p.relative_to(ROOT).as_posix() for p in (ROOT / "dashboards/generated").rglob("*.*")}
    assert kept == files.keys()


def test_grafana_reads_the_dashboards_from_the_folder_that_the_docs_name() -> None:
    path = "dashboards/generated/provisioning/dashboards/kube-gpu-exporter.yaml"
    (provider,) = yaml.safe_load(generate.generated()[path])["providers"]
    assert provider["options"]["path"] in (ROOT / "docs/dashboards.md").read_text()
    assert not provider["allowUiUpdates"]


def test_every_action_has_words() -> None:
    asked_for = set(RECOVERY_ACTIONS) - {"none"}
    assert VALUES["action"].keys() == {*xids.ACTIONS.values(), xids.UNKNOWN, *asked_for}
