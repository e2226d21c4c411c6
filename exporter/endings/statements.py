"""Each line of a message as a statement: who speaks, what happened, and whether it is a report."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

from exporter.endings import amounts, blame, echoes, memory, mood
from exporter.endings.exceptions import Chain, Raised, chain_of, raised
from exporter.endings.line import Kind, Level, Line
from exporter.endings.memory import Failure, Whose
from exporter.endings.plain import without_paths, words
from exporter.model.ends import Cause


class Weight(IntEnum):
    """How much a line counts for the end."""

    MENTIONED = 0
    """Nothing in the line calls it a failure, but for the failure's name."""
    PLAIN = 1
    """The line's own words call it a failure."""
    LOGGED = 2
    """A logger calls it an error."""
    RAISED = 3
    """An exception that nobody caught."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What one line says of a failure."""

    number: int
    """Of the line."""
    weight: Weight
    cause: Cause | None
    """``None``: it says only that something failed, or nothing."""
    sure: bool = True
    specific: bool = True
    """Whether the words name the cause. An exception of any other kind names the program."""
    failure: Failure | None = None
    raised: Raised | None = None
    chain: Chain = Chain.NONE
    asked_bytes: int | None = None
    free_bytes: int | None = None


# What is left of a framework's sentence on device memory when its beginning is cut off. Nothing
# else has these words.
_TORCH_REMAINS: Final = re.compile(
    r"reserved by PyTorch but unallocated|of which .{1,24} is free\.|GiB is allocated by PyTorch"
    r"|try setting PYTORCH_\w{0,12}ALLOC_CONF=expandable_segments:True to avoid fragmentation"
    r"|fragmentation\. {1,3}See documentation for Memory Management"
    r"|documentation for Memory Management {1,3}(?:\(|and PYTORCH)"
    r"|-usage-with-pytorch-cuda-alloc-conf\)|/cuda\.html#environment-variables\)"
)
_XLA_REMAINS: Final = re.compile(
    r"\s{0,12}(?:XLA Label: |BufferAssignment stats:|preallocated temp allocation:)"
)
_TENSORFLOW_REMAINS: Final = re.compile(r"report_tensor_allocations_upon_oom")

_NEAR_BEFORE: Final = 8
_NEAR_AFTER: Final = 3
_AMOUNTS_AFTER: Final = 8
_LOUD: Final = re.compile(r"\b(?:ERROR|FATAL|CRITICAL|SEVERE)\b")
_LOUD_WITHIN: Final = 120
_FAILS: Final = re.compile(
    r"^\s{0,12}(?:CUDA|HIP|GPU|out of memory|OOM)\b|fail|error|fatal|abort|panic|exception|cannot"
    r"|can't|unable|could ?n.t|could not|terminat|crash|refus|denied|exceed|exhaust|insufficient"
    r"|not enough|asked|tried to|while trying",
    re.IGNORECASE,
)
_FEWEST_WORDS: Final = 3
"""Of a logged error that is more than a mark."""


def statements(lines: Sequence[Line]) -> Iterator[Statement]:
    """Yield what the lines say of failures. Program text, calls and asides say nothing."""
    chain = Chain.NONE
    for number, line in enumerate(lines):
        chain = chain_of(line) if chain_of(line) is not Chain.NONE else chain
        if line.kind is not Kind.TEXT or not line.text.strip():
            continue
        before = _neighbour(lines, number, -1)
        after = _neighbour(lines, number, 1)
        thrown = raised(line, before, after)
        found = _statement(lines, number, thrown)
        if found is not None:
            yield replace(found, chain=chain if thrown else Chain.NONE)
        if thrown:
            chain = Chain.NONE


def _neighbour(lines: Sequence[Line], number: int, step: int) -> Line | None:
    near = number + step
    return lines[near] if 0 <= near < len(lines) else None


def _statement(lines: Sequence[Line], number: int, thrown: Raised | None) -> Statement | None:
    line = lines[number]
    text = thrown.text if thrown else line.text
    plain = words(without_paths(text))
    survived = mood.goes_on(plain)
    if line.level is Level.DEBUG or (survived and not thrown):
        return None
    weight = _weight(line, thrown)
    named = blame.find(text)
    if named and not _is_only_a_warning(line, named.cause):
        return Statement(number, weight, named.cause, sure=named.sure, raised=thrown)
    failure = None if thrown and thrown.is_definite else _failure(lines, number, text)
    if failure is None:
        if thrown and _goes_on_with_consequence(lines, number):
            return None
        return _unnamed(number, weight, thrown, text)
    if survived or _was_survived(lines, number):
        return None
    return _of_memory(lines, number, failure, weight, thrown)


