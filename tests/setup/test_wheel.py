"""The wheel, as somebody uses it who has neither this repository nor make."""

import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from email.parser import Parser
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Final

import pytest

import exporter

ROOT: Final = Path(__file__).resolve().parent.parent.parent
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PIN: Final = re.compile(r"^([\w.-]+)==(\S+)", re.MULTILINE)


def pins(name: str) -> dict[str, str]:
    return dict(PIN.findall((ROOT / "setup" / name).read_text()))


def run(*command: str | Path, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-index")
    run(*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT, folder=folder)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel beside what setup/requirements.txt names, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, folder=folder)
    packages = Path(run(folder / "bin/python", "-c", _PACKAGES, folder=folder).strip())
    for name in pins("requirements.txt"):
        link_to(distribution(name), packages)
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin/python", "install", "--no-index")
    run(*pip, wheel, folder=folder)
    return folder


_PACKAGES: Final = "import sysconfig; print(sysconfig.get_path('purelib'))"


def link_to(installed: Distribution, packages: Path) -> None:
    ours = Path(sysconfig.get_path("purelib"))
    tops = {file.parts[0] for file in installed.files or [] if file.parts[0] != ".."}
    for top in tops - {"__pycache__"}:
        target = packages / top
        if not target.exists():
            target.symlink_to(ours / top)


def test_pip_finds_all_that_it_depends_on_among_the_locked_packages(environment: Path) -> None:
    # pip would have failed above, without an index, had one been missing or of another version.
    python = environment / "bin/python"
    run(sys.executable, "-m", "pip", "--python", python, "check", folder=environment)


@pytest.mark.parametrize("how", [("bin/kube-gpu-exporter",), ("bin/python", "-m", "exporter")])
def test_it_runs_without_the_repository(environment: Path, how: tuple[str, ...]) -> None:
    program, *arguments = how
    command: tuple[str | Path, ...] = (environment / program, *arguments)
    assert run(*command, "--version", folder=environment) == (
        f"kube-gpu-exporter {exporter.__version__}\n"
    )
    scrape = run(*command, "once", "--backend", "simulated", folder=environment)
    assert "\ngpu_container_memory_used_bytes{" in scrape


def test_what_runs_is_what_was_installed(environment: Path) -> None:
    where = "import exporter; print(exporter.__file__)"
    file = run(environment / "bin/python", "-c", where, folder=environment)
    assert Path(file.strip()).is_relative_to(environment)


def test_the_wheel_has_the_program_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
        (metadata,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        described = Parser().parsestr(archive.read(metadata).decode())
    assert tops == {"exporter", f"kube_gpu_exporter-{exporter.__version__}.dist-info"}
    assert described["Version"] == exporter.__version__
    assert described.get_all("Requires-Dist") == PROJECT["dependencies"]


def test_development_has_the_versions_that_running_has() -> None:
    assert pins("requirements.txt").items() <= pins("requirements-dev.txt").items()
