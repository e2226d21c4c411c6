"""Events of the driver: which are heard, and what a lost GPU does to the others."""

import pynvml
import pytest

from exporter.gpus import GpuError
from exporter.gpus.nvml.events import CHANGES, XID
from exporter.model.clocks import UnixSeconds
from exporter.model.readings import GpuChanged, Reason, XidEvent
from tests.doubles.fake_device import NOT_SUPPORTED, UNKNOWN
from tests.doubles.fake_gpus import gpu_uuid, h100, h100_mig
from tests.doubles.fake_nvml import FakeNvml
from tests.doubles.nvml_session import Clock, identified, opened


def test_xids_and_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(h100(0), h100_mig(1))
    clock = Clock(1_700_000_000.0)
    backend = opened(nvml, monkeypatch, clock)
    identified(backend)
    nvml.events += [
        (gpu_uuid(0), pynvml.nvmlEventTypeXidCriticalError, 31),
        (gpu_uuid(1), pynvml.nvmlEventMigConfigChange, 0),
        (gpu_uuid(1), pynvml.nvmlEventTypeXidCriticalError, 94),
        (gpu_uuid(1), pynvml.nvmlEventTypeXidCriticalError, 94),
    ]
    assert backend.wait_events(1.0) == (
        XidEvent(gpu_uuid(0), UnixSeconds(1_700_000_000.0), 31),
        GpuChanged(gpu_uuid(1)),
        XidEvent(gpu_uuid(1), UnixSeconds(1_700_000_000.0), 94),
        XidEvent(gpu_uuid(1), UnixSeconds(1_700_000_000.0), 94),
    )
    assert backend.wait_events(1.0) == ()


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
    backend = opened(nvml, monkeypatch)
    identified(backend)
    nvml.events.append((gpu_uuid(0), event_type, 0))
    assert backend.wait_events(1.0) == (GpuChanged(gpu_uuid(0)),)


def test_only_what_a_board_supports_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    old, none, young = h100(0), h100(1), h100(2)
    old.answers["nvmlDeviceGetSupportedEventTypes"] = XID | pynvml.nvmlEventTypePState
    none.fail("nvmlDeviceGetSupportedEventTypes", NOT_SUPPORTED)
    young.answers["nvmlDeviceGetSupportedEventTypes"] = 2**63 - 1
    nvml = FakeNvml(old, none, young)
    backend = opened(nvml, monkeypatch)
    identified(backend)
    backend.wait_events(0.5)
    assert nvml.registered == {gpu_uuid(0): XID, gpu_uuid(2): XID | CHANGES}
    nvml.calls.clear()
    backend.wait_events(0.5)
    assert nvml.calls == ["nvmlEventSetWait_v2"]


def test_without_anybody_to_hear_from_the_time_still_passes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nvml = FakeNvml(h100())
    nvml.gpus[0].fail("nvmlDeviceGetSupportedEventTypes", NOT_SUPPORTED)
    backend = opened(nvml, monkeypatch)
    assert backend.wait_events(0.25) == ()
    identified(backend)
    assert backend.wait_events(0.5) == ()
    assert nvml.slept == [0.25, 0.5]


def test_a_gpu_that_is_not_known_yet_is_heard_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(h100())
    backend = opened(nvml, monkeypatch)
    (reader,) = backend.readers()
    assert backend.wait_events(1.0) == ()
    assert nvml.registered == {}
    assert nvml.slept == [0.1]
    reader.read_fast()
    nvml.lost.add(gpu_uuid(0))
    with pytest.raises(GpuError):
        reader.read_fast()
    # Nobody knows when one that is lost is back: nothing is gained by looking often.
    backend.wait_events(1.0)
    assert nvml.slept == [0.1, 1.0]


def test_a_gpu_that_can_not_be_registered_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(h100(0), h100(1))
    supported = nvml.gpus[0].answers["nvmlDeviceGetSupportedEventTypes"]
    nvml.gpus[0].fail("nvmlDeviceGetSupportedEventTypes", UNKNOWN)
    backend = opened(nvml, monkeypatch)
    identified(backend)
    backend.wait_events(0.5)
    assert nvml.registered.keys() == {gpu_uuid(1)}
    nvml.gpus[0].answers["nvmlDeviceGetSupportedEventTypes"] = supported
    backend.wait_events(0.5)
    assert nvml.registered.keys() == {gpu_uuid(0), gpu_uuid(1)}


def test_a_lost_gpu_does_not_silence_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(h100(0), h100(1))
    backend = opened(nvml, monkeypatch)
    lost, _ = identified(backend)
    backend.wait_events(0.5)
    nvml.lost.add(gpu_uuid(0))
    xid = (gpu_uuid(1), pynvml.nvmlEventTypeXidCriticalError, 13)
    nvml.events.append(xid)
    assert backend.wait_events(0.5) == ()
    assert nvml.slept == [0.5]
    assert backend.wait_events(0.5) == (XidEvent(gpu_uuid(1), UnixSeconds(1000.0), 13),)

    with pytest.raises(GpuError):
        lost.read_fast()
    nvml.lost.clear()
    lost.read_fast()
    nvml.events += [(gpu_uuid(0), pynvml.nvmlEventTypeXidCriticalError, 79), xid]
    assert backend.wait_events(0.5) == (
        XidEvent(gpu_uuid(0), UnixSeconds(1000.0), 79),
        XidEvent(gpu_uuid(1), UnixSeconds(1000.0), 13),
    )


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
    backend = opened(nvml, monkeypatch)
    identified(backend)
    nvml.errors[function] = code
    if reason.ends_session:
        nvml.errors["nvmlSystemGetDriverVersion"] = code
    with pytest.raises(GpuError) as raised:
        backend.wait_events(0.5)
    assert raised.value.reason is reason
    assert nvml.event_sets == set()
    nvml.errors.clear()
    assert backend.wait_events(0.5) == ()
    assert len(nvml.event_sets) == 1


def test_close_frees_the_set(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(h100())
    backend = opened(nvml, monkeypatch)
    identified(backend)
    backend.wait_events(0.5)
    backend.close()
    assert nvml.event_sets == set()
    backend.open()
    identified(backend)
    nvml.events.append((gpu_uuid(0), pynvml.nvmlEventTypeXidCriticalError, 62))
    assert backend.wait_events(0.5) == (XidEvent(gpu_uuid(0), UnixSeconds(1000.0), 62),)


def test_a_storm_is_handed_over_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(h100())
    backend = opened(nvml, monkeypatch)
    identified(backend)
    nvml.events += [(gpu_uuid(0), pynvml.nvmlEventTypeXidCriticalError, 13)] * 100
    assert [len(backend.wait_events(1.0)) for _ in range(3)] == [64, 36, 0]
