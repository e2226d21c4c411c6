"""Debian's packages: each named once, and only those that are missing."""

import subprocess
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent.parent
TOOLS: Final = ("cat", "chmod", "env", "grep", "id", "mktemp", "rm", "sh", "tee", "touch", "tr")


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """Make a system that has next to nothing, whose user is root."""
    for tool in TOOLS:
        (tmp_path / tool).symlink_to(f"/usr/bin/{tool}")
    program(tmp_path, "id", "echo 0")
    # What it would put there keeps Debian from starting servers; here it must touch nothing.
    for tool in ("tee", "chmod"):
        program(tmp_path, tool, ":")
    return tmp_path


def program(folder: Path, name: str, *lines: str) -> None:
    path = folder / name
    path.unlink(missing_ok=True)
    path.write_text("#!/bin/sh\n" + "\n".join(lines) + "\n")
    path.chmod(0o755)


def ask(system: Path, *pairs: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "setup/system-packages", *pairs],
        env={"PATH": str(system)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_nothing_is_installed_where_nothing_is_missing(system: Path) -> None:
    program(system, "apt-get", "exit 1")
    done = ask(system, "sh,cat:shells", "grep:grep")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_package_is_named_once_however_many_of_its_commands_are_missing(system: Path) -> None:
    program(system, "apt-get", f'echo "$@" >>{system}/asked')
    done = ask(system, "one,two:a", "sh:b", "sh,three:c")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "installing with apt-get: a c\n"
    update, install = (system / "asked").read_text().splitlines()
    assert update.startswith("update")
    assert install.endswith("--no-install-recommends a c")


def test_without_a_network_one_line_says_so(system: Path) -> None:
    program(
        system,
        "apt-get",
        "echo \"Err:1 http://debian.example Temporary failure resolving 'debian.example'\"",
        '[ "$1" = update ] || exit 100',
    )
    done = ask(system, "one:a")
    assert done.returncode == 1
    assert done.stderr.splitlines()[1:] == ["no network: Debian's packages can't be fetched: a"]


def test_what_else_goes_wrong_is_said_in_apts_own_words(system: Path) -> None:
    program(system, "apt-get", 'echo "E: Unable to locate package a"', '[ "$1" = update ]')
    done = ask(system, "one:a")
    assert done.returncode == 1
    assert "E: Unable to locate package a" in done.stderr


def test_who_may_not_install_is_told_what_to_install(system: Path) -> None:
    program(system, "id", "echo 1000")
    done = ask(system, "one:a", "two:b")
    assert done.returncode == 1
    assert "apt-get install a b" in done.stderr
