"""Reading a list's JSON one object at a time.

Parsed whole, the 250 pods of a node would take five times the size of their text, which the
process would keep for good.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

_decode: Final = json.JSONDecoder().raw_decode
_SPACE: Final = re.compile(r"[ \t\r\n]*")


def members(text: str) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of a JSON object; of a list ``items``, each element by itself.

    Raises ``ValueError`` where the text is no JSON object, after what came before.
    """
    at = _expect(text, 0, "{")
    while not text.startswith("}", at):
        name, at = _decode(text, at)
        at = _expect(text, at, ":")
        if name == "items" and text.startswith("[", at):
            at = _expect(text, at, "[")
            while not text.startswith("]", at):
                item, at = _decode(text, at)
                yield name, item
                at = _next(text, at, "]")
            at = _next(text, at + 1, "}")
        else:
            value, at = _decode(text, at)
            yield name, value
            at = _next(text, at, "}")


def _next(text: str, at: int, end: str) -> int:
    """Return where the next member begins, or where ``end`` is."""
    at = _skip(text, at)
    return at if text.startswith(end, at) else _expect(text, at, ",")


def _expect(text: str, at: int, token: str) -> int:
    at = _skip(text, at)
    if not text.startswith(token, at):
        raise ValueError(f"no {token!r} at character {at} of {len(text)}")
    return _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at
