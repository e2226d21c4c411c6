"""Phrases of plain words as one pattern: the notation in which the rules are written.

==========  ===========================================
``word``    the word itself
``a|b``     one word of these
``word*``   any word that begins so
``word?``   the word, or nothing
``#``       a number
``...``     up to four words of any kind
``.....``   up to fourteen words of any kind
==========  ===========================================

Each gap is bounded, so no text makes a search slow.
"""

import re
from typing import Final

_WORD: Final = r"\w{1,40}"
_GAPS: Final = {"...": rf"(?:{_WORD} ){{0,4}}?", ".....": rf"(?:{_WORD} ){{0,14}}?"}


def phrases(*texts: str) -> re.Pattern[str]:
    """Return a pattern that finds any of the phrases in text of :func:`~.plain.words`.

    >>> bool(phrases("out of ... memory").search(" ran out of gpu memory "))
    True
    """
    return re.compile("(?<= )(?:" + "|".join(map(_pattern, texts)) + ")(?= )")


def _pattern(text: str) -> str:
    pattern = "".join(map(_token, text.split()))
    # A word brings the space behind it; behind the last one the space is only looked at.
    return pattern.removesuffix(" ")


def _token(token: str) -> str:
    if token in _GAPS:
        return _GAPS[token]
    optional = token.endswith("?")
    words = token.removesuffix("?").split("|")
    one = "|".join(r"\d{1,20}" if word == "#" else word.replace("*", r"\w{0,40}") for word in words)
    return f"(?:{one} )?" if optional else f"(?:{one}) "
