"""The simulated node keeps the driver's manners, and gives the same numbers to whoever asks."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.gpus import GpuError
from exporter.gpus.simulated import PROFILES, SimulatedBackend, scenario_names
from exporter.gpus.simulated.reader import SimulatedReader
from exporter.model.readings import (
    FastReading,
    FullReading,
    GpuChanged,
    Memory,
    ProcessType,
    Reason,
    SlowReading,
    XidEvent,
)

WALL = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = 5000.0

    def __call__(self) -> float:
        return self.now


class World:
    """A simulated node with its clock in our hands."""

    def __init__(
        self, scenario: str | Path, profile: str = "h100", speed: float = 1, seed: int = 0
    ) -> None:
        self.clock = Clock()
        self.backend = SimulatedBackend(
            profile=profile,
            scenario=scenario,
            seed=seed,
            speed=speed,
            clock=self.clock,
            wall=lambda: WALL + self.clock.now,
        )
        self.driver = self.backend.open()
        self.readers = self.backend.readers()

    def at(self, seconds: float) -> "World":
        """Go to ``seconds`` after the start, in real time."""
        self.clock.now = 5000.0 + seconds
        return self

    def read(self, index: int) -> tuple[FastReading, FullReading, SlowReading]:
        reader = self.readers[index]
        return reader.read_fast(), reader.read_full(), reader.read_slow()


@pytest.fixture
def write(tmp_path: Path) -> "Writer":
    return Writer(tmp_path / "scenario.yaml")


class Writer:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, text: str) -> Path:
        self._path.write_text(text)
        return self._path


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
        # What tells of the time since the last read depends on when that was.
        since = {"activity": None, "instance_activity": {}, "utilization": None}
        assert replace(full, **since) == replace(full_once, **since)  # type: ignore[arg-type]


def test_the_same_seed_gives_the_same_node_and_another_seed_another() -> None:
    def uuids(seed: int) -> list[str]:
        gpus = [reader.gpu for reader in World("steady", "a100-mig", seed=seed).readers]
        return [g.uuid for g in gpus] + [s.uuid for g in gpus for s in g.slices]

    assert uuids(1) == uuids(1)
    assert not set(uuids(1)) & set(uuids(2))
    assert len(set(uuids(1))) == len(uuids(1)) == 8 + 7 + 4 + 4 + 1


def test_an_interval_is_told_once_whatever_the_reads() -> None:
    world = World("steady")
    told = [s for tick in range(1, 60) for s in world.at(0.7 * tick).read(0)[1].utilization or ()]
    assert [round(s.timestamp * 5) for s in told] == list(range(20_000, 20_000 + len(told)))


def test_speed_moves_the_timeline_and_not_the_physics(write: Writer) -> None:
    path = write("pods: [{pod: a, gpu: 0, start: 10m, workload: low_sm}]")
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
        world.backend.wait_events(0) if not down(world) else None
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


def down(world: World) -> bool:
    return bool(world.backend.node.active("driver_unloaded", world.backend.scenario_seconds))


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


def test_a_board_tells_what_it_has() -> None:
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


def test_clients_of_mps_are_listed_as_such_beside_their_server(write: Writer) -> None:
    path = write(
        "gpus: [{gpu: 0, sharing: mps, replicas: 4}]\n"
        "pods: [{pod: a, gpu: 0, spread: 3, workload: inference}]"
    )
    fast, _, _ = World(path).at(5).read(0)
    types = [p.type for p in fast.processes or ()]
    assert types == [ProcessType.COMPUTE, *[ProcessType.MPS] * 3]


def test_low_sm_looks_busy_and_does_nothing(write: Writer) -> None:
    world = World(write("pods: [{pod: a, gpu: 0, workload: low_sm}]"))
    world.at(10).read(0)
    _, full, _ = world.at(60).read(0)
    assert all(sample.ratio == 1 for sample in full.utilization or ())
    assert full.activity
    assert (full.activity.sm_ratio or 0) < 0.02
    assert (full.power_draw_watts or 0) < 160


def test_a_leak_fills_the_device_and_vanishes_and_comes_back(write: Writer) -> None:
    leak = "{kind: leak, period: 40s, backoff: 20s}"
    world = World(write(f"pods: [{{pod: a, gpu: 0, workload: {leak}}}]"))

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


def test_a_leak_that_is_not_restarted_ends_with_its_claim(write: Writer) -> None:
    world = World(write("pods: [{pod: a, gpu: 0, workload: {kind: leak, period: 40s}}]"))
    assert world.at(39).backend.claims().held
    assert not world.at(41).backend.claims().held


def test_heat_lowers_clocks_and_is_counted(write: Writer) -> None:
    path = write(
        "pods: [{pod: a, gpu: 0, workload: training}]\n"
        "faults: [{fault: thermal, gpu: 0, at: 60s, for: 120s},\n"
        " {fault: power_brake, gpu: 0, at: 5m, for: 10s}]"
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


# What goes wrong.


def test_a_hung_gpu_blocks_its_reads_and_no_others_until_it_answers(write: Writer) -> None:
    world = World(write("faults: [{fault: gpu_hung, gpu: 0, at: 10s, for: 30s}]"))
    answers: list[SlowReading] = []
    world.at(15)
    thread = threading.Thread(target=lambda: answers.append(world.readers[0].read_slow()))
    thread.start()
    world.readers[1].read_slow()
    thread.join(0.1)
    assert thread.is_alive()
    assert not answers
    world.at(40)
    thread.join(10)
    assert len(answers) == 1


def test_a_lost_gpu_fails_with_xid_79_and_starts_anew_when_back(write: Writer) -> None:
    world = World(write("faults: [{fault: gpu_lost, gpu: 2, at: 100s, for: 50s}]"))
    before = world.at(99).read(2)[2].energy_joules
    uuid = world.readers[2].gpu.uuid
    assert world.at(101).backend.wait_events(0) == [XidEvent(uuid, WALL + 5100, 79)]
    for read in (world.readers[2].read_fast, world.readers[2].read_full):
        with pytest.raises(GpuError, match="fallen off the bus") as raised:
            read()
        assert raised.value.reason is Reason.GPU_LOST
    world.read(1)
    assert [r.gpu.index for r in world.backend.readers()] == [0, 1, 3, 4, 5, 6, 7]
    allocatable = world.backend.claims().allocatable
    assert allocatable
    assert uuid not in allocatable["nvidia.com/gpu"]
    after = world.at(160).read(2)[2].energy_joules
    assert before is not None
    assert after is not None
    assert 0 < after < before / 5
    assert len(world.backend.readers()) == 8


def test_an_unloaded_driver_fails_everything_and_may_come_back_newer(write: Writer) -> None:
    path = write(
        "faults: [{fault: driver_unloaded, at: 10s, for: 20s, version: 600.1}]".replace(
            "600.1", "'600.1'"
        )
    )
    world = World(path)
    calls = (
        world.backend.open,
        world.backend.readers,
        world.readers[0].read_full,
        lambda: world.backend.wait_events(0),
    )
    world.at(15)
    for call in calls:
        with pytest.raises(GpuError) as raised:
            call()  # type: ignore[operator]
        assert raised.value.reason is Reason.DRIVER_NOT_LOADED
    world.backend.close()
    assert world.at(31).backend.open() == replace(world.driver, version="600.1")
    assert len(world.backend.readers()) == 8


def test_readers_of_a_closed_session_fail() -> None:
    world = World("steady")
    world.backend.close()
    world.backend.close()
    with pytest.raises(GpuError):
        world.readers[0].read_fast()
    with pytest.raises(GpuError):
        world.backend.readers()


def test_mig_can_be_cut_anew_and_back(write: Writer) -> None:
    path = write(
        "faults: [{fault: mig_reconfigure, gpu: 5, at: 10s, for: 10s, slices: [3g, 3g]}]\n"
        "pods: [{pod: a, gpu: 5, slice: 1, end: 10s, workload: inference},\n"
        " {pod: b, gpu: 5, slice: 1, start: 10s, end: 20s, workload: inference}]"
    )
    world = World(path, "h200-mixed")
    first = world.at(5).read(5)[1].gpu
    second = world.at(15).read(5)[1].gpu
    third = world.at(25).read(5)[1].gpu
    assert first == third != second
    assert [s.profile for s in second.slices] == ["3g.71gb", "3g.71gb"]
    changed = GpuChanged(first.uuid)
    assert world.backend.wait_events(0) == [changed, changed]
    assert world.readers[5].gpu == third


def test_memory_errors_add_up_over_repeats(write: Writer) -> None:
    path = write(
        "repeat: 60s\n"
        "faults: [{fault: ecc_corrected, gpu: 0, at: 10s, count: 5, location: sram},\n"
        " {fault: ecc_uncorrected, gpu: 0, at: 20s},\n"
        " {fault: row_remap, gpu: 0, at: 20s, for: 10s},\n"
        " {fault: row_remap_failed, gpu: 1, at: 20s},\n"
        " {fault: nvlink_errors, gpu: 0, at: 30s, count: 3, error: recovery},\n"
        " {fault: recovery_action, gpu: 0, at: 30s, for: 5s, action: reset},\n"
        " {fault: pcie_degraded, gpu: 0, at: 40s, for: 10s},\n"
        " {fault: xid, gpu: 0, at: 20s, code: 48}]"
    )
    world = World(path)
    slow = world.at(25).read(0)[2]
    assert slow.ecc_errors["corrected", "sram"] == 5
    assert slow.ecc_errors["uncorrected", "dram"] == 1
    assert slow.remapped_rows["uncorrectable"] == 1
    assert slow.row_remap_pending
    assert world.read(1)[2].row_remap_failed
    slow = world.at(45).read(0)[2]
    assert not slow.row_remap_pending
    assert (slow.pcie_link_generation, slow.pcie_link_width) == (1, 4)
    assert (slow.pcie_replays or 0) > 0
    assert slow.nvlink_errors["recovery"] == 3
    assert world.at(92).read(0)[2].recovery_action == "reset"
    slow = world.at(145).read(0)[2]
    assert slow.ecc_errors["corrected", "sram"] == 15
    assert [e.xid for e in world.backend.wait_events(0) if isinstance(e, XidEvent)] == [48] * 3


# Events.


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(0.1, 150), min_size=1, max_size=10).map(sorted),
    st.sampled_from([1.0, 7.5, 60.0]),
)
def test_each_xid_is_told_exactly_once(seconds: list[float], speed: float) -> None:
    world = World("default", "t4", speed=speed)
    told: list[XidEvent] = []
    for moment in seconds:
        world.at(moment)
        if not down(world):
            told += [e for e in world.backend.wait_events(0) if isinstance(e, XidEvent)]
    upto = world.backend._told
    assert [(e.gpu_uuid, e.xid) for e in told] == [
        (h.gpu.uuid, h.xid) for h in world.backend.node.happenings(-1, upto) if h.xid
    ]
    assert [e.timestamp for e in told] == sorted(e.timestamp for e in told)


def test_events_from_before_the_driver_was_opened_are_not_told(write: Writer) -> None:
    world = World(write("faults: [{fault: xid, gpu: 0, at: 10s, code: 31}]"))
    world.backend.close()
    world.at(11).backend.open()
    assert not world.at(20).backend.wait_events(0)


def test_waiting_ends_when_another_thread_closes() -> None:
    world = World("steady")
    told: list[object] = []
    thread = threading.Thread(target=lambda: told.append(world.backend.wait_events(600)))
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    world.backend.close()
    thread.join(10)
    assert told == [[]]


# What the kubelet says.


def test_claims_have_the_device_plugins_forms() -> None:
    world = World("steady", "h200-mixed")
    claims = world.backend.claims()
    by_pod: dict[str, list[str]] = {}
    for claim in claims.held:
        by_pod.setdefault(claim.container.pod, []).append(claim.device_id)
    gpus = [reader.gpu for reader in world.readers]
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
    slices = sum(len(reader.gpu.slices) for reader in world.readers)
    assert slices == (0 if profile == "t4" else 56)


def test_the_kubelet_can_be_down() -> None:
    world = World("default")
    assert not world.at(60).backend.kubelet_down
    assert world.at(510).backend.kubelet_down
    assert world.at(510).backend.claims().held


def test_the_reader_is_a_reader() -> None:
    assert isinstance(World("steady").readers[0], SimulatedReader)
