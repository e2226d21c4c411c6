"""Every dashboard drawn from the answers of a made-up Prometheus."""

import json
import math
import re
from collections.abc import Sequence
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from dashboards.generate import DASHBOARDS
from exporter.gpus.simulated.profiles import PROFILES
from exporter.gpus.simulated.scenario import load_scenario
from setup.demo.picture import frames, units
from setup.demo.picture.canvas import Box, Canvas
from setup.demo.picture.fields import Field
from setup.demo.picture.frames import Frame, Row
from setup.demo.picture.page import DRAWERS, WIDTH, draw, place
from setup.demo.picture.query import Json, Reader, Source, interpolated, regex
from setup.demo.pictures import IMAGES, renamed

START, END = 1_700_000_000, 1_700_000_100
READER = Reader(START, END, 1)
HOLDERS: Sequence[dict[str, str]] = [
    {"node": "n1", "gpu": "0", "namespace": "a", "pod": "x-0", "container": "m", "workload": "x"},
    {"node": "n2", "gpu": "7", "namespace": "b", "pod": "y-0", "container": "m", "workload": "y"},
]
MORE = (
    *("resource", "reason", "source", "action", "kind", "severity", "state", "profile", "xid"),
    *("cause", "confidence", "location"),
)
"""Labels whose values say which of the two series they are of."""
VALUES = (1.0, 0.25)


class Prometheus:
    """Answers each query with the same series, and keeps what was asked."""

    def __init__(self, values: Sequence[float] = VALUES) -> None:
        self.values = values
        self.asked: list[tuple[str, dict[str, str]]] = []

    def __call__(self, path: str, **parameters: str) -> Any:
        self.asked.append((path, parameters))
        if path.startswith("/api/v1/label/"):
            return {"data": ["x-0", "y-0"]}
        result: list[Json] = []
        for holder, value in zip(HOLDERS, self.values, strict=False):
            by = re.search(r"by \(([^)]*)\)", parameters["query"])
            labels = by[1].split(", ") if by else [*holder, *MORE]
            metric = {label: holder.get(label, f"{label}-{holder['node']}") for label in labels}
            if path.endswith("range"):
                values = [[at, str(value)] for at in range(START, END + 1)]
                result.append({"metric": metric, "values": values})
            else:
                result.append({"metric": metric, "value": [END, str(value)]})
        return {"data": {"result": result}}


def dashboard(panel: Json) -> Json:
    """Return a dashboard of one panel, with the variables of all."""
    first = json.loads(DASHBOARDS[0].json())
    return {**first, "panels": [panel], "annotations": {"list": []}}


def all_panels() -> list[Json]:
    return [
        panel
        for outline in DASHBOARDS
        for panel in json.loads(outline.json())["panels"]
        if panel["type"] != "row"
    ]


def of_kind(kind: str) -> Json:
    return next(panel for panel in all_panels() if panel["type"] == kind)


def within(box: Box, x: float, y: float) -> bool:
    return box.x <= x <= box.right and box.y <= y <= box.bottom


def texts(canvas: Canvas, box: Box) -> list[str]:
    """Return what stands within a box."""
    return [text.get_text() for text in canvas.ink.texts if within(box, *text.get_position())]


def plots(canvas: Canvas, box: Box) -> list[Axes]:
    """Return the axes within a box."""
    found = []
    for axes in canvas.figure.axes:
        at = axes.get_position()
        x, y = canvas.width * (at.x0 + at.x1) / 2, canvas.height * (1 - (at.y0 + at.y1) / 2)
        if axes not in {canvas.ground, canvas.ink} and within(box, x, y):
            found.append(axes)
    return found


def shows(written: Sequence[str], text: str) -> bool:
    """Say whether a text is there, whole or cut."""
    cut = [each[:-1] for each in written if each.endswith("…") and len(each) > 1]
    return text in written or text.startswith(tuple(cut))


def shown(canvas: Canvas, panel: Json) -> tuple[list[str], int]:
    """Return a panel's texts, and how many things its plots show."""
    box = place(panel["gridPos"])
    drawn = 0
    for axes in plots(canvas, box):
        lines = [line for line in axes.lines if not str(line.get_label()).startswith("_child")]
        drawn += {
            "timeseries": len(lines),
            "state-timeline": len(axes.patches),
            "heatmap": len(axes.collections) or len(axes.images),
        }.get(panel["type"], len(axes.lines))
    return texts(canvas, box), drawn


