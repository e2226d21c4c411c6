"""Ends, readings, claims and XIDs as they come in: each end gets its verdict once."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model.clocks import UnixSeconds
from exporter.model.oom import Confidence
from exporter.model.readings import EndedProcess, XidEvent
from tests.doubles.scripted import GIB, MIG_GPU, gpu, mig_slice
from tests.doubles.terminations import (
    BOARD,
    END,
    LIKELY,
    NONE_YET,
    NOTHING,
    OTHER,
    POSSIBLE,
    SLICE,
    TRAIN,
    WORDS,
    Node,
    ended,
    held,
)


def test_counters_stand_at_zero_for_what_is_held_and_go_some_time_after_it() -> None:
    node = Node()
    assert node.judge.totals(TRAIN, gpu(0).uuid) is None
    node.hold([held(), held(on=1)])
    assert node.events() == node.events(uuid=gpu(1).uuid) == NONE_YET
    assert node.judge.host_kills == {TRAIN: 0}
    node.hold([held(on=1)], END)
    node.step(END + 240)
    assert node.events() == NONE_YET
    node.step(END + 241)
    assert node.judge.totals(TRAIN, gpu(0).uuid) is None
    assert node.events(uuid=gpu(1).uuid) == NONE_YET
    node.hold([], END + 300)
    node.step(END + 541)
    assert node.judge.totals(TRAIN, gpu(1).uuid) is None
    assert node.judge.host_kills == {}


def test_a_gradual_fill_is_seen_a_minute_later() -> None:
    node = Node()
    node.hold([held()])
    node.read(1, 1, 30, 65, 99.2)
    node.read(0, 0, 0, until=END + 60)
    node.judge.terminated(ended(1))
    (verdict,) = node.step(END + 61)
    assert (verdict.confidence, verdict.rule) == (LIKELY, "filled_up")
    assert verdict.peak_bytes == round(BOARD * 0.992)
    assert node.events() == NONE_YET | {"likely": 1}
    assert node.last().termination.finished_at == END
    assert node.step(END + 62) == ()


def test_an_end_is_judged_once_its_last_readings_are_in() -> None:
    node = Node()
    node.hold([held()])
    node.judge.terminated(ended(1))
    assert node.step(END + 1) == ()
    node.read(0, 50, 99, until=END + 1)
    assert len(node.step(END + 3)) == 1


def test_the_same_end_counts_once_over_relists_and_replays() -> None:
    node = Node()
    node.hold([held()])
    for hour in range(48):
        node.judge.terminated(ended(1, WORDS))
        node.judge.terminated(ended(1, WORDS))
        node.step(END + 5 + hour * 600)
    assert node.events() == NONE_YET | {"confirmed": 1}


def test_runs_of_one_restart_count_are_told_apart_by_their_ends() -> None:
    node = Node()
    node.hold([held()])
    for finished_at in (END, END + 60):
        node.judge.terminated(ended(1, WORDS, finished_at=finished_at))
        assert len(node.step(finished_at + 5)) == 1
    node.judge.terminated(ended(1, WORDS, finished_at=END + 60, restart_count=1))
    assert len(node.step(END + 70)) == 1
    assert node.events() == NONE_YET | {"confirmed": 3}


def test_an_end_that_an_earlier_program_may_have_counted_is_left_alone() -> None:
    node = Node(since=END + 60)
    node.hold([held()])
    node.judge.terminated(ended(1, WORDS))
    assert node.step(END + 61) == ()
    node.judge.terminated(ended(1, WORDS, restart_count=1, finished_at=END + 70))
    assert len(node.step(END + 75)) == 1


def test_the_kubelet_may_name_the_holder_after_its_end() -> None:
    node = Node()
    node.judge.terminated(ended(1, WORDS))
    assert node.step(END + 5) == ()
    node.hold([held()])
    assert len(node.step(END + 10)) == 1


def test_containers_without_a_gpu_are_forgotten() -> None:
    node = Node()
    node.judge.terminated(ended(137, NOTHING, "OOMKilled"))
    node.step(END + 200)
    node.hold([held()])
    node.step(END + 201)
    assert node.judge.host_kills == {TRAIN: 0}


def test_host_memory_is_counted_apart_and_once_for_all_devices() -> None:
    node = Node()
    node.hold([held(), held(on=1)])
    node.read(0, 50, 99)
    for _ in range(2):
        node.judge.terminated(ended(137, NOTHING, "OOMKilled"))
        assert node.step(END + 5) == ()
    assert node.judge.host_kills == {TRAIN: 1}
    assert node.events() == NONE_YET


@pytest.mark.parametrize(("at", "counts"), [(-40, 1), (-25, 0), (-1, 0), (0.4, 0), (10, 1)])
def test_an_xid_speaks_against_it_within_the_window_only(at: float, counts: int) -> None:
    node = Node()
    node.hold([held()])
    node.read(0, 50, 99)
    node.judge.xid(XidEvent(gpu(0).uuid, UnixSeconds(END + at), 31))
    node.judge.xid(XidEvent(gpu(1).uuid, UnixSeconds(END), 31))
    node.judge.terminated(ended(1))
    assert len(node.step(END + 15)) == counts


def test_a_crash_loop_is_not_blamed_for_the_run_before() -> None:
    node = Node()
    node.hold([held()])
    node.read(0, 50, 99, until=END - 9)
    node.read(0, 0, 1, 1, 1)
    first = ended(1, finished_at=END - 10.0)
    second = ended(1, restart_count=1, started_at=END - 10.0)
    node.judge.terminated(second)
    node.judge.terminated(first)
    (verdict,) = node.step(END + 5)
    assert verdict.termination == first


def test_a_shared_gpu_that_the_neighbour_filled() -> None:
    node = Node()
    node.hold([held(), held(OTHER)])
    node.read(99, 99.5, holders={OTHER: 78 * GIB, TRAIN: 1 * GIB})
    node.judge.terminated(ended(1, WORDS))
    (verdict,) = node.step(END + 5)
    assert verdict.cotenant_bytes == {OTHER: 78 * GIB}
    assert node.events() == NONE_YET | {"confirmed": 1}
    assert node.events(OTHER) == NONE_YET


def test_slices_of_one_gpu_instance_fill_together() -> None:
    first, second = mig_slice(1, 20), mig_slice(1, 20, compute=1)
    board = replace(MIG_GPU, slices=(first, second))
    node = Node()
    node.hold([replace(held(part=second), gpu=board)])
    node.read(0, 40, 98, uuid=first.uuid, total=SLICE)
    node.judge.terminated(ended(1))
    (verdict,) = node.step(END + 5)
    assert (verdict.device_uuid, verdict.limit_bytes) == (second.uuid, SLICE)
    assert node.events(uuid=second.uuid) == NONE_YET | {"likely": 1}


def test_an_xid_of_the_board_speaks_against_its_slices() -> None:
    part = mig_slice(1, 40)
    node = Node()
    node.hold([held(part=part)])
    node.read(0, 40, 98, uuid=part.uuid, total=SLICE)
    node.judge.xid(XidEvent(MIG_GPU.uuid, UnixSeconds(END - 1), 31))
    node.judge.terminated(ended(1))
    assert node.step(END + 5) == ()


@pytest.mark.parametrize(
    ("started", "ended_by", "verdict"),
    [
        (END - 5, END + 1, LIKELY),
        (END - 3000, END + 1, POSSIBLE),
        (END - 3000, END - 300, None),
        (END - 3700, END - 3600, None),
        (END - 5, END + 4, LIKELY),
        (END + 3, END + 4, None),
    ],
    ids=[
        "it rose within the window",
        "a peak of any time",
        "an earlier process",
        "a process of the run before",
        "told a little late",
        "a process of the next run",
    ],
)
def test_the_peak_that_the_driver_kept(
    started: float, ended_by: float, verdict: Confidence | None
) -> None:
    node = Node()
    node.hold([held()])
    node.read(0, 1, 1)
    node.judge.process_ended(TRAIN, gpu(0).uuid, process(97, started), UnixSeconds(ended_by))
    node.judge.process_ended(OTHER, gpu(0).uuid, process(100, END - 5), UnixSeconds(END))
    node.judge.terminated(ended(1))
    verdicts = node.step(END + 5)
    assert [each.confidence for each in verdicts] == ([verdict] if verdict else [])


def process(percent: float, started: float) -> EndedProcess:
    return EndedProcess(7, UnixSeconds(started), round(BOARD * percent / 100))


def test_the_run_before_in_the_window_keeps_its_peak_to_itself() -> None:
    node = Node()
    node.hold([held()])
    node.read(0, 1, 1)
    node.judge.process_ended(TRAIN, gpu(0).uuid, process(97, END - 20), UnixSeconds(END - 10))
    node.judge.terminated(ended(1, restart_count=1, started_at=END - 8))
    assert node.step(END + 5) == ()


def test_nothing_piles_up() -> None:
    node = Node()
    node.hold([held()])
    for second in range(0, 20_000, 10):
        now = END + second
        for part in range(20):
            node.judge.xid(XidEvent(gpu(0).uuid, UnixSeconds(now + part / 20), 31))
        node.judge.process_ended(TRAIN, gpu(0).uuid, process(1, now - 5), UnixSeconds(now))
        node.hold([held(on=second % 20)], now, uid=str(second))
        for container in (TRAIN, OTHER):
            node.judge.terminated(
                ended(1, container=container, restart_count=second, finished_at=now)
            )
        node.step(now + 5)
    assert len(node.judge._evidence._xids) <= 25
    assert len(node.judge._evidence._processes) <= 25
    assert len(node.judge._tenures._by_container[TRAIN]) <= 26
    assert len(node.judge._counts) <= 20
    assert len(node.judge._waiting) <= 20
    assert len(node.judge._judged) <= 361


def test_the_latest_end_is_the_last_whatever_came_first() -> None:
    node = Node()
    node.hold([held()])
    for restarts in (1, 0):
        node.judge.terminated(
            ended(1, WORDS, restart_count=restarts, finished_at=END + 10 * restarts)
        )
        node.step(END + 20)
    assert node.events() == NONE_YET | {"confirmed": 2}
    assert node.last().termination.restart_count == 1


@given(told=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 200)), max_size=40))
def test_one_event_for_each_end_in_whatever_order_they_are_told(
    told: list[tuple[int, int]],
) -> None:
    node = Node()
    node.hold([held()])
    now = END + 100
    for restarts, passed in told:
        now += passed
        node.judge.terminated(
            ended(1, WORDS, restart_count=restarts, finished_at=END + 10 * restarts)
        )
        node.step(now)
    # An hour is how late an end may first be told.
    latest, now = set(), END + 100
    for restarts, passed in told:
        now += passed
        if now - (END + 10 * restarts) <= 3600:
            latest.add(restarts)
    assert node.events() == NONE_YET | {"confirmed": len(latest)}
