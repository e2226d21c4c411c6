"""A user's settings, read from YAML: each mistake is told with its line."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, NoReturn

import yaml

from rules.setting import (
    MODEL_PATTERN,
    NAMESPACE_PATTERN,
    QUOTABLE_PATTERN,
    SEVERITIES,
    WAIT_PATTERN,
    Kind,
    Setting,
    Value,
)
from rules.settings import Settings, defaults, table

_NOT_RE2: Final = re.compile(r"\(\?(?:<?[=!]|[>(#]|P=)")


class SettingsError(Exception):
    """A settings file that can't be used. The message says where it is and what is wrong."""


def read(path: Path) -> Settings:
    """Read the settings of ``path`` over the defaults.

    Raises :class:`SettingsError`.
    """
    try:
        root = yaml.compose(path.read_bytes(), Loader=yaml.SafeLoader)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise SettingsError(f"{path}{line}: not YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: not YAML: {error}".splitlines()[0]) from error
    settings = defaults()
    if root is None:
        return settings
    file = _File(path)
    given = dict(file.values(root))
    prices = file.prices(root)
    return Settings({**settings.values, **given}, prices)


class _File:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._table = table()

    def values(self, root: yaml.Node) -> Iterator[tuple[str, Value]]:
        """Give each setting of the file by its path."""
        for path, node in self._leaves("", root):
            setting = self._table[path]
            try:
                yield path, _value(node, setting)
            except ValueError as error:
                self._fail(node, f"{path}: {error}")

    def prices(self, root: yaml.Node) -> Mapping[str, float]:
        for key, node in self._entries("", root):
            if key == "prices":
                return {model: self._price(model, at) for model, at in self._entries(key, node)}
        return {}

    def _price(self, model: str, node: yaml.Node) -> float:
        if not re.fullmatch(MODEL_PATTERN, model):
            self._fail(node, f"prices: {model!r} is not the name of a model")
        try:
            return _number(node)
        except ValueError as error:
            self._fail(node, f"prices: {model}: {error}")

    def _leaves(self, prefix: str, node: yaml.Node) -> Iterator[tuple[str, yaml.Node]]:
        for key, value in self._entries(prefix.removesuffix("."), node):
            path = prefix + key
            if path in self._table:
                yield path, value
            elif any(known.startswith(f"{path}.") for known in self._table):
                yield from self._leaves(f"{path}.", value)
            elif path != "prices":
                self._fail(value, f"{path}: no such setting")

    def _entries(self, path: str, node: yaml.Node) -> Iterator[tuple[str, yaml.Node]]:
        if not isinstance(node, yaml.MappingNode):
            self._fail(node, f"{path or 'the file'}: not a mapping")
        seen = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._fail(key, f"{path or 'the file'}: a key is not a word")
            if key.value in seen:
                self._fail(key, f"{key.value}: given twice")
            seen.add(key.value)
            yield key.value, value

    def _fail(self, node: yaml.Node, problem: str) -> NoReturn:
        raise SettingsError(f"{self._path}:{node.start_mark.line + 1}: {problem}")


def _value(node: yaml.Node, setting: Setting) -> Value:
    if setting.kind is Kind.NAMES:
        if not isinstance(node, yaml.SequenceNode):
            raise ValueError(f"not {setting.kind}")
        return tuple(_name(entry) for entry in node.value)
    return _SCALARS[setting.kind](node)


def _scalar(node: yaml.Node, kind: str) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise ValueError(f"not {kind}")  # noqa: TRY004  (of a file's value, not of ours)
    return str(node.value)


def _switch(node: yaml.Node) -> bool:
    if node.tag != "tag:yaml.org,2002:bool":
        raise ValueError(f"not {Kind.SWITCH}")
    return _scalar(node, Kind.SWITCH).lower() in {"true", "yes", "on"}


def _severity(node: yaml.Node) -> str:
    text = _scalar(node, Kind.SEVERITY)
    if text not in SEVERITIES:
        raise ValueError(f"{text!r} is not {Kind.SEVERITY}")
    return text


def _duration(node: yaml.Node) -> str:
    text = _scalar(node, Kind.DURATION)
    if not re.fullmatch(WAIT_PATTERN, text) or not re.search(r"[1-9]", text):
        raise ValueError(f"{text!r} is not {Kind.DURATION}")
    return text


def _wait(node: yaml.Node) -> str:
    text = _scalar(node, Kind.WAIT)
    if not text or not re.fullmatch(WAIT_PATTERN, text):
        raise ValueError(f"{text!r} is not {Kind.WAIT}")
    return text


def _number(node: yaml.Node) -> float:
    text = _scalar(node, Kind.NUMBER)
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"{text} is not {Kind.NUMBER}")
    return number


def _ratio(node: yaml.Node) -> float:
    number = _number(node)
    if number > 1:
        raise ValueError(f"{number:g} is not {Kind.RATIO}")
    return number


def _pattern(node: yaml.Node) -> str:
    text = _scalar(node, Kind.PATTERN)
    # Python's expressions can do more than Prometheus', which are RE2's.
    if foreign := _NOT_RE2.search(text):
        raise ValueError(f"{text!r} is not {Kind.PATTERN}: Prometheus has no {foreign[0]!r}")
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is not {Kind.PATTERN}: {error}") from error
    return _quotable(text)


def _name(node: yaml.Node) -> str:
    text = _scalar(node, Kind.NAMES)
    if not re.fullmatch(NAMESPACE_PATTERN, text):
        raise ValueError(f"{text!r} is not the name of a namespace")
    return text


def _url(node: yaml.Node) -> str:
    return _quotable(_scalar(node, Kind.URL))


def _quotable(text: str) -> str:
    if not re.fullmatch(QUOTABLE_PATTERN, text):
        raise ValueError(f"{text!r} has a quote, a backslash, a brace or a space in it")
    return text


_SCALARS: Final[Mapping[Kind, Callable[[yaml.Node], Value]]] = MappingProxyType(
    {
        Kind.SWITCH: _switch,
        Kind.SEVERITY: _severity,
        Kind.DURATION: _duration,
        Kind.WAIT: _wait,
        Kind.SECONDS: _number,
        Kind.RATIO: _ratio,
        Kind.NUMBER: _number,
        Kind.BYTES: _number,
        Kind.CELSIUS: _number,
        Kind.URL: _url,
        Kind.PATTERN: _pattern,
    }
)
