"""The chart's files that are made of its declared values."""

import json
import textwrap
from collections.abc import Iterator
from itertools import groupby
from typing import Any, Final

import yaml

from daemonset.alerting import ALERTING, ROOT, SUMMARIES
from daemonset.schema import Schema
from daemonset.value import Value
from daemonset.values import NEEDS, REFUSED_TOGETHER, SECTIONS

_HEAD: Final = """\
# Values of the chart, each at its default. Generated from daemonset/values.py and, under
# prometheusRule, from the settings of the rules; the README has them as a table.
"""
_ALERTS: Final = f"{ROOT}.alerts."
_SHARED: Final = ("enabled", "severity", "for", "keepFiringFor")
"""What every alert has."""
_ON_ONE_LINE: Final = (_ALERTS, f"{ROOT}.groups.")


def values_yaml() -> str:
    """Write ``values.yaml``: every value with its meaning, an alert's own on one line."""
    lines = [_HEAD]
    above: tuple[str, ...] = ()
    for section in SECTIONS:
        lines.append(f"# {section.title}\n# {'-' * len(section.title)}\n")
        for path, values in groupby(section.values, _entry):
            *parents, key = path.split(".")
            for depth, parent in enumerate(parents):
                if above[: depth + 1] != tuple(parents[: depth + 1]):
                    lines.append(f"{'  ' * depth}{parent}:\n")
            above = tuple(parents)
            if path.startswith(_ON_ONE_LINE):
                entry = _line(key, list(values), SUMMARIES.get(path, ""))
            else:
                entry = _leaf(key, *values)
            lines += textwrap.indent(entry, "  " * len(parents)).splitlines(keepends=True)
        lines.append("\n")
    return "".join(lines).rstrip("\n") + "\n"


def _entry(value: Value) -> str:
    """Return the path that a value has a line of its own for."""
    return value.path.rpartition(".")[0] if value.path.startswith(_ON_ONE_LINE) else value.path


def _line(key: str, values: list[Value], summary: str) -> str:
    comment = f"# {summary}\n" if summary else ""
    return f"{comment}{key}: {_flow({value.keys[-1]: value.default for value in values})}\n"


def _leaf(key: str, value: Value) -> str:
    comment = "".join(f"# {line}\n" for line in textwrap.wrap(value.meaning, 90))
    if isinstance(value.default, dict | list) and value.default:
        return f"{comment}{key}:\n{textwrap.indent(_block(value.default), '  ')}"
    return f"{comment}{key}: {_flow(value.default)}\n"


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000)
    return text.removesuffix("...\n").strip().replace("''", '""')


def _block(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=False, sort_keys=False, width=10_000)


def values_schema() -> str:
    """Write ``values.schema.json``, by which Helm refuses what no value is."""
    root, definitions = _object(), dict[str, Schema]()
    # Helm hands it to every chart that another one depends on.
    root["properties"]["global"] = {"type": "object"}
    for section in SECTIONS:
        for value in section.values:
            *parents, key = value.keys
            place = root
            for parent in parents:
                place = _put(place, parent, _object())
            schema: Schema = {"description": value.meaning, **value.schema}
            if value.path.startswith(_ALERTS) and key in _SHARED:
                # Written once, as long as it is the same for every alert.
                name = f"alert{key[0].upper()}{key[1:]}"
                if definitions.setdefault(name, schema) == schema:
                    schema = {"$ref": f"#/definitions/{name}"}
            _put(place, key, schema)
    root["allOf"] = [
        *(_implies(one, other, on=False) for one, other in REFUSED_TOGETHER),
        *(_implies(one, other, on=True) for one, other in NEEDS),
    ]
    draft = {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": definitions}
    return json.dumps({**draft, **root}, indent=1, ensure_ascii=False) + "\n"


def _object() -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "required": [], "properties": {}}


def _put(place: dict[str, Any], key: str, schema: Schema) -> Any:
    """Return the schema of an object's key, added if it is not there yet.

    As every value has a default, only what was set to null can be missing: that is refused.
    """
    if key not in place["properties"]:
        place["required"].append(key)
    return place["properties"].setdefault(key, schema)


def _implies(one: str, other: str, *, on: bool) -> Schema:
    return {"if": _is(one, on=True), "then": _is(other, on=on)}


def _is(path: str, *, on: bool) -> Schema:
    schema: dict[str, Any] = {"const": on}
    for key in reversed(path.split(".")):
        schema = {"properties": {key: schema}, "required": [key]}
    return schema


def values_tables() -> str:
    """Write the README's tables: one for each section, and one with a row for each alert."""
    parts = []
    for section in SECTIONS:
        rows = [_row(value) for value in section.values if not value.path.startswith(_ALERTS)]
        head = "| value | default | meaning |\n| --- | --- | --- |\n"
        parts.append(f"### {section.title}\n\n{head}{''.join(rows)}")
    parts.append(f"### Alerts\n\n{_alerts()}")
    return "\n".join(parts)


def _row(value: Value) -> str:
    return f"| `{value.path}` | {_cell(value.default)} | {_escaped(value.meaning)} |\n"


def _cell(value: Any) -> str:
    text = _flow(value)
    return "none" if text in {'""', "{}", "[]"} else f"`{_escaped(text)}`"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _alerts() -> str:
    head = (
        f"Each is under `{ROOT}.alerts`, with `{'`, `'.join(_SHARED)}` and values of its own.\n\n"
        "| alert | severity | for | keepFiringFor | of its own |\n"
        "| --- | --- | --- | --- | --- |\n"
    )
    alerts = (value for value in ALERTING.values if value.path.startswith(_ALERTS))
    return head + "".join(_alert(path, list(values)) for path, values in groupby(alerts, _entry))


def _alert(path: str, values: list[Value]) -> str:
    by_key = {value.keys[-1]: value for value in values}
    shared = " | ".join(f"`{by_key[key].default}`" for key in _SHARED[1:])
    own = "<br>".join(_own(values))
    return f"| `{path.removeprefix(_ALERTS)}`: {SUMMARIES[path]} | {shared} | {own} |\n"


def _own(values: list[Value]) -> Iterator[str]:
    for value in values:
        key = value.keys[-1]
        if key not in _SHARED:
            yield f"`{key}: {value.default}` {_escaped(value.meaning)}"
