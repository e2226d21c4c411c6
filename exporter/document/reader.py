"""Values of a YAML document, each with its line, so that a mistake is reported with its place."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

from exporter.document.durations import DurationError, parse_duration, shown
from exporter.document.files import FileError, read_file
from exporter.document.nodes import Kind, Node, SyntaxProblem

T = TypeVar("T")
D = TypeVar("D")

_INTEGER: Final = re.compile(r"[0-9]{1,15}")
_NUMBER: Final = re.compile(r"(?:[0-9]{1,15}\.?[0-9]{0,15}|\.[0-9]{1,15})(?:[eE][-+]?[0-9]{1,2})?")


class DocumentError(ValueError):
    """A document can't be used; the message is one line, ``path:line: what is wrong``."""


class Value:
    """A value in a document. Each reader returns it as one type or raises :class:`DocumentError`.

    ``name`` is the key under which the value stands.
    """

    def __init__(self, path: str, node: Node, name: str = "") -> None:
        self._path = path
        self._node = node
        self.name = name

    @property
    def place(self) -> str:
        """Where the value stands, as ``path:line``."""
        return f"{self._path}:{self._node.line}"

    def error(self, message: str) -> DocumentError:
        """Return an error at this place, its message made one line."""
        return DocumentError(f"{self.place}: {' '.join(message.split())}")

    def wrong(self, message: str) -> DocumentError:
        """Return an error about the value itself, named by its key."""
        return self.error(f"{self.name}: {message}" if self.name else message)

    @property
    def is_nothing(self) -> bool:
        """Whether no value is given: an empty text, ``~`` or ``null``."""
        return self.is_scalar and (self._node.text == "" or self._node.tag == "null")

    @property
    def is_scalar(self) -> bool:
        return self._node.kind is Kind.SCALAR

    @property
    def is_mapping(self) -> bool:
        return self._node.kind is Kind.MAPPING

    @property
    def is_list(self) -> bool:
        return self._node.kind is Kind.LIST

    def is_text(self, text: str) -> bool:
        return self.is_scalar and self._node.text == text

    def scalar(self) -> str:
        """Read one value as it is written, whatever YAML would take it for."""
        if not self.is_scalar:
            raise self._expected("one value")
        return self._node.text

    def text(self) -> str:
        """Read a text that YAML takes for a text, and that is not empty."""
        if not self.is_scalar or self._node.tag != "str" or not self._node.text:
            raise self._expected("a text")
        return self._node.text

    def one_of(self, choices: Sequence[str]) -> str:
        if not self.is_scalar or self._node.text not in choices:
            raise self._expected(f"one of {', '.join(choices)}")
        return self._node.text

    def boolean(self) -> bool:
        if not self.is_scalar or self._node.tag != "bool":
            raise self._expected("true or false")
        return self._node.text.lower() in {"true", "yes", "on"}

    def count(self, most: int | None = None) -> int:
        """Read a whole number from 1 up, or to ``most`` where the number bounds work or memory."""
        return self._integer(1, most)

    def index(self) -> int:
        """Read a whole number from 0 up."""
        return self._integer(0, None)

    def number(self) -> float:
        """Read a number from 0 up."""
        return self._number("a number, 0 or more")

    def ratio(self) -> float:
        """Read a number from 0 to 1."""
        expected = "a ratio from 0 to 1"
        number = self._number(expected)
        if number > 1:
            raise self._expected(expected)
        return number

    def seconds(self) -> float:
        """Read a duration; see :mod:`exporter.document.durations`."""
        if not self.is_scalar:
            raise self._expected("a duration (such as 5s)")
        try:
            return parse_duration(self._node.text)
        except DurationError as error:
            raise self.wrong(str(error)) from error

    def items(self) -> list["Value"]:
        if not self.is_list:
            raise self._expected("a list")
        return [Value(self._path, node, self.name) for node in self._node.children]

    def item_or_items(self) -> list["Value"]:
        return self.items() if self.is_list else [self]

    def entry(self) -> "Entry":
        return Entry(self._path, self._node, self.name)

    def _integer(self, least: int, most: int | None) -> int:
        text = self._node.text if self.is_scalar and self._node.tag == "int" else ""
        if not _INTEGER.fullmatch(text) or not least <= int(text) <= (most or int(text)):
            bounds = f"{least} or more" if most is None else f"from {least} to {most}"
            raise self._expected(f"a whole number, {bounds}")
        return int(text)

    def _number(self, expected: str) -> float:
        # YAML 1.1 takes 1:30 and 0x5A for numbers, and 1e5 for a text.
        text = self._node.text if self.is_scalar and self._node.plain else ""
        if not _NUMBER.fullmatch(text):
            raise self._expected(expected)
        return float(text)

    def _expected(self, what: str) -> DocumentError:
        got = {Kind.LIST: "a list", Kind.MAPPING: "a mapping"}.get(self._node.kind)
        if got is None:
            got = "nothing" if self._node.tag == "null" else shown(self._node.text)
        return self.wrong(f"expected {what}, got {got}")


