"""Ends that are told late, and pods that come, go, and come back: whose end was it."""

import pytest

from exporter.model.clocks import UnixSeconds
from exporter.model.readings import XidEvent
from tests.doubles.scripted import gpu
from tests.doubles.terminations import END, LIKELY, NONE_YET, TRAIN, WORDS, Node, ended, held

MOVED = held(on=1)


def test_an_end_that_is_told_long_after_the_claims_are_gone() -> None:
    node = Node()
    node.hold([held()], uid="uid-train")
    node.read(0, 50, 99.2)
    node.hold([], END + 3)
    node.step(END + 160)
    node.judge.terminated(ended(1))
    (verdict,) = node.step(END + 170)
    assert (verdict.confidence, verdict.device_uuid) == (LIKELY, gpu(0).uuid)
    # It stays to be scraped, and then goes like any other.
    node.step(END + 170 + 240)
    assert node.events() == NONE_YET | {"likely": 1}
    node.step(END + 170 + 241)
    assert node.judge.totals(TRAIN, gpu(0).uuid) is None


def test_an_xid_speaks_against_it_however_late_the_end_is_told() -> None:
    node = Node()
    node.hold([held()])
    node.read(0, 50, 99.2)
    node.judge.xid(XidEvent(gpu(0).uuid, UnixSeconds(END - 20), 31))
    node.step(END + 170)
    node.judge.terminated(ended(1))
    assert node.step(END + 175) == ()


@pytest.mark.parametrize(
    ("uid", "at", "device_uuid"),
    [("first", END, gpu(0).uuid), ("second", END + 60, gpu(1).uuid)],
)
@pytest.mark.parametrize("known", [True, False], ids=["its uid is known", "by time alone"])
def test_a_pod_that_came_back_on_another_gpu_has_ends_of_its_own(
    uid: str, at: float, device_uuid: str, *, known: bool
) -> None:
    node = Node()
    node.hold([held()], uid="first" if known else None)
    node.hold([MOVED], END + 10, uid="second" if known else None)
    node.judge.terminated(ended(1, WORDS, pod_uid=uid, finished_at=at))
    (verdict,) = node.step(END + 70)
    assert verdict.device_uuid == device_uuid
    other = gpu(1).uuid if device_uuid == gpu(0).uuid else gpu(0).uuid
    assert node.events(uuid=other) == NONE_YET


def test_an_end_before_its_claims_were_seen_is_not_the_earlier_pods() -> None:
    node = Node()
    node.hold([held()], uid="first")
    node.judge.terminated(ended(1, WORDS, pod_uid="second"))
    assert node.step(END + 5) == ()
    node.hold([], END + 6)
    assert node.step(END + 35) == ()
    node.hold([MOVED], END + 40, uid="second")
    (verdict,) = node.step(END + 41)
    assert verdict.device_uuid == gpu(1).uuid
    assert node.events() == NONE_YET


def test_a_pod_of_the_same_name_on_the_same_gpu_needs_no_new_claims() -> None:
    node = Node()
    node.hold([held()], uid="first")
    node.hold([held()], END - 300)  # the pod is not known for a while
    node.judge.terminated(ended(1, WORDS, pod_uid="second"))
    assert node.step(END + 60) == ()
    assert len(node.step(END + 61)) == 1


def test_of_a_pod_that_took_anothers_place_the_claims_may_be_gone_by_then() -> None:
    node = Node()
    node.hold([held()], uid="first")
    node.judge.terminated(ended(1, WORDS, pod_uid="second"))
    node.hold([], END + 20)
    (verdict,) = node.step(END + 61)
    assert verdict.device_uuid == gpu(0).uuid


@pytest.mark.parametrize("claims_gone", [True, False])
@pytest.mark.parametrize("first", ["first", None])
def test_a_pod_that_was_created_again_on_the_same_gpu_has_ends_of_its_own(
    first: str | None, *, claims_gone: bool
) -> None:
    node = Node()
    node.hold([held()], END - 7200, uid=first)
    node.hold([held()], END - 3600, uid="second")
    node.judge.terminated(ended(1, WORDS, pod_uid="second"))
    node.hold([] if claims_gone else [held()], END + 2, uid="second")
    (found,) = node.judge.step(UnixSeconds(END + 3))
    assert found.allocations == (held(),)
    assert node.events() == NONE_YET | {"confirmed": 1}


@pytest.mark.parametrize(
    "at", [END - 20, END + 10], ids=["held until before", "held from after it"]
)
def test_a_namesake_that_never_held_a_gpu_is_not_judged_by_anothers(at: float) -> None:
    node = Node()
    node.read(*range(50, 100))
    if at < END:
        node.hold([held()], uid="second")
        node.hold([], at)
    else:
        node.hold([held()], at, uid="second")
    node.judge.terminated(ended(1, pod_uid="first"))
    assert [node.step(END + seconds) for seconds in (5, 61, 181)] == [(), (), ()]
    assert node.events() == NONE_YET


def test_claims_that_came_long_after_the_end_of_a_pod_nobody_knew_are_not_its_own() -> None:
    node = Node()
    node.hold([held()], END + 61)
    node.judge.terminated(ended(1, WORDS))
    assert node.step(END + 62) == ()
    node = Node()
    node.hold([held()], END + 59)
    node.judge.terminated(ended(1, WORDS))
    assert len(node.step(END + 62)) == 1


def test_a_pod_on_two_gpus_is_judged_by_both() -> None:
    node = Node()
    node.hold([held(), MOVED], uid="uid-train")
    node.read(1, 1, 1)
    node.read(1, 50, 99, uuid=gpu(1).uuid)
    node.judge.terminated(ended(1))
    (found,) = node.judge.step(UnixSeconds(END + 5))
    assert found.allocations == (held(), MOVED)
    assert found.verdict.oom is not None
    assert found.verdict.oom.device_uuid == gpu(1).uuid
