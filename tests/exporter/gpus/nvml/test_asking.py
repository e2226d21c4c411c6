"""What is not supported is not asked for, and for how long that is believed."""

import pytest

from exporter.gpus import GpuError
from exporter.gpus.nvml.asking import ASK_AGAIN_SECONDS
from exporter.model.readings import FieldFailure, Reason
from tests.doubles.fake_device import NOT_SUPPORTED
from tests.doubles.fake_gpus import h100
from tests.doubles.fake_nvml import FakeNvml
from tests.doubles.nvml_session import Clock, reader_of


def test_what_was_not_supported_is_asked_again_after_a_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = h100()
    limit = gpu.answers.pop("nvmlDeviceGetEnforcedPowerLimit")
    nvml = FakeNvml(gpu)
    reader = reader_of(nvml, monkeypatch)
    assert reader.read_slow().power_limit_watts is None
    gpu.answers["nvmlDeviceGetEnforcedPowerLimit"] = limit
    assert reader.read_slow().power_limit_watts is None
    nvml.lost.add(gpu.uuid)
    with pytest.raises(GpuError):
        reader.read_slow()
    nvml.lost.clear()
    assert reader.read_slow().power_limit_watts == 700.0


def test_what_was_not_supported_is_asked_again_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = h100()
    limit = gpu.answers.pop("nvmlDeviceGetEnforcedPowerLimit")
    nvml, clock = FakeNvml(gpu), Clock()
    reader = reader_of(nvml, monkeypatch, clock)
    assert reader.read_slow().power_limit_watts is None
    gpu.answers["nvmlDeviceGetEnforcedPowerLimit"] = limit
    clock.now += ASK_AGAIN_SECONDS - 1
    assert reader.read_slow().power_limit_watts is None
    clock.now += 1
    read = reader.read_slow()
    assert read.power_limit_watts == 700.0
    assert read.failures == ()


def test_asking_again_is_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100()
    gpu.fail("nvmlDeviceGetEnforcedPowerLimit", NOT_SUPPORTED)
    nvml, clock = FakeNvml(gpu), Clock()
    reader = reader_of(nvml, monkeypatch, clock)
    for _ in range(3600 // 30):
        assert reader.read_slow().failures == ()
        clock.now += 30
    assert nvml.calls.count("nvmlDeviceGetEnforcedPowerLimit") == 6


@pytest.mark.parametrize(
    ("read", "field", "function"),
    [
        ("read_fast", "memory", "nvmlDeviceGetMemoryInfo_v2"),
        ("read_full", "power_draw_watts", "nvmlDeviceGetPowerUsage"),
        ("read_full", "activity", "nvmlGpmSampleGet"),
        ("read_slow", "energy_joules", "nvmlDeviceGetTotalEnergyConsumption"),
    ],
)
def test_what_has_been_there_is_a_failure_and_not_unsupported(
    monkeypatch: pytest.MonkeyPatch, read: str, field: str, function: str
) -> None:
    nvml = FakeNvml(h100())
    reader = reader_of(nvml, monkeypatch)
    getattr(reader, read)()
    nvml.errors[function] = NOT_SUPPORTED.code
    for _ in range(2):
        reading = getattr(reader, read)()
        assert getattr(reading, field) is None
        assert reading.failures == (FieldFailure(field, Reason.NOT_SUPPORTED),)
    nvml.errors.clear()
    reading = getattr(reader, read)()
    assert getattr(reading, field) is not None
    assert reading.failures == ()
