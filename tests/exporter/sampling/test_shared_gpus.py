"""From the processes that a driver lists to what containers have of a shared GPU."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from exporter.model.claims import Allocation, Container, PodName, Sharing
from exporter.model.devices import Gpu
from exporter.model.pods import ContainerRecord, PodRecord
from exporter.model.readings import (
    FastReading,
    FullReading,
    Memory,
    Process,
    ProcessType,
    ProcessUtilization,
)
from exporter.processes.cgroups import CgroupRef
from exporter.processes.owners import ProcessOwners
from exporter.sampling.shared import PodProcesses, SharedGpus
from tests.doubles.scripted import GIB, MIG_GPU, gpu

A, B = Container("ml", "a", "main"), Container("ml", "b", "main")
MEMORY = Memory(80 * GIB, 20 * GIB, 60 * GIB)


class Owners(ProcessOwners):
    """Process 1 is A's, 2 is B's, and any other the host's."""

    def __init__(self) -> None:
        super().__init__(Path("/nowhere"))
        self.host = True
        self.known: dict[int, CgroupRef | None] = {
            1: CgroupRef("uid-a", "a" * 64),
            2: CgroupRef("uid-b", "b" * 64),
        }

    def sees_host(self) -> bool:
        return self.host

    def owners(self, pids: Iterable[int]) -> dict[int, CgroupRef | None]:
        return {pid: self.known.get(pid) for pid in pids}


def pod(name: str) -> PodRecord:
    record = ContainerRecord("main", name * 64)
    return PodRecord(f"uid-{name}", "ml", name, "Pod", name, containers=(record,))


def held(container: Container, on: Gpu, *, sole: bool = False) -> Allocation:
    part = on.leading_slices[0] if on.slices else None
    return Allocation(container, "nvidia.com/gpu", Sharing.TIME_SLICED, on, part, 0.5, sole)


class Node:
    def __init__(self) -> None:
        self.owners = Owners()
        self.pods = {PodName("ml", name): pod(name) for name in "ab"}
        self.shared = SharedGpus(PodProcesses(self.owners, lambda: self.pods))


@pytest.fixture
def node() -> Node:
    return Node()


def full(*told: tuple[int, float], on: Gpu | None = None) -> FullReading:
    processes = tuple(ProcessUtilization(pid, ratio) for pid, ratio in told)
    return FullReading(on or gpu(0), process_utilization=processes)


def fast(*told: tuple[int, int], instance: int | None = None) -> FastReading:
    return FastReading(
        memory=MEMORY,
        instance_memory={} if instance is None else {instance: MEMORY},
        processes=tuple(
            Process(pid, ProcessType.COMPUTE, gib * GIB, instance) for pid, gib in told
        ),
    )


def test_only_shared_gpus_are_split(node: Node) -> None:
    node.shared.set_allocations([held(A, gpu(0)), held(B, gpu(0)), held(A, gpu(1), sole=True)])
    assert [node.shared.splits(gpu(n).uuid) for n in range(3)] == [True, False, False]
    assert node.shared.busy_shares(full((1, 0.5), on=gpu(1))) is None
    assert node.shared.memory_by_device(gpu(1), fast((1, 5))) == {}


def test_busy_time_and_memory_by_container(node: Node) -> None:
    node.shared.set_allocations([held(A, gpu(0)), held(B, gpu(0))])
    assert node.shared.busy_shares(full((1, 0.2), (2, 0.1), (3, 0.1))) == {A: 0.5, B: 0.25}
    parts = node.shared.memory_by_device(gpu(0), fast((1, 5), (2, 6), (3, 7)))
    assert parts == {gpu(0).uuid: {A: 5 * GIB, B: 6 * GIB}}


def test_memory_of_shared_slices(node: Node) -> None:
    first, second = MIG_GPU.leading_slices
    node.shared.set_allocations([held(A, MIG_GPU), held(B, MIG_GPU)])
    parts = node.shared.memory_by_device(MIG_GPU, fast((1, 5), instance=first.gpu_instance))
    assert parts == {first.uuid: {A: 5 * GIB, B: 0}}
    parts = node.shared.memory_by_device(MIG_GPU, fast((2, 5), instance=second.gpu_instance))
    assert parts == {second.uuid: {A: 0, B: 5 * GIB}}


