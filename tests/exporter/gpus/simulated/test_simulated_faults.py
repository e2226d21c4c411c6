"""What goes wrong on the simulated node does so as with the real driver, and is reported once."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.gpus import GpuError
from exporter.model.clocks import UnixSeconds
from exporter.model.readings import GpuChanged, Reason, SlowReading, XidEvent
from tests.doubles.simulation import WALL, World, write


def test_a_hung_gpu_blocks_its_reads_and_no_others_until_it_answers(tmp_path: Path) -> None:
    world = World(write(tmp_path, "faults: [{fault: gpu_hung, gpu: 0, at: 10s, for: 30s}]"))
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


def test_a_lost_gpu_fails_with_xid_79_and_starts_anew_when_back(tmp_path: Path) -> None:
    world = World(write(tmp_path, "faults: [{fault: gpu_lost, gpu: 2, at: 100s, for: 50s}]"))
    before = world.at(99).read(2)[2].energy_joules
    uuid = world.readers[2].gpu.uuid
    assert world.at(101).events() == [XidEvent(uuid, UnixSeconds(WALL + 5100), 79)]
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


def test_an_unloaded_driver_fails_everything_and_may_come_back_newer(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "faults: [{fault: driver_unloaded, at: 10s, for: 20s, version: 600.1}]".replace(
            "600.1", "'600.1'"
        ),
    )
    world = World(path)
    calls = (
        world.backend.open,
        world.backend.readers,
        world.readers[0].read_full,
        world.events,
    )
    world.at(15)
    for call in calls:
        with pytest.raises(GpuError) as raised:
            call()
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


def test_mig_can_be_cut_anew_and_back(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "faults: [{fault: mig_reconfigure, gpu: 5, at: 10s, for: 10s, slices: [3g, 3g]}]\n"
        "pods: [{pod: a, gpu: 5, slice: 1, end: 10s, workload: inference},\n"
        " {pod: b, gpu: 5, slice: 1, start: 10s, end: 20s, workload: inference}]",
    )
    world = World(path, "h200-mixed")
    first = world.at(5).read(5)[1].gpu
    second = world.at(15).read(5)[1].gpu
    third = world.at(25).read(5)[1].gpu
    assert first == third != second
    assert [s.profile for s in second.slices] == ["3g.71gb", "3g.71gb"]
    changed = GpuChanged(first.uuid)
    assert world.events() == [changed, changed]
    assert world.readers[5].gpu == third


def test_memory_errors_add_up_over_repeats(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "repeat: 60s\n"
        "faults: [{fault: ecc_corrected, gpu: 0, at: 10s, count: 5, location: sram},\n"
        " {fault: ecc_uncorrected, gpu: 0, at: 20s},\n"
        " {fault: row_remap, gpu: 0, at: 20s, for: 10s},\n"
        " {fault: row_remap_failed, gpu: 1, at: 20s},\n"
        " {fault: nvlink_errors, gpu: 0, at: 30s, count: 3, error: recovery},\n"
        " {fault: recovery_action, gpu: 0, at: 30s, for: 5s, action: reset},\n"
        " {fault: pcie_degraded, gpu: 0, at: 40s, for: 10s},\n"
        " {fault: xid, gpu: 0, at: 20s, code: 48}]",
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
    assert [e.xid for e in world.events() if isinstance(e, XidEvent)] == [48] * 3


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(0.1, 150), min_size=1, max_size=10).map(sorted),
    st.sampled_from([1.0, 7.5, 60.0]),
)
def test_each_xid_is_reported_exactly_once(seconds: list[float], speed: float) -> None:
    world = World("default", "t4", speed=speed)
    reported: list[XidEvent] = []
    upto = -1.0
    for moment in seconds:
        world.at(moment)
        if not world.driver_is_down:
            reported += [e for e in world.events() if isinstance(e, XidEvent)]
        upto = world.backend.scenario_seconds if not world.driver_is_down else upto
    assert sorted((e.timestamp, e.gpu_uuid, e.xid) for e in reported) == sorted(
        (UnixSeconds(WALL + 5000.0 + h.at / speed), h.gpu.uuid, h.xid)
        for h in world.backend.node.happenings(-1, upto)
        if h.xid
    )
    assert [e.timestamp for e in reported] == sorted(e.timestamp for e in reported)


def test_events_from_before_the_driver_was_opened_are_not_reported(tmp_path: Path) -> None:
    world = World(write(tmp_path, "faults: [{fault: xid, gpu: 0, at: 10s, code: 31}]"))
    world.backend.close()
    world.at(11).backend.open()
    world.readers = world.backend.readers()
    assert not world.at(20).events()


def test_waiting_ends_when_another_thread_closes() -> None:
    world = World("steady")
    reported: list[object] = []
    thread = threading.Thread(target=lambda: reported.append(world.readers[0].wait_events(600)))
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    world.backend.close()
    thread.join(10)
    assert reported == [[]]
