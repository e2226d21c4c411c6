"""Events: each GPU is heard on a thread of its own, and `events` is up only where XIDs are."""

import logging

import pytest

from exporter.gpus import GpuError
from exporter.model.clocks import UnixSeconds
from exporter.model.readings import GpuChanged, Reason, XidEvent
from exporter.model.snapshot import GpuSample, GpuState, SourceHealth
from tests.doubles.scripted import Harness, gpu


def sample(harness: Harness, index: int) -> GpuSample:
    return harness.sampler.snapshot.gpus[index]


def health(harness: Harness) -> SourceHealth | None:
    return next((s for s in harness.sampler.snapshot.sources if s.name == "events"), None)


def failures(harness: Harness) -> dict[str, int]:
    said = health(harness)
    assert said is not None
    return {reason: count for reason, count in said.failures.items() if count}


def test_the_source_is_up_once_a_wait_has_succeeded() -> None:
    harness = Harness()
    assert health(harness) is None
    harness.run(6)
    said = health(harness)
    assert said is not None
    assert said.up


def test_a_storm_of_xids_is_counted_and_neither_logged_nor_read_each_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    harness = Harness()
    harness.run(2)
    harness.backend.gpus[0].reads.clear()
    for _ in range(30):
        harness.backend.gpus[0].events = [XidEvent(gpu(0).uuid, UnixSeconds(5.0), 31)] * 100
        harness.run(1)
    assert sample(harness, 0).xids[31].count == 3000
    assert len([r for r in caplog.records if "XID" in r.message]) == 1
    assert harness.backend.gpus[0].reads.count("slow") <= 7


def test_events_bring_rare_reads_forward() -> None:
    harness = Harness()
    harness.run(7)
    harness.backend.gpus[0].reads.clear()
    harness.backend.gpus[0].events = [
        GpuChanged(gpu(0).uuid),
        XidEvent("GPU-unknown", UnixSeconds(1.0), 31),
    ]
    harness.run(1)
    assert harness.backend.gpus[0].reads == ["full", "fast", "slow"]


def test_events_that_say_the_driver_is_gone_end_the_session() -> None:
    harness = Harness()
    harness.run(2)
    harness.backend.gpus[0].event_error = GpuError(Reason.LIBRARY_MISMATCH, "library mismatch")
    harness.run(1)
    assert failures(harness) == {"library_mismatch": 1}
    assert not harness.sampler.snapshot.sources[0].up
    harness.backend.gpus[0].event_error = None
    harness.run(6)
    assert harness.backend.opened == 2
    assert sample(harness, 0).data is not None


def test_without_events_gpus_are_read_all_the_same_and_events_tried_again() -> None:
    harness = Harness()
    harness.backend.gpus[0].event_error = GpuError(Reason.NO_PERMISSION, "not permitted")
    harness.run(31)
    assert sample(harness, 0).data is not None
    assert 5 <= failures(harness)["no_permission"] <= 7
    said = health(harness)
    assert said is not None
    assert (said.up, said.message) == (False, "GPU 0: not permitted")
    harness.backend.gpus[0].event_error = None
    harness.backend.gpus[0].events = [XidEvent(gpu(0).uuid, UnixSeconds(5.0), 31)]
    harness.run(7)
    assert sample(harness, 0).xids[31].count == 1


def test_where_no_gpu_reports_events_there_is_no_such_source() -> None:
    harness = Harness()
    for reader in harness.backend.gpus:
        reader.event_error = GpuError(Reason.NOT_SUPPORTED, "no events")
    harness.run(60)
    assert health(harness) is None
    assert sample(harness, 0).data is not None


def test_a_gpu_that_reports_no_events_makes_no_source_of_others_down() -> None:
    harness = Harness()
    harness.backend.gpus[0].event_error = GpuError(Reason.NOT_SUPPORTED, "no events")
    harness.run(60)
    said = health(harness)
    assert said is not None
    assert said.up


def test_a_wait_that_hangs_costs_the_events_of_its_gpu_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    harness = Harness()
    harness.run(2)
    harness.workers["events-0"].hold = True
    harness.run(9)
    assert failures(harness) == {"timeout": 1}
    said = health(harness)
    assert said is not None
    assert (said.up, said.message) == (False, "GPU 0: no answer in 3 s")
    harness.backend.gpus[1].events = [XidEvent(gpu(1).uuid, UnixSeconds(5.0), 31)]
    harness.run(200)
    assert sample(harness, 1).xids[31].count == 1
    assert (sample(harness, 0).last_sample_timestamp or 0) >= harness.clock.wall() - 5
    assert failures(harness) == {"timeout": 1}
    assert harness.backend.closed == 0
    assert len([r for r in caplog.records if "no events of GPU 0" in r.getMessage()]) == 1
    harness.workers["events-0"].hold = False
    harness.run(5)
    said = health(harness)
    assert said is not None
    assert said.up


def test_a_session_is_not_closed_under_a_wait() -> None:
    harness = Harness()
    harness.run(2)
    harness.workers["events-0"].hold = True
    harness.run(1)
    harness.backend.gpus[1].error = GpuError(Reason.DRIVER_NOT_LOADED, "the driver is gone")
    harness.run(5)
    assert harness.backend.closed == 0
    harness.workers["events-0"].hold = False
    harness.backend.gpus[1].error = None
    harness.run(2)
    assert harness.backend.closed == 1


def test_the_xid_that_says_why_a_gpu_is_away_is_still_heard() -> None:
    harness = Harness()
    harness.run(2)
    harness.backend.gpus[0].error = GpuError(Reason.GPU_LOST, "GPU is lost")
    harness.run(1)
    harness.backend.gpus[0].events = [XidEvent(gpu(0).uuid, UnixSeconds(5.0), 79)]
    harness.run(1)
    assert sample(harness, 0).state is GpuState.LOST
    assert sample(harness, 0).xids[79].count == 1
