"""Small changes to inputs, made fast: a million of them take a minute.

Hypothesis chooses where to begin and the seed, and the random generator of that seed does the rest.
So each input can be made again.
"""

from collections.abc import Sequence
from copy import deepcopy
from random import Random
from typing import Any, Final

ODD_NUMBERS: Final = (0, -1, 1, 255, 2**31, 2**32 - 1, 2**53, 2**63, 2**64, -(2**63), 1e308, 0.1)
ODD_TEXTS: Final = (
    *("", " ", "\n", "\0", "\t", "\x1b[31m", "é", "٣", "\ud800", "\ufeff", "\u2028", "\U0001d7d8"),
    *("-", "--", ".", "..", "/", "//", ":", "::", ";", ",", "=", "*", "?", "[", "]", "{", "}"),
    *('"', "'", "\\", "%", "%s", "$", "#", "&", "|", "<", ">", "(", ")", "0", "9", "-1", "1e999"),
    *("null", "true", "nan", "inf", "0x10", "1_0", "9" * 30, "a" * 300, "../" * 20),
)
_ODD_VALUES: Final[tuple[Any, ...]] = (
    *(None, True, False, [], {}, [None], [[]], {"": None}),
    *ODD_NUMBERS,
    *ODD_TEXTS,
)


def mutate_text(text: str, tokens: Sequence[str], random: Random) -> str:
    """Return a text with one to four changes; ``tokens`` are words that mean something in it."""
    for _ in range(random.randint(1, 4)):
        at, end = sorted(random.randint(0, len(text)) for _ in range(2))
        match random.randrange(6):
            case 0:
                text = text[:at] + random.choice(tokens) + text[at:]
            case 1:
                text = text[:at] + random.choice(ODD_TEXTS) + text[at:]
            case 2:
                text = text[:at] + text[min(end, at + random.randint(1, 8)) :]
            case 3:
                text = text[:end] + text[at:end] + text[end:]
            case 4:
                text = text[:at] + chr(random.randrange(0x3000)) + text[at + 1 :]
            case _:
                text = text[:at] + random.choice(tokens) + text[end:]
    return text[:20_000]


def mutate_bytes(data: bytes, random: Random) -> bytes:
    """Return bytes with one to four changes."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at, end = sorted(random.randint(0, len(changed)) for _ in range(2))
        match random.randrange(6):
            case 0:
                changed[at:at] = random.randbytes(random.randint(1, 4))
            case 1:
                del changed[at : at + random.randint(1, 8)]
            case 2:
                changed[at:at] = changed[at:end]
            case 3 if changed:
                changed[at % len(changed)] ^= 1 << random.randrange(8)
            case 4 if changed:
                changed[at % len(changed)] = random.choice((0, 1, 0x7F, 0x80, 0xFF))
            case _:
                del changed[at:]
    return bytes(changed[:20_000])


def mutate_json(value: Any, random: Random) -> Any:
    """Return a copy of a JSON value in which one to three places are another value, or gone."""
    value = deepcopy(value)
    for _ in range(random.randint(1, 3)):
        places = list(_places(value))
        if not places:
            return random.choice(_ODD_VALUES)
        holder, key = random.choice(places)
        match random.randrange(5):
            case 0:
                del holder[key]
            case 1:
                other_holder, other_key = random.choice(places)
                # Places are listed before they are changed: one may be gone by now.
                if isinstance(other_holder, dict) and other_key in other_holder:
                    holder[key] = deepcopy(other_holder[other_key])
            case 2:
                holder[key] = [holder[key]]
            case _:
                holder[key] = deepcopy(random.choice(_ODD_VALUES))
    return value


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return every place in a value, as what holds it and its key or index there."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        holder = waiting.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            found.append((holder, key))
            if isinstance(holder[key], dict | list):
                waiting.append(holder[key])
    return found
