"""Dashboards against Grafana's own types, npm's @grafana/schema, by the TypeScript compiler."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dashboards.generate import DASHBOARDS
from dashboards.layer.outline import SCHEMA_VERSION
from tests.dashboards import grafana

FOLDER = Path(__file__).parent / "schema"
MODULES = FOLDER / "node_modules"

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not (MODULES / "typescript").is_dir(),
    reason="needs node and the packages that `make test` installs",
)


def compiled(folder: Path, documents: dict[str, Any]) -> str:
    """Return what the compiler says of documents as dashboards; nothing when all is well."""
    # Beside the types, because that is where the compiler looks for the packages that they name.
    (folder / "node_modules").symlink_to(MODULES)
    for name in ("model.ts", "tsconfig.json"):
        shutil.copy(FOLDER / name, folder)
    for name, document in documents.items():
        (folder / f"{name}.ts").write_text(
            "import type { Dashboard } from './model';\n"
            f"export const dashboard: Dashboard = {json.dumps(document, indent=1)};\n"
        )
    done = subprocess.run(
        ["node", "node_modules/typescript/bin/tsc", "--project", "."],  # noqa: S607
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert bool(done.stdout) == bool(done.returncode), done.stderr
    return done.stdout


def test_every_dashboard_is_of_grafanas_type(tmp_path: Path) -> None:
    documents = {document["uid"]: document for document in grafana.dashboards()}
    assert len(documents) == len(DASHBOARDS)
    assert compiled(tmp_path, documents) == ""


def broken() -> dict[str, dict[str, Any]]:
    """One dashboard with a mistake of each kind that the types have to see."""
    found = {}
    mistakes: dict[str, tuple[str, Any]] = {
        "no_such_option": ("stat", lambda panel: panel["options"].update(showSparkline=True)),
        "wrong_enum": ("timeseries", lambda p: p["options"]["tooltip"].update(mode="everything")),
        "missing_option": ("bargauge", lambda panel: panel["options"].pop("reduceOptions")),
        "wrong_custom": (
            "timeseries",
            lambda panel: panel["fieldConfig"]["defaults"]["custom"].update(lineWidth="thick"),
        ),
        "no_such_custom": (
            "table",
            lambda panel: panel["fieldConfig"]["defaults"]["custom"].update(displayMode2="auto"),
        ),
        "wrong_override": (
            "table",
            lambda panel: panel["fieldConfig"]["overrides"][0]["properties"].append(
                {"id": "custom.cellOptions", "value": {"type": "rainbow"}}
            ),
        ),
        "no_such_panel": ("stat", lambda panel: panel.update(type="singlestat")),
        "old_key": ("heatmap", lambda panel: panel.update(yBucketSize=None)),
    }
    for name, (kind, mistake) in mistakes.items():
        document = next(
            document
            for document in grafana.dashboards()
            if any(panel["type"] == kind for panel in document["panels"])
        )
        mistake(next(panel for panel in document["panels"] if panel["type"] == kind))
        found[name] = document
    return found


def test_the_types_see_mistakes(tmp_path: Path) -> None:
    documents = broken()
    said = compiled(tmp_path, documents)
    assert {name for name in documents if f"{name}.ts(" in said} == documents.keys()


def test_the_schema_version_is_that_of_the_types() -> None:
    done = subprocess.run(
        [  # noqa: S607
            "node",
            "--input-type=module",
            "--eval",
            "import { defaultDashboard as d } from '@grafana/schema'; console.log(d.schemaVersion)",
        ],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) == SCHEMA_VERSION
