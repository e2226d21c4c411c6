"""The chart's values that are settings of the rules, under the rules' own names."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from daemonset.schema import LABELS, SWITCH, Schema, matching, one_of
from daemonset.value import Section, Value, switch
from exporter.document import UNITS_PATTERN
from rules import alerts, settings
from rules.setting import (
    LABEL_PATTERN,
    MODEL_PATTERN,
    NAMESPACE_PATTERN,
    QUOTABLE_PATTERN,
    SEVERITIES,
    Kind,
    Setting,
)

ROOT: Final = "prometheusRule"

_NUMBER: Final[Schema] = {"type": "number", "minimum": 0}
_QUOTABLE: Final = matching(QUOTABLE_PATTERN)
# Bare seconds are the settings file's: what Helm renders goes to Prometheus as it is.
_WAIT: Final[Schema] = {**matching(UNITS_PATTERN), "minLength": 1}
_DURATION: Final[Schema] = {"allOf": [_WAIT, {"pattern": "[1-9]"}]}
_SCHEMAS: Final[Mapping[Kind, Schema]] = MappingProxyType(
    {
        Kind.SWITCH: SWITCH,
        Kind.SEVERITY: one_of(*SEVERITIES),
        Kind.DURATION: _DURATION,
        Kind.WAIT: _WAIT,
        Kind.SECONDS: _NUMBER,
        Kind.RATIO: {**_NUMBER, "maximum": 1},
        Kind.NUMBER: _NUMBER,
        Kind.BYTES: _NUMBER,
        Kind.CELSIUS: _NUMBER,
        Kind.URL: _QUOTABLE,
        Kind.PATTERN: _QUOTABLE,
        Kind.LABEL: matching(LABEL_PATTERN),
        Kind.NAMES: {"type": "array", "items": matching(NAMESPACE_PATTERN)},
    }
)
"""What the rules' own settings file takes, for Helm to check."""


def _default(setting: Setting) -> Any:
    match setting.default:
        case tuple() as names:
            return list(names)
        case float() as number if number.is_integer():
            return int(number)
        case value:
            return value


JOB: Final = settings.table()["job"]
"""The setting whose default in the chart follows from the name of the release."""
_JOB_MEANING: Final = (
    f"{JOB.meaning} When empty, `{JOB.default}` if the objects of the release have a name that "
    "matches it, else `.*NAME.*`."
)


def _values() -> Iterator[Value]:
    yield switch(f"{ROOT}.enabled", "Create a PrometheusRule with the recording rules and alerts.")
    yield Value(
        f"{ROOT}.labels",
        {},
        LABELS,
        "Labels by which your Prometheus selects rules. kube-prometheus-stack selects by release: "
        "NAME, with the name of its Helm release.",
    )
    yield Value(
        f"{ROOT}.prices",
        {},
        {
            "type": "object",
            "additionalProperties": False,
            "patternProperties": {f"^({MODEL_PATTERN})$": _NUMBER},
        },
        "Price of an hour of a GPU, by model. From it follows what idle GPUs cost.",
    )
    for path, setting in settings.table().items():
        default, meaning = _default(setting), setting.meaning
        if setting is JOB:
            default, meaning = "", _JOB_MEANING
        yield Value(f"{ROOT}.{path}", default, _SCHEMAS[setting.kind], meaning)


ALERTING: Final = Section("Rules and alerts", tuple(_values()))
"""Values of the PrometheusRule."""

SUMMARIES: Final = MappingProxyType(
    {f"{ROOT}.alerts.{name}": alert.summary for name, alert in alerts.ALERTS.items()}
)
"""The summary of each alert, by the path of its values."""
