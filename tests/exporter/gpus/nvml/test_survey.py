"""Surveys: what a new session would show, found out by a process that may hang or crash."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from exporter.gpus import GpuError
from exporter.gpus.nvml.survey import COMMAND, Surveys
from exporter.model.readings import Reason
from tests.doubles.scripted_nvml import ScriptedNvml, needs_compiler, uuid_of

if TYPE_CHECKING:
    import subprocess

PATIENCE = 60.0
"""Far longer than a survey takes on a busy machine."""


@pytest.fixture
def nvml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScriptedNvml:
    scripted = ScriptedNvml(tmp_path, boards=range(3))
    for name, value in scripted.environment.items():
        monkeypatch.setenv(name, value)
    return scripted


@needs_compiler
def test_a_survey_lists_the_gpus_that_can_be_read(nvml: ScriptedNvml) -> None:
    nvml.add("lost", 1)
    nvml.add("nvmlDeviceGetPowerUsage", 2, "code", 3)
    assert Surveys(deadline=PATIENCE).run() == {uuid_of(0), uuid_of(2)}
    nvml.boards(0, 1, 2, 3)
    nvml.remove()
    assert Surveys(deadline=PATIENCE).run() == {uuid_of(n) for n in range(4)}


@needs_compiler
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (("nvmlInitWithFlags", "*", "code", 9), Reason.UNKNOWN),
        (("nvmlDeviceGetCount_v2", "*", "value", 2**31 - 1), Reason.UNKNOWN),
        (("nvmlDeviceGetUUID", 1, "crash"), Reason.UNKNOWN),
    ],
)
def test_a_survey_that_fails_or_crashes_says_so_and_no_more(
    nvml: ScriptedNvml, line: tuple[object, ...], reason: Reason
) -> None:
    nvml.add(*line, "-")
    with pytest.raises(GpuError) as raised:
        Surveys(deadline=PATIENCE).run()
    assert raised.value.reason is reason


@needs_compiler
def test_a_survey_that_hangs_is_killed(nvml: ScriptedNvml) -> None:
    surveys = Surveys(deadline=0.5)
    nvml.add("nvmlDeviceGetHandleByIndex_v2", 1, "hang", "-")
    with pytest.raises(GpuError) as raised:
        surveys.run()
    assert raised.value.reason is Reason.TIMEOUT
    assert surveys._last is not None
    assert surveys._last.wait(PATIENCE) == -9


def test_one_that_can_not_be_killed_is_not_followed_by_another() -> None:
    class Unkillable:
        def poll(self) -> None:
            """Say that it has not ended."""

    surveys = Surveys(command=("/no/such/program",))
    surveys._last = cast("subprocess.Popen[bytes]", Unkillable())
    with pytest.raises(GpuError, match="hangs in the driver"):
        surveys.run()


def test_a_node_that_can_start_no_process_says_so() -> None:
    with pytest.raises(GpuError, match="no survey can be started"):
        Surveys(command=("/no/such/program",)).run()


def test_the_command_runs_this_program() -> None:
    assert COMMAND[0] == sys.executable
