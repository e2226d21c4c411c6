"""The version and the addresses of the project, in files that people write.

They are declared in ``exporter/__init__.py``. ``Chart.yaml`` shows which ones the files have; where
those differ from what is declared, they are replaced.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import yaml

import exporter

_CHART: Final = "daemonset/chart/Chart.yaml"
_WRITTEN: Final = (
    *("*.md", "pyproject.toml", "docs/*.md", ".github/**/*"),
    *("daemonset/Dockerfile", "daemonset/**/*.md", "daemonset/**/*.yaml", "daemonset/**/*.txt"),
)
_HISTORY: Final = "CHANGELOG.md"
_PLACEHOLDER: Final = "example.com"


@dataclass(frozen=True, slots=True)
class Identity:
    """What release this is, and where the project is published."""

    version: str
    repository: str
    registry: str

    @classmethod
    def declared(cls) -> Self:
        return cls(exporter.__version__, exporter.REPOSITORY, exporter.REGISTRY)

    @classmethod
    def written(cls, chart: str) -> Self:
        """Read what the files have from the text of ``Chart.yaml``."""
        fields = yaml.safe_load(chart)
        (image,) = yaml.safe_load(fields["annotations"]["artifacthub.io/images"])
        registry = image["image"].partition("/kube-gpu-exporter:")[0]
        return cls(str(fields["version"]), fields["home"], registry)

    @property
    def placeholders(self) -> list[str]:
        """Return the addresses at which nothing is published yet."""
        return [one for one in (self.repository, self.registry) if _PLACEHOLDER in one]

    def instead_of(self, old: "Identity", text: str) -> str:
        """Return ``text`` with this version and these addresses in place of old ones.

        A version is replaced after the name of this project, and in fields that contain nothing
        else.
        """
        ours = re.compile(
            r"(?P<before>kube-gpu-exporter[:@ -]v?|\b(?:newTag|version|appVersion): "
            r"|image\.version=\"|/v)" + re.escape(old.version) + r"(?![-+]?\w|\.\d)"
        )
        text = ours.sub(lambda found: found["before"] + self.version, text)
        return text.replace(old.repository, self.repository).replace(old.registry, self.registry)


def replaced(root: Path) -> dict[Path, bytes]:
    """Return the files in which something of the declared identity is not yet written."""
    old, new = Identity.written((root / _CHART).read_text()), Identity.declared()
    changed: dict[Path, bytes] = {}
    for path in files(root) if old != new else ():
        text = path.read_text()
        if (fresh := new.instead_of(old, text)) != text:
            changed[path] = fresh.encode()
    return changed


def files(root: Path) -> Iterator[Path]:
    """Give the files that people write and that may name the version or an address."""
    for pattern in _WRITTEN:
        for path in sorted(root.glob(pattern)):
            if path.is_file() and path.name != _HISTORY:
                yield path