@pytest.mark.parametrize("outline", DASHBOARDS, ids=lambda outline: outline.uid)
def test_every_panel_shows_its_data(outline: Any) -> None:
    ask = Prometheus()
    found = json.loads(outline.json())
    canvas = draw(found, ask, READER)
    for panel in found["panels"]:
        written, drawn = shown(canvas, panel)
        assert panel["title"][:6] in " ".join(written)
        if panel["type"] == "row":
            continue
        answers = 2 * len(panel["targets"])
        match panel["type"]:
            case "timeseries":
                assert drawn == answers, panel["title"]
                (axes,) = plots(canvas, place(panel["gridPos"]))
                lines = [
                    line for line in axes.lines if np.size(line.get_xdata()) == END - START + 1
                ]
                assert len(lines) == answers, panel["title"]
                assert any(shows(written, str(line.get_label())) for line in lines)
            case "state-timeline":
                assert drawn == answers
                assert any("n1" in text or "x-0" in text for text in written)
            case "heatmap":
                assert drawn == answers + 1
                assert {"n1", "n2"} <= set(written)
            case "stat":
                assert drawn == (answers if panel["options"]["graphMode"] == "area" else 0)
                values = {Field.of(panel, "").text(value, END) for value in VALUES}
                assert sum(text in values for text in written) == answers, panel["title"]
            case "bargauge":
                values = {Field.of(panel, "").text(value, END) for value in VALUES}
                assert sum(text in values for text in written) == answers, panel["title"]
            case "table":
                columns = [each["matcher"]["options"] for each in panel["fieldConfig"]["overrides"]]
                fields = [Field.of(panel, column) for column in ["", *columns]]
                for value in VALUES:
                    assert any(shows(written, field.text(value, END)) for field in fields)
    assert not [text for text in canvas.ink.texts if "No " in text.get_text()[:3]]


@pytest.mark.parametrize("kind", sorted(DRAWERS))
def test_an_empty_panel_says_why(kind: str) -> None:
    panel = of_kind(kind)
    canvas = draw(dashboard(panel), Prometheus(values=()), READER)
    written, drawn = shown(canvas, panel)
    assert drawn == 0
    assert panel["fieldConfig"]["defaults"]["noValue"] in " ".join(written)


def test_what_is_not_known_is_refused() -> None:
    panel = of_kind("stat")
    ask = Prometheus()
    with pytest.raises(KeyError, match="piechart"):
        draw(dashboard({**panel, "type": "piechart"}), ask, READER)
    config = {**panel["fieldConfig"], "overrides": []}
    config["defaults"] = {**config["defaults"], "unit": "furlongs"}
    with pytest.raises(KeyError, match="furlongs"):
        draw(dashboard({**panel, "fieldConfig": config}), ask, READER)
    with pytest.raises(KeyError, match="joinByField"):
        frames.transformed([], [{"id": "joinByField", "options": {}}])


def test_the_documentation_shows_every_dashboard() -> None:
    page = (IMAGES.parent / "dashboards.md").read_text()
    for outline in DASHBOARDS:
        picture = IMAGES / f"{outline.uid}.png"
        assert f"(images/{picture.name})" in page
        with Image.open(picture) as image:
            assert image.width == round(1.2 * WIDTH)
        assert picture.stat().st_size < 400_000


def test_nodes_in_the_pictures_have_pods_of_their_own(tmp_path: Path) -> None:
    path = resources.files("exporter.gpus.simulated") / "scenarios/default.yaml"
    profile = PROFILES["h100"]
    pods: list[str] = []
    for index in range(3):
        scenario = tmp_path / f"{index}.yaml"
        scenario.write_text(renamed(path.read_text(), index))
        pods += {pod.container.pod for pod in load_scenario(scenario, profile).pods}
    assert {"llm-train-0", "llm-train-1", "llm-train-2", "sweep-a", "sweep-c"} <= set(pods)
    assert (
        len(set(pods))
        == len(pods)
        == 3 * len({p.container.pod for p in load_scenario("default", profile).pods})
    )


def test_a_picture_is_a_png() -> None:
    canvas = draw(dashboard(of_kind("stat")), Prometheus(), READER)
    png = canvas.png()
    assert png.startswith(b"\x89PNG")
    with Image.open(BytesIO(png)) as image:
        assert image.size == pytest.approx((1.2 * canvas.width, 1.2 * canvas.height), abs=1)
        assert len(image.convert("RGB").getcolors(1 << 20) or ()) > 10


