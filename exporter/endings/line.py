"""What a message is made of, once it is cleaned."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Level(IntEnum):
    """How severe a logger took a line to be."""

    UNKNOWN = 0
    DEBUG = 1
    INFO = 2
    WARNING = 3
    ERROR = 4
    FATAL = 5


class Kind(StrEnum):
    """What a line is within a message."""

    TEXT = "text"
    FRAME = "frame"
    """One call of a traceback or of a stack trace, or its heading."""
    SOURCE = "source"
    """Program text that a traceback quotes, and what points to a place in it."""
    ASIDE = "aside"
    """Help that a framework prints after every error, whatever the error is."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line, without what a logger or a launcher puts before it. The indent stays."""

    text: str
    kind: Kind = Kind.TEXT
    level: Level = Level.UNKNOWN
    begins: bool = False
    """A record begins here, so that the line before does not go on in this one."""
    cut: bool = False
    """The line may have lost its beginning: the kubelet cut the message there."""

    @property
    def indent(self) -> int:
        return len(self.text) - len(self.text.lstrip(" \t"))
