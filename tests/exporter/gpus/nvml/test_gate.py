"""The gate at the border: no value that no hardware can have gets through, in any field."""

import ast
import dataclasses
import math
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pynvml
import pytest
from hypothesis import given
from hypothesis import strategies as st

import exporter.gpus.nvml
from exporter.gpus.nvml import bounds
from exporter.gpus.nvml.asking import Asker
from exporter.gpus.nvml.bounds import MOST, TABLE, Each, Made
from exporter.gpus.nvml.gate import Gate, Trail
from exporter.model import devices, readings
from exporter.model.readings import FieldFailure, FullReading, Memory, Reason, SlowReading
from exporter.sampling.counters import SteadyCounter
from tests.doubles.fake_gpus import h100
from tests.doubles.fake_nvml import FakeNvml
from tests.doubles.nvml_session import Clock, reader_of

SOURCES = sorted(Path(exporter.gpus.nvml.__path__[0]).glob("*.py"))
KINDS = [
    kind
    for module in (readings, devices)
    for kind in vars(module).values()
    if dataclasses.is_dataclass(kind) and kind is not FieldFailure
]

GARBAGE = (
    *(2**bits - 1 for bits in (8, 16, 31, 32, 63, 64)),
    -1,
    math.nan,
    math.inf,
    -math.inf,
    1e30,
    -1e30,
    "\N{REPLACEMENT CHARACTER}" * 200,
)

PLAUSIBLE: dict[str, tuple[float, float]] = {
    "_ratio": (0, 1),
    "_celsius": (-150, 300),
    "_watts": (0, 10_000),
    "_hertz": (0, 4e10),
    "_bytes": (0, 2**53),
    "_joules": (0, 1e13),
    "_seconds": (0, 1e10),
    "fan_speed_ratio": (0, 2),
    "nvlink_receive_bytes": (0, 1e21),
    "nvlink_transmit_bytes": (0, 1e21),
    "performance_state": (0, 15),
    "pcie_link_generation": (1, 16),
    "pcie_link_width": (1, 32),
    "pid": (1, 2**22),
    "timestamp": (0, 2**32),
    "started_at": (0, 2**32),
}
"""By field or its end: what hardware can have, said without a look at the table."""


def gate(clock: Clock | None = None) -> Gate:
    return Gate(Asker(Clock()), clock or Clock())


def limits(name: str) -> tuple[float, float]:
    for end in sorted(PLAUSIBLE, key=len, reverse=True):
        if name.endswith(end):
            return PLAUSIBLE[end]
    return (0, 2**52)


@pytest.mark.parametrize("kind", KINDS)
def test_each_field_of_each_kind_has_its_row(kind: type) -> None:
    fields = {field.name for field in dataclasses.fields(kind)}
    assert set(TABLE[kind]) == fields - {"failures"}


def test_the_table_has_no_kind_that_is_gone() -> None:
    assert set(TABLE) == set(KINDS)


def rows() -> Iterator[tuple[type, str]]:
    for kind, fields in TABLE.items():
        for name, bound in fields.items():
            plain = bound.bound if isinstance(bound, Each) else bound
            if not isinstance(plain, Made):
                yield kind, name


@pytest.mark.parametrize(("kind", "name"), list(rows()))
def test_garbage_is_absent_and_counted_or_such_as_hardware_has(kind: type, name: str) -> None:
    beside = {"interval_seconds": 5.0, "total_bytes": 80 * 2**30}
    known = {n: v for n, v in beside.items() if n in TABLE[kind] and n != name}
    is_mapping = isinstance(TABLE[kind][name], Each)
    for garbage in GARBAGE:
        raw = (0, garbage, 0) if name == "pci_bus_id" else garbage
        one = gate()
        try:
            made = one._values(kind, {**known, name: {"part": raw} if is_mapping else raw}, "some")
        except bounds.Implausible:
            continue
        value = made.get(name, {}).get("part") if is_mapping else made.get(name)
        if value is None:
            assert one.asker.failures() == (FieldFailure("some", Reason.IMPLAUSIBLE),)
        elif isinstance(value, int | float):
            low, high = limits(name)
            assert low <= value <= high, garbage
            assert raw not in {-1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1}
        else:
            assert isinstance(value, str)
            assert len(value) <= 128


