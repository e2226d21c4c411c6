"""What ``nvidia-smi -q -x`` says, as numbers: another reader of the same driver."""

import shutil
import subprocess
import xml.etree.ElementTree as ET

import pytest

ABSENT = {"N/A", "[N/A]", "Requested functionality has been deprecated"}


class Told:
    """A part of the XML. A value that nvidia-smi does not tell is ``None``."""

    def __init__(self, element: ET.Element) -> None:
        self._element = element

    def text(self, path: str) -> str | None:
        found = (self._element.findtext(path) or "").strip()
        return None if not found or found in ABSENT else found

    def number(self, path: str) -> float | None:
        """Read the number before a unit, such as ``53 C``, ``16x`` or ``P0``."""
        text = self.text(path)
        return float(text.split()[0].strip("xP")) if text else None

    def all(self, path: str) -> list["Told"]:
        return [Told(element) for element in self._element.findall(path)]


def ask() -> Told:
    """Run nvidia-smi; skips the test where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        pytest.skip("no nvidia-smi")
    done = subprocess.run([program, "-q", "-x"], capture_output=True, text=True, check=True)
    return Told(ET.fromstring(done.stdout))  # noqa: S314  our own driver's tool wrote it
