"""Any text as plain lower-case words, whatever programming language its names come from.

``CUDA_ERROR_OUT_OF_MEMORY``, ``OutOfMemoryError`` and ``Out of memory`` become one phrase, so that
one rule fits all of them. Paths and links are taken out first: their words are names, not speech.
"""

import re
from typing import Final

_LINK: Final = re.compile(r"\bhttps?://[^\s'\"<>)\]]{1,400}")
_NAME: Final = r"[\w.+@-]{1,80}"
_PATH: Final = re.compile(
    rf"(?<![\w:])\.{{0,2}}(?:/{_NAME}){{1,40}}/?"  # /opt/x, ./x
    rf"|{_NAME}(?:/{_NAME}){{2,40}}"  # torch/csrc/x.cpp
    r"|[\w+@-]{1,80}/[\w+@-]{1,80}\.\w{1,5}\b"  # src/x.cu
    r"|\b[\w-]{1,60}\.(?:cuh?|cc|cpp|hpp|h|c|pyx)\b"  # x.cu
)
_SHORT_NOT: Final = re.compile(r"\b(can|ca)n[o']t\b|n't\b", re.IGNORECASE)
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NO_WORD: Final = re.compile(r"[^A-Za-z0-9]+")


def without_links(text: str) -> str:
    return _LINK.sub(" ", text)


def without_paths(text: str) -> str:
    """Take links and paths out of ``text``."""
    return _PATH.sub(" ", without_links(text))


def path_words(text: str) -> str:
    """Return the paths in ``text`` as plain words: they can tell whose source file speaks.

    The extension stays: ``custom_allocator.cuh`` ends in the word ``cuh``.
    """
    return words(" . ".join(_PATH.findall(without_links(text))))


def words(text: str) -> str:
    """Return the words of ``text`` in lower case, one space between them and around all.

    >>> words("cudaErrorMemoryAllocation: can't go on")
    ' cuda error memory allocation can not go on '
    """
    spelled = _SHORT_NOT.sub(lambda found: "can not" if found[1] else " not", text)
    return f" {_NO_WORD.sub(' ', _CAMEL.sub(' ', spelled)).strip().lower()} "
