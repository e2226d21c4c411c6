"""What the driver's accounting kept: of each process once, as soon as it has ended."""

import pynvml
import pytest

from exporter.gpus import Reader
from exporter.model.clocks import UnixSeconds
from exporter.model.readings import EndedProcess, FieldFailure, Reason
from tests.doubles.fake_device import NOT_SUPPORTED, UNKNOWN, FakeDevice
from tests.doubles.fake_gpus import h100
from tests.doubles.fake_nvml import FakeNvml
from tests.doubles.nvml_session import reader_of

MODE = "nvmlDeviceGetAccountingMode"
PIDS = "nvmlDeviceGetAccountingPids"
STATS = "nvmlDeviceGetAccountingStats"
GIB = 2**30
START = 1_800_000_000


def kept(gib: int, *, running: bool = False, start: int = START) -> dict[str, int]:
    """Give the struct of a process that ran for 90 s, as the driver fills it."""
    return {
        "gpuUtilization": 40,
        "memoryUtilization": 20,
        "maxMemoryUsage": gib * GIB,
        "time": 0 if running else 90_000,
        "startTime": start * 1_000_000,
        "isRunning": int(running),
    }


def runs(gpu: FakeDevice, *pids: int) -> None:
    process = {"gpuInstanceId": 0xFFFFFFFF, "computeInstanceId": 0xFFFFFFFF}
    gpu.processes["Compute"] = [process | {"pid": pid, "usedGpuMemory": GIB} for pid in pids]


@pytest.fixture
def gpu() -> FakeDevice:
    """Give a GPU whose accounting is on, with a process that runs and one from before."""
    device = h100()
    device.answers[MODE] = pynvml.NVML_FEATURE_ENABLED
    device.accounting = {1: kept(30), 2: kept(8, running=True)}
    runs(device, 2)
    return device


def looking(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> Reader:
    """Give a reader that knows what there was before it."""
    reader = reader_of(nvml, monkeypatch)
    reader.read_slow()
    assert reader.read_fast().ended == ()
    nvml.calls.clear()
    return reader


def test_a_process_that_ended_is_told_once(
    gpu: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml = FakeNvml(gpu)
    reader = looking(nvml, monkeypatch)
    assert reader.read_fast().ended == ()
    assert STATS not in nvml.calls  # what runs, and what was there before, costs nothing
    runs(gpu)
    gpu.accounting[2] = kept(78)
    assert reader.read_fast().ended == (EndedProcess(2, UnixSeconds(float(START)), 78 * GIB),)
    assert reader.read_fast().ended == ()
    assert nvml.calls.count(STATS) == 1


def test_a_process_that_came_and_went_between_two_readings(
    gpu: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = looking(FakeNvml(gpu), monkeypatch)
    gpu.accounting[3] = kept(79, start=START + 5)
    assert reader.read_fast().ended == (EndedProcess(3, UnixSeconds(START + 5.0), 79 * GIB),)


def test_a_process_that_began_as_we_looked_is_told_at_its_end(
    gpu: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = looking(FakeNvml(gpu), monkeypatch)
    gpu.accounting[3] = kept(1, running=True)
    assert reader.read_fast().ended == ()
    gpu.accounting[3] = kept(40)
    assert [process.pid for process in reader.read_fast().ended] == [3]


def test_a_pid_that_is_used_again_is_another_process(
    gpu: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = looking(FakeNvml(gpu), monkeypatch)
    runs(gpu, 1, 2)
    assert reader.read_fast().ended == ()
    gpu.accounting[1] = kept(50)
    runs(gpu, 2)
    assert reader.read_fast().ended == (EndedProcess(1, UnixSeconds(float(START)), 50 * GIB),)


@pytest.mark.parametrize("mode", [pynvml.NVML_FEATURE_DISABLED, NOT_SUPPORTED])
def test_where_the_mode_is_off_nothing_more_is_asked(
    gpu: FakeDevice, monkeypatch: pytest.MonkeyPatch, mode: object
) -> None:
    gpu.answers[MODE] = mode
    nvml = FakeNvml(gpu)
    reader = looking(nvml, monkeypatch)
    runs(gpu)
    reading = reader.read_fast()
    assert (reading.ended, reading.failures) == ((), ())
    assert not {PIDS, STATS} & set(nvml.calls)


def test_turned_on_later_it_tells_from_then_on(
    gpu: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu.answers[MODE] = pynvml.NVML_FEATURE_DISABLED
    reader = looking(FakeNvml(gpu), monkeypatch)
    gpu.answers[MODE] = pynvml.NVML_FEATURE_ENABLED
    reader.read_slow()
    assert reader.read_fast().ended == ()
    runs(gpu)
    gpu.accounting[2] = kept(8)
    assert [process.pid for process in reader.read_fast().ended] == [2]


def test_the_mode_is_never_set(gpu: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(gpu)
    reader = looking(nvml, monkeypatch)
    for _ in range(3):
        reader.read_slow()
    assert MODE in nvml.calls
    assert not [name for name in nvml.calls if "Set" in name or "Clear" in name]


def test_a_refusal_is_a_failure_of_the_field_alone(
    gpu: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = looking(FakeNvml(gpu), monkeypatch)
    gpu.answers[PIDS] = UNKNOWN
    reading = reader.read_fast()
    assert reading.ended == ()
    assert reading.failures == (FieldFailure("accounting", Reason.UNKNOWN),)
    assert reading.memory is not None


def test_a_peak_that_is_not_available_is_left_out(
    gpu: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = looking(FakeNvml(gpu), monkeypatch)
    unknown = pynvml.NVML_VALUE_NOT_AVAILABLE_ulonglong.value
    gpu.accounting[3] = kept(0) | {"maxMemoryUsage": unknown}
    gpu.accounting[4] = kept(5)
    assert [process.pid for process in reader.read_fast().ended] == [4]


def test_while_processes_cant_be_listed_none_counts_as_ended(
    gpu: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = looking(FakeNvml(gpu), monkeypatch)
    listed, gpu.processes = gpu.processes, {}
    assert reader.read_fast().ended == ()
    gpu.processes = listed
    runs(gpu)
    gpu.accounting[2] = kept(8)
    assert [process.pid for process in reader.read_fast().ended] == [2]