def test_annotations_mark_when_it_happened() -> None:
    panel = of_kind("timeseries")
    note = {"target": {"expr": "x"}, "useValueForTime": True, "iconColor": "#ff0000"}
    noted = dashboard(panel) | {"annotations": {"list": [note]}}
    inside, outside = 1000.0 * (START + 40), 1000.0 * (START - 40)
    canvas = draw(noted, Prometheus(values=(inside, outside)), READER)
    (axes,) = plots(canvas, place(panel["gridPos"]))
    marks = [line for line in axes.lines if line.get_color() == "#ff0000"]
    assert [np.unique(mark.get_xdata()) for mark in marks] == [START + 40]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "bytes", "0 B"),
        (1023, "bytes", "1023 B"),
        (80 * 1024**3, "bytes", "80 GiB"),
        (1.5 * 1024**2, "binBps", "1.50 MiB/s"),
        (0.9734, "percentunit", "97.3%"),
        (1, "percentunit", "100%"),
        (0.00061, "percentunit", "0.0610%"),
        (0, "s", "0 s"),
        (0.00031, "s", "310 µs"),
        (59.9, "s", "59.9 s"),
        (90, "s", "1.50 mins"),
        (7200, "s", "2 hours"),
        (698.4, "watt", "698 W"),
        (14400, "watt", "14.4 kW"),
        (12.5, "watth", "12.5 Wh"),
        (1.98e9, "hertz", "1.98 GHz"),
        (67, "celsius", "67 °C"),
        (-3.25, "celsius", "-3.25 °C"),
        (0.0125, "cps", "0.0125 c/s"),
        (999, "short", "999"),
        (1000, "short", "1 K"),
        (3650, "short", "3.65 K"),
        (2.5e6, "short", "2.50 Mil"),
        (math.nan, "short", "NaN"),
        (math.inf, "short", "∞"),
        (1000 * (END - 90), "dateTimeFromNow", "2 minutes ago"),
        (1000 * END, "dateTimeFromNow", "a few seconds ago"),
    ],
)
def test_values_are_written_as_grafana_does(value: float, unit: str, text: str) -> None:
    assert units.written(value, unit, now=END) == text


def test_decimals_are_kept_to() -> None:
    assert units.written(22.84, "short", decimals=1) == "22.8"
    assert units.written(0.725, "percentunit", decimals=0) == "73%"
    assert units.written(3, "short", decimals=1) == "3.0"


