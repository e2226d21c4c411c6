"""Records of structured loggers: JSON and ``key=value``. Fields that speak are kept as lines."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from exporter.endings.line import Level, Line
from exporter.endings.prefixes import LEVELS, strip

_LEVEL_KEYS: Final = {"level", "lvl", "severity", "levelname", "log_level", "loglevel"}
_SPEECH_KEY: Final = re.compile(
    r"(?:msg|message|event|text|log|error|err|exception|exc_?info|exc_?text|reason|details?|cause"
    r"|description|stderr|traceback|stack_?trace|stack|errorverbose|what|output|status)",
    re.IGNORECASE,
)
_FIELD: Final = re.compile(r"\"([\w.@-]{1,60})\" ?: ?\"((?:[^\"\\]|\\.){0,4096})(?:\"|$)")
_HINT: Final = re.compile(
    r"\b(?:hint|advice|suggestion|help|tip|docs?|remedy)=(?:\"[^\"]{0,400}\"|\S{1,200})",
    re.IGNORECASE,
)
_LEVEL: Final = re.compile(r"\b(?:level|lvl|severity)=\"?(\w{1,10})")
_BREAK: Final = re.compile(r"\\r\\n|\\n")
_DEEPEST: Final = 4


def lines_of(raw: str, *, cut: bool) -> Iterator[Line]:
    r"""Yield the line, or what the fields of a record say, one line for each line of theirs.

    Line breaks that were written as ``\\n`` are line breaks here.
    """
    line = strip(raw, cut=cut)
    fields = _fields(line.text) if '"' in line.text and ":" in line.text else None
    if fields is not None:
        yield from _spoken(fields, line)
        return
    text = _HINT.sub(" ", line.text)
    named = _LEVEL.search(text)
    level = max(line.level, LEVELS.get(named[1].lower(), Level.UNKNOWN) if named else Level.UNKNOWN)
    first, *rest = _BREAK.split(text)
    yield Line(first, level=level, begins=line.begins, cut=cut)
    for piece in rest:
        yield Line(strip(piece).text, level=level)


def _fields(text: str) -> list[tuple[str, Any]] | None:
    """Return the fields of a JSON record, also of one that was cut; ``None``: it is none."""
    if text.lstrip().startswith("{"):
        try:
            record = json.loads(text)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict):
            return list(_flat(record))
    found = _FIELD.findall(text)
    return [(key, _unescaped(value)) for key, value in found] if len(found) > 1 else None


def _flat(record: Mapping[str, Any], depth: int = 0) -> Iterator[tuple[str, Any]]:
    for key, value in record.items():
        if isinstance(value, dict) and depth < _DEEPEST:
            yield from _flat(value, depth + 1)
        elif isinstance(value, list):
            yield key, "\n".join(str(each) for each in value)
        else:
            yield key, value


def _unescaped(value: str) -> str:
    return value.replace("\\n", "\n").replace("\\t", "\t").replace('\\"', '"')


def _spoken(fields: list[tuple[str, Any]], line: Line) -> Iterator[Line]:
    levels = [LEVELS.get(str(value).lower()) for key, value in fields if key in _LEVEL_KEYS]
    level = max([line.level, *filter(None, levels)])
    speech = [
        value for key, value in fields if _SPEECH_KEY.fullmatch(key) and isinstance(value, str)
    ]
    if short := ": ".join(each for each in speech if "\n" not in each):
        yield Line(short, level=level, begins=True, cut=line.cut)
    for each in speech:
        if "\n" in each:
            for inner in each.splitlines():
                yield Line(strip(inner).text, level=level)
