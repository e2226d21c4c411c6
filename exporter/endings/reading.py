"""What the whole message blames: its statements weighed against each other.

The last exception decides, for what came before it was survived. Three things are no end of their
own: a report on a child, a peer's disappearance, and a crash while something else unwinds.
"""

import re
from collections.abc import Sequence
from typing import Final

from exporter.endings import echoes
from exporter.endings.cleaning import clean
from exporter.endings.exceptions import Chain
from exporter.endings.line import Kind, Level, Line
from exporter.endings.statements import Statement, Weight, statements
from exporter.model.ends import NO_WORDS, Cause, LastWords

_FOLLOWERS: Final = {Cause.PEER, Cause.CRASH}
"""What follows upon something else, in the same text."""
_INFRASTRUCTURE: Final = {
    Cause.DRIVER,
    Cause.RUNTIME,
    Cause.NO_DEVICE,
    Cause.HARDWARE,
    Cause.FABRIC,
    Cause.SHM,
    Cause.GPU_FAULT,
}
_BLOCK: Final = 12
"""Lines that an exception's message has, at most."""
_SERVED: Final = re.compile(r"\b(?:200 OK|(?:GET|POST) /)")
_PROGRESS: Final = re.compile(
    r"\b(?:200 OK|(?:GET|POST) /|loss[=: ]|step[ =:]\d|epoch[ =:]\d|iter(?:ation)?[ =:]\d)",
    re.IGNORECASE,
)
_PROGRESS_LINES: Final = 2


def read(message: str | None) -> LastWords:
    """Return what ``message`` blames. Takes any text, and never raises."""
    lines = clean(message)
    said = list(statements(lines))
    said = [each for each in said if each.chain is not Chain.IGNORED]
    said = _merged(said, lines)
    if not said:
        return NO_WORDS
    decisive = _decisive(said)
    memory = [each for each in said if each.cause is Cause.GPU_OOM]
    # Requests that are served and steps that are made show that a failure was survived.
    ended = [each for each in memory if not _work_went_on(lines, each)]
    killed = any(each.kind is Kind.TEXT and echoes.child_was_killed(each.text) for each in lines)
    if decisive.cause is Cause.GPU_OOM:
        if decisive in ended:
            return _of_memory(ended)
        return LastWords(gpu_oom_before=True, child_killed=killed)
    if decisive.cause is Cause.HOST_OOM and decisive.failure is None and ended:
        # A launcher killed the other processes after an allocation had failed in one of them.
        return _of_memory(ended)
    return LastWords(
        decisive.cause,
        sure=decisive.sure,
        gpu_oom_before=bool(memory),
        raised_before=any(each.weight is Weight.RAISED for each in ended),
        child_killed=killed,
    )


def _decisive(said: Sequence[Statement]) -> Statement:
    """Return the statement that names the end."""
    own = [each for each in said if _is_own(each)] or list(said)
    thrown = [each for each in own if each.weight is Weight.RAISED]
    specific = [each for each in own if each.specific]
    if not thrown:
        strong = [each for each in specific if not (each.failure and each.failure.weak)]
        sure = [each for each in own if each.cause in _FOLLOWERS and each.sure]
        return (sure or strong or specific or own)[-1]
    last = thrown[-1]
    later = [each for each in specific if each.number > last.number and _counts_after(each)]
    if later:
        return later[-1]
    return last if last.specific else _behind(last, specific) or last


def _is_own(each: Statement) -> bool:
    """Whether a statement can be the end's cause where followers are in the text, too."""
    return each.cause not in _FOLLOWERS and (each.specific or each.weight is Weight.RAISED)


def _counts_after(statement: Statement) -> bool:
    """Whether words after the last exception are a failure of their own."""
    return statement.cause is Cause.GPU_OOM and statement.weight >= Weight.LOGGED


def _behind(last: Statement, specific: Sequence[Statement]) -> Statement | None:
    """Return what an exception without a cause of its own was raised for.

    An exception that was raised from another, or that any program raises for anything, stands for
    what was said before it, if that is linked to it, or is about the machine.
    """
    before = [each for each in specific if each.number < last.number]
    if not before or last.raised is None:
        return None
    nearest = before[-1]
    linked = last.chain is Chain.CAUSED or (last.chain is Chain.HANDLING and last.raised.is_wrapper)
    about_machine = nearest.cause in _INFRASTRUCTURE and not last.raised.is_definite
    return nearest if linked or about_machine else None


def _merged(said: Sequence[Statement], lines: Sequence[Line]) -> list[Statement]:
    """Give an exception the cause that the rest of its message names."""
    kept: list[Statement] = []
    for each in said:
        head = kept[-1] if kept else None
        if head and _is_of(each, head, lines):
            if _names_more(each, head):
                kept[-1] = Statement(
                    head.number,
                    Weight.RAISED,
                    each.cause,
                    sure=each.sure,
                    failure=each.failure,
                    raised=head.raised,
                    chain=head.chain,
                    asked_bytes=each.asked_bytes,
                    free_bytes=each.free_bytes,
                )
            continue
        kept.append(each)
    return kept


def _is_of(each: Statement, head: Statement, lines: Sequence[Line]) -> bool:
    """Whether a line goes on with the exception that ``head`` begins."""
    if head.weight is not Weight.RAISED or each.weight is Weight.RAISED:
        return False
    between = lines[head.number + 1 : each.number + 1]
    return len(between) <= _BLOCK and all(
        line.kind is not Kind.FRAME and line.level is Level.UNKNOWN for line in between
    )


def _names_more(each: Statement, head: Statement) -> bool:
    if head.raised and head.raised.is_definite:
        return False
    if each.cause is Cause.CRASH or not each.specific:
        return False
    return not head.specific or head.cause is Cause.PEER


def _work_went_on(lines: Sequence[Line], failed: Statement) -> bool:
    """Whether the lines after a failure show requests that were served, or steps that were made.

    After an exception only requests count: other ranks still print their last steps.
    """
    after = [line.text for line in lines[failed.number + 1 :] if line.kind is Kind.TEXT]
    progress = _SERVED if failed.weight is Weight.RAISED else _PROGRESS
    return sum(bool(progress.search(text)) for text in after) >= _PROGRESS_LINES


def _of_memory(memory: Sequence[Statement]) -> LastWords:
    last = next((each for each in reversed(memory) if _did_not_fit(each)), memory[-1])
    return LastWords(
        Cause.GPU_OOM,
        sure=any(each.sure for each in memory),
        asked_bytes=last.asked_bytes,
        free_bytes=last.free_bytes,
        own_limit=any(each.failure is not None and each.failure.own_limit for each in memory),
        mentioned=all(each.weight is Weight.MENTIONED for each in memory),
        call_failed=memory[-1].weight is Weight.RAISED
        and any(each.failure is not None and each.failure.of_call for each in memory),
    )


def _did_not_fit(each: Statement) -> bool:
    return (
        each.asked_bytes is not None
        and each.free_bytes is not None
        and each.asked_bytes > each.free_bytes
    )
