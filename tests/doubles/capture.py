"""Recordings of real hardware, made and replayed below pynvml.

``python -m tests.doubles.capture record --out tests/captures/NAME.json.gz`` runs all reads of the
backend on this machine's driver and keeps each C call: its name, the numbers and bytes that went
in, the code and the bytes that came out. A replay then gives the same readings anywhere.

A capture is JSON: what it was made on, and the calls in order. Bytes are hex, without the zeros at
their end. Pointers are numbers that nobody follows. A board's serial number is not kept.
"""

import argparse
import ctypes
import gzip
import importlib.metadata
import json
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pynvml

from exporter.gpus.nvml import NvmlBackend, library
from exporter.model.clocks import UnixSeconds
from exporter.model.readings import FastReading, FullReading, SlowReading

if TYPE_CHECKING:
    # A machine with a GPU need not have it to be recorded.
    import pytest

_STRINGS = ("nvmlErrorString",)
"""Functions that return a string, not a code."""

_PRIVATE = ("nvmlDeviceGetSerial",)
"""Functions whose answers become zeros of the same length."""


@dataclass(frozen=True)
class Call:
    """One call of a C function."""

    name: str
    arguments: tuple[str, ...]
    code: int | str
    outputs: tuple[str, ...]


def _buffers(arguments: tuple[Any, ...]) -> list[Any]:
    """Find what a call may write to."""
    return [
        getattr(argument, "_obj", argument)
        for argument in arguments
        if hasattr(argument, "_obj") or isinstance(argument, ctypes.Array)
    ]


