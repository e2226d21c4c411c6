"""Recordings below pynvml: the recorder itself, and every recording that is kept."""

import json
from dataclasses import replace
from pathlib import Path

import pynvml
import pytest

from exporter.gpus import GpuError
from exporter.model.readings import FastReading, FullReading, Reason, SlowReading
from tests.doubles import capture
from tests.doubles.capture import Call, Capture, Recorder, Replay
from tests.doubles.fake_device import UNKNOWN
from tests.doubles.fake_gpus import h100, h100_mig
from tests.doubles.fake_nvml import FakeNvml
from tests.doubles.nvml_session import Clock, opened

CAPTURES = Path(__file__).parents[3] / "captures"
KEPT = sorted(CAPTURES.glob("*.json.gz"))


def no_pause(seconds: float) -> None:
    """Pass no time: the clock does."""


def machine() -> FakeNvml:
    gpu = h100(0)
    gpu.fail("nvmlDeviceGetPowerUsage", UNKNOWN)
    return FakeNvml(gpu, h100_mig(1))


def without_serial(
    reading: FastReading | FullReading | SlowReading,
) -> FastReading | FullReading | SlowReading:
    if isinstance(reading, FullReading):
        return replace(reading, gpu=replace(reading.gpu, serial=None))
    return reading


@pytest.mark.parametrize("suffix", ["json", "json.gz"])
def test_a_replay_gives_the_readings_that_were_recorded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, suffix: str
) -> None:
    with monkeypatch.context() as patch:
        backend = opened(machine(), patch, Clock(step=1.0))
        readings = capture.read_all(backend, no_pause)
        backend.close()

    with monkeypatch.context() as patch:
        machine().install(patch)
        recorded = capture.record(no_pause, Clock(step=1.0))
        assert not isinstance(pynvml.nvmlLib, Recorder)
    path = tmp_path / f"some.{suffix}"
    recorded.save(path)

    stored = Capture.load(path)
    assert stored == recorded
    assert stored.about["driver"] == "580.159.04"
    assert stored.about["gpus"] == "NVIDIA H100 80GB HBM3"
    backend = capture.replay(stored, monkeypatch, Clock(step=1.0))
    assert backend.open().version == "580.159.04"
    replayed = capture.read_all(backend, no_pause)
    assert [without_serial(r) for r in replayed] == [without_serial(r) for r in readings]
    backend.close()


def test_no_serial_number_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine().install(monkeypatch)
    path = tmp_path / "some.json"
    capture.record(no_pause, Clock(step=1.0)).save(path)
    serials = [c for c in json.loads(path.read_text())["calls"] if c[0] == "nvmlDeviceGetSerial"]
    assert [bytes.fromhex(c[3][0]) for c in serials] == [b"0" * 13] * 2


def test_a_replay_goes_from_exact_to_vague() -> None:
    calls = [
        Call("f", ("*1", "5"), 10, ()),
        Call("f", ("*1", "5"), 11, ()),
        Call("f", ("*2", "6"), 12, ()),
    ]
    replay = Replay(calls)
    assert [replay._next("f", ("*1", "5")) for _ in range(3)] == [calls[0], calls[1], calls[1]]
    assert replay._next("f", ("*1", "7")) == calls[0]
    assert replay._next("f", ("*3", "6")) is None
    with pytest.raises(AttributeError):
        _ = replay.g


def test_a_machine_without_a_driver_can_not_be_recorded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nvml = machine()
    nvml.installed = False
    nvml.install(monkeypatch)
    with pytest.raises(GpuError) as raised:
        capture.main(["record", "--out", str(tmp_path / "none.json")])
    assert raised.value.reason is Reason.LIBRARY_NOT_FOUND
    assert list(tmp_path.iterdir()) == []


def test_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine().install(monkeypatch)
    monkeypatch.setattr("tests.doubles.capture.time.sleep", no_pause)
    path = tmp_path / "new" / "some.json.gz"
    capture.main(["record", "--out", str(path)])
    assert len(Capture.load(path).calls) > 300
    assert "calls of NVIDIA H100 80GB HBM3 in" in capsys.readouterr().out


@pytest.mark.skipif(
    not KEPT,
    reason="tests/captures holds no recording: `python -m tests.doubles.capture record` makes one"
    " on a machine with a GPU",
)
def test_recordings_of_real_hardware_read_well(
    monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    for path in KEPT:
        with subtests.test(path.name), monkeypatch.context() as patch:
            backend = capture.replay(Capture.load(path), patch, Clock(step=1.0))
            backend.open()
            readings = capture.read_all(backend, no_pause)
            backend.close()
            assert {type(r) for r in readings} == {FastReading, FullReading, SlowReading}
            for reading in readings:
                check(reading)


def check(reading: FastReading | FullReading | SlowReading) -> None:
    assert reading.failures == ()
    if isinstance(reading, FastReading):
        memory = reading.memory
        assert memory is not None
        assert memory.used_bytes + memory.free_bytes <= memory.total_bytes
    elif isinstance(reading, FullReading):
        assert reading.gpu.uuid.startswith("GPU-")
        assert reading.gpu.model
        assert all(0 <= s.ratio <= 1 for s in reading.utilization or ())
        assert all(0 < t < 120 for t in reading.temperature_celsius.values())
