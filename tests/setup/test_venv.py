"""The virtual environment: made where there is none that works, else left alone."""

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent.parent


def venv(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "setup/venv", *arguments], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("venv") / "env"
    assert venv("--works", made).returncode
    done = venv(made, sys.executable)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(f"making {made} with ")
    return made


def test_one_that_works_is_left_alone(folder: Path) -> None:
    assert venv("--works", folder).returncode == 0
    assert venv("--works", folder, sys.executable).returncode == 0
    (folder / "mark").touch()
    again = venv(folder, sys.executable)
    assert (again.returncode, again.stderr) == (0, "")
    assert (folder / "mark").exists()


def test_another_python_than_its_own_makes_it_stale(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "python"
    other.write_text("#!/bin/sh\necho 3.99.0\n")
    other.chmod(0o755)
    assert venv("--works", folder, other).returncode
    assert venv("--works", folder, "/nowhere/python3").returncode


def test_one_whose_python_is_gone_is_made_anew(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "env"
    (broken / "bin").mkdir(parents=True)
    (broken / "bin/python").symlink_to("/nowhere/python3")
    assert venv("--works", broken).returncode
    done = venv(broken, sys.executable)
    assert done.returncode == 0, done.stderr
    assert venv("--works", broken).returncode == 0