def functions_of_pynvml(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "pynvml"
            and isinstance(getattr(pynvml, node.attr, None), types.FunctionType)
        ):
            yield node.attr
        if isinstance(node, ast.Call) and any(
            isinstance(argument, ast.Name) and argument.id == "pynvml" for argument in node.args
        ):
            yield ast.unparse(node)


@pytest.mark.parametrize("path", [p for p in SOURCES if p.name != "library.py"], ids=str)
def test_pynvml_is_called_in_one_place_only(path: Path) -> None:
    """What pynvml raises beside NVML's errors would else end more than a field."""
    assert list(functions_of_pynvml(ast.parse(path.read_text()))) == []


@pytest.mark.parametrize("path", [p for p in SOURCES if p.name != "gate.py"], ids=str)
def test_no_reading_is_made_but_by_the_gate(path: Path) -> None:
    made = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    # A GPU that is only listed yet has nothing of the driver's but its UUID.
    allowed = {"Gpu"} if path.name == "reader.py" else set()
    assert made & {str(kind.__name__) for kind in TABLE} <= allowed


# What the facts of a board bound


def test_memory_that_is_used_beyond_the_total_is_no_memory() -> None:
    one = gate()
    assert one.piece("memory", Memory, total_bytes=100, used_bytes=101, free_bytes=0) is None
    assert one.piece("memory", Memory, total_bytes=0, used_bytes=0, free_bytes=0) is None
    assert one.asker.failures() == (FieldFailure("memory", Reason.IMPLAUSIBLE),)
    assert one.piece("memory", Memory, total_bytes=100, used_bytes=100, free_bytes=0) == Memory(
        100, 100, 0
    )


