"""Activity from GPM: what is measured over which time, and that every sample is freed."""

import math

import pynvml
import pytest

from exporter.gpus import GpuError
from exporter.model.readings import Activity, FieldFailure, Reason
from tests.doubles.fake_device import NO_PERMISSION, UNKNOWN
from tests.doubles.fake_gpus import enable_mig, h100, h100_mig, mig_slice
from tests.doubles.fake_nvml import FakeNvml
from tests.doubles.nvml_session import Clock, opened


def test_means_over_the_time_between_two_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    (reader,) = opened(FakeNvml(h100()), monkeypatch, clock).readers()
    assert reader.read_full().activity is None
    clock.now += 5
    assert reader.read_full().activity == Activity(
        interval_seconds=5.0,
        graphics_ratio=0.995,
        sm_ratio=0.96,
        sm_occupancy_ratio=0.14,
        dram_ratio=0.24,
        pipe_ratio={"tensor": 0.93, "fp16": 0.02, "fp32": 0.01, "fp64": 0.0, "integer": 0.03},
        pcie_receive_bytes=16 * 2**20 * 5.0,
        pcie_transmit_bytes=8 * 2**20 * 5.0,
    )


def test_two_reads_too_close_together_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    (reader,) = opened(FakeNvml(h100()), monkeypatch, clock).readers()
    reader.read_full()
    clock.now += 0.05
    assert reader.read_full().activity is None
    clock.now += 4.95
    activity = reader.read_full().activity
    assert activity is not None
    assert activity.interval_seconds == pytest.approx(5.0)


def test_a_metric_that_fails_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100()
    gpu.gpm[None] |= {1: UNKNOWN, 2: math.nan, 5: UNKNOWN, 20: UNKNOWN}
    (reader,) = opened(FakeNvml(gpu), monkeypatch, Clock(step=1.0)).readers()
    reader.read_full()
    activity = reader.read_full().activity
    assert activity is not None
    assert activity.graphics_ratio is None
    assert activity.sm_ratio is None
    assert "tensor" not in activity.pipe_ratio
    assert activity.pcie_transmit_bytes is None
    assert activity.sm_occupancy_ratio == 0.14


def test_a_board_without_gpm(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100()
    gpu.gpm = {}
    nvml = FakeNvml(gpu)
    (reader,) = opened(nvml, monkeypatch, Clock(step=1.0)).readers()
    for _ in range(3):
        read = reader.read_full()
        assert read.activity is None
        assert read.failures == ()
    assert nvml.calls.count("nvmlGpmQueryDeviceSupport") == 1
    assert nvml.gpm_allocated == 0


def test_a_failed_sample_keeps_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    nvml = FakeNvml(h100())
    (reader,) = opened(nvml, monkeypatch, clock).readers()
    reader.read_full()
    clock.now += 5
    nvml.errors["nvmlGpmSampleGet"] = NO_PERMISSION.code
    read = reader.read_full()
    assert read.activity is None
    assert read.failures == (FieldFailure("activity", Reason.NO_PERMISSION),)
    clock.now += 5
    nvml.errors.clear()
    activity = reader.read_full().activity
    assert activity is not None
    assert activity.interval_seconds == 10.0
    assert nvml.gpm_allocated == 2


@pytest.mark.parametrize("function", ["nvmlGpmSampleAlloc", "nvmlGpmMetricsGet"])
def test_other_failures_of_gpm_are_counted(monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    nvml = FakeNvml(h100())
    nvml.errors[function] = pynvml.NVML_ERROR_MEMORY
    (reader,) = opened(nvml, monkeypatch, Clock(step=1.0)).readers()
    reader.read_full()
    read = reader.read_full()
    assert read.activity is None
    assert read.failures == (FieldFailure("activity", Reason.UNKNOWN),)


class TestLifetimes:
    """NVML's samples are ours to free, each once."""

    def test_two_are_enough_for_a_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        nvml = FakeNvml(h100())
        backend = opened(nvml, monkeypatch, Clock(step=1.0))
        (reader,) = backend.readers()
        for _ in range(10):
            reader.read_full()
        assert nvml.gpm_allocated == len(nvml.gpm_samples) == 2
        backend.close()
        assert nvml.gpm_samples == {}

    def test_a_new_layout_frees_the_old_ones(self, monkeypatch: pytest.MonkeyPatch) -> None:
        gpu = h100_mig()
        nvml = FakeNvml(gpu)
        backend = opened(nvml, monkeypatch, Clock(step=1.0))
        (reader,) = backend.readers()
        reader.read_full()
        reader.read_full()
        assert len(list(filter(None, nvml.gpm_samples.values()))) == 8
        enable_mig(gpu, [mig_slice(9, "7g.80gb", gpu_instance=0, sm_count=132, total=80, used=1)])
        reader.read_full()
        assert list(filter(None, nvml.gpm_samples.values())) == [(gpu.uuid, 0)]
        backend.close()
        assert nvml.gpm_samples == {}

    def test_a_loss_frees_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        nvml = FakeNvml(h100())
        (reader,) = opened(nvml, monkeypatch, Clock(step=1.0)).readers()
        reader.read_full()
        nvml.lost.add(reader.gpu.uuid)
        with pytest.raises(GpuError):
            reader.read_full()
        assert nvml.gpm_samples == {}
        nvml.lost.clear()
        assert reader.read_full().activity is None
        assert reader.read_full().activity is not None

    def test_a_gpu_that_is_gone_frees_them_in_the_end(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        nvml = FakeNvml(h100(0), h100(1))
        backend = opened(nvml, monkeypatch)
        for reader in backend.readers():
            reader.read_full()
        assert len(nvml.gpm_samples) == 2
        del nvml.gpus[1]
        assert len(backend.readers()) == 1
        backend.close()
        assert nvml.gpm_samples == {}

    def test_a_library_that_is_gone_is_no_trouble(self, monkeypatch: pytest.MonkeyPatch) -> None:
        nvml = FakeNvml(h100())
        backend = opened(nvml, monkeypatch)
        backend.readers()[0].read_full()
        nvml.initialized = False
        backend.close()
