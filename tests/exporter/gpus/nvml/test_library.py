"""The session with the driver: opening, losing and upgrading it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pynvml
import pytest

from exporter.gpus import GpuError
from exporter.gpus.nvml import NvmlBackend
from exporter.gpus.nvml.library import REASONS, reason_of
from exporter.model.devices import Driver
from exporter.model.readings import Reason
from tests.doubles.fake_gpus import h100
from tests.doubles.fake_nvml import FakeNvml
from tests.doubles.nvml_session import opened


def test_every_error_of_nvml_is_mapped_on_purpose() -> None:
    codes = {
        getattr(pynvml, name)
        for name in dir(pynvml)
        if name.startswith("NVML_ERROR_") and name == name.upper()
    }
    assert set(REASONS) == codes


def test_an_error_younger_than_we_are_is_unknown() -> None:
    assert reason_of(12345) is Reason.UNKNOWN


def test_importing_and_making_a_backend_loads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml()
    nvml.install(monkeypatch)
    NvmlBackend().close()
    assert nvml.loads == 0
    assert nvml.calls == []


def test_open_tells_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeNvml(h100()).install(monkeypatch)
    backend = NvmlBackend()
    assert backend.name == "nvml"
    assert backend.open() == Driver("nvidia", "580.159.04", "13.0")


def test_an_old_driver_tells_its_cuda_version_in_the_old_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nvml = FakeNvml(h100(), driver="470.57.02")
    nvml.missing.add("nvmlSystemGetCudaDriverVersion_v2")
    nvml.install(monkeypatch)
    backend = NvmlBackend()
    assert backend.open() == Driver("nvidia", "470.57.02", "11.4")


def test_a_driver_need_not_report_its_cuda_version(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(h100())
    nvml.missing |= {"nvmlSystemGetCudaDriverVersion_v2", "nvmlSystemGetCudaDriverVersion"}
    nvml.install(monkeypatch)
    assert NvmlBackend().open().cuda_version is None


def test_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(h100())
    nvml.installed = False
    nvml.install(monkeypatch)
    backend = NvmlBackend()
    with pytest.raises(GpuError, match="NVML Shared Library Not Found") as raised:
        backend.open()
    assert raised.value.reason is Reason.LIBRARY_NOT_FOUND
    nvml.installed = True
    assert backend.open().version == "580.159.04"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, Reason.DRIVER_NOT_LOADED),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, Reason.LIBRARY_MISMATCH),
        (pynvml.NVML_ERROR_NO_PERMISSION, Reason.NO_PERMISSION),
    ],
)
def test_a_failed_open_may_be_tried_again_by_the_same_library(
    monkeypatch: pytest.MonkeyPatch, code: int, reason: Reason
) -> None:
    nvml = FakeNvml(h100())
    nvml.install(monkeypatch)
    nvml.errors["nvmlInitWithFlags"] = code
    backend = NvmlBackend()
    with pytest.raises(GpuError) as raised:
        backend.open()
    assert raised.value.reason is reason
    del nvml.errors["nvmlInitWithFlags"]
    assert backend.open().version == "580.159.04"
    assert (nvml.loads, nvml.unloads) == (1, 0)


def test_a_driver_that_does_not_tell_its_version_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nvml = FakeNvml(h100())
    nvml.install(monkeypatch)
    nvml.errors["nvmlSystemGetDriverVersion"] = pynvml.NVML_ERROR_UNKNOWN
    with pytest.raises(GpuError) as raised:
        NvmlBackend().open()
    assert raised.value.reason is Reason.UNKNOWN
    assert not nvml.initialized


def test_sessions_share_one_load_of_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(h100())
    backend = opened(nvml, monkeypatch)
    for _ in range(100):
        backend.close()
        assert not nvml.initialized
        backend.open()
    assert (nvml.loads, nvml.unloads) == (1, 0)


def test_a_library_that_can_not_be_shut_down_is_loaded_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nvml = FakeNvml(h100())
    backend = opened(nvml, monkeypatch)
    nvml.errors["nvmlShutdown"] = pynvml.NVML_ERROR_UNKNOWN
    backend.close()
    backend.open()
    assert (nvml.loads, nvml.unloads) == (2, 1)


def test_a_library_that_is_no_longer_there_is_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(h100())
    backend = opened(nvml, monkeypatch)
    backend.close()
    nvml.installed = False
    with pytest.raises(GpuError) as raised:
        backend.open()
    assert raised.value.reason is Reason.LIBRARY_NOT_FOUND
    assert nvml.unloads == 1
    nvml.installed = True
    assert backend.open().version == "580.159.04"


def test_a_driver_upgraded_under_us_is_loaded_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    old = FakeNvml(h100())
    backend = opened(old, monkeypatch)
    reader = backend.readers()[0]
    reader.read_fast()
    functions = ["nvmlDeviceGetMemoryInfo_v2", "nvmlSystemGetDriverVersion", "nvmlShutdown"]
    old.errors = dict.fromkeys(functions, pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)
    with pytest.raises(GpuError) as raised:
        reader.read_fast()
    assert raised.value.reason is Reason.LIBRARY_MISMATCH
    assert raised.value.reason.ends_session

    backend.close()
    new = FakeNvml(h100(), driver="590.48.01")
    new.install(monkeypatch)
    assert backend.open().version == "590.48.01"
    assert backend.readers()[0].read_fast().memory is not None
    assert (old.unloads, new.loads) == (1, 1)
    # A reader of the old session finds its GPU in the new one, and uses no handle of the old.
    assert reader.read_full().failures == ()
    assert reader.read_fast().memory is not None


def test_after_close_the_driver_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = opened(FakeNvml(h100()), monkeypatch)
    (reader,) = backend.readers()
    backend.close()
    backend.close()
    with pytest.raises(GpuError) as raised:
        reader.read_full()
    assert raised.value.reason is Reason.DRIVER_NOT_LOADED
    with pytest.raises(GpuError):
        backend.readers()


RELOAD = """
import os
import shutil
import sys
import pynvml
from exporter.gpus import GpuError
from exporter.gpus.nvml.library import Library

COPY, PLACE = sys.argv[1:]
library = Library()

def mapped():
    with open("/proc/self/maps") as maps:
        return set(line.split()[4] for line in maps if "libnvidia-ml" in line)

def load_fails():
    try:
        library.load()
    except GpuError as error:
        return error.reason
    raise AssertionError("this is no NVML")

assert load_fails() == "not_supported"
first = mapped()
assert len(first) == 1
assert load_fails() == "not_supported"
assert mapped() == first, "loaded anew, though it is the same file"
os.symlink(COPY, PLACE + ".new")
os.rename(PLACE + ".new", PLACE)
assert load_fails() == "not_supported"
second = mapped()
assert not first & second, (first, second)
os.remove(PLACE)
assert load_fails() == "library_not_found"
assert mapped() == set()
"""


def test_the_file_on_disk_is_really_opened_again(tmp_path: Path) -> None:
    # Any shared object of ours does: it is mapped under the library's name, then replaced.
    import _ctypes  # noqa: PLC0415

    for version in ("580", "590"):
        shutil.copy(_ctypes.__file__, tmp_path / f"libnvidia-ml.so.{version}")
    path = tmp_path / "libnvidia-ml.so.1"
    path.symlink_to(tmp_path / "libnvidia-ml.so.580")
    done = subprocess.run(
        [sys.executable, "-c", RELOAD, tmp_path / "libnvidia-ml.so.590", path],
        env={"LD_LIBRARY_PATH": str(tmp_path), "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
