"""Claims, pods, processes and readings, joined over a whole sampler."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from exporter.model.claims import Claim, Claims, Container, DraClaim, DraName, PodName, Sharing
from exporter.model.clocks import UnixSeconds
from exporter.model.ends import NO_WORDS, Cause, LastWords
from exporter.model.oom import Confidence
from exporter.model.pods import ContainerRecord, DraDevice, PodRecord, Termination
from exporter.model.readings import (
    Activity,
    FastReading,
    FullReading,
    Memory,
    Process,
    ProcessType,
    ProcessUtilization,
    SlowReading,
)
from exporter.model.snapshot import ContainerSample, SourceHealth
from exporter.model.steps import Readings
from exporter.sampling.shared import Attribution
from exporter.sampling.tracker import GpuTracker
from tests.doubles.scripted import GIB, MIG_GPU, Harness, at, gpu
from tests.doubles.terminations import TOO_MUCH

if TYPE_CHECKING:
    from exporter.model.verdicts import EndVerdict

TRAIN = Container("ml", "train-0", "main")
OTHER = Container("ml", "embed-0", "main")
EXCLUSIVE = Claims(held=(Claim(TRAIN, "nvidia.com/gpu", gpu(0).uuid),))
SHARED = Claims(
    held=(
        Claim(TRAIN, "nvidia.com/gpu", f"{gpu(0).uuid}::0"),
        Claim(OTHER, "nvidia.com/gpu", f"{gpu(0).uuid}::1"),
    ),
    allocatable={"nvidia.com/gpu": (f"{gpu(0).uuid}::0", f"{gpu(0).uuid}::1")},
)


@dataclass
class ScriptedPods:
    """What the pod watch would say."""

    found: dict[PodName, PodRecord] = field(default_factory=dict)
    devices: dict[DraName, DraDevice] = field(default_factory=dict)
    ends: list[Termination] = field(default_factory=list)
    up: bool = True

    def pods(self) -> Mapping[PodName, PodRecord]:
        return self.found

    def dra_devices(self) -> Mapping[DraName, DraDevice]:
        return self.devices

    def take_terminations(self) -> Sequence[Termination]:
        ends, self.ends = self.ends, []
        return ends

    def health(self) -> SourceHealth:
        return SourceHealth("kubernetes", up=self.up)


@dataclass
class ScriptedProcesses:
    """Which process runs where."""

    running: dict[int, Container] | None = None

    def attribute(self, pids: Iterable[int], holders: Collection[Container]) -> Attribution | None:
        if self.running is None:
            return None
        wanted = set(pids)
        found = {pid: c for pid, c in self.running.items() if pid in wanted and c in holders}
        return Attribution(found, holders)

    def health(self) -> SourceHealth:
        return SourceHealth("processes", up=self.running is not None)


def ended(harness: Harness, words: LastWords, **fields: object) -> Termination:
    plain: dict[str, object] = {
        "container": TRAIN,
        "pod_uid": "uid",
        "restart_count": 0,
        "exit_code": 1,
        "reason": "Error",
        "words": words,
        "started_at": None,
        "finished_at": float(int(harness.clock.wall())),
    }
    return Termination(**{**plain, **fields})  # type: ignore[arg-type]


def held_by(harness: Harness, container: Container) -> ContainerSample:
    samples = harness.sampler.snapshot.containers
    return next(s for s in samples if s.allocation.container == container)


def test_an_allocation_names_its_workload() -> None:
    pods = ScriptedPods(
        {PodName("ml", "train-0"): PodRecord("uid", "ml", "train-0", "Job", "train")}
    )
    harness = Harness(claims=EXCLUSIVE, pods=pods)
    pod = held_by(harness, TRAIN).pod
    assert pod is not None
    assert (pod.workload_kind, pod.workload) == ("Job", "train")


def test_without_pod_records_metrics_go_on() -> None:
    pods = ScriptedPods(up=False)
    harness = Harness(claims=EXCLUSIVE, pods=pods)
    harness.run(10)
    sample = held_by(harness, TRAIN)
    assert sample.pod is None
    assert sample.busy_seconds is not None
    assert [s.up for s in harness.sampler.snapshot.sources if s.name == "kubernetes"] == [False]


def test_without_a_pod_watch_there_are_no_verdicts_to_count() -> None:
    harness = Harness(claims=EXCLUSIVE)
    harness.run(10)
    assert held_by(harness, TRAIN).oom is None
    assert harness.sampler.snapshot.host_oom_kills == {}


def test_a_pod_watch_that_is_refused_counts_nothing_and_goes_on_counting_later() -> None:
    pods = ScriptedPods()
    harness = Harness(claims=EXCLUSIVE, pods=pods)
    harness.run(5)
    pods.ends = [ended(harness, TOO_MUCH)]
    harness.run(5)
    pods.up = False
    harness.run(5)
    assert held_by(harness, TRAIN).oom is None
    assert harness.sampler.snapshot.host_oom_kills == {}
    pods.up = True
    harness.run(5)
    oom = held_by(harness, TRAIN).oom
    assert oom is not None
    assert oom.events[Confidence.CONFIRMED] == 1


def test_work_of_slices_is_not_unattributed_work_of_the_board() -> None:
    harness = Harness(listed=[MIG_GPU])
    reader = harness.backend.gpus[0]
    reader.full_extra = {
        "utilization": None,
        "instance_activity": {1: Activity(5.0, 0.5), 2: Activity(5.0, 0.5)},
    }
    reader.slow = SlowReading(energy_joules=0.0)
    harness.run(31)
    reader.slow = SlowReading(energy_joules=900.0)
    harness.run(35)
    rest = harness.sampler.snapshot.unattributed
    assert MIG_GPU.uuid not in rest or rest[MIG_GPU.uuid].busy_seconds is None
    energies = [one.energy_joules or 0.0 for one in rest.values()]
    assert sum(energies) == pytest.approx(900.0)


def test_without_claims_nothing_is_unattributed() -> None:
    harness = Harness(without_claims=True)
    harness.run(30)
    assert harness.sampler.snapshot.unattributed == {}
    assert harness.sampler.snapshot.gpus[0].data is not None


def test_devices_held_through_dra_are_found_as_soon_as_they_are_published() -> None:
    dra = DraClaim(TRAIN, "ml", "claim", "gpu.nvidia.com", "node-1", "gpu-1")
    pods = ScriptedPods()
    harness = Harness(claims=Claims(dra=(dra,)), pods=pods)
    assert harness.sampler.snapshot.unresolved == {"dra": 1}
    key = DraName("gpu.nvidia.com", "node-1", "gpu-1")
    pods.devices = {key: DraDevice(*key, uuid=gpu(1).uuid)}
    harness.run(1)
    allocation = held_by(harness, TRAIN).allocation
    assert (allocation.gpu.index, allocation.sharing) == (1, Sharing.DRA)
    assert harness.sampler.snapshot.unresolved == {}


def test_a_gradual_fill_is_seen_by_the_fast_tick_and_judged_once() -> None:
    verdicts: list[EndVerdict] = []
    pods = ScriptedPods()
    harness = Harness(claims=EXCLUSIVE, pods=pods, on_end=verdicts.append)
    harness.run(30)
    oom = held_by(harness, TRAIN).oom
    assert oom is not None
    assert set(oom.events.values()) == {0}
    harness.backend.gpus[0].memory = Memory(80 * GIB, 79 * GIB, GIB)
    harness.run(1)
    harness.backend.gpus[0].memory = Memory(80 * GIB, 0, 80 * GIB)
    end = ended(harness, NO_WORDS)
    for _ in range(3):  # a new list reports it again
        pods.ends = [end]
        harness.run(3)
    oom = held_by(harness, TRAIN).oom
    assert oom is not None
    assert oom.events[Confidence.LIKELY] == 1
    assert sum(oom.events.values()) == 1
    (found,) = verdicts
    assert (found.cause, found.confidence) == (Cause.GPU_OOM, Confidence.LIKELY)
    assert harness.sampler.snapshot.container_ends == {
        TRAIN: {(Cause.GPU_OOM, Confidence.LIKELY): 1}
    }
    verdict = found.oom
    assert verdict is not None
    assert (verdict.peak_bytes, verdict.limit_bytes) == (79 * GIB, 80 * GIB)


def test_a_host_kill_is_another_counter() -> None:
    pods = ScriptedPods()
    harness = Harness(claims=EXCLUSIVE, pods=pods)
    harness.run(5)
    assert harness.sampler.snapshot.host_oom_kills == {TRAIN: 0}
    pods_end = ended(harness, NO_WORDS, exit_code=137, reason="OOMKilled")
    assert harness.sampler.snapshot.host_oom_last == {}
    pods.ends = [pods_end]
    harness.run(10)
    assert harness.sampler.snapshot.host_oom_kills == {TRAIN: 1}
    assert harness.sampler.snapshot.host_oom_last == {TRAIN: pods_end.finished_at}
    oom = held_by(harness, TRAIN).oom
    assert oom is not None
    assert sum(oom.events.values()) == 0


def test_counters_of_verdicts_survive_a_kubelet_outage() -> None:
    pods = ScriptedPods()
    harness = Harness(claims=EXCLUSIVE, pods=pods)
    harness.run(5)
    pods.ends = [ended(harness, TOO_MUCH)]
    harness.run(5)
    harness.claims.current = None
    harness.run(10)
    harness.claims.current = EXCLUSIVE
    harness.run(5)
    oom = held_by(harness, TRAIN).oom
    assert oom is not None
    assert oom.events[Confidence.CONFIRMED] == 1


def test_a_shared_gpu_is_split_by_its_processes() -> None:
    processes = ScriptedProcesses({11: TRAIN, 12: OTHER})
    harness = Harness(claims=SHARED, processes=processes)
    reader = harness.backend.gpus[0]
    reader.process_utilization = (
        ProcessUtilization(11, 0.3),
        ProcessUtilization(12, 0.1),
        ProcessUtilization(99, 0.1),  # of no pod
    )
    reader.fast_extra = {
        "processes": (
            Process(11, ProcessType.COMPUTE, 4 * GIB),
            Process(12, ProcessType.COMPUTE, 2 * GIB),
            Process(99, ProcessType.COMPUTE, GIB),
        )
    }
    harness.run(100)
    train, other = held_by(harness, TRAIN), held_by(harness, OTHER)
    rest = harness.sampler.snapshot.unattributed[gpu(0).uuid]
    data = harness.sampler.snapshot.gpus[0].data
    assert data is not None
    assert data.device.busy_seconds is not None
    assert train.utilization_ratio == pytest.approx(0.3)
    assert train.busy_seconds is not None
    assert other.busy_seconds is not None
    assert rest.busy_seconds is not None
    assert train.busy_seconds == pytest.approx(3 * other.busy_seconds)
    total = train.busy_seconds + other.busy_seconds + rest.busy_seconds
    assert total == pytest.approx(data.device.busy_seconds)
    assert (train.memory_used_bytes, other.memory_used_bytes) == (4 * GIB, 2 * GIB)
    assert rest.memory_bytes == 4 * GIB  # a process of nobody's, and what no process explains


def test_a_restart_begins_new_peaks() -> None:
    record = PodRecord("uid", "ml", "train-0", "Job", "train")
    side = ContainerRecord("side", "another")
    pods = ScriptedPods()
    harness = Harness(claims=EXCLUSIVE, pods=pods)
    harness.backend.gpus[0].memory = Memory(80 * GIB, 70 * GIB, 10 * GIB)
    for run in ("first", "second"):
        containers = (ContainerRecord("main", run), side)
        pods.found = {PodName("ml", "train-0"): replace(record, containers=containers)}
        harness.run(10)
        assert held_by(harness, TRAIN).utilization_peak_ratio is not None
        if run == "first":
            assert held_by(harness, TRAIN).memory_peak_bytes == 70 * GIB
            harness.backend.gpus[0].memory = Memory(80 * GIB, GIB, 79 * GIB)
            harness.run(10)
            assert held_by(harness, TRAIN).memory_peak_bytes == 70 * GIB
    assert held_by(harness, TRAIN).memory_peak_bytes == GIB


def test_memory_stays_flat_over_any_number_of_mig_layouts() -> None:
    harness = Harness(listed=[MIG_GPU])
    reader = harness.backend.gpus[0]
    reader.slow = SlowReading(energy_joules=0.0)
    harness.run(10)
    slot = harness.sampler._visits.slots[MIG_GPU.uuid]
    containers = harness.sampler._containers
    sizes = set()
    for n in range(10_000):
        part = replace(MIG_GPU.slices[0], uuid=f"MIG-{n}")
        new = replace(MIG_GPU, slices=(part,))
        full = FullReading(new, instance_activity={1: Activity(5.0, 0.5)})
        slow = SlowReading(energy_joules=float(n))
        readings, now, timestamp = Readings(reader.read_fast(), full, slow), at(n), UnixSeconds(n)
        steps = slot.tracker.take(readings, now, timestamp)
        containers.book(slot.tracker.view, readings, steps, now, timestamp)
        containers.refresh([slot.tracker.view], now, timestamp)
        if n >= 1000:
            sizes.add((len(slot.tracker._slices), len(containers._ledger._entries.devices)))
    assert len(sizes) == 1


def test_counters_of_a_slice_go_on_when_it_is_there_again() -> None:
    tracker = GpuTracker(MIG_GPU, 60.0)
    told = FullReading(MIG_GPU, instance_activity={1: Activity(5.0, 1.0), 2: Activity(5.0, 1.0)})
    tracker.full(told, at(5.0))
    for n in range(250):
        part = replace(MIG_GPU.slices[0], uuid=f"MIG-{n}")
        tracker.full(FullReading(replace(MIG_GPU, slices=(part,))), at(10.0 + n))
    tracker.full(told, at(500.0))
    tracker.fast(FastReading(), at(500.0), UnixSeconds(500.0))
    data = tracker.sample(at(500.0)).data
    assert data is not None
    assert data.slices[1].busy_seconds == 10.0


def test_a_shared_gpu_whose_processes_are_unknown_is_not_split() -> None:
    harness = Harness(claims=SHARED, processes=ScriptedProcesses(None))
    harness.run(30)
    train = held_by(harness, TRAIN)
    assert (train.busy_seconds, train.utilization_ratio, train.memory_used_bytes) == (None,) * 3
    assert train.allocated_seconds == 15.0
    assert [s.up for s in harness.sampler.snapshot.sources if s.name == "processes"] == [False]
