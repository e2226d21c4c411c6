"""Which Python the set-up takes, and what it says where there is none."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent.parent
NO_ENSUREPIP: Final = "import importlib.util as u; u.find_spec = lambda name: None\n"


def script(path: Path, *lines: str) -> Path:
    path.write_text("#!/bin/sh\n" + "\n".join(lines) + "\n")
    path.chmod(0o755)
    return path


def python(folder: Path, name: str, version: tuple[int, int], *, whole: bool = True) -> str:
    """Make an interpreter that says it is of ``version``, with or without what makes venvs."""
    path = folder / name
    lies = f"import sys; sys.executable = {str(path)!r}; sys.version_info = {(*version, 0)}\n"
    script(
        path,
        f'[ "$1" = --version ] && echo Python {version[0]}.{version[1]}.0 && exit',
        "shift; code=$1; shift",
        f'exec {sys.executable} -c "{lies}{"" if whole else NO_ENSUREPIP}$code" "$@"',
    )
    return str(path)


def found(folder: Path, *names: str) -> subprocess.CompletedProcess[str]:
    for tool in ("head", "dirname", "sh"):
        link = folder / tool
        if not link.exists():
            link.symlink_to(f"/usr/bin/{tool}")
    return subprocess.run(
        [ROOT / "setup/python", *names],
        env={"PATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_python3_is_taken_if_it_is_new_enough(tmp_path: Path) -> None:
    expected = python(tmp_path, "python3", (3, 11))
    python(tmp_path, "python3.14", (3, 14))
    assert found(tmp_path).stdout == f"{expected}\n"


@pytest.mark.parametrize("minor", [11, 12, 13, 14])
def test_a_newer_one_than_python3_is_found(tmp_path: Path, minor: int) -> None:
    python(tmp_path, "python3", (3, 10))
    expected = python(tmp_path, f"python3.{minor}", (3, minor))
    assert found(tmp_path).stdout == f"{expected}\n"


def test_one_that_does_not_start_is_passed_over(tmp_path: Path) -> None:
    script(tmp_path / "python3", "echo 'pyenv: python3: command not found' >&2; exit 127")
    expected = python(tmp_path, "python3.12", (3, 12))
    assert found(tmp_path).stdout == f"{expected}\n"


def test_one_that_makes_environments_is_preferred(tmp_path: Path) -> None:
    bare = python(tmp_path, "python3", (3, 11), whole=False)
    assert found(tmp_path).stdout == f"{bare}\n"
    whole = python(tmp_path, "python3.12", (3, 12))
    assert found(tmp_path).stdout == f"{whole}\n"


def test_without_any_it_says_what_there_is_and_what_to_do(tmp_path: Path) -> None:
    python(tmp_path, "python3", (3, 10))
    done = found(tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    first, second = done.stderr.splitlines()
    assert first == "there is no Python 3.11 or newer on the PATH (Python 3.10.0)."
    assert "make PYTHON=" in second


def test_a_named_one_that_is_not_there_is_said_not_to_be_there(tmp_path: Path) -> None:
    python(tmp_path, "python3", (3, 12))
    done = found(tmp_path, "python3.99")
    assert done.returncode == 1
    assert done.stderr.startswith("there is no program python3.99:")


def test_a_named_one_that_is_too_old_is_refused_with_its_version(tmp_path: Path) -> None:
    python(tmp_path, "python3", (3, 12))
    python(tmp_path, "python3.9", (3, 9))
    done = found(tmp_path, "python3.9")
    assert done.returncode == 1
    assert done.stderr == "python3.9 is not Python 3.11 or newer, but Python 3.9.0\n"


def test_a_named_one_is_taken_before_all_others(tmp_path: Path) -> None:
    python(tmp_path, "python3", (3, 12))
    expected = python(tmp_path, "mine", (3, 13))
    assert found(tmp_path, "mine").stdout == f"{expected}\n"
    assert found(tmp_path, expected).stdout == f"{expected}\n"


@pytest.mark.parametrize("name", ["python3.99", "/nowhere/python3"])
def test_make_says_so_and_leaves_the_environment_as_it_is(tmp_path: Path, name: str) -> None:
    environment = tmp_path / "venv"
    done = subprocess.run(
        ["make", f"PYTHON={name}", f"VENV={environment}", "run"],  # noqa: S607  (the user's)
        cwd=ROOT,
        env=os.environ | {"MAKEFLAGS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"there is no program {name}:")
    assert not environment.exists()
