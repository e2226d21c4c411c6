"""The pages on installing: their links lead somewhere, and what they name exists."""

import re
from pathlib import Path
from typing import Final

import pytest
import yaml

from exporter.config.options import OPTIONS
from exporter.metrics.table import TABLE
from tests.daemonset.render import KUSTOMIZE, ROOT, find, kustomize

PAGES: Final = sorted(
    [
        *(
            ROOT / "docs" / f"{name}.md"
            for name in ("install", "security", "sizing", "migrate-from-dcgm-exporter")
        ),
        *KUSTOMIZE.glob("overlays/*/README.md"),
    ]
)
LABELS_OF_NOTHING_ELSE: Final = {"gpu_uuid", "gpu_instance"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_metrics_and_options_exist(page: Path) -> None:
    text = page.read_text()
    named = set(re.findall(r"\bgpu_\w*\w(?!\*)\b", text)) - LABELS_OF_NOTHING_ELSE
    assert {name for name in named if not name.endswith("_")} <= {each.name for each in TABLE}
    ours = {option.flag for option in OPTIONS.values()}
    assert set(re.findall(r"`(--(?:kubelet|pod|tls|basic|peak)[-a-z]*)", text)) <= ours


def test_every_component_is_on_the_page() -> None:
    text = (ROOT / "docs/install.md").read_text()
    names = {path.name for path in (KUSTOMIZE / "components").iterdir()}
    assert set(re.findall(r"^\| `([-a-z]+)` \|", text, re.MULTILINE)) == names


def test_figures_of_sizing_are_those_that_are_asked_for() -> None:
    (container,) = find(kustomize(KUSTOMIZE / "base"), "DaemonSet")["spec"]["template"]["spec"][
        "containers"
    ]
    asked = container["resources"]
    rows = dict(
        re.findall(
            r"^\| (CPU|memory) \| (\w+ \| \w+) \|",
            (ROOT / "docs/sizing.md").read_text(),
            re.MULTILINE,
        )
    )
    assert rows == {
        "CPU": f"{asked['requests']['cpu']} | none",
        "memory": f"{asked['requests']['memory']} | {asked['limits']['memory']}",
    }


def test_dcgm_names_are_all_told() -> None:
    """Whoever migrates finds each name that the alert on DCGM's own names has."""
    rules = yaml.safe_load((ROOT / "rules/generated/extra/dcgm.yaml").read_text())
    named = set(re.findall(r"DCGM_\w+", str(rules)))
    assert named
    assert named <= set(
        re.findall(r"DCGM_\w+", (ROOT / "docs/migrate-from-dcgm-exporter.md").read_text())
    )
