"""NVML's performance monitor serves one thread at a time, and a thread that hangs costs little."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from exporter.gpus import Reader
from exporter.model.readings import FieldFailure, FullReading, Reason
from tests.doubles.fake_gpus import h100
from tests.doubles.fake_nvml import FakeNvml
from tests.doubles.nvml_session import Clock, opened

WAIT = 60.0
"""Far longer than anything here takes, so that a broken test ends."""


GUARDED = ["nvmlGpmSampleGet", "nvmlGpmMetricsGet"]


class Inside:
    """Stands in front of a function of the double and counts who is in it."""

    def __init__(self, inner: Callable[..., None]) -> None:
        self._inner = inner
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0
        self.entered = threading.Event()
        self.leave = threading.Event()

    def __call__(self, *arguments: Any) -> None:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        self.entered.set()
        assert self.leave.wait(WAIT)
        self._inner(*arguments)
        with self._lock:
            self._now -= 1


def two_gpus(monkeypatch: pytest.MonkeyPatch, function: str) -> tuple[list[Reader], Inside]:
    """Two GPUs of which each next full reading has an activity."""
    nvml = FakeNvml(h100(0), h100(1))
    readers: list[Reader] = list(opened(nvml, monkeypatch, Clock(step=1.0)).readers())
    for reader in readers:
        assert reader.read_full().activity is None
    inside = Inside(getattr(nvml, f"_{function}"))
    setattr(nvml, f"_{function}", inside)
    return readers, inside


@pytest.mark.parametrize("function", GUARDED)
def test_two_threads_are_never_in_it_at_once(
    monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    readers, inside = two_gpus(monkeypatch, function)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(readers[0].read_full)
        assert inside.entered.wait(WAIT)
        second = threads.submit(readers[1].read_full)
        inside.leave.set()
        assert first.result(WAIT).activity is not None
        assert second.result(WAIT).activity is not None
    assert inside.most == 1


@pytest.mark.parametrize("function", GUARDED)
def test_a_thread_that_stays_in_it_costs_the_others_their_activity_alone(
    monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    monkeypatch.setattr("exporter.gpus.nvml.turnstile._PATIENCE_SECONDS", 0.01)
    readers, inside = two_gpus(monkeypatch, function)
    with ThreadPoolExecutor(1) as threads:
        stuck = threads.submit(readers[0].read_full)
        assert inside.entered.wait(WAIT)
        for _ in range(3):
            read: FullReading = readers[1].read_full()
            assert read.activity is None
            assert read.failures == (FieldFailure("activity", Reason.TIMEOUT),)
            assert read.power_draw_watts is not None
        inside.leave.set()
        assert stuck.result(WAIT).activity is not None
    assert readers[1].read_full().activity is not None
