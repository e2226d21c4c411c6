"""What the kernel's PCI bus says of GPUs: there, bound to another driver, or gone."""

from pathlib import Path

import pytest

from exporter.gpus import GpuError
from exporter.gpus.nvml import NvmlBackend, pci
from exporter.model.readings import Reason
from tests.doubles.fake_gpus import gpu_uuid, h100
from tests.doubles.fake_nvml import FakeNvml
from tests.doubles.nvml_session import Clock


def put(bus: Path, address: str, driver: str | None, **files: str) -> Path:
    """Put a function on the bus, by default one of NVIDIA's GPUs."""
    folder = bus / "devices" / address
    folder.mkdir(parents=True)
    for name, text in {"vendor": "0x10de", "class": "0x030200", **files}.items():
        (folder / name.replace("kind", "class")).write_text(text + "\n")
    if driver:
        (bus / "drivers" / driver).mkdir(parents=True, exist_ok=True)
        (folder / "driver").symlink_to(bus / "drivers" / driver)
    return folder


def test_gpus_are_told_from_all_else_on_the_bus(tmp_path: Path) -> None:
    put(tmp_path, "0000:3b:00.0", "nvidia")
    put(tmp_path, "0000:5e:00.0", "vfio-pci")
    put(tmp_path, "0000:86:00.0", None)
    put(tmp_path, "0000:3b:00.1", "snd_hda_intel", kind="0x040300")
    put(tmp_path, "0000:01:00.0", "ast", vendor="0x1a03")
    (put(tmp_path, "0000:3b:00.4", "nvidia") / "physfn").mkdir()
    assert pci.present(tmp_path / "devices") == {
        "0000:3b:00.0": True,
        "0000:5e:00.0": False,
        "0000:86:00.0": False,
    }


def test_a_bus_that_is_hidden_says_nothing(tmp_path: Path) -> None:
    assert pci.present(tmp_path / "none") is None
    assert pci.is_bound("0000:3b:00.0", tmp_path / "none") is None
    put(tmp_path, "0000:01:00.0", "ast", vendor="0x1a03")
    assert pci.present(tmp_path / "devices") is None
    assert pci.is_bound("0000:3b:00.0", tmp_path / "devices") is None
    assert pci.is_bound(None, tmp_path / "devices") is None


def test_one_that_is_gone_is_not_bound(tmp_path: Path) -> None:
    put(tmp_path, "0000:3b:00.0", "nvidia")
    assert pci.is_bound("0000:3b:00.0", tmp_path / "devices") is True
    assert pci.is_bound("0000:5e:00.0", tmp_path / "devices") is False


@pytest.mark.parametrize("driver", ["vfio-pci", None])
def test_a_gpu_that_fails_because_it_was_taken_out_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, driver: str | None
) -> None:
    nvml = FakeNvml(h100(0))
    nvml.install(monkeypatch)
    folder = put(tmp_path, "0000:30:0a.0", "nvidia")
    put(tmp_path, "0000:31:0a.0", "nvidia")
    backend = NvmlBackend(monotonic=Clock(step=1.0), devices=tmp_path / "devices")
    backend.open()
    (reader,) = backend.readers()
    reader.read_fast()
    nvml.lost.add(gpu_uuid(0))
    with pytest.raises(GpuError) as raised:
        reader.read_fast()
    assert raised.value.reason is Reason.GPU_LOST
    (folder / "driver").unlink()
    if driver:
        (tmp_path / "drivers" / driver).mkdir()
        (folder / "driver").symlink_to(tmp_path / "drivers" / driver)
    with pytest.raises(GpuError) as raised:
        reader.read_fast()
    assert raised.value.reason is Reason.GPU_REMOVED
    assert backend.present() == {"0000:30:0a.0": False, "0000:31:0a.0": True}
