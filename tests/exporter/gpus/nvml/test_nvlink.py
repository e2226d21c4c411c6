"""NVLink's sums: of all links or of none."""

import pynvml
import pytest

from exporter.gpus.nvml.asking import ASK_AGAIN_SECONDS
from exporter.model.readings import FieldFailure, Reason
from tests.doubles.fake_device import NOT_SUPPORTED, TIMEOUT, UNKNOWN, Failure
from tests.doubles.fake_gpus import h100
from tests.doubles.fake_nvml import FakeNvml
from tests.doubles.nvml_session import Clock, reader_of


def test_an_nvlink_error_that_one_link_fails_to_tell_has_no_sum(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = h100()
    gpu.fields[pynvml.NVML_FI_DEV_NVLINK_ERROR_DL_RECOVERY, 1] = UNKNOWN
    read = reader_of(FakeNvml(gpu), monkeypatch).read_slow()
    assert read.nvlink_errors == {"crc_flit": 6, "replay": 5}
    assert read.failures == (FieldFailure("nvlink_errors", Reason.UNKNOWN),)


@pytest.mark.parametrize("failure", [NOT_SUPPORTED, UNKNOWN, TIMEOUT])
def test_a_link_that_told_and_does_not_now_leaves_no_sum(
    monkeypatch: pytest.MonkeyPatch, failure: Failure
) -> None:
    gpu = h100()
    link = (pynvml.NVML_FI_DEV_NVLINK_ERROR_DL_REPLAY, 2)
    reader = reader_of(FakeNvml(gpu), monkeypatch)
    assert reader.read_slow().nvlink_errors["replay"] == 5
    count, gpu.fields[link] = gpu.fields[link], failure
    for _ in range(2):
        read = reader.read_slow()
        # Not 1: that would look like a counter that started anew.
        assert "replay" not in read.nvlink_errors
        assert [f.field for f in read.failures] == ["nvlink_errors"]
    gpu.fields[link] = count
    read = reader.read_slow()
    assert read.nvlink_errors["replay"] == 5
    assert read.failures == ()


def test_what_links_told_is_remembered_longer_than_what_they_did_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = h100()
    reader = reader_of(FakeNvml(gpu), monkeypatch, clock := Clock())
    reader.read_slow()
    gpu.fields[pynvml.NVML_FI_DEV_NVLINK_ERROR_DL_REPLAY, 2] = NOT_SUPPORTED
    clock.now += ASK_AGAIN_SECONDS
    assert "replay" not in reader.read_slow().nvlink_errors


@pytest.mark.parametrize("failure", [NOT_SUPPORTED, UNKNOWN, TIMEOUT])
def test_a_total_that_fails_is_not_made_up_from_the_links(
    monkeypatch: pytest.MonkeyPatch, failure: Failure
) -> None:
    gpu = h100()
    total = pynvml.NVML_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL
    gpu.fields[total] = 70
    reader = reader_of(FakeNvml(gpu), monkeypatch)
    assert reader.read_slow().nvlink_errors["replay"] == 70
    gpu.fields[total] = failure
    read = reader.read_slow()
    assert "replay" not in read.nvlink_errors
    assert [f.field for f in read.failures] == ["nvlink_errors"]


@pytest.mark.parametrize("failure", [NOT_SUPPORTED, UNKNOWN, TIMEOUT])
def test_links_are_not_counted_without_one_that_told_before(
    monkeypatch: pytest.MonkeyPatch, failure: Failure
) -> None:
    gpu = h100()
    reader = reader_of(FakeNvml(gpu), monkeypatch)
    assert reader.read_slow().nvlink_active_links == 2
    gpu.answers["nvmlDeviceGetNvLinkState", 2] = failure
    read = reader.read_slow()
    assert read.nvlink_active_links is None
    assert [f.field for f in read.failures] == ["nvlink_active_links"]
