"""How a shared device is split among its containers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.attribution.sharing import (
    Usage,
    busy_shares,
    containers_by_pid,
    memory_by_container,
    split_energy,
)
from exporter.model.claims import Container
from exporter.model.pods import ContainerRecord, PodRecord
from exporter.model.readings import Memory, Process, ProcessType, ProcessUtilization
from exporter.processes.cgroups import CgroupRef

A, B = Container("ml", "a", "main"), Container("ml", "b", "main")
GIB = 2**30


def pod(name: str, *containers: ContainerRecord) -> PodRecord:
    return PodRecord(f"uid-{name}", "ml", name, "Pod", name, containers=containers)


def process(
    pid: int,
    gib: int | None,
    kind: ProcessType = ProcessType.COMPUTE,
    instance: int | None = None,
    compute: int | None = None,
) -> Process:
    return Process(pid, kind, None if gib is None else gib * GIB, instance, compute)


def used(gib: int) -> Memory:
    return Memory(80 * GIB, gib * GIB, (80 - gib) * GIB)


def test_a_process_belongs_to_the_container_of_its_cgroup() -> None:
    main, side = ContainerRecord("main", "1" * 64), ContainerRecord("side", "2" * 64)
    pods = [pod("a", main, side), pod("b", ContainerRecord("main")), pod("none")]
    owners = {
        1: CgroupRef("uid-a", "1" * 64),
        2: CgroupRef("uid-a", "2" * 64),
        3: CgroupRef("a static pod's hash", "1" * 64),
        4: CgroupRef("uid-b", "3" * 64),
        5: CgroupRef("uid-a", "3" * 64),
        6: CgroupRef("uid-none", "4" * 64),
        7: CgroupRef("another", "5" * 64),
        8: None,
    }
    assert containers_by_pid(owners, pods) == {
        1: A,
        2: Container("ml", "a", "side"),
        3: A,
        4: B,  # whose container was started again and has no other
    }


def test_busy_time_is_split_by_the_time_of_processes() -> None:
    reported = [
        ProcessUtilization(1, 0.5),
        ProcessUtilization(2, 0.25),
        ProcessUtilization(3, 0.75),
        ProcessUtilization(4, 0.5),
    ]
    assert busy_shares(reported, {1: A, 2: A, 3: B}) == {A: 0.375, B: 0.375}


def test_busy_time_that_no_process_explains_is_nobodys() -> None:
    assert busy_shares([], {1: A}) == {}
    assert busy_shares([ProcessUtilization(1, 0.0)], {1: A}) == {}


def test_memory_is_that_of_the_processes() -> None:
    listed = [process(1, 3), process(2, 4), process(3, 5), process(4, 6)]
    assert memory_by_container(used(20), listed, {1: A, 2: A, 3: B}) == {A: 7 * GIB, B: 5 * GIB}


def test_a_process_of_several_types_counts_once() -> None:
    listed = [process(1, 3), process(1, 3, ProcessType.GRAPHICS), process(1, 2, ProcessType.MPS)]
    assert memory_by_container(used(20), listed, {1: A}) == {A: 3 * GIB}


def test_memory_of_overlapping_processes_is_scaled_to_what_is_used() -> None:
    listed = [process(1, 12), process(2, 4)]
    assert memory_by_container(used(8), listed, {1: A, 2: B}) == {A: 6 * GIB, B: 2 * GIB}


def test_memory_that_is_not_known_may_be_anyones() -> None:
    assert memory_by_container(used(8), [process(1, 2), process(2, None)], {1: A}) is None


def test_memory_of_a_gpu_instance() -> None:
    listed = [
        process(1, 1, instance=3, compute=0),
        process(1, 2, instance=3, compute=1),
        process(1, 4, instance=4, compute=0),
        process(2, None, instance=4),
    ]
    assert memory_by_container(used(8), listed, {1: A}, gpu_instance=3) == {A: 3 * GIB}


def test_energy_of_busy_time_goes_by_it_and_the_rest_evenly() -> None:
    """Busy for 20 of 40 s, 5 of them on account of a process outside."""
    parts = split_energy(4000.0, 40.0, 20.0, [Usage(10.0, 20.0), Usage(5.0, 20.0)])
    assert parts == [1000.0 + 1000.0, 500.0 + 1000.0]


def test_energy_of_a_time_in_which_nobody_held_the_device_is_nobodys() -> None:
    assert split_energy(400.0, 40.0, 0.0, [Usage(0.0, 10.0)]) == [100.0]
    assert split_energy(400.0, 0.0, 0.0, [Usage(0.0, 0.0)]) == [0.0]


def test_busy_time_that_was_reported_later_than_energy() -> None:
    assert split_energy(300.0, 10.0, 12.0, [Usage(12.0, 10.0)]) == [300.0]


PIDS = st.integers(1, 8)
WEIGHTS = st.just(0.0) | st.floats(1e-6, 1)
OWNED = st.dictionaries(PIDS, st.sampled_from([A, B]))


@given(st.lists(st.builds(ProcessUtilization, PIDS, st.floats(0, 1))), OWNED)
def test_shares_are_parts_of_one(
    reported: list[ProcessUtilization], containers: dict[int, Container]
) -> None:
    shares = busy_shares(reported, containers)
    assert all(share >= 0 for share in shares.values())
    assert sum(shares.values()) <= 1 + 1e-9
    if any(process.sm_ratio for process in reported) and all(p.pid in containers for p in reported):
        assert sum(shares.values()) == pytest.approx(1.0, abs=1e-9)


@given(
    st.integers(0, 80),
    st.lists(st.builds(process, PIDS, st.integers(0, 80), st.sampled_from(ProcessType))),
    OWNED,
)
def test_memory_never_exceeds_what_is_used(
    gib: int, listed: list[Process], containers: dict[int, Container]
) -> None:
    parts = memory_by_container(used(gib), listed, containers)
    assert parts is not None
    assert all(part >= 0 for part in parts.values())
    assert sum(parts.values()) <= gib * GIB


@given(
    st.floats(0, 1e6),
    st.floats(0.1, 100),
    st.floats(0, 2),
    st.lists(st.tuples(WEIGHTS, WEIGHTS), min_size=1, max_size=5),
    st.booleans(),
)
def test_energy_is_split_exactly(
    joules: float,
    elapsed: float,
    ratio: float,
    weights: list[tuple[float, float]],
    all_booked: bool,  # noqa: FBT001
) -> None:
    busy_seconds = ratio * elapsed
    busy_total = sum(busy for busy, _ in weights) or 1.0
    held_total = sum(held for _, held in weights) or 1.0
    if not all_booked:
        busy_total, held_total = busy_total + 1, held_total + 1
    holders = [
        Usage(busy_seconds * busy / busy_total, elapsed * held / held_total)
        for busy, held in weights
    ]
    parts = split_energy(joules, elapsed, busy_seconds, holders)
    assert all(part >= 0 for part in parts)
    assert sum(parts) <= joules * (1 + 1e-9)
    if all_booked and all(busy and held for busy, held in weights):
        assert sum(parts) == pytest.approx(joules, rel=1e-9)
