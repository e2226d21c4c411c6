"""What each profile exports, and how families are added and taken away."""

import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from exporter.metrics import profiles
from exporter.metrics.container import CONTAINERS, UNATTRIBUTED
from exporter.metrics.exposition import Exposition
from exporter.metrics.family import Family
from exporter.metrics.profiles import COMMON, Profile, profile_of, select
from exporter.metrics.table import TABLE
from exporter.model.oom import Confidence
from exporter.model.snapshot import Snapshot
from tests.exporter.metrics.test_golden import NODES

ROOT = Path(__file__).parents[3]
HELD = ("gpu_container_", "gpu_allocation_info")
NAMES = {family.name for family in TABLE}


def exported(snapshot: Snapshot, *words: str) -> Counter[str]:
    """Count the series of each family."""
    exposition = Exposition(
        lambda: snapshot, families=select(words), beside=CollectorRegistry(), node="n"
    )
    body = exposition.render()
    lines = [line for line in body.decode().splitlines() if not line.startswith("#")]
    return Counter(line.partition("{")[0] for line in lines)


def test_every_name_of_the_lists_is_a_family() -> None:
    assert profiles._MINIMAL | profiles._FULL | COMMON.keys() <= NAMES
    assert not profiles._MINIMAL & profiles._FULL


def test_each_profile_has_all_of_the_one_before() -> None:
    for less, more in pairwise(Profile):
        assert {f.name for f in select([less])} < {f.name for f in select([more])}
    assert {f.name for f in select(["full"])} == NAMES
    assert [f.name for f in select([])] == [f.name for f in select(["standard"])]


def test_rules_and_dashboards_read_nothing_that_standard_lacks() -> None:
    generated = [
        *(ROOT / "rules/generated").rglob("*.yaml"),
        *(ROOT / "dashboards/generated").rglob("*.json"),
    ]
    assert generated
    texts = [path.read_text() for path in generated]
    read = {name for text in texts for name in re.findall(r"\bgpu_[a-z0-9_]+", text)} & NAMES
    assert {name for name in read if profile_of(_family(name)) is Profile.FULL} == set()


def test_labels_that_rules_and_dashboards_select_are_common() -> None:
    texts = [
        json.loads(path.read_text()) if path.suffix == ".json" else path.read_text()
        for path in (
            *(ROOT / "rules/generated/prometheus").glob("*.yaml"),
            *(ROOT / "dashboards/generated").rglob("*.json"),
        )
    ]
    text = "\n".join(json.dumps(each) for each in texts).replace("\\", "")
    for name, values in COMMON.items():
        label = _family(name).labels[-1]
        for selector in re.findall(rf"\b{name}\{{([^}}]*)\}}", text):
            for value in re.findall(rf'{label}="(\w+)"', selector):
                assert value in values, f"{name}{{{selector}}}"


@pytest.mark.parametrize("name", ["whole-gpus", "mig-with-activity", "time-sliced"])
def test_what_a_gpu_costs_in_series(name: str) -> None:
    snapshot = NODES[name]().sampler.snapshot
    series = exported(snapshot, "standard")
    slices = sum(len(sample.gpu.slices) for sample in snapshot.gpus)
    of_slices = sum(count for family, count in series.items() if family.startswith("gpu_mig_"))
    others = sum(c for family, c in series.items() if not family.startswith(("gpu_mig_", *HELD)))
    assert (others - slices * len(UNATTRIBUTED)) / len(snapshot.gpus) <= 60
    assert of_slices <= 10 * slices


def test_what_a_container_costs_in_series() -> None:
    standard = {family.name for family in select(["standard"])}
    each = {family.name: 1 for family in CONTAINERS if family.name in standard}
    each["gpu_container_oom_events_total"] = len(Confidence)
    # Only of what ran out of memory on a device that it shares.
    del each["gpu_container_oom_cotenant_memory_bytes"]
    del each["gpu_container_oom_last_timestamp_seconds"]
    # Only of what has ended.
    del each["gpu_container_ends_total"]
    assert sum(each.values()) <= 15


def test_families_are_added_and_taken_away_by_name() -> None:
    names = {f.name for f in select(["minimal", "gpu_processes", "-gpu_container_*"])}
    assert "gpu_processes" in names
    assert not any(name.startswith("gpu_container_") for name in names)
    assert "gpu_allocation_info" in names


def test_a_family_that_is_added_by_name_has_all_its_series() -> None:
    snapshot = NODES["whole-gpus"]().sampler.snapshot
    common = exported(snapshot, "standard")["gpu_pipe_activity_ratio"]
    assert (
        exported(snapshot, "standard", "gpu_pipe_activity_ratio")["gpu_pipe_activity_ratio"]
        == 5 * common
    )
    assert exported(snapshot, "full")["gpu_pipe_activity_ratio"] == 5 * common


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("gpu_proceses", "'gpu_proceses' is neither a profile nor a metric; did you mean"),
        ("-gpu_nothing_*", "'gpu_nothing_*' is neither a profile nor a metric"),
        ("standart", "did you mean standard?"),
        ("", "'' is neither a profile nor a metric"),
    ],
)
def test_a_word_that_is_neither_is_refused(word: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        select([word])


def _family(name: str) -> Family:
    return next(family for family in TABLE if family.name == name)
