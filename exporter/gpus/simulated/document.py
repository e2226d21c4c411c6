"""YAML read with its line numbers, so that each mistake in a file is told with its place."""

import re
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import yaml

T = TypeVar("T")
D = TypeVar("D")

_DURATION: Final = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
_TAG: Final = "tag:yaml.org,2002:"


class ScenarioError(ValueError):
    """A scenario can't be used; the message is one line, ``path:line: what is wrong``."""


class Value:
    """A value in the file. Each reader returns it as one type or raises ScenarioError.

    ``name`` is the key under which it stands.
    """

    def __init__(self, path: str, node: yaml.Node, name: str = "") -> None:
        self._path = path
        self._node = node
        self._name = name

    def error(self, message: str) -> ScenarioError:
        return ScenarioError(f"{self._path}:{self._node.start_mark.line + 1}: {message}")

    def text(self) -> str:
        if not isinstance(self._node, yaml.ScalarNode) or self._tag != "str" or not self._raw:
            raise self._expected("a text")
        return self._raw

    def one_of(self, choices: Sequence[str]) -> str:
        if self._raw not in choices:
            raise self._expected(f"one of {', '.join(choices)}")
        return self._raw

    def boolean(self) -> bool:
        if self._tag != "bool":
            raise self._expected("true or false")
        return self._raw.lower() in {"true", "yes", "on"}

    def count(self) -> int:
        return self._integer(minimum=1)

    def index(self) -> int:
        return self._integer(minimum=0)

    def ratio(self) -> float:
        if self._tag not in {"int", "float"} or not 0 <= float(self._raw) <= 1:
            raise self._expected("a ratio from 0 to 1")
        return float(self._raw)

    def seconds(self) -> float:
        """Read a time: seconds, or hours, minutes and seconds as in ``1h30m`` and ``90s``."""
        if self._tag in {"int", "float"} and re.fullmatch(r"\d+(\.\d+)?", self._raw):
            return float(self._raw)
        match = _DURATION.fullmatch(self._raw) if self._raw else None
        if match is None:
            raise self._expected("a time such as 90s, 5m or 1h30m, not negative")
        hours, minutes, seconds = (float(part or 0) for part in match.groups())
        return hours * 3600 + minutes * 60 + seconds

    def items(self) -> list["Value"]:
        if not isinstance(self._node, yaml.SequenceNode):
            raise self._expected("a list")
        return [Value(self._path, node, self._name) for node in self._node.value]

    def item_or_items(self) -> list["Value"]:
        return self.items() if isinstance(self._node, yaml.SequenceNode) else [self]

    def entry(self) -> "Entry":
        return Entry(self._path, self._node, self._name)

    def is_text(self, text: str) -> bool:
        return self._raw == text

    @property
    def is_mapping(self) -> bool:
        return isinstance(self._node, yaml.MappingNode)

    @property
    def _tag(self) -> str:
        return str(self._node.tag).removeprefix(_TAG)

    @property
    def _raw(self) -> str:
        return str(self._node.value) if isinstance(self._node, yaml.ScalarNode) else ""

    def _integer(self, minimum: int) -> int:
        if not (self._tag == "int" and self._raw.isdecimal() and int(self._raw) >= minimum):
            raise self._expected(f"a whole number, {minimum} or more")
        return int(self._raw)

    def _expected(self, what: str) -> ScenarioError:
        got = {"seq": "a list", "map": "a mapping", "null": "nothing"}.get(self._tag)
        name = f"{self._name}: " if self._name else ""
        return self.error(f"{name}expected {what}, got {got or repr(self._raw)}")


class Entry(Value):
    """A mapping in the file, read key by key; ``finish`` finds the keys that nobody asked for."""

    def __init__(self, path: str, node: yaml.Node, name: str = "") -> None:
        super().__init__(path, node, name)
        if not isinstance(node, yaml.MappingNode):
            raise self._expected("a mapping")
        self._values: dict[str, Value] = {}
        self._keys: dict[str, Value] = {}
        for key_node, value_node in node.value:
            place, key = Value(path, key_node), str(key_node.value)
            if key in self._values:
                raise place.error(f"{key!r} is given twice")
            self._keys[key] = place
            self._values[key] = Value(path, value_node, key)
        self._known: list[str] = []

    def take(self, name: str, read: Callable[[Value], T]) -> T:
        """Read a key that has to be there."""
        self._known.append(name)
        if name not in self._values:
            raise self.error(f"{name!r} is missing")
        return read(self._values[name])

    def get(self, name: str, read: Callable[[Value], T], default: D) -> T | D:
        """Read a key, or return ``default`` where it is not there."""
        self._known.append(name)
        return read(self._values[name]) if name in self._values else default

    def has(self, name: str) -> bool:
        return name in self._values

    def at(self, name: str) -> Value:
        """Return the place of a key, for an error about it; of the entry where it is not there."""
        return self._keys.get(name, self)

    def finish(self) -> None:
        for name, key in self._keys.items():
            if name not in self._known:
                raise key.error(f"unknown key {name!r}, known here: {', '.join(self._known)}")


def parse(path: str, text: str) -> Entry:
    """Parse a file's text; ``path`` is how errors name it."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ScenarioError(f"{path}:{line}: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ScenarioError(f"{path}:1: {' '.join(str(error).split())}") from None
    if node is None:
        raise ScenarioError(f"{path}:1: the file is empty")
    return Entry(path, node)
