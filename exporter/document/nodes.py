"""What a document is made of, whoever parsed it."""

from dataclasses import dataclass, field
from enum import Enum, auto


class Kind(Enum):
    SCALAR = auto()
    LIST = auto()
    MAPPING = auto()


class SyntaxProblem(Exception):  # noqa: N818  (of a user's text, where it is always handled)
    """A text that is not YAML: in which line, and why."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A scalar with its text as written, a list, or a mapping of keys to values in turn."""

    kind: Kind
    line: int
    tag: str
    """What YAML takes the value for, such as ``int``."""
    text: str = ""
    plain: bool = False
    """Whether a scalar stands without quotes."""
    children: list["Node"] = field(default_factory=list)