def test_a_pod_that_is_not_known_yet_takes_nothing_from_the_others(node: Node) -> None:
    del node.pods[PodName("ml", "b")]
    node.shared.set_allocations([held(A, gpu(0)), held(B, gpu(0))])
    assert node.shared.busy_shares(full((1, 0.3), (2, 0.1))) == pytest.approx({A: 0.75})
    assert node.shared.memory_by_device(gpu(0), fast((1, 5), (2, 6))) == {gpu(0).uuid: {A: 5 * GIB}}


def test_a_container_that_was_started_again_is_not_taken_for_idle(node: Node) -> None:
    """While the API server is away its id is unknown, and in a pod of several it may be any."""
    side = ContainerRecord("side", "c" * 64)
    node.pods[PodName("ml", "a")] = replace(pod("a"), containers=(*pod("a").containers, side))
    node.owners.known[1] = CgroupRef("uid-a", "d" * 64)
    node.shared.set_allocations([held(A, gpu(0)), held(B, gpu(0))])
    assert node.shared.busy_shares(full((1, 0.9), (2, 0.1))) == {B: 0.1}
    assert node.shared.memory_by_device(gpu(0), fast((1, 5), (2, 6))) == {gpu(0).uuid: {B: 6 * GIB}}
    assert node.shared.busy_shares(full((2, 0.1))) == {A: 0.0, B: 1.0}
    # A process of the run before may still be listed.
    node.owners.known[3] = CgroupRef("uid-a", "a" * 64)
    assert node.shared.busy_shares(full((1, 0.6), (2, 0.2), (3, 0.2))) == {B: 0.2}


@pytest.mark.parametrize(
    ("ref", "told"),
    [
        (CgroupRef("uid-new", "d" * 64), {B}),
        (CgroupRef("a static pod's hash", "c" * 64), {A, B}),
        (CgroupRef("uid-c", "d" * 64), {A, B}),
        (None, {A, B}),
    ],
    ids=["of an unknown pod", "of a known container", "of a pod that holds nothing", "of no pod"],
)
def test_a_process_of_others_may_be_a_holders_if_nobody_knows_its_pod(
    node: Node, ref: CgroupRef | None, told: set[Container]
) -> None:
    node.pods[PodName("ml", "c")] = replace(
        pod("c"), containers=(*pod("c").containers, ContainerRecord("side", "e" * 64))
    )
    node.owners.known[3] = ref
    node.shared.set_allocations([held(A, gpu(0)), held(B, gpu(0))])
    shares = node.shared.busy_shares(full((2, 0.5), (3, 0.5)))
    assert shares == {A: 0.0, B: 0.5} if A in told else shares == {B: 0.5}


@pytest.mark.parametrize("trouble", ["pids of our own", "no source"])
def test_nothing_is_split_when_owners_are_unknown(node: Node, trouble: str) -> None:
    node.shared = SharedGpus(None) if trouble == "no source" else node.shared
    node.owners.host = trouble != "pids of our own"
    node.shared.set_allocations([held(A, gpu(0)), held(B, gpu(0))])
    assert node.shared.busy_shares(full((1, 0.5))) is None
    assert node.shared.memory_by_device(gpu(0), fast((1, 5))) == {}


def test_nothing_is_split_when_the_driver_reports_no_processes(node: Node) -> None:
    node.shared.set_allocations([held(A, gpu(0)), held(B, gpu(0))])
    assert node.shared.busy_shares(FullReading(gpu(0))) is None
    assert node.shared.memory_by_device(gpu(0), FastReading(memory=MEMORY)) == {}
    unknown = Process(3, ProcessType.COMPUTE)
    assert node.shared.memory_by_device(gpu(0), FastReading(MEMORY, processes=(unknown,))) == {}


def test_health_is_that_of_the_hosts_processes(node: Node) -> None:
    assert [health.name for health in node.shared.health()] == ["processes"]
    assert SharedGpus(None).health() == []
