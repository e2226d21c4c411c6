"""Amounts of memory in a text: what was asked for, and what was free."""

import re
from typing import Final

_UNITS: Final = {"k": 10, "m": 20, "g": 30, "t": 40}
_AMOUNT: Final = (
    r"(\d{1,3}(?:,\d{3}){1,6}|\d{1,20}(?:\.\d{1,20})?)\s{0,2}"
    r"(bytes?\b|[KMGTkmgt](?:i?B|ytes)?\b|[KMGT](?=\s{1,9}\()|B\b)?"
)
_OBJECTS: Final = r"(?: \w{1,20}){0,5}? "
_OF_WHAT: Final = r"(?: (?:amount|memory|size|buffer|for|of|gpu|device)){0,4}"
_ASKED: Final = tuple(
    re.compile(pattern + _AMOUNT, re.IGNORECASE)
    for pattern in (
        rf"(?:tried|trying|failed|unable|could not|cannot) to alloc(?:ate)?\w{{0,3}}{_OBJECTS}",
        r"(?:out of memory )?allocating ",
        rf"\brequest(?:ed)?{_OF_WHAT}\s{{0,20}}[:(=\[ ]\s{{0,3}}",
        r"requestedSpace: {1,20}",
        r"allocation of(?: size)? ",
        r"\b(?:of )?size[ :=]{1,3}",
        r"required size\[",
        r"asked: ",
        r"\balloc size: ",
        r"cannot allocate ",
    )
)
_BY_WHOM: Final = r"(?: \(according to CUDA\))?"
_FREE: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"of which {_AMOUNT} is free",
        rf"(?<!\bof )(?<![\d.]){_AMOUNT} free\b",
        rf"\bavailable (?:device |gpu )?memory is (?:only )?{_AMOUNT}",
        rf"\bfree(?: device)?(?: memory)?(?: size)?{_BY_WHOM}\s{{0,20}}[:=\[]\s{{0,3}}{_AMOUNT}",
        rf"largestContinuousFreeSpace: {_AMOUNT}",
    )
)


def asked(text: str) -> int | None:
    """Return the bytes that an allocation asked for; ``None``: the text does not say."""
    return _first(_ASKED, text)


def free(text: str) -> int | None:
    """Return the bytes that were free; ``None``: the text does not say."""
    return _first(_FREE, text)


def _first(patterns: tuple[re.Pattern[str], ...], text: str) -> int | None:
    for pattern in patterns:
        for found in pattern.finditer(text):
            number = _bytes(found[1], found[2] or "")
            if number is not None:
                return number
    return None


def _bytes(digits: str, unit: str) -> int | None:
    """Return an amount in bytes. A number without a unit counts bytes, if it is large enough."""
    number = float(digits.replace(",", ""))
    power = _UNITS.get(unit[:1].lower())
    if power is None:
        plain = unit.lower() in {"b", "byte", "bytes"}
        return _possible(number) if plain or number >= 1 << 20 else None
    return _possible(number * (1 << power))


def _possible(number: float) -> int | None:
    """Return an amount that a program can ask for, which is one of 64 bits."""
    return int(number) if number < 1 << 64 else None
