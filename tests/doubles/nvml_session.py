"""Sessions of the backend with the NVML double."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from exporter.gpus import Reader
from exporter.gpus.nvml import NvmlBackend
from exporter.model.clocks import UnixSeconds
from exporter.model.readings import FastReading, FullReading, SlowReading
from tests.doubles.fake_nvml import FakeNvml

NO_BUS = Path("/no/such/bus")
"""The GPUs of a double are not on the bus of the machine that runs the tests."""


class Clock:
    """Seconds that pass only when told to, or by a step each time that one looks."""

    def __init__(self, now: float = 1000.0, step: float = 0.0) -> None:
        self.now = now
        self.step = step

    def __call__(self) -> float:
        self.now += self.step
        return self.now

    def wall(self) -> UnixSeconds:
        return UnixSeconds(self())


def opened(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, clock: Clock | None = None
) -> NvmlBackend:
    """Open a backend on the machine."""
    nvml.install(monkeypatch)
    clock = clock or Clock()
    backend = NvmlBackend(
        clock=clock.wall, monotonic=clock, sleep=nvml.slept.append, devices=NO_BUS
    )
    backend.open()
    return backend


def reader_of(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, clock: Clock | None = None
) -> Reader:
    """Give the reader of the first GPU; each look at the clock takes a second, unless told else."""
    return found(opened(nvml, monkeypatch, clock or Clock(step=1.0)))[0]


def found(backend: NvmlBackend) -> list[Reader]:
    """List the GPUs, and look each up."""
    readers: list[Reader] = list(backend.readers())
    for reader in readers:
        reader.find()
    return readers


def identified(backend: NvmlBackend) -> list[Reader]:
    """List the GPUs, and read each once."""
    readers = found(backend)
    for reader in readers:
        reader.read_fast()
    return readers


def values(reading: FastReading | FullReading | SlowReading) -> dict[str, Any]:
    return {f.name: getattr(reading, f.name) for f in dataclasses.fields(reading)}


def read_all(reader: Reader) -> dict[str, Any]:
    """Make each read once; give all fields, and the failures of all three."""
    fast, full, slow = reader.read_fast(), reader.read_full(), reader.read_slow()
    failures = (*fast.failures, *full.failures, *slow.failures)
    return values(fast) | values(full) | values(slow) | {"failures": failures}
