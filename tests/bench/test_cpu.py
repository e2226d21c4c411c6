"""The benchmark of what reads cost: that it measures what it says."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from bench import cpu
from exporter.gpus.nvml import NvmlBackend
from tests.doubles.fake_gpus import h100
from tests.doubles.fake_nvml import FakeNvml
from tests.doubles.nvml_session import Clock


def test_reads_come_on_their_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(h100(0), h100(1))
    nvml.install(monkeypatch)
    clock, cpu_clock = Clock(), Clock(step=0.25)

    def sleep(seconds: float) -> None:
        assert seconds >= 0
        clock.now += seconds

    cost = cpu.measure_backend(60.0, clock, cpu_clock, sleep, NvmlBackend(monotonic=clock))
    assert (cost.gpus, cost.seconds, cost.cpu_seconds) == (2, 60.0, 0.25)
    # Once to warm up, then each second, five seconds and half a minute.
    assert nvml.calls.count("nvmlDeviceGetMemoryInfo_v2") == 2 * (1 + 60)
    assert nvml.calls.count("nvmlDeviceGetPowerUsage") == 2 * (1 + 12)
    assert nvml.calls.count("nvmlDeviceGetTotalEnergyConsumption") == 2 * (1 + 2)
    assert not nvml.initialized


def test_a_command_is_watched_and_ended() -> None:
    cost = cpu.measure_command("sleep 1000", gpus=8, seconds=0.0001, settle_seconds=0)
    assert cost.gpus == 8
    assert cost.cpu_seconds < 1
    assert cost.resident_mebibytes is not None


def test_a_command_that_ends_by_itself_is_no_measure() -> None:
    with pytest.raises(SystemExit, match="ended with code"):
        cpu.measure_command("false", gpus=1, seconds=60, settle_seconds=60)


def test_the_table_and_the_numbers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    floor = cpu.Cost("C floor", 8, 100.0, 1.0)
    reads = cpu.Cost("backend's reads", 8, 100.0, 1.5, 40.0)
    monkeypatch.setattr(cpu, "measure_floor", lambda seconds: floor)
    monkeypatch.setattr(cpu, "measure_backend", lambda seconds: reads)
    path = tmp_path / "cpu.json"
    cpu.main(["--seconds", "100", "--json", str(path)])
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == [
        "what",
        "GPUs",
        "CPU",
        "s",
        "%",
        "of",
        "a",
        "core",
        "x",
        "floor",
        "MiB",
    ]
    assert first.split() == ["C", "floor", "8", "1.000", "1.000", "1.00"]
    assert second.split() == ["backend's", "reads", "8", "1.500", "1.500", "1.50", "40"]
    assert [told["times_floor"] for told in json.loads(path.read_text())] == [1.0, 1.5]


def test_the_floor_compiles_without_a_warning(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-c"]
    subprocess.run([compiler, *flags, cpu.FLOOR, "-o", tmp_path / "floor.o"], check=True)
