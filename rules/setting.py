"""What a setting of the rules is: a value that a user may change, in a file or in the chart."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

Value = bool | float | str | tuple[str, ...]

SEVERITIES: Final = ("critical", "warning", "info", "none")

NAMESPACE_PATTERN: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
LABEL_PATTERN: Final = "[a-zA-Z_][a-zA-Z0-9_]*"
MODEL_PATTERN: Final = r'[^"\\\n${}]+'
QUOTABLE_PATTERN: Final = r"""[^"'\\\s{}]*"""
"""Text that can stand between quotes in an expression, in YAML and in a template."""


class Kind(StrEnum):
    """What a setting's value may be, and its unit."""

    SWITCH = "true or false"
    SEVERITY = "critical, warning, info or none"
    DURATION = "a duration, such as 30m"
    WAIT = "a duration, such as 5m, or 0s"
    SECONDS = "seconds"
    RATIO = "a ratio from 0 to 1"
    NUMBER = "a number that is not below 0"
    BYTES = "bytes"
    CELSIUS = "degrees Celsius"
    URL = "the beginning of a URL"
    PATTERN = "a regular expression"
    NAMES = "a list of names"
    LABEL = "the name of a label"


@dataclass(frozen=True, slots=True)
class Setting:
    """One value that a user may change."""

    default: Value
    kind: Kind
    meaning: str

    @property
    def number(self) -> float:
        """The default of a setting that is a number.

        Raises :class:`TypeError` for any other.
        """
        if isinstance(self.default, bool) or not isinstance(self.default, float | int):
            raise TypeError(f"not a number: {self.default!r}")
        return float(self.default)


def switch(meaning: str, *, on: bool) -> Setting:
    return Setting(on, Kind.SWITCH, meaning)


def window(default: str, meaning: str = "The time that the alert looks at.") -> Setting:
    return Setting(default, Kind.DURATION, meaning)


def wait(default: str, meaning: str) -> Setting:
    return Setting(default, Kind.WAIT, meaning)


def ratio(default: float, meaning: str) -> Setting:
    return Setting(default, Kind.RATIO, meaning)


def number(default: float, meaning: str) -> Setting:
    return Setting(default, Kind.NUMBER, meaning)


def seconds(default: float, meaning: str) -> Setting:
    return Setting(default, Kind.SECONDS, meaning)
