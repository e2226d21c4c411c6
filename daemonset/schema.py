"""JSON schemas of the chart's values: the words of which ``daemonset/values.py`` makes its table.

Helm checks values against them before it renders anything, and says where a bad one is.
"""

from collections.abc import Mapping
from typing import Any, Final

Schema = Mapping[str, Any]

ANYTHING: Final[Schema] = {"type": "object"}
"""An object of the Kubernetes API, which checks it."""

SWITCH: Final[Schema] = {"type": "boolean"}
TEXT: Final[Schema] = {"type": "string"}
LABELS: Final[Schema] = {"type": "object", "additionalProperties": {"type": "string"}}
OBJECTS: Final[Schema] = {"type": "array", "items": ANYTHING}


def matching(pattern: str) -> Schema:
    """Text, the whole of which matches a regular expression."""
    return {"type": "string", "pattern": f"^({pattern})$"}


def one_of(*words: str) -> Schema:
    return {"type": "string", "enum": list(words)}


def whole(lowest: int, highest: int) -> Schema:
    return {"type": "integer", "minimum": lowest, "maximum": highest}


def fields(required: tuple[str, ...] = (), **of: Schema) -> Schema:
    """Return the schema of an object that has these fields and no others."""
    made: dict[str, Any] = {"type": "object", "additionalProperties": False, "properties": of}
    return {**made, "required": list(required)} if required else made


def either(*schemas: Schema) -> Schema:
    return {"anyOf": list(schemas)}


IMAGE: Final = matching(r"[a-z0-9][-a-z0-9._/:]*")
# As Kubernetes has them: https://kubernetes.io/docs/concepts/overview/working-with-objects/names
NAME: Final = matching(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
NAME_OR_NONE: Final = matching(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?)?")
# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity
QUANTITY: Final = either(
    matching(r"[0-9]+(\.[0-9]+)?([numkMGTPE]|[KMGTPE]i)?"), {"type": "number", "minimum": 0}
)
# https://prometheus.io/docs/prometheus/latest/configuration/configuration: <duration>
DURATION_OR_NONE: Final = matching(r"([0-9]+(ms|[smhdwy]))*")

RESOURCES: Final = fields(
    requests={"type": "object", "additionalProperties": QUANTITY},
    limits={"type": "object", "additionalProperties": QUANTITY},
)
TOLERATIONS: Final[Schema] = {
    "type": "array",
    "items": fields(
        key=TEXT,
        operator=one_of("Exists", "Equal", "Lt", "Gt"),
        value=TEXT,
        effect=one_of("NoSchedule", "PreferNoSchedule", "NoExecute"),
        tolerationSeconds={"type": "integer"},
    ),
}
AFFINITY: Final = fields(nodeAffinity=ANYTHING, podAffinity=ANYTHING, podAntiAffinity=ANYTHING)
ENVIRONMENT: Final[Schema] = {
    "type": "array",
    "items": fields(
        ("name",), name=matching(r"[-._a-zA-Z][-._a-zA-Z0-9]*"), value=TEXT, valueFrom=ANYTHING
    ),
}
ARGUMENTS: Final[Schema] = {"type": "array", "items": matching(r"--[a-z][-a-z]*(=.*)?")}
NAMED: Final[Schema] = {"type": "array", "items": fields(("name",), name=TEXT)}
VOLUMES: Final[Schema] = {
    "type": "array",
    "items": {"type": "object", "required": ["name"], "properties": {"name": NAME}},
}
