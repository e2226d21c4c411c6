"""Events of the driver: which are heard, and that no GPU silences another."""

import pynvml
import pytest

from exporter.gpus import GpuError
from exporter.gpus.nvml.events import CHANGES, XID
from exporter.model.clocks import UnixSeconds
from exporter.model.readings import GpuChanged, Reason, XidEvent
from tests.doubles.fake_device import NOT_SUPPORTED, UNKNOWN
from tests.doubles.fake_gpus import gpu_uuid, h100, h100_mig
from tests.doubles.fake_nvml import FakeNvml
from tests.doubles.nvml_session import Clock, found, identified, opened

NOW = UnixSeconds(1000.0)


def test_xids_and_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(h100(0), h100_mig(1))
    whole, divided = identified(opened(nvml, monkeypatch))
    nvml.events += [
        (gpu_uuid(0), pynvml.nvmlEventTypeXidCriticalError, 31),
        (gpu_uuid(1), pynvml.nvmlEventMigConfigChange, 0),
        (gpu_uuid(1), pynvml.nvmlEventTypeXidCriticalError, 94),
        (gpu_uuid(1), pynvml.nvmlEventTypeXidCriticalError, 94),
    ]
    assert divided.wait_events(1.0) == (
        GpuChanged(gpu_uuid(1)),
        XidEvent(gpu_uuid(1), NOW, 94),
        XidEvent(gpu_uuid(1), NOW, 94),
    )
    assert whole.wait_events(1.0) == (XidEvent(gpu_uuid(0), NOW, 31),)
    assert whole.wait_events(1.0) == ()


@pytest.mark.parametrize(
    "event_type",
    [
        pynvml.nvmlEventTypeDoubleBitEccError,
        pynvml.nvmlEventMigConfigChange,
        pynvml.nvmlEventTypeDramRetirementEvent,
        pynvml.nvmlEventTypeDramRetirementFailure,
        pynvml.nvmlEventTypeGpuUnavailableError,
        pynvml.nvmlEventTypeGpuRecoveryAction,
    ],
)
def test_changes(monkeypatch: pytest.MonkeyPatch, event_type: int) -> None:
    nvml = FakeNvml(h100())
    (reader,) = identified(opened(nvml, monkeypatch))
    nvml.events.append((gpu_uuid(0), event_type, 0))
    assert reader.wait_events(1.0) == (GpuChanged(gpu_uuid(0)),)


def test_only_what_a_board_supports_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    old, young = h100(0), h100(1)
    old.answers["nvmlDeviceGetSupportedEventTypes"] = XID | pynvml.nvmlEventTypePState
    young.answers["nvmlDeviceGetSupportedEventTypes"] = 2**63 - 1
    nvml = FakeNvml(old, young)
    readers = identified(opened(nvml, monkeypatch))
    for reader in readers:
        reader.wait_events(0.5)
    assert nvml.registered == {gpu_uuid(0): XID, gpu_uuid(1): XID | CHANGES}
    nvml.calls.clear()
    readers[0].wait_events(0.5)
    assert nvml.calls == ["nvmlEventSetWait_v2"]


@pytest.mark.parametrize(
    ("function", "answer"),
    [
        ("nvmlDeviceGetSupportedEventTypes", NOT_SUPPORTED),
        ("nvmlDeviceGetSupportedEventTypes", pynvml.nvmlEventTypePState),
        ("nvmlEventSetCreate", NOT_SUPPORTED),
    ],
)
def test_a_gpu_whose_xids_can_not_be_heard_says_so(
    monkeypatch: pytest.MonkeyPatch, function: str, answer: object
) -> None:
    nvml = FakeNvml(h100())
    if function == "nvmlEventSetCreate":
        nvml.errors[function] = NOT_SUPPORTED.code
    else:
        nvml.gpus[0].answers[function] = answer
    (reader,) = identified(opened(nvml, monkeypatch))
    with pytest.raises(GpuError) as raised:
        reader.wait_events(0.5)
    assert raised.value.reason is Reason.NOT_SUPPORTED
    assert nvml.event_sets == {}


def test_a_gpu_that_is_not_known_yet_is_heard_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(h100())
    (reader,) = found(opened(nvml, monkeypatch))
    assert reader.wait_events(1.0) == ()
    assert nvml.registered == {}
    assert nvml.slept == [0.1]
    reader.read_fast()
    assert reader.wait_events(1.0) == ()
    assert nvml.registered.keys() == {gpu_uuid(0)}
    assert nvml.slept == [0.1]


def test_a_gpu_that_can_not_be_registered_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(h100())
    supported = nvml.gpus[0].answers["nvmlDeviceGetSupportedEventTypes"]
    nvml.gpus[0].fail("nvmlDeviceGetSupportedEventTypes", UNKNOWN)
    (reader,) = identified(opened(nvml, monkeypatch))
    with pytest.raises(GpuError) as raised:
        reader.wait_events(0.5)
    assert raised.value.reason is Reason.UNKNOWN
    nvml.gpus[0].answers["nvmlDeviceGetSupportedEventTypes"] = supported
    reader.wait_events(0.5)
    assert nvml.registered.keys() == {gpu_uuid(0)}


