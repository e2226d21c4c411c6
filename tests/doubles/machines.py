"""One node below pynvml, by either double, to which the same faults can happen."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.doubles.fake_device import Failure, FakeDevice
from tests.doubles.fake_gpus import h100
from tests.doubles.fake_nvml import FakeNvml
from tests.doubles.scripted_nvml import ScriptedNvml


class Machine(Protocol):
    """Two boards.

    ``function`` is NVML's, ``function.member`` one of a struct's, ``field.82`` a field value.
    """

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None: ...

    def answer(self, function: str, board: int, number: float) -> None:
        """Let it give a number, whatever its C type is."""

    def fail(self, function: str, board: int, code: int) -> None: ...

    def mend(self) -> None:
        """Take all faults back."""


class Fake:
    """The double in Python."""

    def __init__(self, folder: Path) -> None:
        del folder
        self.boards = [h100(0), h100(1)]
        self.nvml = FakeNvml(*self.boards)
        self._times = itertools.count(3_000_000, 200_000)
        self._well = [_copy(board) for board in self.boards]

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.nvml.install(monkeypatch)

    def answer(self, function: str, board: int, number: float) -> None:
        gpu = self.boards[board]
        name, _, member = function.partition(".")
        if name == "field":
            gpu.fields[int(member)] = number
            for key in [k for k in gpu.fields if isinstance(k, tuple) and k[0] == int(member)]:
                gpu.fields[key] = number
        elif name == "nvmlDeviceGetSamples":
            gpu.samples = [*(gpu.samples or []), (next(self._times), int(number))]
        elif name == "nvmlGpmMetricsGet":
            gpu.gpm = {None: dict.fromkeys(gpu.gpm[None], number)}
        elif "RunningProcesses" in name:
            listed = gpu.processes["Compute"]
            gpu.processes["Compute"] = [{**process, member: int(number)} for process in listed]
        else:
            for key in [k for k in gpu.answers if k == name or k[0] == name]:
                gpu.answers[key] = _replaced(gpu.answers[key], member, number)
            gpu.answers.setdefault(name, number)

    def fail(self, function: str, board: int, code: int) -> None:
        name, _, member = function.partition(".")
        if name == "field":
            self.boards[board].fields[int(member)] = Failure(code)
        else:
            self.boards[board].fail(name, Failure(code))

    def mend(self) -> None:
        for board, well in zip(self.boards, self._well, strict=True):
            vars(board).update({**vars(_copy(well)), "address": board.address})


class Scripted:
    """The library in C."""

    def __init__(self, folder: Path) -> None:
        self.nvml = ScriptedNvml(folder)
        self._lines: list[tuple[object, ...]] = [
            ("busy", 0, 60),
            ("process", 0, 4711, 2048),
            ("nvmlDeviceGetSamples.period", "*", "value", 1000),  # a new sample at each read
        ]
        self.mend()

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.nvml.install(monkeypatch)

    def answer(self, function: str, board: int, number: float) -> None:
        if function == "nvmlDeviceGetSamples":
            function = "nvmlDeviceGetSamples.newest"
        self.nvml.add(function, board, "value", number)

    def fail(self, function: str, board: int, code: int) -> None:
        self.nvml.add(function, board, "code", code)

    def mend(self) -> None:
        self.nvml.remove()
        for line in self._lines:
            self.nvml.add(*line)


def _copy(device: FakeDevice) -> FakeDevice:
    return FakeDevice(
        device.uuid,
        answers=dict(device.answers),
        fields=dict(device.fields),
        processes={kind: [dict(p) for p in listed] for kind, listed in device.processes.items()},
        samples=list(device.samples or []),
        process_samples=list(device.process_samples or []),
        gpm={instance: dict(values) for instance, values in device.gpm.items()},
    )


def _replaced(answer: Any, member: str, number: float) -> Any:
    """Replace a number: the struct's member, or all of it."""
    if isinstance(answer, Mapping):
        return {name: number if member in {"", name} else old for name, old in answer.items()}
    if isinstance(answer, tuple):
        return (number, *answer[1:])
    return number