@pytest.mark.parametrize(
    ("function", "answer", "field"),
    [
        ("nvmlDeviceGetPowerUsage", 1_400_001, "power_draw_watts"),
        (("nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_SM), 3961, "clock_hertz"),
    ],
)
def test_a_board_bounds_what_it_draws_and_how_fast_it_runs(
    monkeypatch: pytest.MonkeyPatch, function: Any, answer: int, field: str
) -> None:
    gpu = h100()
    reader = reader_of(FakeNvml(gpu), monkeypatch)
    reader.read_slow()
    gpu.answers[function] = answer
    read = reader.read_full()
    assert read.failures == (FieldFailure(field, Reason.IMPLAUSIBLE),)
    assert read.power_draw_watts == (None if field == "power_draw_watts" else 432.21)
    assert len(read.clock_hertz) == (3 if field == "clock_hertz" else 4)
    gpu.answers[function] = answer - 1
    assert reader.read_full().failures == ()


def test_a_little_more_than_possible_is_rounding_in_means() -> None:
    one = gate()
    made = one.piece(
        "activity", readings.Activity, interval_seconds=5.0, graphics_ratio=100.4, sm_ratio=101.1
    )
    assert made == readings.Activity(interval_seconds=5.0, graphics_ratio=1.0)
    assert one.asker.failures() == (FieldFailure("activity", Reason.IMPLAUSIBLE),)


# Counters

Step = tuple[float, float]  # seconds, value


def totals(steps: list[Step], rate: float = 10.0) -> list[float | None]:
    """Give what the counter behind the gate shows after each raw value; absent is ``None``."""
    trail, counter, now = Trail(), SteadyCounter(), 0.0
    shown: list[float | None] = []
    for seconds, value in steps:
        now += seconds
        try:
            shown.append(counter.update(trail.follow(value, rate, now)))
        except ValueError:
            shown.append(None)
    return shown


@pytest.mark.parametrize(
    ("what", "steps", "expected"),
    [
        ("it counts", [(0, 1000), (9, 1050), (9, 1100)], [1000, 1050, 1100]),
        ("at twice its rate and a second", [(0, 1000), (9, 1200)], [1000, 1200]),
        ("no faster", [(0, 1000), (9, 1201)], [1000, None]),
        ("one leap", [(0, 1000), (9, 9e9), (9, 1100)], [1000, None, 1100]),
        ("two of them", [(0, 1000), (9, 9e9), (9, 5e5), (9, 1100)], [1000, None, None, 1100]),
        ("it starts anew", [(0, 1000), (9, 5), (9, 55)], [1000, 1005, 1055]),
        ("a zero in between", [(0, 1000), (9, 0), (9, 1050), (9, 1100)], [1000, 1000, None, 1050]),
        ("it is elsewhere", [(0, 1000), (9, 9e9), (9, 9e9 + 50)], [1000, None, 1050]),
        (
            "and starts anew after that",
            [(0, 1000), (9, 9e9), (9, 9e9 + 50), (9, 7), (9, 27)],
            [1000, None, 1050, 1057, 1077],
        ),
        ("a first value too high", [(0, 9e9), (9, 1e5), (9, 1e5 + 50)], [9e9, None, 9e9 + 50]),
        ("a late value", [(0, 1000), (9, 990), (9, 1050)], [1000, 1000, 1050]),
        ("away for an hour", [(0, 1000), (3600, 30_000)], [1000, 30_000]),
    ],
)
def test_a_counter_learns_of_no_leap(
    what: str, steps: list[Step], expected: list[float | None]
) -> None:
    assert totals(steps) == expected


@given(
    st.lists(
        st.tuples(
            st.floats(0.1, 100), st.floats(0, 10), st.sampled_from(["", "", "", "garbage", "reset"])
        ),
        max_size=40,
    ),
    st.integers(0, 2**64),
)
def test_whatever_comes_a_counter_only_counts_what_hardware_can(
    steps: list[tuple[float, float, str]], garbage: int
) -> None:
    value, elapsed, raw = 1000.0, 0.0, [(0.0, 1000.0)]
    for seconds, rate, kind in steps:
        value = 0.0 if kind == "reset" else value + rate * seconds
        raw.append((seconds, float(garbage) if kind == "garbage" else value))
    shown = [total for total in totals(raw) if total is not None]
    assert shown == sorted(shown)
    elapsed = sum(seconds for seconds, _ in raw)
    assert shown[-1] <= 1000.0 + 2 * 10.0 * (elapsed + len(raw))


def test_counters_go_on_where_they_were_in_the_next_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = h100()
    nvml = FakeNvml(gpu)
    nvml.install(monkeypatch)
    backend = exporter.gpus.nvml.NvmlBackend(clock=Clock().wall, monotonic=Clock(step=1.0))
    for energy, expected in ((123_456_789, 123_456.789), (2**60, None)):
        backend.open()
        (reader,) = backend.readers()
        gpu.answers["nvmlDeviceGetTotalEnergyConsumption"] = energy
        assert reader.read_slow().energy_joules == expected
        backend.close()


# Counts that bound a loop


@pytest.mark.parametrize("most", [2**31 - 1, 2**32 - 1])
@pytest.mark.parametrize(
    "function",
    ["nvmlDeviceGetNumFans", "nvmlDeviceGetMaxMigDeviceCount", "nvmlDeviceGetNumGpuCores"],
)
def test_a_count_beyond_all_boards_costs_its_field(
    monkeypatch: pytest.MonkeyPatch, function: str, most: int
) -> None:
    gpu = h100()
    gpu.answers |= {"nvmlDeviceGetMigMode": (1, 1), function: most}
    read = reader_of(FakeNvml(gpu), monkeypatch).read_full()
    assert Reason.IMPLAUSIBLE in {failure.reason for failure in read.failures}
    assert read.power_draw_watts == 432.21


@pytest.mark.parametrize("most", [2**31 - 1, 2**63 - 1])
def test_a_count_of_links_beyond_all_boards_costs_its_field(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    gpu = h100()
    gpu.fields[pynvml.NVML_FI_DEV_NVLINK_LINK_COUNT] = most
    read = reader_of(FakeNvml(gpu), monkeypatch).read_slow()
    assert read.nvlink_active_links is None
    assert read.failures == (FieldFailure("nvlink_active_links", Reason.IMPLAUSIBLE),)
    assert read.energy_joules is not None


@pytest.mark.parametrize("what", MOST)
def test_counts_are_bounded(what: str) -> None:
    assert bounds.counted(what, 0) == 0
    for raw in (-1, MOST[what] + 1, 2**32 - 1, 2**64 - 1, math.nan):
        with pytest.raises(bounds.Implausible):
            bounds.counted(what, raw)


def test_kinds_are_found() -> None:
    assert {FullReading, SlowReading, Memory} <= set(KINDS)
