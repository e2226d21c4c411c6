"""Liveness asks one thing: whether a new container would help."""

import pytest

from exporter.gpus import GpuError
from exporter.model.claims import Claim, Claims, Container
from exporter.model.readings import Reason
from tests.doubles.scripted import Harness, gpu

HELD = Claims(
    held=(Claim(Container("ml", "train-0", "main"), "nvidia.com/gpu", gpu(0).uuid),),
    allocatable={"nvidia.com/gpu": (gpu(0).uuid, gpu(1).uuid)},
)


def refuse(harness: Harness, reason: Reason | None) -> None:
    """Have every GPU and the driver refuse every call, or none."""
    error = None if reason is None else GpuError(reason, "refused")
    harness.backend.open_error = error
    for reader in harness.backend.gpus:
        reader.error = error


@pytest.mark.parametrize("reason", [Reason.LIBRARY_NOT_FOUND, Reason.LIBRARY_MISMATCH])
def test_a_container_without_the_drivers_library_calls_for_a_new_one(reason: Reason) -> None:
    harness = Harness(open_error=GpuError(reason, "no library"), claims=HELD)
    harness.run(655)
    assert harness.sampler.dead() == ""
    harness.run(10)
    assert "library has been missing" in harness.sampler.dead()
    assert "while the kubelet advertises GPUs" in harness.sampler.dead()
    harness.backend.open_error = None
    harness.run(10)
    assert harness.sampler.dead() == ""


def test_a_node_without_gpus_or_without_its_driver_stays_as_it_is() -> None:
    harness = Harness(open_error=GpuError(Reason.LIBRARY_NOT_FOUND, "no library"))
    harness.run(1000)
    assert harness.sampler.dead() == ""
    harness = Harness(open_error=GpuError(Reason.DRIVER_NOT_LOADED, "none"), claims=HELD)
    harness.run(1000)
    assert harness.sampler.dead() == ""


@pytest.mark.parametrize("reason", [Reason.UNKNOWN, Reason.NO_PERMISSION])
def test_a_container_that_lost_its_device_nodes_calls_for_a_new_one(reason: Reason) -> None:
    harness = Harness(claims=HELD)
    harness.run(60)
    refuse(harness, reason)
    harness.run(295)
    assert harness.sampler.dead() == ""
    harness.run(10)
    assert "refused access to every GPU" in harness.sampler.dead()
    assert "device nodes" in harness.sampler.dead()
    refuse(harness, None)
    harness.run(62)
    assert harness.sampler.dead() == ""


def test_also_when_the_session_was_lost_with_them() -> None:
    harness = Harness(claims=HELD)
    harness.run(60)
    refuse(harness, Reason.UNKNOWN)
    harness.backend.gpus[0].error = GpuError(Reason.DRIVER_NOT_LOADED, "it does not answer")
    harness.run(310)
    assert "refused access to every GPU" in harness.sampler.dead()


@pytest.mark.parametrize(
    ("what", "reason", "claims", "worked"),
    [
        ("the kubelet advertises none", Reason.UNKNOWN, Claims(), True),
        ("it never worked", Reason.UNKNOWN, HELD, False),
        ("the GPUs are lost", Reason.GPU_LOST, HELD, True),
        ("the GPUs want a reset", Reason.RESET_REQUIRED, HELD, True),
        ("the driver is not loaded", Reason.DRIVER_NOT_LOADED, HELD, True),
    ],
)
def test_no_new_container_is_asked_for_where_it_would_not_help(
    what: str, reason: Reason, claims: Claims, *, worked: bool
) -> None:
    harness = Harness(claims=claims)
    if worked:
        harness.run(60)
    else:
        harness = Harness(claims=claims, open_error=GpuError(reason, "refused"))
    refuse(harness, reason)
    harness.run(2000)
    assert harness.sampler.dead() == ""


def test_one_gpu_that_can_be_read_is_reason_enough_to_stay() -> None:
    harness = Harness(claims=HELD)
    harness.run(60)
    harness.backend.gpus[0].error = GpuError(Reason.UNKNOWN, "refused")
    harness.run(1000)
    assert harness.sampler.dead() == ""


@pytest.mark.parametrize("phase", ["at start", "after a loss", "restarting"])
def test_a_call_of_the_driver_that_never_returns_calls_for_a_new_process(phase: str) -> None:
    harness = Harness(claims=HELD, hold=("driver",) if phase == "at start" else ())
    if phase == "after a loss":
        harness.run(100)
        harness.workers["driver"].hold = True
        harness.backend.gpus[0].error = GpuError(Reason.DRIVER_NOT_LOADED, "it is gone")
        harness.run(3)
    elif phase == "restarting":
        harness.run(10)
        harness.backend.gpus[0].error = GpuError(Reason.GPU_LOST, "lost")
        harness.backend.surveyed = frozenset({gpu(0).uuid})
        harness.workers["driver"].hold = True
        harness.run(45)
    harness.run(50)
    assert harness.sampler.dead() == ""
    harness.run(20)
    assert "the driver has hung" in harness.sampler.dead()
    harness.workers["driver"].hold = False
    harness.backend.gpus[0].error = None
    harness.run(70)
    assert harness.sampler.dead() == ""


def test_a_read_that_hangs_while_the_driver_lives_costs_its_gpu_and_no_more() -> None:
    harness = Harness(claims=HELD)
    harness.run(5)
    harness.workers["gpu-0"].hold = True
    harness.run(1000)
    assert harness.sampler.dead() == ""
