"""JSON schemas of the chart's values: the words of which ``daemonset/values.py`` makes its table.

Helm checks values against them before it renders anything, and says where a bad one is.
"""

from collections.abc import Mapping
from typing import Any, Final

from exporter.config.options import OPTIONS
from exporter.document import UNITS_PATTERN

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
# A Service's name, which all objects share.
DNS_LABEL_OR_NONE: Final = matching(r"([a-z]([-a-z0-9]{0,61}[a-z0-9])?)?")
NAME_OR_NONE: Final = matching(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?)?")
# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity
QUANTITY: Final = either(
    matching(r"[0-9]+(\.[0-9]+)?([numkMGTPE]|[KMGTPE]i)?"), {"type": "number", "minimum": 0}
)
# https://prometheus.io/docs/prometheus/latest/configuration/configuration: <duration>
DURATION_OR_NONE: Final = matching(UNITS_PATTERN)

PATH: Final = matching(r"(/[^/\s]+)+")
POD_LABELS: Final[Schema] = {
    **LABELS,
    # By these the DaemonSet knows its pods.
    "propertyNames": {"not": {"enum": ["app.kubernetes.io/name", "app.kubernetes.io/instance"]}},
}
_AMOUNTS: Final = fields((), cpu=QUANTITY, memory=QUANTITY, **{"ephemeral-storage": QUANTITY})
RESOURCES: Final = fields(requests=_AMOUNTS, limits=_AMOUNTS)
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
_OWN: Final = {
    *("listen", "node", "kubelet", "kubelet_socket", "pod_watch", "pod_events"),
    *("tls_cert", "tls_key", "basic_auth_users"),
}
"""Options that other values of the chart, or its DaemonSet, stand for."""
_FLAGS: Final = [option.flag for name, option in OPTIONS.items() if name not in _OWN]
ARGUMENTS: Final[Schema] = {"type": "array", "items": matching(f"({'|'.join(_FLAGS)})=.*")}
NAMED: Final[Schema] = {"type": "array", "items": fields(("name",), name=TEXT)}
VOLUMES: Final[Schema] = {
    "type": "array",
    "items": {"type": "object", "required": ["name"], "properties": {"name": NAME}},
}
