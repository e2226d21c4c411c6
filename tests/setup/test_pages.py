"""Pages and settings about the repository name only what exists."""

import json
import re
import shlex
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

ROOT: Final = Path(__file__).resolve().parent.parent.parent
PAGES: Final = [*sorted(ROOT.glob("*.md")), ROOT / ".github/pull_request_template.md"]
FORMS: Final = [
    path
    for path in sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
    if path.stem != "config"
]


def titles(page: Path) -> set[str]:
    """Return the anchors of a page's sections, as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_the_sections_that_they_name_exist(page: Path) -> None:
    for link, section in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text()):
        target = page.parent / link if link else page
        assert target.exists(), link
        assert not section or section in titles(target), (link, section)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_issue_forms_have_what_github_asks_for(form: Path) -> None:
    fields = yaml.safe_load(form.read_text())
    assert {"name", "description", "body"} <= fields.keys()
    ids = [field["id"] for field in fields["body"] if field["type"] != "markdown"]
    assert len(ids) == len(set(ids)) > 0
    for field in fields["body"]:
        needed = "value" if field["type"] == "markdown" else "label"
        assert field["attributes"][needed]


def test_renovate_knows_each_file_of_locked_packages() -> None:
    settings = json.loads((ROOT / ".github/renovate.json").read_text())
    (pattern,) = settings["pip_requirements"]["managerFilePatterns"]
    files = [f"setup/{path.name}" for path in (ROOT / "setup").glob("*.txt")]
    assert len(files) > 3
    for file in files:
        assert re.search(pattern.strip("/").replace("\\/", "/"), file), file


def test_what_is_done_before_a_commit_is_done_by_make_check() -> None:
    makefile = (ROOT / "Makefile").read_text()
    hooks: list[dict[str, Any]] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())[
        "repos"
    ][0]["hooks"]
    for hook in hooks:
        program, *arguments = shlex.split(hook["entry"])
        given = [one for one in arguments if one != "--force-exclude"]
        assert program.removeprefix(".venv/bin/") in makefile
        assert " ".join(given) in makefile


def test_the_development_container_has_the_oldest_python() -> None:
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    assert container["image"].startswith("python:3.11-")
    assert container["postCreateCommand"] == "make setup"
