"""The driver's own utilisation samples: each is told once, whatever the clock does."""

import pynvml
import pytest

from exporter.model.readings import FieldFailure, Reason, UtilizationSample
from tests.doubles.fake_device import NOT_FOUND, NOT_SUPPORTED, Failure, FakeDevice
from tests.doubles.fake_gpus import h100
from tests.doubles.fake_nvml import FakeNvml
from tests.doubles.nvml_session import reader_of


def h100_of_one_source() -> FakeDevice:
    """Describe a board whose utilization comes from its sample buffer, or not at all."""
    gpu = h100()
    gpu.fail("nvmlDeviceGetUtilizationRates", NOT_SUPPORTED)
    gpu.gpm = {}
    return gpu


def test_only_what_is_new_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100_of_one_source()
    nvml = FakeNvml(gpu)
    reader = reader_of(nvml, monkeypatch)
    first = reader.read_full().utilization
    assert first is not None
    assert len(first) == 5
    assert reader.read_full().utilization == ()
    gpu.samples = [(2_000_000, 50)]
    nvml.calls.clear()
    assert reader.read_full().utilization == (UtilizationSample(2.0, 0.5),)
    assert nvml.calls.count("nvmlDeviceGetSamples") == 1


def test_a_buffer_that_has_grown(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100_of_one_source()
    reader = reader_of(FakeNvml(gpu), monkeypatch)
    reader.read_full()
    gpu.samples = [(3_000_000 + i, 1) for i in range(20)]
    read = reader.read_full()
    assert read.utilization is None
    assert read.failures == (FieldFailure("utilization", Reason.UNKNOWN),)
    again = reader.read_full().utilization
    assert again is not None
    assert len(again) == 20


def test_samples_come_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100()
    gpu.samples = [(1_800_000, 2), (1_600_000, 1)]
    read = reader_of(FakeNvml(gpu), monkeypatch).read_full().utilization
    assert read is not None
    assert [sample.timestamp for sample in read] == [1.6, 1.8]


@pytest.mark.parametrize(
    "sample_type",
    [
        pynvml.NVML_VALUE_TYPE_DOUBLE,
        pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG,
        pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG,
        pynvml.NVML_VALUE_TYPE_SIGNED_INT,
    ],
)
def test_of_any_type(monkeypatch: pytest.MonkeyPatch, sample_type: int) -> None:
    gpu = h100()
    gpu.samples, gpu.sample_type = [(1_500_000, 25)], sample_type
    read = reader_of(FakeNvml(gpu), monkeypatch).read_full()
    assert read.utilization == (UtilizationSample(1.5, 0.25),)


def test_of_a_type_younger_than_we_are(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100_of_one_source()
    gpu.sample_type = 99
    read = reader_of(FakeNvml(gpu), monkeypatch).read_full()
    assert read.utilization is None
    assert read.failures == (FieldFailure("utilization", Reason.UNKNOWN),)


@pytest.mark.parametrize(
    ("failure", "expected"),
    [(NOT_FOUND, ()), (Failure(pynvml.NVML_ERROR_NO_DATA), ()), (NOT_SUPPORTED, None)],
)
def test_none_are_there(
    monkeypatch: pytest.MonkeyPatch, failure: Failure, expected: object
) -> None:
    gpu = h100_of_one_source()
    gpu.fail("nvmlDeviceGetSamples", failure)
    read = reader_of(FakeNvml(gpu), monkeypatch).read_full()
    assert read.utilization == expected
    assert read.failures == ()


def test_a_clock_that_is_set_back_by_an_hour_makes_nothing_invisible(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hour, period, buffered = 3_600_000_000, 200_000, 71
    gpu = h100_of_one_source()
    reader = reader_of(FakeNvml(gpu), monkeypatch)
    # What the driver samples, oldest first: its clock is set back between two reads.
    times = [2 * hour + period * n for n in range(100)]
    times += [times[-1] - hour + period * n for n in range(100)]
    told: list[float] = []
    for end in range(75, 200, 25):
        gpu.samples = [(time, 50) for time in times[max(0, end - buffered) : end]]
        told += [sample.timestamp for sample in reader.read_full().utilization or ()]
    assert sorted(round(time * 1e6) for time in told) == sorted(times[75 - buffered : 175])
