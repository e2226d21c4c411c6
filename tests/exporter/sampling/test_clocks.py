"""The two clocks can't be mixed up: each time in `sampling` has the type of its clock."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[3]
SAMPLING = sorted((ROOT / "exporter/sampling").glob("*.py"))
OTHER = {"Monotonic": "unix", "UnixSeconds": "monotonic"}
"""The name of a value of the other clock, by the type of a parameter."""
TIMES = re.compile(
    r"_?(now|timestamp|since|until|started|ended|due|begun|active|accounted"
    r"|\w+_(at|due|since|until|by|started))"
)


class Parameter(NamedTuple):
    """A parameter that is a time."""

    owner: str
    """The class or the module that has the function."""
    function: str
    name: str
    clock: str
    others: tuple[str, ...]
    """The names of the other parameters without a default."""

    @property
    def mixed_up(self) -> str:
        """A call with a time of the wrong clock."""
        wrong = f"{self.name}={OTHER[self.clock]}"
        return f"{self.owner}.{self.function}({', '.join((wrong, *self.others))})"


def parameters(path: Path) -> Iterator[Parameter]:
    module = f"exporter.sampling.{path.stem}"
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            yield from times(module, node)
        elif isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and method.name != "__init__":
                    yield from times(f"{module}.{node.name}", method)


def times(owner: str, function: ast.FunctionDef) -> Iterator[Parameter]:
    spec = function.args
    required = spec.args[: len(spec.args) - len(spec.defaults)]
    required += [
        arg for arg, default in zip(spec.kwonlyargs, spec.kw_defaults, strict=True) if not default
    ]
    decorators = {ast.unparse(decorator) for decorator in function.decorator_list}
    for arg in (*spec.args, *spec.kwonlyargs):
        clock = ast.unparse(arg.annotation) if arg.annotation else ""
        if clock in OTHER:
            others = [other.arg for other in required if other is not arg]
            if "classmethod" in decorators:
                others.remove("cls")
            yield Parameter(
                owner, function.name, arg.arg, clock, tuple(f"{name}=anything" for name in others)
            )


def test_mypy_refuses_the_wrong_clock_for_each_time_in_sampling(tmp_path: Path) -> None:
    found = [parameter for path in SAMPLING for parameter in parameters(path)]
    assert {parameter.clock for parameter in found} == OTHER.keys()
    head = [
        "from typing import Any",
        *(f"import exporter.sampling.{path.stem}" for path in SAMPLING if path.stem != "__init__"),
        "from exporter.model.clocks import Monotonic, UnixSeconds",
        "def calls(monotonic: Monotonic, unix: UnixSeconds, anything: Any) -> None:",
    ]
    program = tmp_path / "mixed_up.py"
    program.write_text("\n".join([*head, *(f"    {each.mixed_up}" for each in found), ""]))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--follow-imports=silent", "--no-error-summary"),
            *("--cache-dir", str(tmp_path / "cache"), str(program)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = re.findall(r"mixed_up\.py:(\d+): error: .*\[arg-type\]", done.stdout)
    refused = {int(line) for line in lines}
    accepted = [
        each.mixed_up for line, each in enumerate(found, len(head) + 1) if line not in refused
    ]
    assert accepted == []


def test_no_time_in_sampling_is_a_bare_number() -> None:
    bare = []
    for path in SAMPLING:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.arg) and node.annotation:
                name, annotation = node.arg, ast.unparse(node.annotation)
            elif isinstance(node, ast.AnnAssign):
                name = ast.unparse(node.target).removeprefix("self.")
                annotation = ast.unparse(node.annotation)
            else:
                continue
            if TIMES.fullmatch(name) and re.search(r"\b(float|int)\b", annotation):
                bare.append(f"{path.name}:{node.lineno}: {name}: {annotation}")
    assert bare == []
