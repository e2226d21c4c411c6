"""NVIDIA's GPUs as the kernel shows them on the PCI bus: there, or bound to another driver."""

from collections.abc import Mapping
from pathlib import Path

DEVICES = Path("/sys/bus/pci/devices")

_NVIDIA = "0x10de"
_DISPLAY = "0x03"
"""The class of VGA and 3D controllers, by its first byte."""


def present(devices: Path = DEVICES) -> Mapping[str, bool] | None:
    """Return the PCI addresses of NVIDIA's GPUs, each with whether NVIDIA's driver has it.

    ``None`` where none is shown: the node's bus is hidden from us, as in a virtual machine's guest
    without one. Virtual functions are parts of their boards, and left out.
    """
    found = {}
    try:
        addresses = list(devices.iterdir())
    except OSError:
        return None
    for address in addresses:
        if _text(address / "vendor") != _NVIDIA or (address / "physfn").exists():
            continue
        if _text(address / "class").startswith(_DISPLAY):
            found[address.name] = _driver(address) == "nvidia"
    return found or None


def is_bound(address: str | None, devices: Path = DEVICES) -> bool | None:
    """Return whether NVIDIA's driver has the GPU; ``None`` if that can't be told."""
    if not address:
        return None
    if (devices / address).exists():
        return _driver(devices / address) == "nvidia"
    return False if present(devices) else None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""  # it was taken out meanwhile


def _driver(address: Path) -> str:
    try:
        return (address / "driver").resolve(strict=True).name
    except OSError:
        return ""
