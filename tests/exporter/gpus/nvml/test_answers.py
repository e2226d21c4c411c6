"""One answer of one GPU that is wrong costs its field: texts, codes and what pynvml can't read."""

import logging
from typing import Any

import pynvml
import pytest

from exporter.gpus import GpuError
from exporter.gpus.nvml import library
from exporter.gpus.nvml.library import CallError, attempt
from exporter.model.readings import FieldFailure, Memory, Process, ProcessType, Reason
from tests.doubles.fake_device import NO_PERMISSION, Failure
from tests.doubles.fake_gpus import MIB, NONE, gpu_uuid, h100, process
from tests.doubles.fake_nvml import FakeNvml
from tests.doubles.nvml_session import Clock, opened, read_all, reader_of

UNREADABLE = b"\xff" * 20
REPLACED = "\N{REPLACEMENT CHARACTER}" * 20

SESSION_CODES = (
    pynvml.NVML_ERROR_UNINITIALIZED,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
)


@pytest.mark.parametrize(
    ("function", "field"),
    [
        ("nvmlDeviceGetName", "model"),
        ("nvmlDeviceGetSerial", "serial"),
        ("nvmlDeviceGetVbiosVersion", "vbios_version"),
    ],
)
def test_a_text_that_is_not_utf8_costs_its_characters(
    monkeypatch: pytest.MonkeyPatch, function: str, field: str
) -> None:
    gpu = h100()
    gpu.answers[function] = UNREADABLE
    reader = reader_of(FakeNvml(gpu), monkeypatch)
    assert read_all(reader)["failures"] == ()
    assert getattr(reader.gpu, field) == REPLACED


def test_a_driver_version_that_is_not_utf8_opens_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nvml = FakeNvml(h100())
    monkeypatch.setattr(
        nvml,
        "_nvmlSystemGetDriverVersion",
        lambda buffer, size: setattr(buffer, "value", b"580\xff.1\x07"),
    )
    nvml.install(monkeypatch)
    character = "\N{REPLACEMENT CHARACTER}"
    backend = opened(nvml, monkeypatch)
    assert backend.open().version == f"580{character}.1{character}"


@pytest.mark.parametrize(
    "failure", [ValueError("x"), MemoryError(), TypeError("y"), OverflowError("z")]
)
def test_whatever_pynvml_raises_is_an_error_of_the_call(failure: Exception) -> None:
    def call() -> None:
        raise failure

    with pytest.raises(CallError) as raised:
        attempt(call)
    assert raised.value.reason is Reason.UNKNOWN
    assert str(raised.value) == f"{type(failure).__name__}: {failure}"


def test_a_function_that_this_pynvml_lacks_is_one_that_the_driver_lacks() -> None:
    with pytest.raises(CallError) as raised:
        library.nvml.nvmlDeviceGetSomethingOfNextYear(None)
    assert raised.value.reason is Reason.NOT_SUPPORTED


def test_the_text_of_an_error_may_be_unreadable_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(code: int) -> str:
        return UNREADABLE.decode()

    monkeypatch.setattr(pynvml, "nvmlErrorString", unreadable)
    assert str(CallError(98_765)) == "NVML error 98765"