def test_the_xid_that_says_why_a_gpu_is_away_is_heard_after_it_went(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nvml = FakeNvml(h100(0))
    (reader,) = identified(opened(nvml, monkeypatch))
    reader.wait_events(0.5)
    nvml.errors["nvmlDeviceGetMemoryInfo_v2"] = pynvml.NVML_ERROR_GPU_IS_LOST
    with pytest.raises(GpuError):
        reader.read_fast()
    nvml.events.append((gpu_uuid(0), pynvml.nvmlEventTypeXidCriticalError, 79))
    assert reader.wait_events(0.5) == (XidEvent(gpu_uuid(0), NOW, 79),)


def test_a_lost_gpu_does_not_silence_the_others_and_is_heard_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nvml = FakeNvml(h100(0), h100(1))
    lost, well = identified(opened(nvml, monkeypatch))
    for reader in (lost, well):
        reader.wait_events(0.5)
    nvml.lost.add(gpu_uuid(0))
    with pytest.raises(GpuError) as raised:
        lost.wait_events(0.5)
    assert raised.value.reason is Reason.GPU_LOST
    xid = (gpu_uuid(1), pynvml.nvmlEventTypeXidCriticalError, 13)
    nvml.events.append(xid)
    assert well.wait_events(0.5) == (XidEvent(gpu_uuid(1), NOW, 13),)

    with pytest.raises(GpuError):
        lost.read_fast()
    assert lost.wait_events(0.5) == ()
    assert nvml.slept == [0.5]
    nvml.lost.clear()
    lost.read_fast()
    nvml.events += [(gpu_uuid(0), pynvml.nvmlEventTypeXidCriticalError, 79), xid]
    assert lost.wait_events(0.5) == (XidEvent(gpu_uuid(0), NOW, 79),)
    assert well.wait_events(0.5) == (XidEvent(gpu_uuid(1), NOW, 13),)


@pytest.mark.parametrize(
    ("function", "code", "reason"),
    [
        (
            "nvmlDeviceGetSupportedEventTypes",
            pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
            Reason.DRIVER_NOT_LOADED,
        ),
        ("nvmlEventSetWait_v2", pynvml.NVML_ERROR_UNKNOWN, Reason.UNKNOWN),
        (
            "nvmlEventSetWait_v2",
            pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
            Reason.LIBRARY_MISMATCH,
        ),
    ],
)
def test_a_failed_wait_is_raised_and_the_next_starts_anew(
    monkeypatch: pytest.MonkeyPatch, function: str, code: int, reason: Reason
) -> None:
    nvml = FakeNvml(h100())
    (reader,) = identified(opened(nvml, monkeypatch))
    nvml.errors[function] = code
    if reason.ends_session:
        nvml.errors["nvmlSystemGetDriverVersion"] = code
    with pytest.raises(GpuError) as raised:
        reader.wait_events(0.5)
    assert raised.value.reason is reason
    assert nvml.event_sets == {}
    nvml.errors.clear()
    assert reader.wait_events(0.5) == ()
    assert len(nvml.event_sets) == 1


def test_close_frees_the_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(h100(0), h100(1))
    backend = opened(nvml, monkeypatch)
    for reader in identified(backend):
        reader.wait_events(0.5)
    backend.close()
    assert nvml.event_sets == {}


def test_a_storm_is_handed_over_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(h100())
    (reader,) = identified(opened(nvml, monkeypatch))
    nvml.events += [(gpu_uuid(0), pynvml.nvmlEventTypeXidCriticalError, 13)] * 100
    assert [len(reader.wait_events(1.0)) for _ in range(3)] == [64, 36, 0]


def test_an_xid_with_a_number_that_none_has_is_no_xid(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(h100())
    (reader,) = identified(opened(nvml, monkeypatch))
    nvml.events += [
        (gpu_uuid(0), pynvml.nvmlEventTypeXidCriticalError, 2**64 - 1),
        (gpu_uuid(0), pynvml.nvmlEventTypeXidCriticalError, 13),
    ]
    assert reader.wait_events(1.0) == (XidEvent(gpu_uuid(0), NOW, 13),)
    nvml.events.append((gpu_uuid(0), pynvml.nvmlEventTypeXidCriticalError, 0))
    with pytest.raises(GpuError) as raised:
        reader.wait_events(1.0)
    assert raised.value.reason is Reason.IMPLAUSIBLE


def test_the_clock_is_the_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(h100())
    (reader,) = identified(opened(nvml, monkeypatch, Clock(1_700_000_000.0)))
    nvml.events.append((gpu_uuid(0), pynvml.nvmlEventTypeXidCriticalError, 31))
    assert reader.wait_events(1.0) == (XidEvent(gpu_uuid(0), UnixSeconds(1_700_000_000.0), 31),)
