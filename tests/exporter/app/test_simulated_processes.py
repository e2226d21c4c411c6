"""What single processes do on a simulated GPU is together what the GPU does."""

from pathlib import Path

import pytest

from exporter.model.readings import ProcessUtilization
from tests.doubles.simulation import World, write

SHARED = """\
gpus: [{gpu: 0, sharing: time_sliced, replicas: 4}]
pods:
  - {pod: a, gpu: 0, workload: {kind: notebook, period: 1h, utilization: 0.3}}
  - {pod: b, gpu: 0, workload: {kind: leak, period: 40s, backoff: 20s, utilization: 0.6}}
  - {pod: c, gpu: 0, workload: idle}
"""


def told(world: World) -> tuple[ProcessUtilization, ...]:
    read = world.readers[0].read_full(processes=True).process_utilization
    assert read is not None
    return read


def test_processes_sum_to_the_gpu(tmp_path: Path) -> None:
    world = World(write(tmp_path, SHARED)).at(5)
    told(world)
    full = world.at(15).readers[0].read_full(processes=True)
    processes = full.process_utilization or ()
    assert len(processes) == 2  # the idle one did nothing
    samples = full.utilization or ()
    mean = sum(sample.ratio for sample in samples) / len(samples)
    assert sum(process.sm_ratio for process in processes) == pytest.approx(mean, abs=0.01)
    listed = {p.pid: p for p in world.readers[0].read_fast().processes or ()}
    assert {process.pid for process in processes} < listed.keys()


def test_more_than_the_gpu_can_do_is_shared_out(tmp_path: Path) -> None:
    busy = "{kind: low_sm, utilization: 1.0}"
    pods = ", ".join(f"{{pod: {name}, gpu: 0, workload: {busy}}}" for name in "abcd")
    text = f"gpus: [{{gpu: 0, sharing: mps, replicas: 4}}]\npods: [{pods}]"
    world = World(write(tmp_path, text)).at(5)
    told(world)
    assert [p.sm_ratio for p in told(world.at(10))] == [pytest.approx(0.25)] * 4


def test_an_interval_is_told_once_and_a_process_that_is_gone_is_not(tmp_path: Path) -> None:
    world = World(write(tmp_path, SHARED)).at(10)
    assert len(told(world)) == 2
    assert told(world) == ()
    assert len(told(world.at(50))) == 1
    assert len(told(world.at(70))) == 2


def test_only_when_asked_for_and_not_under_mig(tmp_path: Path) -> None:
    world = World(write(tmp_path, SHARED)).at(10)
    assert world.readers[0].read_full().process_utilization is None
    world = World("steady", "a100-mig").at(10)
    index = next(n for n, gpu in enumerate(world.gpus()) if gpu.mig_enabled)
    reader = world.readers[index]
    assert reader.read_full(processes=True).process_utilization is None


def test_counting_starts_anew_after_a_loss(tmp_path: Path) -> None:
    lost = "faults: [{at: 20s, for: 10s, fault: gpu_lost, gpu: 0}]"
    world = World(write(tmp_path, SHARED + lost)).at(15)
    told(world)
    world.at(25).events()
    assert all(0 <= p.sm_ratio <= 1 for p in told(world.at(35)))
