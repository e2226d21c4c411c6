"""GPUs that come and go: found within a minute, and no session that works is closed in vain."""

from dataclasses import replace

import pytest

from exporter.gpus import GpuError
from exporter.model.claims import Claim, Claims, Container
from exporter.model.clocks import Monotonic, UnixSeconds
from exporter.model.readings import Reason, XidEvent
from exporter.model.snapshot import GpuState
from tests.doubles.scripted import Harness, ScriptedReader, gpu

TRAIN = Container("ml", "train-0", "main")


def states(harness: Harness) -> dict[str, GpuState]:
    return {s.gpu.uuid: s.state for s in harness.sampler.snapshot.gpus}


def add(harness: Harness, index: int, number: int | None = None) -> ScriptedReader:
    """Put in a GPU that the next session will list."""
    reader = ScriptedReader(gpu(index), harness.clock)
    reader.number = number
    harness.backend.listed = [*harness.backend.listed, reader]
    return reader


def test_a_lost_gpu_is_looked_for_by_surveys_and_not_by_sessions() -> None:
    harness = Harness()
    harness.run(10)
    harness.backend.gpus[0].error = GpuError(Reason.GPU_LOST, "GPU is lost")
    harness.run(300)
    assert harness.backend.opened == 1
    assert 5 <= harness.backend.surveys <= 7
    assert harness.sampler.snapshot.gpus[1].data is not None


def test_a_lost_gpu_that_a_survey_can_read_is_back_within_a_minute() -> None:
    harness = Harness()
    harness.run(100)
    lost = harness.backend.gpus[0]
    lost.error = GpuError(Reason.GPU_LOST, "GPU is lost")
    harness.run(60)
    harness.backend.surveyed = frozenset({gpu(0).uuid, gpu(1).uuid})
    new = ScriptedReader(gpu(0), harness.clock)
    harness.backend.listed = [new, harness.backend.gpus[1]]
    harness.run(60)
    assert harness.backend.opened == 2
    assert set(states(harness).values()) == {GpuState.OK}


def test_without_a_reason_there_is_no_survey() -> None:
    harness = Harness()
    harness.run(3600)
    assert (harness.backend.surveys, harness.backend.opened) == (0, 1)


