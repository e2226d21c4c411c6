"""The walls between rooms hold: what the import contracts forbid is refused wherever it is written.

A copy of the program gets one module with forbidden imports in each room, and the linter has to
name every one of them. So a contract that forgets a room, or a library without one, fails here.
"""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT = Path(sys.executable).with_name("lint-imports")
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
    "contracts"
]
LAYERS = [
    layer.split(" | ")
    for contract in CONTRACTS
    if contract["type"] == "layers"
    for layer in contract["layers"]
]
ROOMS = [room for layer in LAYERS for room in layer]
FORBIDDEN = {
    library: {
        allowed.split(" -> ")[0].rstrip(".*")
        for allowed in contract.get("ignore_imports", ())
        if allowed.endswith(f"-> {library}")
    }
    for contract in CONTRACTS
    if contract["type"] == "forbidden"
    for library in contract["forbidden_modules"]
}
"""The modules below which each library may be imported, by library."""


def test_every_room_has_its_floor() -> None:
    rooms = {path.name for path in (ROOT / "exporter").iterdir() if (path / "__init__.py").exists()}
    assert set(ROOMS) == rooms


def test_every_library_that_the_program_imports_has_a_contract() -> None:
    imported = {
        name
        for path in (ROOT / "exporter").rglob("*.py")
        for name in _top_levels(ast.parse(path.read_text()))
    }
    assert imported - sys.stdlib_module_names - {"exporter", "_ctypes"} <= FORBIDDEN.keys()


def test_a_forbidden_library_is_refused_in_every_room(tmp_path: Path) -> None:
    expected = set()
    for room in ROOMS:
        module = f"exporter.{room}.planted"
        libraries = [name for name, allowed in FORBIDDEN.items() if not _below(module, allowed)]
        _plant(tmp_path, room, [f"import {library}" for library in libraries])
        expected |= {f"{module} -> {library}" for library in libraries}
    refused = _refused(tmp_path)
    assert expected - refused == set()


def test_a_library_is_refused_beside_the_folder_that_may_import_it(tmp_path: Path) -> None:
    _plant(tmp_path, "gpus/simulated", ["import pynvml"])
    _plant(tmp_path, "gpus", ["import pynvml"])
    refused = _refused(tmp_path)
    assert {
        "exporter.gpus.simulated.planted -> pynvml",
        "exporter.gpus.planted -> pynvml",
    } <= refused


@pytest.mark.parametrize("floor", range(1, len(LAYERS)), ids=lambda floor: LAYERS[floor][0])
def test_an_import_upwards_is_refused(tmp_path: Path, floor: int) -> None:
    above = [room for layer in LAYERS[:floor] for room in layer]
    beside = {room: [other for other in LAYERS[floor] if other != room] for room in LAYERS[floor]}
    expected = set()
    for room, others in beside.items():
        _plant(tmp_path, room, [f"import exporter.{other}" for other in (*above, *others)])
        expected |= {f"exporter.{room}.planted -> exporter.{o}" for o in (*above, *others)}
    assert expected - _refused(tmp_path) == set()


def test_a_new_room_without_a_floor_is_refused(tmp_path: Path) -> None:
    _plant(tmp_path, "attic", [])
    (tmp_path / "exporter/attic/__init__.py").touch()
    assert "exporter.attic" in _lint(tmp_path)


def _plant(root: Path, folder: str, lines: Iterable[str]) -> None:
    if not (root / "exporter").exists():
        shutil.copytree(
            ROOT / "exporter", root / "exporter", ignore=shutil.ignore_patterns("__pycache__")
        )
        shutil.copy(ROOT / "pyproject.toml", root)
    path = root / "exporter" / folder / "planted.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines))


def _lint(root: Path) -> str:
    found = subprocess.run(
        [LINT, "--no-cache"], cwd=root, capture_output=True, text=True, check=False
    )
    assert found.returncode == 1, found.stdout + found.stderr
    return found.stdout


def _refused(root: Path) -> set[str]:
    """Return the imports that the linter names, as ``importer -> imported``."""
    return set(re.findall(r"exporter[\w.]* -> [\w.]+", _lint(root)))


def _below(module: str, allowed: Iterable[str]) -> bool:
    return any(module.startswith(f"{parent}.") for parent in allowed)


def _top_levels(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
