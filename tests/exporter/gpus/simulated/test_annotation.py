"""A pod says on one line what it does on a simulated GPU, in the words of scenarios."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.document import DocumentError
from exporter.gpus.simulated.annotation import ANNOTATION, parse_annotation
from exporter.gpus.simulated.workloads import DEFAULTS, Workload, WorkloadKind, load, memory_ratio
from exporter.kubernetes.pods import SIMULATE
from tests.doubles.simulation import World, write

GIB = 2**30
STEADY = DEFAULTS[WorkloadKind.STEADY]
LEAK = DEFAULTS[WorkloadKind.LEAK]


@pytest.mark.parametrize(
    ("text", "workload"),
    [
        ("idle", DEFAULTS[WorkloadKind.IDLE]),
        ("kind=idle", DEFAULTS[WorkloadKind.IDLE]),
        (" training , memory = 0.25 ", replace(DEFAULTS[WorkloadKind.TRAINING], memory=0.25)),
        ("utilization=35%", replace(STEADY, utilization=0.35)),
        ("utilization=1", replace(STEADY, utilization=1.0)),
        (
            "utilization=20%-80%, memory=10Gi",
            replace(STEADY, utilization=0.8, utilization_least=0.2, memory_bytes=10 * GIB),
        ),
        ("utilization=0.2-0.2", replace(STEADY, utilization=0.2, utilization_least=0.2)),
        ("memory=512Mi", replace(STEADY, memory_bytes=GIB // 2)),
        ("memory=0.5Ti", replace(STEADY, memory_bytes=512 * GIB)),
        ("leak, period=5m", replace(LEAK, period=300.0)),
    ],
)
def test_a_kind_comes_first_and_parameters_after_it(text: str, workload: Workload) -> None:
    assert parse_annotation(text) == workload


def test_what_the_pod_watch_keeps_is_what_is_read_here() -> None:
    assert SIMULATE == ANNOTATION


@pytest.mark.parametrize("kind", WorkloadKind)
def test_every_kind_of_the_scenarios_is_known(kind: WorkloadKind) -> None:
    assert parse_annotation(kind) == DEFAULTS[kind]


NO_PAIR = "is no name=value; an example: leak, memory=10Gi, period=5m"
KNOWN = "known here: kind, memory, utilization, period"
KINDS = ", ".join(WorkloadKind)
RANGE = "utilization: expected a ratio from 0 to 1, a percentage, or a range such as 20%-80%, got"
SIZE = "memory: expected a ratio from 0 to 1, a percentage, or a size such as 10Gi, got"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", f"'' {NO_PAIR}"),
        ("training,", f"'' {NO_PAIR}"),
        ("{kind: leak}", f"'{{kind: leak}}' {NO_PAIR}"),
        ("memory=1Gi\nmemory=2Gi", f"'memory=1Gi\\nmemory=2Gi' {NO_PAIR}"),
        ("leak, leak", f"'leak' {NO_PAIR}"),
        ("kind=idle, kind=leak", "kind: given twice"),
        ("leek", f"kind: expected one of {KINDS}, got 'leek'"),
        ("idle, util=3%", f"util: no such key; {KNOWN}"),
        ("leak, backoff=5s", f"backoff: no such key; {KNOWN}"),
        ("utilization=80", f"{RANGE} '80'"),
        ("utilization=80%-20%", f"{RANGE} '80%-20%'"),
        ("inference, utilization=1%-2%", "a range is for steady, not for inference"),
        ("memory=10", f"{SIZE} '10'"),
        ("memory=10GB", f"{SIZE} '10GB'"),
        ("period=0", "period: has to be more than 0"),
        ("period=-5s", "period: '-5s' is not a duration (such as 5s)"),
    ],
)
def test_a_mistake_is_one_line(text: str, why: str) -> None:
    with pytest.raises(DocumentError) as mistake:
        parse_annotation(text)
    assert str(mistake.value) == f"kube-gpu-exporter/simulate: {why}"


@given(st.text(max_size=40))
def test_any_text_is_a_workload_or_a_mistake_of_one_line(text: str) -> None:
    try:
        told = str(parse_annotation(text).kind)
    except DocumentError as error:
        told = str(error)
    assert len(told.splitlines()) == 1


def test_a_range_is_kept_and_used(tmp_path: Path) -> None:
    workload = parse_annotation("utilization=20%-80%, period=1s")
    busy = [load(workload, age / 5, key=7, moment=age).busy for age in range(2000)]
    assert 0.2 <= min(busy) < 0.25
    assert 0.75 < max(busy) <= 0.8
    assert sum(busy) / len(busy) == pytest.approx(0.5, abs=0.05)
    path = write(tmp_path, "pods: [{pod: a, gpu: 0, workload: {kind: steady, memory: 10Gi}}]")
    assert World(path).at(5).read(0)[0].processes[0].memory_used_bytes == 10 * GIB  # type: ignore[index]


def test_more_memory_than_there_is_fills_the_device() -> None:
    workload = parse_annotation("memory=100Gi")
    assert memory_ratio(workload, 5.0, 80 * GIB) == 1
    assert memory_ratio(workload, 5.0, 200 * GIB) == 0.5


def test_a_leak_whose_container_does_not_end_stays_at_the_top() -> None:
    workload = parse_annotation("leak, memory=8Gi, period=100s")
    ratios = [memory_ratio(workload, age, 80 * GIB) for age in (0.0, 45.0, 90.0, 100.0, 1e6)]
    assert ratios == pytest.approx([0.1, 0.55, 1, 1, 1])
