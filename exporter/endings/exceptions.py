"""Where an exception is raised to the top: Python, C++, Java, Go, Rust, Julia, glog."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from exporter.endings.line import Kind, Line


class Chain(StrEnum):
    """How an exception follows the one before it, by what Python prints between them."""

    NONE = "none"
    CAUSED = "caused"
    """``raise … from …``: the earlier one is the cause."""
    HANDLING = "handling"
    """It was raised while the earlier one was handled."""
    IGNORED = "ignored"
    """Python could not raise it, and went on."""


@dataclass(frozen=True, slots=True)
class Raised:
    """An exception in a line: its class, and what it says."""

    kind: str
    """The last part of the class's name; empty where a language has none."""
    text: str

    @property
    def is_definite(self) -> bool:
        """Whether the class alone says that it is a mistake of the program or its input.

        What such an exception quotes, a name for one, is no report of another failure.
        """
        return self.kind in _DEFINITE or self.kind.startswith("Unicode")

    @property
    def is_wrapper(self) -> bool:
        """Whether programs raise this class for any reason, other exceptions among them."""
        return self.kind in _WRAPPERS or not (self.is_definite or self.kind in _BUILTIN)


_DEFINITE: Final = frozenset(
    [
        "ArithmeticError",
        "AttributeError",
        "BlockingIOError",
        "ConnectionError",
        "ConnectionRefusedError",
        "FileExistsError",
        "FileNotFoundError",
        "FloatingPointError",
        "ImportError",
        "IndentationError",
        "IndexError",
        "IsADirectoryError",
        "JSONDecodeError",
        "KeyError",
        "LookupError",
        "ModuleNotFoundError",
        "NameError",
        "NotADirectoryError",
        "NotImplementedError",
        "PermissionError",
        "RecursionError",
        "ReferenceError",
        "StopIteration",
        "StopAsyncIteration",
        "SyntaxError",
        "TabError",
        "TypeError",
        "UnboundLocalError",
        "ZeroDivisionError",
        "ScannerError",
        "ParserError",
        "ConfigAttributeError",
        "NullPointerException",
        "ClassNotFoundException",
        "FileNotFoundException",
        "IllegalArgumentException",
    ]
)
_BUILTIN: Final = frozenset(
    [
        "ValueError",
        "OSError",
        "IOError",
        "AssertionError",
        "TimeoutError",
        "BufferError",
        "EOFError",
        "OverflowError",
        "UserWarning",
        "Warning",
    ]
)
_WRAPPERS: Final = frozenset(
    ["RuntimeError", "Exception", "Error", "SystemError", "SystemExit", "BaseException"]
)

_NAME: Final = r"(?:[A-Za-z_]\w{0,80}(?:\.|::|\$)){0,10}([A-Za-z_]\w{0,80})"
_SUFFIX: Final = re.compile(
    r"(?:Error|Exception|Interrupt|Exit|Iteration|OOM|NotMet|Failed|Failure|Group|Died|Killed|Timeout"
    r"|Fault|Err|Abort|OutOfResources|Unavailable|ErrorType|out_of_memory|bad_alloc|_error|IsLost"
    r"|Error_\w{1,30}|Fail)$"
)
_PYTHON: Final = re.compile(
    rf"\s{{0,12}}(?:traceback : )?{_NAME}(?:\(\w{{0,60}}\))?(?::(?:\s|$)|$)"
)
_WARNING: Final = re.compile(r"Warning$")
_THROWN: Final = re.compile(
    r"terminate called after throwing an instance of '{0,1}([\w:<>, ]{1,160})'?"
)
_WHAT: Final = re.compile(r"\s{0,8}what\(\): {0,4}")
_OTHERS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        rf"Exception in thread \"[^\"]{{0,120}}\" {_NAME}:?",
        rf"Caused by: {_NAME}:?",
        r"thread '[^']{0,120}'(?: \(\d{1,8}\))? panicked at ()",
        r"(?:panic|fatal error): ()",
        r"Fatal Python error: ()",
        r"LoadError: ()",
        r"()Check failed: ",
        r"(Exception): ",
        r"[\w./-]{1,80}: ()(?:fatal |internal )?error: ",  # argparse and other commands
        r"()\w{1,40}::Abort::",
        r"Accelerator ()Fatal Error:",
        r"Error in \S.{0,120} : ()$",
        r"={0,40} ?()\d{1,6} failed, .{0,80} in \d",  # pytest's summary
    )
)
_CHAINS: Final = (
    ("was the direct cause of the following exception", Chain.CAUSED),
    ("During handling of the above exception", Chain.HANDLING),
    ("Exception ignored in", Chain.IGNORED),
)


def chain_of(line: Line) -> Chain:
    """Return what a line says of the exception after it."""
    return next((chain for words, chain in _CHAINS if words in line.text), Chain.NONE)


def raised(line: Line, before: Line | None, after: Line | None) -> Raised | None:
    """Return the exception that ``line`` shows; ``None``: it shows none.

    A name without a usual ending is an exception's class only under a traceback.
    """
    text = line.text
    if thrown := _THROWN.match(text.strip()):
        says = _WHAT.sub("", after.text) if after and _WHAT.match(after.text) else ""
        return Raised(thrown[1].rpartition(":")[2], f"{thrown[1]}: {says}")
    if found := next((hit for each in _OTHERS if (hit := each.match(text))), None):
        return Raised(found[1] or "", text)
    found = _PYTHON.match(text)
    if (
        found is None
        or _WARNING.search(found[1])
        or found[1] in {"Error", "Warning", "Note", "Info"}
    ):
        return None
    under = (
        before is not None
        and before.kind in {Kind.FRAME, Kind.SOURCE}
        and before.begins == line.begins
    )
    if _SUFFIX.search(found[1]) or (under and found[1][:1].isupper()):
        return Raised(found[1], text)
    return None
