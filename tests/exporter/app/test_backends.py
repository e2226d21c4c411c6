"""Which backend `auto` takes."""

import threading
import time

import pytest

from exporter.app.backends import make_backend
from exporter.config import Config
from exporter.gpus import GpuError
from exporter.gpus.nvml.backend import NvmlBackend
from exporter.model.devices import Driver
from exporter.model.readings import Reason

AUTO = Config(backend="auto", read_deadline=0.1)


@pytest.mark.parametrize(
    ("reason", "name"),
    [
        (Reason.LIBRARY_NOT_FOUND, "simulated"),
        (Reason.DRIVER_NOT_LOADED, "simulated"),
        (Reason.LIBRARY_MISMATCH, "nvml"),
        (Reason.NO_PERMISSION, "nvml"),
        (Reason.UNKNOWN, "nvml"),
    ],
)
def test_only_where_there_is_no_driver_are_gpus_simulated(
    reason: Reason, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: NvmlBackend) -> Driver:
        raise GpuError(reason, "no")

    monkeypatch.setattr(NvmlBackend, "open", refuse)
    assert make_backend(AUTO).name == name


def test_a_driver_that_hangs_is_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    release, released = threading.Event(), threading.Event()

    def hang(_: NvmlBackend) -> None:
        release.wait()
        released.set()
        raise GpuError(Reason.UNKNOWN, "too late")

    monkeypatch.setattr(NvmlBackend, "open", hang)
    begun = time.monotonic()
    assert make_backend(AUTO).name == "nvml"
    assert time.monotonic() - begun < 5.0
    release.set()
    assert released.wait(5.0)


def test_what_was_opened_to_see_is_closed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(NvmlBackend, "open", lambda _: calls.append("open"))
    monkeypatch.setattr(NvmlBackend, "close", lambda _: calls.append("close"))
    assert make_backend(AUTO).name == "nvml"
    assert calls == ["open", "close"]
