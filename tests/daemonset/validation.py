"""Whether Kubernetes would take an object: its own schemas, and those of the CRDs in ``crds/``."""

import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import yaml
from jsonschema import Draft4Validator, Draft202012Validator
from referencing import Registry, Resource

from tests.daemonset.render import Object

OLDEST: Final = "1.28"
NEWEST: Final = kubernetes_validate.latest_version()

_SCHEMAS: Final = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
_CRDS: Final = Path(__file__).parent / "crds"


def problems(objects: Iterable[Object]) -> list[str]:
    """Say what is wrong with each object, by what and where; nothing when all are valid.

    Fields that a schema does not know are wrong. So is a kind that has no schema.
    """
    return [problem for made in objects for problem in _problems(made)]


def _problems(made: Object) -> Iterator[str]:
    who = f"{made['kind']}/{made['metadata']['name']}"
    for version, validator in _validators(made["apiVersion"], made["kind"]):
        if validator is None:
            yield f"{who}: no schema for {made['apiVersion']} in {version}"
            continue
        for error in validator.iter_errors(made):
            yield f"{who}: {version}: {error.json_path}: {error.message}"


@cache
def _validators(api_version: str, kind: str) -> list[tuple[str, Any]]:
    """Return a validator, or nothing, by what it stands for."""
    crd = _custom().get((api_version, kind))
    if crd:
        return [("CRD", crd)]
    return [(version, _builtin(version, api_version, kind)) for version in (OLDEST, NEWEST)]


def _builtin(version: str, api_version: str, kind: str) -> Draft202012Validator | None:
    """Read the strict schema of a kind, as ``kubernetes_validate`` does, but only once."""
    group, _, of_group = api_version.rpartition("/")
    short = f"{group.split('.')[0]}-{of_group}" if group else of_group
    (folder,) = _SCHEMAS.glob(f"v{version}*-local-strict")
    path = folder / f"{kind.lower()}-{short}.json"
    if not path.exists():
        return None
    return Draft202012Validator(json.loads(path.read_text()), registry=_definitions(folder))


@cache
def _definitions(folder: Path) -> Registry[Any]:
    definitions = json.loads((folder / "_definitions.json").read_text())
    return Resource.from_contents(definitions) @ Registry()


@cache
def _custom() -> dict[tuple[str, str], Draft4Validator]:
    """Read the CRDs, by ``apiVersion`` and kind of what they define."""
    return {
        (f"{spec['group']}/{version['name']}", spec["names"]["kind"]): Draft4Validator(
            _closed(version["schema"]["openAPIV3Schema"])
        )
        for path in sorted(_CRDS.glob("*.yaml"))
        for spec in [yaml.load(path.read_text(), Loader=yaml.CSafeLoader)["spec"]]
        for version in spec["versions"]
    }


def _closed(schema: Any) -> Any:
    """Refuse fields that a structural schema does not name; the API server would drop them.

    ``metadata`` is every object's own, and left as it is. A field that may be an integer or text
    is written ``x-kubernetes-int-or-string`` there.
    """
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(part) for name, part in schema.items()}
    properties = closed.get("properties")
    if isinstance(properties, dict) and not closed.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    if closed.get("x-kubernetes-int-or-string") is True:
        closed.pop("type", None)
        closed.setdefault("anyOf", [{"type": "integer"}, {"type": "string"}])
    return closed
