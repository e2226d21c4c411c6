"""The one placeholder of the rules: ``${name}``, which is a setting or a fragment."""

import re
from collections.abc import Callable
from typing import Final

_PLACE: Final = re.compile(r"\$\{([\w.]+)\}")


def fill(text: str, value: Callable[[str], str]) -> str:
    """Put into each place of ``text`` what ``value`` gives for its name."""
    return _PLACE.sub(lambda place: value(place[1]), text)


def names(text: str) -> list[str]:
    """Give the names of the places in ``text``, in order."""
    return _PLACE.findall(text)
