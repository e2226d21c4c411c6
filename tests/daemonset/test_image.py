"""The Dockerfile, by what can be seen of it without building; ``make image`` builds it."""

import json
import re
from pathlib import Path
from typing import Final

import pytest

import exporter
from tests.daemonset.render import ROOT, run

DOCKERFILE: Final = ROOT / "daemonset" / "Dockerfile"
STAGES: Final = re.split(r"^FROM ", DOCKERFILE.read_text().replace("\\\n", ""), flags=re.MULTILINE)
FINAL: Final = STAGES[-1]


def instructions(stage: str, name: str) -> list[str]:
    return re.findall(rf"^{name} (.+)$", stage, re.MULTILINE)


def test_the_linter_finds_nothing() -> None:
    done = run("hadolint", DOCKERFILE)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_linter_would_find_something(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM debian:latest\nRUN cd /src && pip install aiohttp\n")
    assert run("hadolint", bad).returncode


def test_the_last_stage_begins_with_nothing_and_runs_nothing() -> None:
    assert FINAL.startswith("scratch\n")
    assert instructions(FINAL, "RUN") == []
    assert instructions(FINAL, "USER") == ["65532:65532"]


def test_every_dependency_is_checked_by_hash() -> None:
    pip = [
        command
        for line in instructions(STAGES[-2], "RUN")
        for command in line.split("&&")
        if "/pip " in command
    ]
    assert len(pip) == 4
    for command in pip:
        of_ours = re.search(
            r" wheel --no-deps --no-build-isolation | install --no-deps dist/", command
        )
        assert "--require-hashes" in command or of_ours, command


def test_the_wheel_is_built_with_what_development_has() -> None:
    build, development = (
        set(re.findall(r"^\S+==\S+", (ROOT / "setup" / name).read_text(), re.MULTILINE))
        for name in ("requirements-build.txt", "requirements-dev.txt")
    )
    assert any(pin.startswith("hatchling==") for pin in build)
    assert build <= development


def test_nvidias_runtime_is_told_what_to_bring() -> None:
    (line,) = instructions(FINAL, "ENV")
    environment = dict(pair.split("=", 1) for pair in line.split())
    assert environment["NVIDIA_VISIBLE_DEVICES"] == "all"
    assert environment["NVIDIA_DRIVER_CAPABILITIES"] == "utility"


def test_the_label_tells_this_version() -> None:
    (labels,) = instructions(FINAL, "LABEL")
    assert f'org.opencontainers.image.version="{exporter.__version__}"' in labels


def test_the_health_check_is_a_program_and_its_arguments() -> None:
    (line,) = instructions(FINAL, "HEALTHCHECK")
    command = json.loads(line.partition(" CMD ")[2])
    assert command[:2] == ["python3", "-c"]
    compile(command[2], "HEALTHCHECK", "exec")


@pytest.mark.parametrize("stage", STAGES[1:], ids=["build", "final"])
def test_what_is_copied_from_here_is_let_into_the_build(stage: str) -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert ignored[0] == "*"
    let_in = [line[1:].rstrip("/") for line in ignored if line.startswith("!")]
    for arguments in instructions(stage, "COPY"):
        if arguments.startswith("--from="):
            continue
        for source in arguments.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert any(source == path or source.startswith(f"{path}/") for path in let_in), source