@pytest.mark.parametrize(
    ("high", "unit", "labels"),
    [
        (1, "percentunit", ["0%", "20%", "40%", "60%", "80%", "100%"]),
        (80 * 1024**3, "bytes", ["0 B", "16 GiB", "32 GiB", "48 GiB", "64 GiB", "80 GiB"]),
        (720, "watt", ["0 W", "200 W", "400 W", "600 W"]),
        (0.9, "s", ["0 s", "200 ms", "400 ms", "600 ms", "800 ms"]),
        (1, "short", ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (10, "short", ["0", "2", "4", "6", "8", "10"]),
    ],
)
def test_marks_of_an_axis_are_round(high: float, unit: str, labels: list[str]) -> None:
    places, found = units.ticks(0, high, unit)
    assert found == labels
    assert places == sorted(places)
    assert 0 <= places[0] <= places[-1] <= high * (1 + 1e-9)


def test_intervals_are_those_of_grafana() -> None:
    day = Reader(0, 86400, 15)
    assert day.builtin(1000) == {
        "__interval": "60s",
        "__interval_ms": "60000",
        "__rate_interval": "75s",
        "__range": "86400s",
        "__range_s": "86400",
        "__range_ms": "86400000",
    }
    assert Reader(0, 3600, 15).builtin(1000)["__interval"] == "15s"
    assert Reader(0, 3600, 15).builtin(1000)["__rate_interval"] == "60s"


def test_values_take_the_place_of_variables() -> None:
    values = {"node": "n.*", "__range": "60s", "__range_s": "60"}
    assert interpolated('x{node=~"$node"}[$__range] - ${__range_s}', values) == (
        'x{node=~"n.*"}[60s] - 60'
    )
    with pytest.raises(KeyError, match="pod"):
        interpolated("$pod", values)
    assert regex(["gpu.a"]) == "gpu\\\\.a"
    assert regex(["a", "b(c)"]) == "(a|b\\\\(c\\\\))"


def test_a_query_is_asked_for_what_was_chosen() -> None:
    found = json.loads(DASHBOARDS[0].json())
    ask = Prometheus()
    source = Source(ask, Reader(START + 0.5, END, 2, {"node": ["n1", "n2"]}), found)
    ((path, asked),) = ask.asked
    assert path == "/api/v1/label/pod/values"
    assert asked["match[]"].startswith('gpu_allocation_info{node=~"(n1|n2)", namespace=~".*"')
    target = {"expr": 'rate(x{node=~"$node", pod=~"$pod"}[$__rate_interval])'}
    series = source.series({**target, "legendFormat": "{{node}} GPU {{gpu}}"}, 1000)
    path, asked = ask.asked[-1]
    assert path == "/api/v1/query_range"
    assert asked["query"] == 'rate(x{node=~"(n1|n2)", pod=~"(x-0|y-0)"}[8s])'
    assert (float(asked["start"]), float(asked["end"]), asked["step"]) == (START, END, "2.000")
    assert [each.name for each in series] == ["n1 GPU 0", "n2 GPU 7"]
    source.series({**target, "instant": True}, 1000)
    assert ask.asked[-1][0] == "/api/v1/query"
    assert float(ask.asked[-1][1]["time"]) == END


def test_tables_are_made_of_their_frames() -> None:
    first = Frame(
        ["Time", "pod", "profile", "Value #A"],
        [
            {"Time": 1, "pod": "x", "profile": "1g", "Value #A": 4.0},
            {"Time": 1, "pod": "y", "profile": "2g", "Value #A": 9.0},
        ],
    )
    second = Frame(
        ["Time", "pod", "Value #B"],
        [{"Time": 1, "pod": "y", "Value #B": 0.5}, {"Time": 1, "pod": "z", "Value #B": 0.1}],
    )
    names = {"pod": "Pod", "Value #A": "Memory", "Value #B": "Busy"}
    steps: list[Json] = [
        {"id": "merge", "options": {}},
        {
            "id": "organize",
            "options": {
                "excludeByName": {"Time": True},
                "indexByName": {"pod": 0, "Value #B": 1, "Value #A": 2, "profile": 3},
                "renameByName": names,
            },
        },
        {"id": "sortBy", "options": {"sort": [{"field": "Memory", "desc": True}]}},
        {"id": "limit", "options": {"limitField": 2}},
    ]
    table = frames.transformed([first, second], steps)
    assert table.columns == ["Pod", "Busy", "Memory", "profile"]
    assert [list(row.values()) for row in table.rows] == [
        ["y", 0.5, 9.0, "2g"],
        ["x", None, 4.0, "1g"],
    ]


def test_a_matrix_has_a_column_for_each_value() -> None:
    rows: list[Row] = [
        {"node": "n1", "gpu": "0", "Value": 0.5},
        {"node": "n2", "gpu": "1", "Value": 0.7},
    ]
    fields = {"rowField": "node", "columnField": "gpu", "valueField": "Value"}
    matrix = frames.transformed(
        [Frame(["node", "gpu", "Value"], rows)], [{"id": "groupingToMatrix", "options": fields}]
    )
    assert matrix.columns == ["node\\gpu", "0", "1"]
    assert matrix.rows == [{"node\\gpu": "n1", "0": 0.5}, {"node\\gpu": "n2", "1": 0.7}]


def test_overrides_and_colours() -> None:
    steps = [{"color": "#000001", "value": None}, {"color": "#000002", "value": 0.5}]
    mapping = {"type": "value", "options": {"1": {"text": "up", "color": "#000003"}}}
    config = {
        "defaults": {"unit": "short", "thresholds": {"steps": steps}, "custom": {"width": 70}},
        "overrides": [
            {
                "matcher": {"id": "byRegexp", "options": "/GPU 1$/"},
                "properties": [
                    {"id": "color", "value": {"mode": "fixed", "fixedColor": "#000004"}}
                ],
            },
            {
                "matcher": {"id": "byName", "options": "State"},
                "properties": [{"id": "mappings", "value": [mapping]}],
            },
        ],
    }
    panel = {"fieldConfig": config}
    plain, fixed, state = (Field.of(panel, name) for name in ("n GPU 11", "n GPU 1", "State"))
    assert [plain.colour(0.49), plain.colour(0.5)] == ["#000001", "#000002"]
    assert plain.get("custom.width") == 70
    assert fixed.colour(0) == "#000004"
    assert (state.text(1, END), state.colour(1)) == ("up", "#000003")
    assert (state.text(0, END), state.colour(0)) == ("0", "#000001")
    assert state.text(None, END) == "-"