class Entry(Value):
    """A mapping in a document, read key by key; ``finish`` finds the keys that nobody asked for."""

    def __init__(self, path: str, node: Node, name: str = "") -> None:
        super().__init__(path, node, name)
        if not self.is_mapping:
            raise self._expected("a mapping of keys to values")
        self._values: dict[str, Value] = {}
        self._keys: dict[str, Value] = {}
        for key_node, value_node in zip(node.children[::2], node.children[1::2], strict=True):
            place = Value(path, key_node)
            if not place.is_scalar:
                raise place.error("a key has to be a word, not a list or a mapping")
            key = place.scalar()
            if key in self._keys:
                first = self._keys[key].place
                raise place.error(f"{_word(key)}: given twice, first at {first}")
            self._keys[key] = place
            self._values[key] = Value(path, value_node, key)
        self._known: list[str] = []

    def __iter__(self) -> Iterator[tuple[str, Value]]:
        """Give keys and values as they stand; :meth:`finish` counts none of them as read."""
        return iter(self._values.items())

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

    def finish(self, noun: str = "key") -> None:
        """Refuse keys that were not asked for; ``noun`` is what a key of this entry is called."""
        for name, key in self._keys.items():
            if name not in self._known:
                raise key.error(f"{_word(name)}: no such {noun}{self._instead(name)}")

    def _instead(self, name: str) -> str:
        if hint := did_you_mean(name, self._known):
            return hint
        return f"; known here: {', '.join(self._known)}" if len(self._known) <= 12 else ""


def read(path: Path) -> Value:
    """Read a document from a file. Raises :class:`DocumentError`, also where it can't be read."""
    try:
        content = read_file(path)
    except FileError as error:
        raise DocumentError(f"{path}: cannot be read: {error}") from error
    return parse(str(path), content)


def parse(path: str, content: bytes) -> Value:
    """Parse what a file holds; ``path`` is how errors name it."""
    # Most nodes are configured by flags and environment: they need no YAML parser in memory.
    from exporter.document.parsing import compose  # noqa: PLC0415

    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DocumentError(f"{path}:{line}: not UTF-8 text") from error
    try:
        return Value(path, compose(text))
    except SyntaxProblem as error:
        problem = " ".join(str(error).split())
        raise DocumentError(f"{path}:{error.line}: not YAML: {problem}") from error


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Suggest the known name that is nearest to ``name``, as the end of a message."""
    # Only a misspelt name needs it.
    from difflib import get_close_matches  # noqa: PLC0415

    near = get_close_matches(name[:100], known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _word(key: str) -> str:
    """Write a key as it stands where it is a word, else quoted."""
    return key if re.fullmatch(r"[A-Za-z0-9_./-]{1,60}", key) else shown(key)