def _described(arguments: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(_describe(argument) for argument in arguments)


def _describe(argument: Any) -> str:
    if hasattr(argument, "_obj") or isinstance(argument, ctypes.Array):
        return "&" + _hex(getattr(argument, "_obj", argument))
    if isinstance(argument, ctypes._Pointer):
        return f"*{ctypes.cast(argument, ctypes.c_void_p).value or 0:x}"
    return str(getattr(argument, "value", argument))


def _hex(buffer: Any) -> str:
    return bytes(buffer).rstrip(b"\0").hex()


class Recorder:
    """Stands before a loaded library and keeps what is called in it."""

    def __init__(self, loaded: Any) -> None:
        self._loaded = loaded
        self._handle = loaded._handle
        self.calls: list[Call] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(self._loaded, name)

        def recorded(*arguments: Any) -> Any:
            before = _described(arguments)
            if name in _STRINGS:
                function.restype = ctypes.c_char_p
            code = function(*arguments)
            buffers = _buffers(arguments)
            outputs = tuple(_hex(buffer) for buffer in buffers)
            if name in _PRIVATE:
                outputs = tuple(b"0".hex() * (len(output) // 2) for output in outputs)
            kept = code.decode() if isinstance(code, bytes) else code
            self.calls.append(Call(name, before, kept, outputs))
            return code

        return recorded


class Replay:
    """Stands in for a loaded library, and answers like the one that was recorded.

    A call is answered by what the same call with the same arguments was answered, in order, the
    last answer again and again; failing that, by the same function of the same device. A function
    that was never called is missing, as in a driver that lacks it.
    """

    _handle = 0

    def __init__(self, calls: list[Call]) -> None:
        self._answers: dict[tuple[str, ...], list[Call]] = defaultdict(list)
        for call in calls:
            for key in _keys(call.name, call.arguments):
                self._answers[key].append(call)
        self._used: dict[tuple[str, ...], int] = defaultdict(int)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if (name,) not in self._answers:
            raise AttributeError(name)

        def replayed(*arguments: Any) -> Any:
            answer = self._next(name, _described(arguments))
            if answer is None:
                return pynvml.NVML_ERROR_NOT_SUPPORTED
            for buffer, output in zip(_buffers(arguments), answer.outputs, strict=True):
                data = bytes.fromhex(output).ljust(ctypes.sizeof(buffer), b"\0")
                ctypes.memmove(ctypes.addressof(buffer), data, ctypes.sizeof(buffer))
            return answer.code.encode() if isinstance(answer.code, str) else answer.code

        return replayed

    def _next(self, name: str, arguments: tuple[str, ...]) -> Call | None:
        for key in _keys(name, arguments)[:-1]:
            if answers := self._answers.get(key):
                used = min(self._used[key], len(answers) - 1)
                self._used[key] += 1
                return answers[used]
        return None


def _keys(name: str, arguments: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Sort from exact to vague. The last only says that the function is there."""
    return [(name, *arguments), (name, "?", *arguments[:1]), (name,)]


@dataclass(frozen=True)
class Capture:
    """A recording with what it was made on."""

    about: dict[str, str]
    calls: list[Call]

    def save(self, path: Path) -> None:
        text = json.dumps(
            {
                "about": self.about,
                "calls": [[c.name, list(c.arguments), c.code, list(c.outputs)] for c in self.calls],
            },
            separators=(",", ":"),
        )
        data = text.encode()
        path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)

    @classmethod
    def load(cls, path: Path) -> "Capture":
        data = path.read_bytes()
        stored = json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)
        return cls(
            stored["about"],
            [Call(n, tuple(a), code, tuple(o)) for n, a, code, o in stored["calls"]],
        )


def read_all(
    backend: NvmlBackend, pause: Callable[[float], object]
) -> list[FastReading | FullReading | SlowReading]:
    """Make every read that the backend can make of every GPU, the full one twice."""
    readings: list[FastReading | FullReading | SlowReading] = []
    for reader in backend.readers():
        reader.find()
        readings += [reader.read_fast(), reader.read_full()]
        pause(1.0)
        readings += [reader.read_full(), reader.read_slow()]
        reader.wait_events(0.1)
    return readings


def record(
    pause: Callable[[float], object] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> Capture:
    """Record this machine. Raises :class:`~exporter.gpus.GpuError` when it has no driver."""
    recorders: list[Recorder] = []
    load = pynvml.CDLL

    def recording(name: str) -> Recorder:
        recorders.append(Recorder(load(name)))
        return recorders[-1]

    pynvml.CDLL = recording
    backend = NvmlBackend(monotonic=monotonic)
    try:
        driver = backend.open()
        readings = read_all(backend, pause)
        backend.close()
    finally:
        pynvml.CDLL, pynvml.nvmlLib = load, None
        pynvml._nvmlGetFunctionPointer_cache.clear()
    gpus = {r.gpu.model for r in readings if isinstance(r, FullReading)}
    about = {
        "driver": driver.version,
        "cuda": driver.cuda_version or "",
        "gpus": ", ".join(sorted(gpus)),
        "nvidia-ml-py": importlib.metadata.version("nvidia-ml-py"),
    }
    return Capture(about, [call for recorder in recorders for call in recorder.calls])


def replay(
    capture: Capture, monkeypatch: "pytest.MonkeyPatch", monotonic: Callable[[], float]
) -> NvmlBackend:
    """Give a backend, not opened yet, whose library is the capture."""
    monkeypatch.setattr(pynvml, "CDLL", lambda name: Replay(capture.calls))
    monkeypatch.setattr(library, "dlclose", lambda handle: None)
    monkeypatch.setattr(library, "file_on_disk", lambda handle: None)
    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    return NvmlBackend(clock=lambda: UnixSeconds(monotonic()), monotonic=monotonic)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.doubles.capture", description="Record NVML."
    )
    commands = parser.add_subparsers(required=True)
    recording = commands.add_parser("record", help="record this machine's GPUs")
    recording.add_argument("--out", type=Path, required=True, help="file to write, *.json[.gz]")
    options = parser.parse_args(arguments)
    capture = record()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    capture.save(options.out)
    print(f"{len(capture.calls)} calls of {capture.about['gpus']} in {options.out}")  # noqa: T201


if __name__ == "__main__":
    main()