@pytest.mark.parametrize(
    "surveyed", [GpuError(Reason.TIMEOUT, "it hangs"), ValueError("no JSON"), frozenset[str]()]
)
def test_a_survey_that_finds_nothing_out_costs_the_gpus_that_work_nothing(
    surveyed: frozenset[str] | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    harness = Harness()
    harness.backend.gpus[0].error = GpuError(Reason.GPU_LOST, "GPU is lost")
    harness.backend.surveyed = surveyed
    harness.run(1800)
    assert (harness.backend.opened, harness.backend.closed) == (1, 0)
    assert harness.sampler.snapshot.gpus[1].data is not None
    said = [r for r in caplog.records if "can't be found out" in r.getMessage()]
    assert len(said) == (1 if isinstance(surveyed, Exception) else 0)


def test_a_survey_that_hangs_holds_nobody() -> None:
    harness = Harness()
    harness.backend.gpus[0].error = GpuError(Reason.GPU_LOST, "GPU is lost")
    harness.workers["lookout"].hold = True
    harness.run(600)
    assert harness.sampler.dead() == ""
    assert harness.sampler.snapshot.gpus[1].data is not None
    assert len(harness.workers["lookout"].waiting) == 1


def test_a_gpu_that_only_surveys_can_read_costs_ever_fewer_sessions() -> None:
    harness = Harness()
    harness.backend.gpus[0].error = GpuError(Reason.UNKNOWN, "it refuses")
    harness.backend.surveyed = frozenset({gpu(0).uuid, gpu(1).uuid})
    harness.run(4 * 3600)
    assert harness.backend.opened <= 12


def test_no_session_is_opened_while_a_call_hangs() -> None:
    harness = Harness(count=3)
    harness.run(10)
    harness.workers["gpu-0"].hold = True
    harness.backend.gpus[1].error = GpuError(Reason.GPU_LOST, "GPU is lost")
    harness.backend.surveyed = frozenset({gpu(1).uuid})
    harness.run(600)
    assert (harness.backend.opened, harness.backend.closed) == (1, 0)


def test_none_at_start_and_some_later() -> None:
    harness = Harness(count=0)
    harness.run(300)
    assert harness.sampler.snapshot.driver is not None
    add(harness, 0)
    harness.run(60)
    assert states(harness) == {gpu(0).uuid: GpuState.OK}


def test_one_more_is_found_by_the_bus() -> None:
    harness = Harness(count=2)
    harness.backend.on_bus = {"0000:01:00.0": True, "0000:02:00.0": True}
    harness.run(200)
    assert harness.backend.surveys <= 1
    harness.backend.on_bus = {**harness.backend.on_bus, "0000:03:00.0": True}
    harness.backend.surveyed = frozenset(gpu(index).uuid for index in range(3))
    add(harness, 2)
    harness.run(60)
    assert states(harness) == {gpu(index).uuid: GpuState.OK for index in range(3)}


def test_one_more_is_found_by_a_claim() -> None:
    harness = Harness(count=2)
    harness.run(200)
    harness.claims.current = Claims(held=(Claim(TRAIN, "nvidia.com/gpu", gpu(2).uuid),))
    harness.backend.surveyed = frozenset(gpu(index).uuid for index in range(3))
    add(harness, 2)
    harness.run(60)
    assert len(states(harness)) == 3
    (container,) = harness.sampler.snapshot.containers
    assert container.allocation.device_uuid == gpu(2).uuid


def test_claims_of_devices_that_nobody_has_are_no_reason_for_ever() -> None:
    harness = Harness(count=2)
    harness.claims.current = Claims(held=(Claim(TRAIN, "nvidia.com/gpu", "GPU-of-nobody"),))
    harness.run(3600)
    assert harness.backend.surveys <= 2


# Taken out on purpose


def removed_by_the_reader(harness: Harness) -> None:
    harness.backend.gpus[0].error = GpuError(Reason.GPU_REMOVED, "bound to vfio-pci")


def unlisted(harness: Harness) -> None:
    harness.backend.gpus[1].error = GpuError(Reason.DRIVER_NOT_LOADED, "reloaded")
    harness.run(1)
    harness.backend.gpus[1].error = None
    harness.backend.listed = harness.backend.gpus[1:]


@pytest.mark.parametrize("how", [removed_by_the_reader, unlisted])
@pytest.mark.parametrize(
    "bus", [{"0000:02:00.0": True}, {"0000:01:00.0": False, "0000:02:00.0": True}]
)
def test_a_gpu_that_is_taken_out_on_purpose_is_removed_and_not_lost(
    how: object, bus: dict[str, bool]
) -> None:
    harness = Harness()
    harness.backend.on_bus = {"0000:01:00.0": True, "0000:02:00.0": True}
    harness.run(100)
    harness.backend.on_bus = bus
    how(harness)  # type: ignore[operator]
    seen = set()
    for _ in range(100):
        harness.run(1)
        seen.add(states(harness)[gpu(0).uuid])
    assert GpuState.LOST not in seen
    assert states(harness) == {gpu(0).uuid: GpuState.REMOVED, gpu(1).uuid: GpuState.OK}
    assert harness.sampler.snapshot.gpus[0].read_failures["gpu_lost"] == 0
    surveys = harness.backend.surveys
    harness.run(3600)
    assert harness.backend.surveys == surveys


def test_a_gpu_that_fell_off_the_bus_is_lost_even_if_the_bus_no_longer_has_it() -> None:
    harness = Harness()
    harness.run(10)
    now = UnixSeconds(harness.clock.wall())
    harness.backend.gpus[0].events = [XidEvent(gpu(0).uuid, now, 79)]
    harness.run(1)
    removed_by_the_reader(harness)
    harness.run(10)
    assert states(harness)[gpu(0).uuid] is GpuState.LOST


def test_a_lost_gpu_that_is_then_taken_out_is_removed() -> None:
    harness = Harness()
    harness.backend.on_bus = {"0000:01:00.0": True, "0000:02:00.0": True}
    harness.run(10)
    harness.backend.gpus[0].error = GpuError(Reason.GPU_LOST, "GPU is lost")
    harness.run(100)
    assert states(harness)[gpu(0).uuid] is GpuState.LOST
    harness.backend.gpus[0].error = GpuError(Reason.GPU_REMOVED, "off the bus")
    harness.backend.on_bus = {"0000:02:00.0": True}
    harness.run(60)
    assert states(harness)[gpu(0).uuid] is GpuState.REMOVED


def test_a_gpu_that_was_removed_is_back_within_a_minute() -> None:
    harness = Harness()
    harness.backend.on_bus = {"0000:01:00.0": False, "0000:02:00.0": True}
    removed_by_the_reader(harness)
    harness.run(300)
    harness.backend.on_bus = {"0000:01:00.0": True, "0000:02:00.0": True}
    harness.backend.surveyed = frozenset({gpu(0).uuid, gpu(1).uuid})
    harness.backend.listed = [ScriptedReader(gpu(0), harness.clock), harness.backend.gpus[1]]
    harness.run(60)
    assert set(states(harness).values()) == {GpuState.OK}


# Numbers that move


def test_numbers_that_move_move_no_series_and_no_claim() -> None:
    harness = Harness(count=3)
    claims = Claims(
        held=(
            Claim(TRAIN, "nvidia.com/gpu", "1", since=Monotonic(1001.0)),
            Claim(replace(TRAIN, pod="train-1"), "nvidia.com/gpu", "2", since=Monotonic(1001.0)),
        )
    )
    harness.claims.current = claims
    harness.run(10)
    lost, first, second = harness.backend.gpus
    lost.error = GpuError(Reason.GPU_LOST, "GPU is lost")
    harness.run(5)
    first.error = GpuError(Reason.DRIVER_NOT_LOADED, "reloaded")
    harness.run(1)
    first.error = None
    first.number, second.number = 0, 1
    harness.backend.listed = [first, second]
    harness.run(60)
    assert {s.gpu.uuid: s.gpu.index for s in harness.sampler.snapshot.gpus} == {
        gpu(index).uuid: index for index in range(3)
    }
    assert states(harness)[gpu(0).uuid] is GpuState.LOST
    held = {
        s.allocation.container.pod: s.allocation.device_uuid
        for s in harness.sampler.snapshot.containers
    }
    assert held == {"train-0": gpu(1).uuid, "train-1": gpu(2).uuid}
    # A claim that is first seen now means the numbers of now.
    new = Claim(
        replace(TRAIN, pod="train-2"), "nvidia.com/gpu", "0", since=Monotonic(harness.clock.now)
    )
    harness.claims.current = Claims(held=(*claims.held, new))
    harness.run(5)
    held = {
        s.allocation.container.pod: s.allocation.device_uuid
        for s in harness.sampler.snapshot.containers
    }
    assert held["train-2"] == gpu(1).uuid


def test_a_gpu_in_the_place_of_another_is_another() -> None:
    harness = Harness(count=2)
    harness.run(10)
    old, other = harness.backend.gpus
    old.error = GpuError(Reason.GPU_LOST, "GPU is lost")
    harness.run(5)
    new = ScriptedReader(replace(gpu(7), index=0), harness.clock)
    harness.backend.listed = [new, other]
    harness.backend.surveyed = frozenset({gpu(7).uuid, gpu(1).uuid})
    harness.run(60)
    assert states(harness) == {
        gpu(0).uuid: GpuState.LOST,
        gpu(1).uuid: GpuState.OK,
        gpu(7).uuid: GpuState.OK,
    }


def test_a_gpu_that_comes_in_between_gets_a_number_that_no_other_has() -> None:
    harness = Harness(count=2)
    harness.backend.on_bus = {"0000:01:00.0": True}
    harness.run(10)
    first, second = harness.backend.gpus
    first.number, second.number = 1, 2
    harness.backend.listed = [
        ScriptedReader(replace(gpu(7), index=0), harness.clock),
        first,
        second,
    ]
    harness.backend.on_bus = {"0000:00:00.0": True, "0000:01:00.0": True}
    harness.backend.surveyed = frozenset({gpu(7).uuid})
    harness.run(60)
    indexes = {s.gpu.uuid: s.gpu.index for s in harness.sampler.snapshot.gpus}
    assert indexes[gpu(0).uuid] == 0
    assert indexes[gpu(1).uuid] == 1
    assert len(set(indexes.values())) == 3
