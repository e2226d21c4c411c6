"""A user's settings, read from YAML. Each mistake is reported with its line."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from exporter.document import Entry, Value, did_you_mean, format_duration, read
from rules import setting
from rules.setting import (
    LABEL_PATTERN,
    MODEL_PATTERN,
    NAMESPACE_PATTERN,
    QUOTABLE_PATTERN,
    SEVERITIES,
    Kind,
    Setting,
)
from rules.settings import Settings, defaults, table

_NOT_RE2: Final = re.compile(r"\(\?(?:<?[=!]|[>(#]|P=)")
_UNITS_ONLY: Final = re.compile(r".*[a-z]")


def read_settings(path: Path) -> Settings:
    """Read the settings of a file over the defaults.

    Raises :class:`exporter.document.DocumentError`.
    """
    root, settings, known = read(path), defaults(), table()
    if root.is_nothing:
        return settings
    prices: dict[str, float] = {}
    given: dict[str, setting.Value] = {}
    for name, value in _leaves("", root.entry(), known):
        if name == "prices":
            prices = {_model(at): at.number() for _, at in value.entry()}
        else:
            given[name] = _READERS[known[name].kind](value)
    return Settings({**settings.values, **given}, prices)


def _leaves(prefix: str, entry: Entry, known: Mapping[str, Setting]) -> Iterator[tuple[str, Value]]:
    """Give each value with its path, and refuse a path that is no setting."""
    for key, value in entry:
        path = prefix + key
        if path in known or path == "prices":
            yield path, value
        elif any(name.startswith(f"{path}.") for name in known):
            yield from _leaves(f"{path}.", value.entry(), known)
        else:
            beside = {name.removeprefix(prefix) for name in known if name.startswith(prefix)}
            hint = did_you_mean(key, sorted({name.partition(".")[0] for name in beside}))
            raise entry.at(key).error(f"{path}: no such setting{hint}")


def _model(price: Value) -> str:
    if not re.fullmatch(MODEL_PATTERN, price.name):
        raise price.error(f"prices: {price.name!r} is not the name of a model")
    return price.name


def _severity(value: Value) -> str:
    return value.one_of(SEVERITIES)


def _wait(value: Value) -> str:
    """Read a duration, as Prometheus writes it: every number has its unit."""
    seconds, text = value.seconds(), value.scalar()
    return text if _UNITS_ONLY.fullmatch(text) else format_duration(seconds)


def _duration(value: Value) -> str:
    if not value.seconds():
        raise value.wrong("expected a duration that is longer than 0s")
    return _wait(value)


def _pattern(value: Value) -> str:
    text = value.scalar()
    # Python's expressions can do more than Prometheus', which are RE2's.
    if foreign := _NOT_RE2.search(text):
        raise value.wrong(f"{text!r} is not a regular expression: Prometheus has no {foreign[0]!r}")
    try:
        re.compile(text)
    except re.error as error:
        raise value.wrong(f"{text!r} is not a regular expression: {error}") from error
    return _quotable(value)


def _quotable(value: Value) -> str:
    text = value.scalar()
    if not re.fullmatch(QUOTABLE_PATTERN, text):
        raise value.wrong(f"{text!r} has a quote, a backslash, a brace or a space in it")
    return text


def _names(value: Value) -> tuple[str, ...]:
    return tuple(_name(item) for item in value.items())


def _name(value: Value) -> str:
    text = value.scalar()
    if not re.fullmatch(NAMESPACE_PATTERN, text):
        raise value.wrong(f"{text!r} is not the name of a namespace")
    return text


def _label(value: Value) -> str:
    text = value.scalar()
    if not re.fullmatch(LABEL_PATTERN, text):
        raise value.wrong(f"{text!r} is not the name of a label")
    return text


_READERS: Final[Mapping[Kind, Callable[[Value], setting.Value]]] = MappingProxyType(
    {
        Kind.SWITCH: Value.boolean,
        Kind.SEVERITY: _severity,
        Kind.DURATION: _duration,
        Kind.WAIT: _wait,
        Kind.SECONDS: Value.seconds,
        Kind.RATIO: Value.ratio,
        Kind.NUMBER: Value.number,
        Kind.BYTES: Value.number,
        Kind.CELSIUS: Value.number,
        Kind.URL: _quotable,
        Kind.PATTERN: _pattern,
        Kind.NAMES: _names,
        Kind.LABEL: _label,
    }
)
