"""What a Kubernetes Event says of an end, and which ends have one."""

from dataclasses import replace

import pytest

from exporter.app.end_events import event_of
from exporter.model.claims import Container
from exporter.model.ends import Cause
from exporter.model.oom import Confidence, OomVerdict
from exporter.model.verdicts import EndVerdict, FirstFailure
from tests.doubles.scripted import GIB
from tests.doubles.terminations import CONFIRMED, LIKELY, OTHER, POSSIBLE, ended

OOM = OomVerdict(
    termination=ended(1),
    confidence=CONFIRMED,
    rule="device_words",
    device_uuid="GPU-1",
    peak_bytes=79 * GIB,
    limit_bytes=80 * GIB,
    cotenant_bytes={OTHER: 30 * GIB},
)


def verdict(cause: Cause, confidence: Confidence = LIKELY) -> EndVerdict:
    return EndVerdict(ended(1), cause, confidence, "any")


def test_memory_says_how_full_the_device_was_and_by_whom() -> None:
    found = event_of(replace(verdict(Cause.GPU_OOM), oom=OOM))
    assert found is not None
    reason, message = found
    assert reason == "GPUOutOfMemory"
    assert message == (
        "Container main ran out of GPU memory (confirmed) on GPU-1: 79.0 of the device's 80.0 GiB"
        " were in use; ml/other used 30.0 GiB of it."
    )


def test_a_cause_is_said_in_words() -> None:
    assert event_of(verdict(Cause.SHM, CONFIRMED)) == (
        "GPUContainerEnded",
        "Container main ended: shared memory (/dev/shm) is too small (confirmed).",
    )


def test_a_follower_names_the_first_failure() -> None:
    first = FirstFailure(Container("ml", "bert-2", "main"), Cause.HARDWARE)
    found = event_of(replace(verdict(Cause.PEER, CONFIRMED), first=first))
    assert found is not None
    assert found[1].endswith(
        "The first failure of the job on this node was ml/bert-2: a GPU or a link between GPUs"
        " failed."
    )


@pytest.mark.parametrize(
    "cause",
    [
        Cause.COMPLETED,
        Cause.STOPPED,
        Cause.EVICTED,
        Cause.PREEMPTED,
        Cause.DEADLINE,
        Cause.PROGRAM,
        Cause.CRASH,
        Cause.UNKNOWN,
    ],
)
def test_what_nobody_acts_on_and_what_others_say_has_no_event(cause: Cause) -> None:
    assert event_of(verdict(cause, CONFIRMED)) is None


def test_a_mere_possibility_has_no_event() -> None:
    assert event_of(verdict(Cause.SHM, POSSIBLE)) is None
