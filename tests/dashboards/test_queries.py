"""Every query of every dashboard, asked of a real Prometheus that scraped the default scenario.

One simulated exporter is scraped under fifty nodes' names, with the generated rules loaded at a
fast time scale. Then a reader chooses one node, three, and all.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from rules import render
from rules.settings import defaults
from setup.demo.monitoring import Prometheus, Target, prometheus
from setup.demo.picture.query import Reader, interpolated, regex
from setup.demo.servers import until
from tests.dashboards import grafana
from tests.dashboards.grafana import Asked, Json
from tests.dashboards.relay import AS, relay
from tests.doubles.process import exporter

SPEED = 12
INTERVAL_SECONDS = 2
NODES = [f"node-{index:02}" for index in range(50)]
MOMENTS = {
    "a notebook idles": 140,
    "a link is narrow": 352,
    "a GPU is lost": 380,
    "the kubelet is down": 555,
}
"""Seconds of the story, which runs ``SPEED`` times as fast, at which data is looked for."""

LAST = list(MOMENTS)[-1]
MOST_LINES = 30

EMPTY = {
    "gpu-workload: Containers that ran out of memory: D": "no verdict of it is merely possible.",
    "gpu-health: Memory errors by GPU: G": "H200 remaps rows; boards before Ampere retire pages.",
}
"""Queries that rightly find nothing, and why."""
PASSING = {
    "gpu-exporter: Unresolved claims by reason: A": "only for a moment, while slices are cut anew.",
}
"""Queries that find something or nothing, as it falls, and why."""


@dataclass(frozen=True)
class Story:
    """A server that has seen the story, and when it began."""

    server: Prometheus
    began: float

    def at(self, moment: str) -> float:
        return self.began + MOMENTS[moment] / SPEED

    def ask(self, asked: Asked, values: dict[str, str], moment: str) -> list[Any]:
        """Return the series of the answer, as Grafana would have it at that time."""
        end = self.at(moment)
        seconds = round(end - self.began)
        own = Reader(self.began, end, INTERVAL_SECONDS).builtin(asked.points)
        query = interpolated(asked.expr, values | own)
        if asked.instant:
            answer = self.server.ask("/api/v1/query", query=query, time=str(end))
        else:
            answer = self.server.ask(
                "/api/v1/query_range",
                query=query,
                start=str(end - seconds),
                end=str(end),
                step=str(INTERVAL_SECONDS),
            )
        return list(answer["data"]["result"])

    def values(self, dashboard: Json, nodes: list[str] | None, moment: str) -> dict[str, str]:
        """Return what variables stand for when a reader chooses nodes, and all of the rest."""
        values: dict[str, str] = {}
        everything = {v["name"]: v.get("allValue") for v in dashboard["templating"]["list"]}
        for name, label, series in grafana.variables(dashboard):
            options = self.server.ask(
                f"/api/v1/label/{label}/values",
                **{"match[]": interpolated(series, values)},
                start=str(self.began),
                end=str(self.at(moment)),
            )["data"]
            assert options, f"{dashboard['uid']}: nothing to choose for {name}"
            values[name] = everything[name] or regex(options)
            if name == "node" and nodes:
                values[name] = regex(nodes)
        return values


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("story")
    settings = replace(defaults(), prices={"NVIDIA H200": 3.0})
    files = []
    for name, content in render.rule_files(settings, scale=30).items():
        files.append(folder / name)
        files[-1].write_bytes(content)
    arguments = ("--backend", "simulated", "--node", AS, "--speed", str(SPEED))
    paces = ("--fast-interval", "500ms", "--full-interval", "500ms", "--slow-interval", "1s")
    patience = ("--read-deadline", "3s", "--kubelet-interval", "1s")
    with (
        exporter(*arguments, *paces, *patience) as program,
        relay(program.url, INTERVAL_SECONDS / 2) as address,
    ):
        began = time.time()
        targets = [_target(address, node) for node in NODES]
        pace = f"{INTERVAL_SECONDS}s"
        with prometheus(folder / "prometheus", targets, rules=files, interval=pace) as server:
            ended = Story(server, began).at(LAST)
            until(lambda: time.time() > ended, lambda: "time stands still", 60)
    # What it has seen, without scrapes and rules to keep it busy.
    with prometheus(folder / "prometheus", []) as server:
        yield Story(server, began)


def _target(address: str, node: str) -> Target:
    labels = {"node": node, "instance": node, "__metrics_path__": f"/{node}/metrics"}
    return Target(address, labels=labels)


@pytest.mark.parametrize("nodes", [NODES[:1], NODES[:3], None], ids=["1", "3", "50"])
def test_every_query_is_valid_and_finds_data(story: Story, nodes: list[str] | None) -> None:
    empty = set()
    for dashboard in grafana.dashboards():
        left = list(grafana.queries(dashboard))
        for moment in MOMENTS:
            values = story.values(dashboard, nodes, moment)
            left = [asked for asked in left if not story.ask(asked, values, moment)]
        empty |= {asked.place for asked in left}
    assert empty - PASSING.keys() == EMPTY.keys()


def test_a_table_shows_each_label_of_its_answers(story: Story) -> None:
    shown = {}
    for dashboard in grafana.dashboards():
        for panel in grafana.panels(dashboard):
            named: set[str] = set()
            for step in panel.get("transformations", ()):
                named |= step["options"].get("renameByName", {}).keys()
                named |= {step["options"].get(key) for key in ("rowField", "columnField")}
            shown[dashboard["uid"], panel["title"]] = named
    for asked, found in _answers(story, NODES[:1], "table"):
        uid, title, _ = asked.place.split(": ")
        labels = {label for series in found for label in series["metric"]}
        assert labels <= shown[uid, title], asked.place


def test_no_answer_is_too_long_to_read(story: Story) -> None:
    """On fifty nodes a panel of lines has no more of them than a reader can distinguish."""
    long = {
        asked.place: len(found)
        for asked, found in _answers(story, None, "timeseries")
        if len(found) > MOST_LINES
    }
    assert not long


def _answers(story: Story, nodes: list[str] | None, kind: str) -> Iterator[tuple[Asked, list[Any]]]:
    moment = "a GPU is lost"
    for dashboard in grafana.dashboards():
        values = story.values(dashboard, nodes, moment)
        titles = {panel["title"] for panel in grafana.panels(dashboard) if panel["type"] == kind}
        for asked in grafana.queries(dashboard):
            _, title, reference = asked.place.split(": ")
            if title in titles and reference != "annotation":
                yield asked, story.ask(asked, values, moment)
