"""The version and the addresses are declared once, and every file says the same."""

import re
import tomllib
from pathlib import Path
from typing import Final

import pytest
import yaml

import exporter
from setup import identity
from setup.identity import Identity

ROOT: Final = Path(__file__).resolve().parent.parent.parent
OLD: Final = Identity("0.1.0", "https://example.com/kube-gpu-exporter", "registry.example.com")
NEW: Final = Identity("1.12.0", "https://git.test/gpu/exporter", "images.test/gpu")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("kube-gpu-exporter 0.1.0 serves", "kube-gpu-exporter 1.12.0 serves"),
        (
            "docker push registry.example.com/kube-gpu-exporter:0.1.0\n",
            "docker push images.test/gpu/kube-gpu-exporter:1.12.0\n",
        ),
        ("oci://registry.example.com/charts/x", "oci://images.test/gpu/charts/x"),
        ("    newTag: 0.1.0\n", "    newTag: 1.12.0\n"),
        ("version: 0.1.0\nappVersion: 0.1.0\n", "version: 1.12.0\nappVersion: 1.12.0\n"),
        ('image.version="0.1.0"', 'image.version="1.12.0"'),
        (
            "https://example.com/kube-gpu-exporter/blob/v0.1.0/a.md",
            "https://git.test/gpu/exporter/blob/v1.12.0/a.md",
        ),
    ],
)
def test_what_names_this_project_gets_the_new_version_and_addresses(old: str, new: str) -> None:
    assert NEW.instead_of(OLD, old) == new


@pytest.mark.parametrize(
    "text",
    [
        "prometheus 0.1.0",
        "kube-gpu-exporter 0.1.01",
        "kube-gpu-exporter 0.1.0.1",
        "kube-gpu-exporter 0.1.0-rc1",
        "kube-gpu-exporter 10.1.0",
        "https://grafana.example.com/d/gpu",
        "REGISTRY/kube-gpu-exporter",
    ],
)
def test_what_is_anothers_stays(text: str) -> None:
    assert NEW.instead_of(OLD, text) == text


def test_the_chart_shows_what_is_declared() -> None:
    chart = (ROOT / "daemonset/chart/Chart.yaml").read_text()
    assert Identity.written(chart) == Identity.declared()
    assert identity.replaced(ROOT) == {}


def test_a_change_reaches_every_file_and_is_then_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in identity.files(ROOT):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    old = Identity.declared()
    for name, value in zip(
        ("__version__", "REPOSITORY", "REGISTRY"),
        (NEW.version, NEW.repository, NEW.registry),
        strict=True,
    ):
        monkeypatch.setattr(exporter, name, value)
    changed = identity.replaced(tmp_path)
    for path, content in changed.items():
        path.write_bytes(content)
    names = {str(path.relative_to(tmp_path)) for path in changed}
    assert names >= {"pyproject.toml", "daemonset/Dockerfile", "docs/install.md"}
    assert identity.replaced(tmp_path) == {}
    now = Identity.declared()
    assert Identity.written((tmp_path / "daemonset/chart/Chart.yaml").read_text()) == now
    for path in identity.files(tmp_path):
        text = path.read_text()
        assert old.repository not in text, path
        assert old.registry not in text, path


def test_no_file_names_another_version() -> None:
    for path in identity.files(ROOT):
        found = re.findall(r"kube-gpu-exporter[: ]v?(\d+\.\d+\.\d+)", path.read_text())
        assert set(found) <= {exporter.__version__}, path


def test_every_link_of_the_package_and_the_chart_is_under_the_repository() -> None:
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    chart = yaml.safe_load((ROOT / "daemonset/chart/Chart.yaml").read_text())
    links = yaml.safe_load(chart["annotations"]["artifacthub.io/links"])
    prefix = exporter.REPOSITORY
    for url in (*urls.values(), chart["home"], *chart["sources"], chart["icon"]):
        assert url.startswith(prefix)
    assert all(link["url"].startswith(f"{prefix}/blob/main/") for link in links)


def test_every_page_that_is_linked_to_in_the_repository_exists() -> None:
    for path in identity.files(ROOT):
        for page in re.findall(
            rf"{re.escape(exporter.REPOSITORY)}/(?:blob|raw)/main/([\w./-]*\w)", path.read_text()
        ):
            assert (ROOT / page).exists(), (path, page)
