"""Where utilization comes from: the sample buffer, else the latest rate, else GPM."""

import pytest

from exporter.model.readings import FullReading, UtilizationSample
from tests.doubles.fake_device import NOT_SUPPORTED, FakeDevice
from tests.doubles.fake_gpus import h100, h100_mig
from tests.doubles.fake_nvml import FakeNvml
from tests.doubles.nvml_session import Clock, opened


def second_reading(gpu: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> FullReading:
    """Read twice, for GPM has no mean before; the clock stands at 1002 s, or a little later."""
    clock = Clock()
    reader = opened(FakeNvml(gpu), monkeypatch, clock).readers()[0]
    reader.read_full()
    clock.now += 2.0
    return reader.read_full()


def test_the_sample_buffer_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100()
    clock = Clock()
    reader = opened(FakeNvml(gpu), monkeypatch, clock).readers()[0]
    reader.read_full()
    gpu.samples = [(2_000_000, 50)]
    read = reader.read_full()
    assert read.utilization == (UtilizationSample(2.0, 0.5),)
    assert read.utilization_source == "samples"


@pytest.mark.parametrize("samples", [None, [], [(1_000_000, 0)]])
def test_a_buffer_that_is_not_there_or_runs_dry_is_replaced_by_the_latest_rate(
    monkeypatch: pytest.MonkeyPatch, samples: list[tuple[int, int]] | None
) -> None:
    gpu = h100()
    gpu.samples = samples
    gpu.answers["nvmlDeviceGetUtilizationRates"] = {"gpu": 30, "memory": 0}
    read = second_reading(gpu, monkeypatch)
    assert read.utilization == (UtilizationSample(1002.0, 0.3),)
    assert read.utilization_source == "rates"
    assert read.failures == ()


def test_without_rates_the_performance_monitor_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100()
    gpu.samples = None
    gpu.fail("nvmlDeviceGetUtilizationRates", NOT_SUPPORTED)
    read = second_reading(gpu, monkeypatch)
    assert read.utilization == (UtilizationSample(1002.0, 0.995),)
    assert read.utilization_source == "gpm"


def test_a_rate_that_no_board_has_leaves_it_to_the_performance_monitor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = h100()
    gpu.samples = None
    gpu.answers["nvmlDeviceGetUtilizationRates"] = {"gpu": 0xFFFFFFFF, "memory": 41}
    assert second_reading(gpu, monkeypatch).utilization_source == "gpm"


def test_without_any_source_it_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100()
    gpu.samples, gpu.gpm = None, {}
    gpu.fail("nvmlDeviceGetUtilizationRates", NOT_SUPPORTED)
    read = second_reading(gpu, monkeypatch)
    assert (read.utilization, read.utilization_source) == (None, None)
    assert read.failures == ()


def test_under_mig_the_rate_of_the_board_is_not_asked_for_its_utilization(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = h100_mig()
    gpu.answers["nvmlDeviceGetUtilizationRates"] = {"gpu": 30, "memory": 0}
    read = second_reading(gpu, monkeypatch)
    assert (read.utilization, read.utilization_source) == (None, None)