def _weight(line: Line, thrown: Raised | None) -> Weight:
    if thrown:
        return Weight.RAISED
    if line.level >= Level.ERROR or _LOUD.search(line.text[:_LOUD_WITHIN]):
        return Weight.LOGGED
    return Weight.PLAIN if _FAILS.search(line.text) else Weight.MENTIONED


def _goes_on_with_consequence(lines: Sequence[Line], number: int) -> bool:
    """Whether the second line of an exception's message says what did not come about."""
    after = _neighbour(lines, number, 1)
    if after is None or after.kind is not Kind.TEXT or raised(after, None, None):
        return False
    return echoes.is_consequence(after.text, words(without_paths(after.text)))


def _unnamed(number: int, weight: Weight, thrown: Raised | None, text: str) -> Statement | None:
    """Return a statement that something failed, in words that no rule knows."""
    if echoes.child_was_killed(text):
        return Statement(number, weight, Cause.HOST_OOM, sure=False, raised=thrown)
    plain = words(without_paths(text))
    says_something = weight is Weight.LOGGED and len(plain.split()) >= _FEWEST_WORDS
    if (thrown or says_something) and not echoes.is_echo(text, plain):
        return Statement(number, weight, Cause.PROGRAM, specific=False, raised=thrown)
    return None


def _is_only_a_warning(line: Line, cause: Cause) -> bool:
    """Whether a program goes on after such words, which a logger calls a warning."""
    return line.level in {Level.WARNING, Level.INFO} and cause not in {Cause.SHM, Cause.GPU_FAULT}


def _failure(lines: Sequence[Line], number: int, text: str) -> Failure | None:
    """Return the allocation that failed, with what the lines beside it say of whose it was."""
    line = lines[number]
    if line.cut and _TORCH_REMAINS.search(text):
        return Failure(Whose.DEVICE)
    if _XLA_REMAINS.match(text):
        return Failure(Whose.DEVICE, own_limit=True)
    failure = memory.read(text)
    if failure is None:
        return Failure(Whose.EITHER) if _TENSORFLOW_REMAINS.search(text) else None
    if failure.whose in {Whose.EITHER, Whose.NOBODY}:
        return _beside(lines, number, failure)
    return failure


def _beside(lines: Sequence[Line], number: int, failure: Failure) -> Failure | None:
    """Let the calls above a failure and the lines after it say whose memory it was."""
    above = lines[max(0, number - _NEAR_BEFORE) : number]
    below = [
        each for each in lines[number + 1 : number + 1 + _NEAR_AFTER] if each.kind is Kind.TEXT
    ]
    calls = [each for each in above if each.kind in {Kind.FRAME, Kind.SOURCE}]
    speech = [each for each in above[-_NEAR_AFTER:] if each.kind is Kind.TEXT]
    if any(memory.names_host(each.text) for each in (*calls, *below)) or any(
        "pin memory" in each.text for each in speech
    ):
        return replace(failure, whose=Whose.HOST)
    if failure.whose is Whose.EITHER:
        device = any(memory.names_device_call(each.text) for each in below)
        return replace(failure, whose=Whose.DEVICE) if device else failure
    beside = (*speech, *below)
    if any(memory.names_language(each.text) or memory.names_host(each.text) for each in beside):
        return replace(failure, whose=Whose.HOST, weak=True)
    if any(memory.names_cuda(each.text) for each in (*calls, *speech, *below)):
        return replace(failure, whose=Whose.EITHER)
    return None


def _was_survived(lines: Sequence[Line], number: int) -> bool:
    """Say whether the lines beside a failure report that it was survived."""
    before = lines[number - 1].text if number else ""
    after = lines[number + 1 : number + 1 + _NEAR_AFTER]
    return mood.announces_recovery(words(before)) or any(
        _is_survival(each) for each in after if each.kind is Kind.TEXT
    )


def _is_survival(line: Line) -> bool:
    plain = words(without_paths(line.text))
    about = re.search(r" (?:oom|out of memory|batch|attempt|retry\w*|allocat\w*) ", plain)
    return bool(about) and mood.goes_on(plain)


def _of_memory(
    lines: Sequence[Line],
    number: int,
    failure: Failure,
    weight: Weight,
    thrown: Raised | None,
) -> Statement:
    if lines[number].cut and _TORCH_REMAINS.search(lines[number].text):
        weight = Weight.RAISED
    if failure.whose is Whose.HOST:
        return Statement(number, weight, Cause.HOST_OOM, failure=failure, raised=thrown)
    after = lines[number + 1 : number + 1 + _AMOUNTS_AFTER]
    more = [each.text for each in after if each.kind is Kind.TEXT and not raised(each, None, None)]
    text = "\n".join([lines[number].text, *more])
    return Statement(
        number,
        weight,
        Cause.GPU_OOM,
        sure=failure.whose is Whose.DEVICE,
        failure=failure,
        raised=thrown,
        asked_bytes=amounts.asked(text),
        free_bytes=amounts.free(text),
    )
