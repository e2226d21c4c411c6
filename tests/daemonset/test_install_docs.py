"""The pages on installing: their links lead somewhere, and what they name exists."""

import os
import re
import shlex
from pathlib import Path
from typing import Final

import pytest
import yaml

from exporter.config.options import OPTIONS
from exporter.metrics.table import TABLE
from tests.daemonset.render import KUSTOMIZE, ROOT, find, kustomize, run
from tests.daemonset.validation import problems

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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_sections_linked_to_are_there(page: Path) -> None:
    for link, section in re.findall(r"\]\(([^)#]*)#([^)]+)\)", page.read_text()):
        text = (page.parent / link if link else page).read_text()
        titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        assert section in {re.sub(r"[^\w -]", "", one).lower().replace(" ", "-") for one in titles}


KUSTOMIZATIONS: Final = [
    pytest.param(text, id=f"{page.relative_to(ROOT)}-{n}")
    for page in PAGES
    for n, text in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL))
    if "path/to/daemonset" in text
]


@pytest.mark.parametrize("text", KUSTOMIZATIONS)
def test_kustomizations_can_be_taken_as_they_are(text: str, tmp_path: Path) -> None:
    here = os.path.relpath(ROOT / "daemonset", tmp_path)
    (tmp_path / "kustomization.yaml").write_text(text.replace("path/to/daemonset", here))
    assert problems(kustomize(tmp_path)) == []


def test_helms_commands_can_be_taken_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the page on installing, given to ``helm template``, which takes the same flags."""
    text = (ROOT / "docs/install.md").read_text()
    (command,) = re.findall(r"^helm upgrade --install ((?:.*\\\n)*.*)", text, re.MULTILINE)
    (more,) = re.findall(r"With Helm: `([^`]+)`", text)
    monkeypatch.chdir(ROOT)
    flags = f"{command} {more}".replace("\\\n", "").replace("REGISTRY", "registry.test")
    done = run("helm", "template", *shlex.split(flags))
    assert done.returncode == 0, done.stderr
    made = find(list(yaml.safe_load_all(done.stdout)), "DaemonSet")
    pod = made["spec"]["template"]["spec"]
    assert made["metadata"]["namespace"] == "gpu-monitoring"
    assert pod["containers"][0]["image"].startswith("registry.test/kube-gpu-exporter:")
    assert pod["nodeSelector"] == {"kubernetes.io/os": "linux", "nvidia.com/gpu.present": "true"}


def test_figures_of_sizing_are_those_of_the_measurements() -> None:
    sizing, hardware = ((ROOT / f"docs/{name}.md").read_text() for name in ("sizing", "hardware"))
    (idle,) = re.findall(r"\*\*Memory\.\*\* ([\d.]+) MiB", hardware)
    (watching,) = re.findall(r"With the pod watch on and two pods (\d+) MiB", hardware)
    (simulated,) = re.findall(
        r"^\| resident memory \|[^|]+\| ([^|]+) MiB \|", hardware, re.MULTILINE
    )
    (library,) = re.findall(r"The real driver adds (\d+) MiB", hardware)
    (row,) = re.findall(r"^\| memory \| (\d+)Mi \| \d+Mi \|(.*) \|$", sizing, re.MULTILINE)
    assert re.findall(r"[\d to]*\d(?= MiB)", row[1]) == [
        *(f" {round(float(idle))}", f" {watching}", f" {simulated}", f" {library}"),
    ]
    assert int(row[0]) > max(int(watching), int(simulated.split()[-1]) + int(library))
    (quiet,) = re.findall(r"whole program, idle GPU, no scrapes \| ([\d.]+ %)", hardware)
    (shares,) = re.findall(r"^\| CPU, two scrapes each 15 s \|(.+)\|$", hardware, re.MULTILINE)
    off, on, _ = (share.strip().removesuffix(" of a core") for share in shares.split("|"))
    (cpu,) = re.findall(r"^\| CPU \| [^|]+\| [^|]+\|(.*) \|$", sizing, re.MULTILINE)
    assert re.findall(r"\d[\d. to]* %", cpu) == [quiet, off, on]


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
