"""Utilisation of single processes: only when asked for, and each sample once."""

import pynvml
import pytest

from exporter.gpus import GpuError, Reader
from exporter.model.readings import FieldFailure, ProcessUtilization, Reason
from tests.doubles.fake_device import LOST, NO_PERMISSION, NOT_SUPPORTED, Failure, FakeDevice
from tests.doubles.fake_gpus import gpu_uuid, h100, h100_mig
from tests.doubles.fake_nvml import FakeNvml
from tests.doubles.nvml_session import reader_of

NEW = "nvmlDeviceGetProcessesUtilizationInfo"
OLD = "nvmlDeviceGetProcessUtilization"


def told(reader: Reader) -> dict[int, float] | None:
    read = reader.read_full(processes=True)
    if read.process_utilization is None:
        return None
    return {process.pid: process.sm_ratio for process in read.process_utilization}


def only(gpu: FakeDevice, *samples: tuple[int, int, int]) -> None:
    gpu.process_samples = list(samples)


def test_processes_are_told_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(h100())
    reader = reader_of(nvml, monkeypatch)
    assert reader.read_full().process_utilization is None
    assert not {NEW, OLD} & set(nvml.calls)
    assert reader.read_full(processes=True).process_utilization == (
        ProcessUtilization(21180, 0.6),
        ProcessUtilization(21198, 0.3),
    )


@pytest.mark.parametrize("driver", ["older than the call", "newer than the struct"])
def test_an_older_call(monkeypatch: pytest.MonkeyPatch, driver: str) -> None:
    gpu = h100()
    nvml = FakeNvml(gpu)
    if driver == "older than the call":
        nvml.missing.add(NEW)
    else:
        gpu.answers[NEW] = Failure(pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH)
    reader = reader_of(nvml, monkeypatch)
    assert told(reader) == {21180: 0.6, 21198: 0.3}
    nvml.calls.clear()
    only(gpu, (2_000_000, 7, 10))
    assert told(reader) == {7: 0.1}
    assert NEW not in nvml.calls


def test_a_sample_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100()
    reader = reader_of(FakeNvml(gpu), monkeypatch)
    only(gpu, (1_000_000, 7, 10))
    assert told(reader) == {7: 0.1}
    assert [told(reader) for _ in range(3)] == [{}, {}, {}]
    only(gpu, (1_000_000, 7, 10), (2_000_000, 7, 50))
    assert told(reader) == {7: 0.5}
    only(gpu, (2_000_000, 7, 50), (3_000_000, 7, 20))
    assert told(reader) == {7: 0.2}


def test_no_process_did_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100()
    only(gpu)
    read = reader_of(FakeNvml(gpu), monkeypatch).read_full(processes=True)
    assert read.process_utilization == ()
    assert read.failures == ()


def test_several_samples_of_a_process_are_their_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100()
    only(gpu, *((1_000_000 * n, 7, 30 + 10 * n) for n in range(1, 5)), (1_000_000, 8, 80))
    assert told(reader_of(FakeNvml(gpu), monkeypatch)) == {7: 0.55, 8: 0.2}


def test_slots_that_mean_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100()
    only(gpu, (1_000_000, 0, 50), (0, 7, 50), (1_000_000, 8, 1_234_567), (1_000_000, 9, 5))
    assert told(reader_of(FakeNvml(gpu), monkeypatch)) == {9: 0.05}


def test_a_clock_that_was_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100()
    reader = reader_of(FakeNvml(gpu), monkeypatch)
    only(gpu, (9_000_000_000, 7, 10))
    assert told(reader) == {7: 0.1}
    only(gpu, (5_000_000_000, 7, 20))
    assert told(reader) == {}
    only(gpu, (5_000_000_000, 7, 20), (5_001_000_000, 7, 40))
    assert told(reader) == {7: 0.3}
    only(gpu, (5_001_000_000, 7, 40), (5_002_000_000, 7, 50))
    assert told(reader) == {7: 0.5}


def test_under_mig_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(h100_mig())
    reader = reader_of(nvml, monkeypatch)
    read = reader.read_full(processes=True)
    assert read.process_utilization is None
    assert read.failures == ()
    nvml.calls.clear()
    reader.read_full(processes=True)
    assert not {NEW, OLD} & set(nvml.calls)


def test_a_new_layout_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100()
    reader = reader_of(FakeNvml(gpu), monkeypatch)
    only(gpu, (2_000_000, 7, 10))
    assert told(reader) == {7: 0.1}
    gpu.answers["nvmlDeviceGetMigMode"] = (1, 1)
    gpu.answers["nvmlDeviceGetMaxMigDeviceCount"] = 7
    gpu.mig = []
    assert told(reader) == {7: 0.1}


def test_a_refusal_is_a_failure_of_the_field_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100()
    gpu.answers |= {NEW: NO_PERMISSION, OLD: NOT_SUPPORTED}
    read = reader_of(FakeNvml(gpu), monkeypatch).read_full(processes=True)
    assert read.process_utilization is None
    assert read.failures == (FieldFailure("process_utilization", Reason.NO_PERMISSION),)
    assert read.power_draw_watts is not None


def test_a_loss_is_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100()
    gpu.answers[NEW] = LOST
    with pytest.raises(GpuError) as raised:
        reader_of(FakeNvml(gpu), monkeypatch).read_full(processes=True)
    assert raised.value.reason is Reason.GPU_LOST
    assert gpu.uuid == gpu_uuid(0)
