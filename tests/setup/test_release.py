"""What is published, and what keeps it from being published."""

import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from setup.identity import Identity
from setup.release import ReleaseError, checked, main

ROOT: Final = Path(__file__).resolve().parent.parent.parent
OURS: Final = Identity("1.2.3", "https://git.test/gpu", "images.test/gpu")
CHANGELOG: Final = """\
# Changelog

## Unreleased

## 1.2.3 - 2026-05-01

### Fixed

- This.

## 1.2.2 - 2026-04-01

- That.
"""


def test_the_notes_are_the_changelogs_section() -> None:
    assert checked("v1.2.3", OURS, CHANGELOG) == "### Fixed\n\n- This.\n"


@pytest.mark.parametrize(
    ("change", "tag", "changelog", "why"),
    [
        ({}, "v1.2.4", CHANGELOG, "the tag is v1.2.4"),
        ({}, "1.2.3", CHANGELOG, "the tag is 1.2.3"),
        ({"version": "1.2.3rc1"}, "v1.2.3rc1", CHANGELOG, "not of the form"),
        ({"registry": "registry.example.com"}, "v1.2.3", CHANGELOG, "is a placeholder"),
        ({"repository": "https://example.com/x"}, "v1.2.3", CHANGELOG, "is a placeholder"),
        ({}, "v1.2.3", "# Changelog\n\n## Unreleased\n\n- This.\n", "has no section"),
        ({}, "v1.2.3", CHANGELOG.replace("2026-05-01", "soon"), "has no section"),
        ({}, "v1.2.3", "## 1.2.3 - 2026-05-01\n\n## 1.2.2 - 2026-04-01\n- X\n", "has no section"),
    ],
)
def test_what_is_not_ready_is_not_released(
    change: dict[str, str], tag: str, changelog: str, why: str
) -> None:
    with pytest.raises(ReleaseError, match=why):
        checked(tag, replace(OURS, **change), changelog)


def test_as_long_as_addresses_are_placeholders_nothing_is_released(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    declared = Identity.declared()
    if not declared.placeholders:
        pytest.skip("the project is published")
    assert main([f"v{declared.version}", str(tmp_path / "notes.md")]) == 2
    assert "is a placeholder: set the address in exporter/__init__.py" in capsys.readouterr().err
    assert not (tmp_path / "notes.md").exists()


WORKFLOWS: Final = sorted((ROOT / ".github/workflows").glob("*.yml"))


def steps(workflow: Path) -> list[dict[str, Any]]:
    jobs = yaml.safe_load(workflow.read_text())["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_each_action_is_a_commit_and_says_which_version_it_is(workflow: Path) -> None:
    used = re.findall(r"^ +(?:- )?uses: (.+)$", workflow.read_text(), re.MULTILINE)
    assert len(used) == sum("uses" in step for step in steps(workflow))
    for action in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


def test_one_action_has_one_commit() -> None:
    found: dict[str, set[str]] = {}
    for workflow in WORKFLOWS:
        for step in steps(workflow):
            name, _, commit = step.get("uses", "").partition("@")
            found.setdefault(name, set()).add(commit)
    assert {name for name, commits in found.items() if len(commits) > 1} == set()


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_each_make_target_that_a_workflow_calls_is_there(workflow: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for step in steps(workflow):
        assert set(re.findall(r"\bmake ([\w-]+)", step.get("run", ""))) <= targets


def test_every_python_that_the_package_names_is_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [
        found[1] for one in project["classifiers"] if (found := re.search(r":: (3\.\d+)$", one))
    ]
    check = yaml.safe_load((ROOT / ".github/workflows/check.yml").read_text())
    assert check["jobs"]["test"]["strategy"]["matrix"]["python"] == named
    assert project["requires-python"] == f">={named[0]}"
