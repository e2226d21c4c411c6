"""What one value of the chart is."""

from dataclasses import dataclass
from typing import Any

from daemonset.schema import SWITCH, Schema


@dataclass(frozen=True, slots=True)
class Value:
    """One value. ``path`` has dots between its keys; the default is as in YAML."""

    path: str
    default: Any
    schema: Schema
    meaning: str

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self.path.split("."))


@dataclass(frozen=True, slots=True)
class Section:
    """Values on one subject."""

    title: str
    values: tuple[Value, ...]


def switch(path: str, meaning: str, *, on: bool = False) -> Value:
    """Declare what is either on or off."""
    return Value(path, on, SWITCH, meaning)