def test_an_answer_that_pynvml_can_not_read_costs_one_field_and_few_lines(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    nvml, clock = FakeNvml(h100()), Clock()
    reader = reader_of(nvml, monkeypatch, clock)
    read_all(reader)

    def broken(*arguments: Any) -> None:
        raise ValueError("no such member")

    for function in ("PowerUsage", "PerformanceState"):
        monkeypatch.setattr(pynvml, f"nvmlDeviceGet{function}", broken)
    for _ in range(24):
        read = reader.read_full()
        assert read.failures == (
            FieldFailure("power_draw_watts", Reason.UNKNOWN),
            FieldFailure("performance_state", Reason.UNKNOWN),
        )
        assert read.memory_busy_ratio == 0.41
        clock.now += 5.0
    assert len(caplog.records) == 2
    first = caplog.records[0]
    assert (first.levelno, first.exc_info) == (logging.ERROR, None)
    assert first.getMessage().endswith("ValueError: no such member")


@pytest.mark.parametrize("code", SESSION_CODES)
@pytest.mark.parametrize(
    ("read", "function", "field"),
    [
        ("read_fast", "nvmlDeviceGetMemoryInfo_v2", "memory"),
        ("read_full", "nvmlDeviceGetPowerUsage", "power_draw_watts"),
        ("read_full", "nvmlDeviceGetSamples", "utilization"),
        ("read_slow", "nvmlDeviceGetMarginTemperature", "temperature_margin_celsius"),
    ],
)
def test_a_field_that_calls_the_driver_gone_ends_no_session_with_a_driver_that_answers(
    monkeypatch: pytest.MonkeyPatch, read: str, function: str, field: str, code: int
) -> None:
    gpu = h100()
    gpu.fail(function, Failure(code))
    reading = getattr(reader_of(FakeNvml(gpu), monkeypatch), read)()
    reason = library.REASONS[code]
    assert reading.failures == (FieldFailure(field, reason),)


@pytest.mark.parametrize("code", SESSION_CODES)
def test_a_gpu_that_calls_the_driver_gone_in_all_its_fields_is_itself_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    nvml = FakeNvml(h100(0), h100(1))
    wrong, well = opened(nvml, monkeypatch).readers()
    nvml.refusing[gpu_uuid(0)] = Failure(code)
    with pytest.raises(GpuError) as raised:
        wrong.read_fast()
    assert raised.value.reason is Reason.UNKNOWN
    assert well.read_fast().memory is not None


# Memory


def test_memory_of_zero_bytes_is_not_reported_by_a_board_that_never_had_any(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = h100()
    nothing = {"total": 0, "used": 0, "free": 0}
    gpu.answers |= {
        "nvmlDeviceGetMemoryInfo_v2": {**nothing, "reserved": 0},
        "nvmlDeviceGetMemoryInfo": nothing,
    }
    read = reader_of(FakeNvml(gpu), monkeypatch).read_fast()
    assert read.memory is None
    assert read.failures == ()
    assert read.processes is not None


def test_memory_of_zero_bytes_is_implausible_where_there_was_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = h100()
    reader = reader_of(FakeNvml(gpu), monkeypatch)
    known = reader.read_fast().memory
    assert known == Memory(81559 * MIB, 11124 * MIB, 69956 * MIB, 479 * MIB)
    answer = gpu.answers["nvmlDeviceGetMemoryInfo_v2"]
    gpu.answers["nvmlDeviceGetMemoryInfo_v2"] = dict.fromkeys(answer, 0)
    read = reader.read_fast()
    assert read.memory is None
    assert read.failures == (FieldFailure("memory", Reason.IMPLAUSIBLE),)
    gpu.answers["nvmlDeviceGetMemoryInfo_v2"] = answer
    assert reader.read_fast().memory == known


# Processes


def test_drivers_whose_newest_list_has_longer_structs_are_asked_for_the_older_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nvml = FakeNvml(h100(), driver="535.54.03")
    read = reader_of(nvml, monkeypatch).read_fast()
    assert read.processes == (
        Process(21180, ProcessType.COMPUTE, 2296 * MIB),
        Process(21198, ProcessType.COMPUTE, 7484 * MIB),
    )
    assert "nvmlDeviceGetComputeRunningProcesses_v3" not in nvml.calls


def test_a_driver_without_the_older_list_is_asked_for_the_newer_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nvml = FakeNvml(h100())
    nvml.missing = {f"nvmlDeviceGet{kind}RunningProcesses_v2" for kind in h100().processes}
    assert len(reader_of(nvml, monkeypatch).read_fast().processes or ()) == 2


@pytest.mark.parametrize("pid", [0, 0xFFFFFFFF])
def test_a_list_with_a_process_that_can_not_be_is_no_list(
    monkeypatch: pytest.MonkeyPatch, pid: int
) -> None:
    gpu = h100()
    gpu.processes["Compute"].append(process(pid, 512))
    read = reader_of(FakeNvml(gpu), monkeypatch).read_fast()
    assert read.processes is None
    assert read.failures == (FieldFailure("processes", Reason.IMPLAUSIBLE),)


@pytest.mark.parametrize(
    ("used", "expected", "failures"),
    [
        (2**64 - 1, None, ()),  # NVML's "not available"
        (2**63, None, (FieldFailure("processes", Reason.IMPLAUSIBLE),)),
        (90_000 * MIB, None, (FieldFailure("processes", Reason.IMPLAUSIBLE),)),
        (80_000 * MIB, 80_000 * MIB, ()),
    ],
)
def test_a_process_uses_no_more_memory_than_there_is(
    monkeypatch: pytest.MonkeyPatch,
    used: int,
    expected: int | None,
    failures: tuple[FieldFailure, ...],
) -> None:
    gpu = h100()
    reader = reader_of(FakeNvml(gpu), monkeypatch)
    reader.read_fast()
    gpu.processes["Compute"] = [
        {"pid": 7, "usedGpuMemory": used, "gpuInstanceId": NONE, "computeInstanceId": NONE}
    ]
    read = reader.read_fast()
    assert read.processes == (Process(7, ProcessType.COMPUTE, expected),)
    assert read.failures == failures


@pytest.mark.parametrize("length", [2**31 - 1, 2**32 - 1])
def test_a_list_longer_than_any_is_no_list(monkeypatch: pytest.MonkeyPatch, length: int) -> None:
    nvml = FakeNvml(h100())
    reader = reader_of(nvml, monkeypatch)
    reader.read_fast()

    def endless(device: Any, name: str, count: Any, into: Any) -> int:
        count._obj.value = length
        return int(pynvml.NVML_ERROR_INSUFFICIENT_SIZE)

    monkeypatch.setattr(nvml, "_list_processes", endless)
    read = reader.read_fast()
    assert read.processes is None
    assert read.failures == (FieldFailure("processes", Reason.IMPLAUSIBLE),)
    assert read.memory is not None


def test_what_is_refused_is_no_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = h100()
    gpu.fail("nvmlDeviceGetPowerUsage", NO_PERMISSION)
    read = reader_of(FakeNvml(gpu), monkeypatch).read_full()
    assert read.failures == (FieldFailure("power_draw_watts", Reason.NO_PERMISSION),)
