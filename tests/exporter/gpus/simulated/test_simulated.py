"""The simulated node keeps the driver's manners, and gives the same numbers to whoever asks."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.gpus import GpuError
from exporter.gpus.simulated import PROFILES, scenario_names
from exporter.gpus.simulated.containers import OUT_OF_MEMORY, ContainerState, End, Run
from exporter.model.devices import Gpu
from exporter.model.readings import (
    FastReading,
    FullReading,
    Memory,
    ProcessType,
)
from tests.doubles.simulation import WALL, World, write

# The same numbers for everybody.


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 900), max_size=12).map(sorted))
def test_readings_do_not_depend_on_who_read_before(tenths: list[int]) -> None:
    often, once = World("steady", "h200-mixed"), World("steady", "h200-mixed")
    for tenth in tenths:
        for index in (0, 5):
            often.at(tenth / 10).read(index)
    for index in (0, 5):
        fast, full, slow = often.at(90.0).read(index)
        fast_once, full_once, slow_once = once.at(90.0).read(index)
        assert (fast, slow) == (fast_once, slow_once)
        # What is about the time since the last read depends on when that was.
        full, full_once = (
            replace(reading, activity=None, instance_activity={}, utilization=None)
            for reading in (full, full_once)
        )
        assert full == full_once


def test_the_same_seed_gives_the_same_node_and_another_seed_another() -> None:
    def uuids(seed: int) -> list[str]:
        gpus = World("steady", "a100-mig", seed=seed).gpus()
        return [g.uuid for g in gpus] + [s.uuid for g in gpus for s in g.slices]

    assert uuids(1) == uuids(1)
    assert not set(uuids(1)) & set(uuids(2))
    assert len(set(uuids(1))) == len(uuids(1)) == 8 + 7 + 4 + 4 + 1


def test_a_gpu_is_identified_by_its_first_read() -> None:
    (reader, *_) = World("steady").readers
    uuid, index = reader.gpu.uuid, reader.gpu.index
    assert reader.gpu == Gpu(uuid=uuid, index=index, model="")
    reader.read_fast()
    assert reader.gpu.model == "NVIDIA H100 80GB HBM3"
    assert (reader.gpu.uuid, reader.gpu.index) == (uuid, index)


def test_an_interval_is_reported_once_whatever_the_reads() -> None:
    world = World("steady")
    reported = [
        s for tick in range(1, 60) for s in world.at(0.7 * tick).read(0)[1].utilization or ()
    ]
    assert [round(s.timestamp * 5) for s in reported] == list(range(20_000, 20_000 + len(reported)))


def test_speed_moves_the_timeline_and_not_the_physics(tmp_path: Path) -> None:
    path = write(tmp_path, "pods: [{pod: a, gpu: 0, start: 10m, workload: low_sm}]")
    slow, quick = World(path), World(path, speed=60)
    assert not slow.at(11).backend.claims().held
    assert quick.at(11).backend.claims().held
    idle, busy = slow.read(0)[2].energy_joules, quick.read(0)[2].energy_joules
    assert idle is not None
    assert idle == pytest.approx(11 * 74, rel=0.02)
    assert busy is not None
    assert idle < busy < 1.2 * idle


def test_a_pause_of_a_month_is_caught_up_with_at_once() -> None:
    world = World("default", "h200-mixed")
    _, full, slow = world.at(30 * 86_400 + 30).read(0)
    assert full.utilization is not None
    assert len(full.utilization) == 71
    assert slow.energy_joules is not None
    assert slow.energy_joules > 0


# Whatever plays, the numbers make sense.


@pytest.mark.parametrize("scenario", scenario_names())
@pytest.mark.parametrize("profile", PROFILES)
def test_a_quarter_of_an_hour_of_sane_readings(profile: str, scenario: str) -> None:
    world = World(scenario, profile, speed=10)
    energy: dict[int, float] = {}
    for second in range(1, 91):
        world.at(second)
        for index, meter in enumerate(world.backend._meters):
            active = meter.segment(second).active
            if "gpu_hung" in active:
                continue
            if not meter.segment(second).reachable:
                with pytest.raises(GpuError):
                    world.readers[index].read_fast()
                energy[index] = 0.0
                continue
            fast, full, slow = world.read(index)
            check_memory(fast)
            check_full(full)
            assert (slow.energy_joules or 0) >= energy.get(index, 0.0)
            energy[index] = slow.energy_joules or 0.0
            assert not fast.failures + full.failures + slow.failures


def check_memory(fast: FastReading) -> None:
    assert fast.memory
    assert fast.processes is not None
    assert len({p.pid for p in fast.processes}) == len(fast.processes)
    for instance, memory in [(None, fast.memory), *fast.instance_memory.items()]:
        reserved = memory.reserved_bytes or 0
        assert memory.used_bytes + memory.free_bytes + reserved == memory.total_bytes
        assert min(memory.used_bytes, memory.free_bytes) >= 0
        held = [
            p.memory_used_bytes or 0 for p in fast.processes if instance in {None, p.gpu_instance}
        ]
        assert sum(held) <= memory.used_bytes
    parts = sum(memory.used_bytes for memory in fast.instance_memory.values())
    assert parts == fast.memory.used_bytes or not fast.instance_memory


def check_full(full: FullReading) -> None:
    ratios = [sample.ratio for sample in full.utilization or ()]
    ratios += [full.memory_busy_ratio or 0.0, *full.engine_utilization_ratio.values()]
    for activity in filter(None, [full.activity, *full.instance_activity.values()]):
        ratios += [*activity.pipe_ratio.values(), activity.sm_ratio or 0.0]
        ratios += [activity.graphics_ratio or 0.0, activity.dram_ratio or 0.0]
        ratios.append(activity.sm_occupancy_ratio or 0.0)
        assert (activity.sm_ratio or 0) <= (activity.graphics_ratio or 0) + 1e-9
    assert all(0 <= ratio <= 1 for ratio in ratios)
    assert full.power_draw_watts is not None
    assert 10 <= full.power_draw_watts <= 705
    assert 20 <= full.temperature_celsius["gpu"] <= 92
    assert all(hertz <= full.gpu.clock_max_hertz[d] for d, hertz in full.clock_hertz.items())


# The driver's manners.


def test_boards_without_the_performance_monitor_give_no_activity() -> None:
    for profile in ("t4", "a100-mig"):
        world = World("steady", profile)
        for index in range(8):
            world.at(1).read(index)
            _, full, slow = world.at(10).read(index)
            assert full.activity is None
            assert not full.instance_activity
            assert slow.temperature_margin_celsius is None


def test_activity_needs_two_reads_and_is_the_mean_between_them() -> None:
    world = World("steady")
    assert world.at(10).read(0)[1].activity is None
    assert world.at(10.05).read(0)[1].activity is None
    activity = world.at(15).read(0)[1].activity
    assert activity
    assert activity.interval_seconds == pytest.approx(5)
    assert activity.sm_ratio == pytest.approx(0.81, abs=0.03)
    assert activity.pipe_ratio["tensor"] == pytest.approx(0.6, abs=0.03)
    assert activity.pcie_receive_bytes == pytest.approx(5 * 0.06 * 63e9)


def test_a_parent_with_mig_gives_less_and_its_instances_give_activity() -> None:
    world = World("steady", "h200-mixed")
    world.at(10).read(6)
    fast, full, slow = world.at(20).read(6)
    assert full.utilization is None
    assert full.memory_busy_ratio is None
    assert not full.engine_utilization_ratio
    assert slow.nvlink_active_links is None
    assert not slow.nvlink_errors
    assert set(full.instance_activity) == set(fast.instance_memory) == {1, 3, 7, 8}
    assert {p.gpu_instance for p in fast.processes or ()} == {1, 3, 7, 8}
    assert full.power_draw_watts is not None


def test_a_gpu_instance_is_shared_by_its_compute_instances() -> None:
    world = World("steady", "a100-mig")
    fast, _, _ = world.at(20).read(6)
    assert len(world.readers[6].gpu.slices) == 4
    assert set(fast.instance_memory) == {1, 2}
    sharing = {p.compute_instance for p in fast.processes or () if p.gpu_instance == 1}
    assert sharing == {0, 1, 2}


def test_a_board_reports_what_it_has() -> None:
    old, new = World("steady", "t4").at(5).read(0), World("steady", "h100").at(5).read(0)
    assert old[2].retired_pages == {"single_bit": 0, "double_bit": 0}
    assert not old[2].remapped_rows
    assert old[2].nvlink_active_links is None
    assert set(old[1].temperature_celsius) == {"gpu"}
    assert not new[2].retired_pages
    assert new[2].remapped_rows == {"correctable": 0, "uncorrectable": 0}
    assert new[2].nvlink_active_links == 18
    assert (new[2].nvlink_receive_bytes or 0) > 0
    assert not new[1].fan_speed_ratio


def test_the_driver_keeps_fourteen_seconds_of_samples() -> None:
    samples = World("steady").at(60).read(0)[1].utilization
    assert samples is not None
    assert len(samples) == 71
    assert samples[-1].timestamp - samples[0].timestamp == pytest.approx(14)


def test_clients_of_mps_are_listed_as_such_beside_their_server(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "gpus: [{gpu: 0, sharing: mps, replicas: 4}]\n"
        "pods: [{pod: a, gpu: 0, spread: 3, workload: inference}]",
    )
    fast, _, _ = World(path).at(5).read(0)
    types = [p.type for p in fast.processes or ()]
    assert types == [ProcessType.COMPUTE, *[ProcessType.MPS] * 3]


def test_low_sm_looks_busy_and_does_nothing(tmp_path: Path) -> None:
    world = World(write(tmp_path, "pods: [{pod: a, gpu: 0, workload: low_sm}]"))
    world.at(10).read(0)
    _, full, _ = world.at(60).read(0)
    assert all(sample.ratio == 1 for sample in full.utilization or ())
    assert full.activity
    assert (full.activity.sm_ratio or 0) < 0.02
    assert (full.power_draw_watts or 0) < 160


def test_a_leak_fills_the_device_and_vanishes_and_comes_back(tmp_path: Path) -> None:
    leak = "{kind: leak, period: 40s, backoff: 20s}"
    world = World(write(tmp_path, f"pods: [{{pod: a, gpu: 0, workload: {leak}}}]"))

    def share(second: float) -> float:
        memory = world.at(second).readers[0].read_fast().memory
        assert memory
        return memory.used_bytes / memory.total_bytes

    assert 0.05 < share(1) < share(20) < share(39.9)
    assert share(39.9) > 0.99
    assert world.readers[0].read_fast().memory == Memory(
        81559 * 2**20, 81080 * 2**20, 0, 479 * 2**20
    )
    first = world.at(39.9).readers[0].read_fast().processes
    assert world.at(41).readers[0].read_fast().processes == ()
    assert len(world.backend.claims().held) == 1
    again = world.at(61).readers[0].read_fast().processes
    assert first
    assert again
    assert first[0].pid != again[0].pid
    assert share(99.9) > 0.99


def test_a_leak_that_is_not_restarted_ends_with_its_claim(tmp_path: Path) -> None:
    world = World(write(tmp_path, "pods: [{pod: a, gpu: 0, workload: {kind: leak, period: 40s}}]"))
    assert world.at(39).backend.claims().held
    assert not world.at(41).backend.claims().held


def test_heat_lowers_clocks_and_is_counted(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "pods: [{pod: a, gpu: 0, workload: training}]\n"
        "faults: [{fault: thermal, gpu: 0, at: 60s, for: 120s},\n"
        " {fault: power_brake, gpu: 0, at: 5m, for: 10s}]",
    )
    world = World(path)
    _, cool, cold = world.at(50).read(0)
    _, hot, _ = world.at(170).read(0)
    assert not cool.clock_event_active["sw_thermal_slowdown"]
    assert hot.clock_event_active["sw_thermal_slowdown"]
    assert hot.clock_event_active["hw_thermal_slowdown"]
    assert hot.clock_event_active["hw_slowdown"]
    assert hot.clock_hertz["sm"] < 0.7 * cool.clock_hertz["sm"]
    assert hot.temperature_celsius["gpu"] > cool.temperature_celsius["gpu"] + 15
    assert cold.clock_event_seconds["sw_thermal_slowdown"] == 0
    _, braked, after = world.at(305).read(0)
    assert braked.clock_event_active["hw_power_brake_slowdown"]
    assert after.clock_event_seconds["sw_thermal_slowdown"] == pytest.approx(120, abs=0.4)


# What the kubelet says.


def test_claims_have_the_device_plugins_forms() -> None:
    world = World("steady", "h200-mixed")
    claims = world.backend.claims()
    by_pod: dict[str, list[str]] = {}
    for claim in claims.held:
        by_pod.setdefault(claim.container.pod, []).append(claim.device_id)
    gpus = world.gpus()
    assert by_pod["llm-train"] == [gpus[0].uuid, gpus[1].uuid]
    assert by_pod["embed-2"] == [f"{gpus[3].uuid}::2"]
    assert by_pod["rerank-1"] == [gpus[5].slices[1].uuid]
    allocatable = claims.allocatable
    assert allocatable is not None
    assert {name: len(ids) for name, ids in allocatable.items()} == {
        "nvidia.com/gpu": 4,
        "nvidia.com/gpu.shared": 4,
        "nvidia.com/mig-1g.18gb": 9,
        "nvidia.com/mig-2g.35gb": 1,
        "nvidia.com/mig-3g.71gb": 3,
    }
    assert all(claim.device_id in allocatable[claim.resource] for claim in claims.held)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_busy_node_has_as_many_pods_as_a_node_may_have(profile: str) -> None:
    world = World("busy-node", profile)
    held = world.backend.claims().held
    assert len({claim.container for claim in held}) == len({c.device_id for c in held}) == 250
    slices = sum(len(gpu.slices) for gpu in world.gpus())
    assert slices == (0 if profile == "t4" else 56)


def test_the_kubelet_can_be_down() -> None:
    world = World("default")
    assert not world.at(60).backend.kubelet_down
    assert world.at(510).backend.kubelet_down
    assert world.at(510).backend.claims().held


def test_containers_show_how_they_run_and_end(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "pods: [{pod: a, gpu: 0, workload: {kind: leak, period: 40s, backoff: 20s}},\n"
        " {pod: b, gpu: 1, workload: {kind: leak, period: 40s, silent: true}},\n"
        " {pod: c, gpu: [2, 3], end: 50s, workload: training},\n"
        " {pod: d, gpu: 4, end: 55s, workload: {kind: host_leak, period: 40s, backoff: 20s}}]",
    )
    world = World(path)

    def states(seconds: float) -> dict[str, ContainerState]:
        containers = world.at(seconds).backend.containers()
        return {state.container.pod: state for state in containers}

    born = WALL + 5000
    fresh = states(10)
    assert [len(fresh[pod].pids) for pod in "abcd"] == [1, 1, 2, 1]
    assert {state.run for state in fresh.values()} == {Run(0, born)}
    assert {state.before for state in fresh.values()} == {None}
    listed = [p.pid for r in world.readers for p in r.read_fast().processes or ()]
    assert sorted(listed) == sorted(pid for state in fresh.values() for pid in state.pids)
    waiting = states(45)
    first = Run(0, born, End(born + 40, 1, "Error", OUT_OF_MEMORY))
    assert (waiting["a"].run, waiting["a"].before, waiting["a"].pids) == (first, None, ())
    assert waiting["d"].run.end == End(born + 40, 137, "OOMKilled")
    assert [waiting[pod].restarts for pod in "abd"] == [True, False, True]
    later = states(70)
    assert (later["a"].run, later["a"].before) == (Run(1, born + 60), first)
    assert later["b"].run.end == End(born + 40, 1, "Error")
    assert later["c"].run.end == End(born + 50, 0, "Completed")
    assert [len(later[pod].pids) for pod in "abc"] == [1, 0, 0]
    assert "d" not in later  # deleted while it waited


def test_a_pod_that_goes_as_a_run_would_begin_has_no_run_more(tmp_path: Path) -> None:
    leak = "{kind: leak, period: 40s, backoff: 20s}"
    path = write(
        tmp_path,
        f"pods: [{{pod: a, gpu: 0, end: 120s, workload: {leak}}},\n"
        f" {{pod: b, gpu: 1, end: 130s, workload: {leak}}}]",
    )
    [b] = World(path).at(140).backend.containers()
    assert (b.run.number, b.run.end) == (2, End(WALL + 5130, 0, "Completed"))


def test_times_stay_the_same_whenever_one_looks(tmp_path: Path) -> None:
    path = write(tmp_path, "pods: [{pod: a, gpu: 0, workload: {kind: leak, period: 40s}}]")
    world = World(path, speed=7)
    [before] = world.at(10 / 7).backend.containers()
    [after] = world.at(30 / 7).backend.containers()
    assert before == after
