"""No message is slow to read: every pattern is bounded, and time grows with length, not faster."""

import importlib
import pkgutil
import re
from collections.abc import Iterable, Iterator
from re import _constants, _parser  # type: ignore[attr-defined]
from time import process_time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import exporter.endings
from exporter.endings.reading import read

LONGEST_GAP = 5000
"""The longest that a gap in a pattern may be, those around it multiplied: about a message."""


def patterns() -> Iterator[tuple[str, re.Pattern[str]]]:
    for module in pkgutil.iter_modules(exporter.endings.__path__):
        names = vars(importlib.import_module(f"exporter.endings.{module.name}"))
        for name, value in names.items():
            for number, each in enumerate(within(value)):
                yield f"{module.name}.{name}[{number}]", each


def within(value: object) -> Iterator[re.Pattern[str]]:
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, tuple):
        for each in value:
            yield from within(each)


def gaps(parsed: Iterable[tuple[Any, Any]], around: int = 1) -> Iterator[int]:
    """Yield the longest run of each repetition, times those of the repetitions around it."""
    for operation, argument in parsed:
        if operation in {_constants.MAX_REPEAT, _constants.MIN_REPEAT}:
            _, most, inner = argument
            yield most * around
            yield from gaps(inner, most * around if most > 1 else around)
        elif operation is _constants.SUBPATTERN:
            yield from gaps(argument[-1], around)
        elif operation is _constants.BRANCH:
            for branch in argument[1]:
                yield from gaps(branch, around)
        elif operation in {_constants.ASSERT, _constants.ASSERT_NOT}:
            yield from gaps(argument[1], around)


PATTERNS = dict(patterns())


def test_there_are_patterns() -> None:
    assert len(PATTERNS) > 40


@pytest.mark.parametrize("name", PATTERNS)
def test_every_gap_is_bounded(name: str) -> None:
    pattern = PATTERNS[name]
    # A run of one set of characters, alone and to nowhere, is as fast as it is long.
    if pattern.pattern == r"[^A-Za-z0-9]+":
        return
    for most in gaps(_parser.parse(pattern.pattern, pattern.flags)):
        assert most <= LONGEST_GAP, (most, pattern.pattern)


FILLERS = [
    "x", " ", "A", "Aa", "a_", "a.", "a/", "/a", "\n", "x\n", "out of ", "alloc failed ", "if you ",
    "[", "(", "(a ", "(pid=1 ", "ERROR ", "[rank0]: ", '  File "a", line 1\n    b\n', '{"a":"b",',
    "OOM when allocating tensor ", "RESOURCE_EXHAUSTED: {{", "1,000", "of which 1 GiB ", "\x1b[",
    "shm_open ", "no space left ", "kv cache ", "RuntimeError: CUDA error\n", "\\n", "not ", "│ ",
    "E0101 00:00:00.0 1 a.py:1] ", "2026-01-01 10:00:00,1 ", "gloo ", "a-1 ",
    "word word word fail ",
]  # fmt: skip


@pytest.mark.parametrize("filler", FILLERS)
def test_twice_the_text_takes_twice_the_time(filler: str) -> None:
    half, whole = (filler * 4096)[:2048], (filler * 4096)[:4096]
    read(half)  # the first call compiles nothing any more, but warms the processor
    times = []
    for text in (half, whole):
        before = process_time()
        read(text)
        times.append(process_time() - before)
    assert times[1] < 6 * times[0] + 0.1
    assert times[1] < 2.0


WORDS = (
    "CUDA", "error", "out", "of", "memory", "failed", "to", "allocate", "if", "you", "not",
    "device", "host", "RuntimeError:",
    "(", ")", "[", "]", "{", "}", '"', "'", "\\n", ":", ";", ".", ",", "/",
    "_", "12", "GiB", "free", "pinned", "retrying", "[rank0]:", "ERROR", "File",
)  # fmt: skip
words = st.sampled_from([*WORDS, "\n", "\x1b[31m"])


@settings(max_examples=60, deadline=None)
@given(st.lists(words | st.text(max_size=8), max_size=300).map(" ".join))
def test_any_message_is_read_and_nothing_is_raised(message: str) -> None:
    before = process_time()
    read(message)
    assert process_time() - before < 2.0
