"""From the raw message to lines, each with what it is: speech, a call, or program text.

The kubelet cuts a message at a byte: ``pkg/kubelet/container/runtime.go`` of kubernetes/kubernetes
keeps the end of a log, and ``normalizeStatus`` of ``pkg/kubelet/status/status_manager.go`` the
beginning of that. So the first line may have lost its beginning, and the last line its end.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from exporter.endings.line import Kind, Line
from exporter.endings.records import lines_of

LONGEST: Final = 4096
"""Bytes that the kubelet keeps of a message, at most."""

_ESCAPE: Final = re.compile(
    r"\x1b(?:\[[0-9;?]{0,30}[ -/]?[@-~]|\][^\x07\x1b]{0,200}(?:\x07|\x1b\\)|[@-Z\\-_])"
    r"|\A\[?[0-9;]{1,8}m(?=\S)"
)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

_PYTHON_FRAME: Final = re.compile(r"\s{0,80}(?:> )?File \"[^\"]{1,400}\", line \d{1,7}")
_FRAME: Final = re.compile(
    r"\s{0,80}(?:Traceback \(most recent call last\)|Original Traceback \(most"
    r"|\*\*\* Check failure stack"
    r"|frame #\d{1,4}:|#\d{1,4}:? {1,3}0x|@ {1,8}0x[0-9a-f]|\d{1,4}:? {1,8}0x[0-9a-f]{4,16}\b"
    r"|at [\w$.<>/]{2,200} ?\(|at \S{1,200}\.m?[jt]s:\d|\.\.\. \d{1,4} more"
    r"|goroutine \d{1,8} \[|[\w./*()]{1,160}\(0x[0-9a-f]{2,16}[,)]"
    r"|/\S{1,200}:\d{1,6} (?:in \w|\+0x)|\[\d{1,3}\] \w{1,80}\(|@ \w{1,60} \S{1,200}:\d{1,6}"
    r"|/\S{1,200}\.so[.\d]{0,12}: )"
)
_POINTER: Final = re.compile(r"\s{0,300}[\^~]{1,300}\s{0,10}$|\s{0,80}[└│][ └│].{0,200}$")
_NUMBERED_SOURCE: Final = re.compile(r"\s{0,10}(?:[❱>] )?\d{1,6} [│|]")
_RAISED: Final = re.compile(r"(?:\w{1,60}\.){0,8}[A-Z]\w{0,60}(?:\(\w{0,60}\))?(?::|$)")

# Help that follows any error, and options in a command's help.
_ASIDE: Final = re.compile(
    r"\s{0,20}(?:// |-{1,2}[a-zA-Z][\w-]{0,40}[ =,]|usage: "
    r"|Search for `|CUDA kernel errors might be|the stacktrace below might be"
    r"|For debugging consider passing|Compile with `TORCH_USE_CUDA_DSA`"
    r"|note: run with `RUST_BACKTRACE|Open an issue on GitHub"
    r"|traceback {0,4}: To enable traceback see|error_file: <N/A>"
    r"|Error on reading termination (?:log|message))"
)

_UNFINISHED: Final = re.compile(
    r"(?i)\b(?:out|out of|cuda|gpu|hip|device|failed to|unable to|not|to|trying to|tried to"
    r"|(?:to )?allocate|a|an|the|of|shared|no space left|illegal|has a)\s{0,4}$"
)
_GOES_ON: Final = re.compile(
    r"\s{0,8}(?:[a-z]{1,20}(?:[ ,]|\.(?:\s|$))|\(|of memory\b|memory\b|\d)"
)
_LONG: Final = 60
_ENDED: Final = re.compile(r"[.:;!?}\]>\"'`=*-]\s{0,10}$")


def clean(message: str | None) -> tuple[Line, ...]:
    """Return the lines of ``message``; of a message that is too long, those of its end."""
    text = _CONTROL.sub("", _ESCAPE.sub("", (message or "")[-LONGEST:]))
    lines: list[Line] = []
    for raw in re.split(r"\r\n|\n|\r", text):
        lines.extend(lines_of(raw.rstrip(), cut=not lines))
    return tuple(_joined(_with_kinds(lines)))


def _with_kinds(lines: list[Line]) -> Iterator[Line]:
    """Say of each line what it is. What stands under a Python frame is program text.

    A log that lost its indents shows one line of program text under each frame.
    """
    frame: int | None = None
    quoted = 0
    for number, line in enumerate(lines):
        indent, text = line.indent, line.text
        if _PYTHON_FRAME.match(text):
            frame, quoted = indent, 0
            yield replace(line, kind=Kind.FRAME)
            continue
        if frame is not None and text.strip():
            under = indent > frame or _POINTER.match(text)
            flat = frame == 0 and not quoted and not _RAISED.match(text)
            if under or flat:
                quoted += 1
                yield replace(line, kind=Kind.SOURCE)
                continue
            frame = None
        yield replace(
            line, kind=_kind(line, lines[number + 1] if number + 1 < len(lines) else None)
        )


def _kind(line: Line, after: Line | None) -> Kind:
    text = line.text
    if _FRAME.match(text):
        return Kind.FRAME
    if _POINTER.match(text) or _NUMBERED_SOURCE.match(text):
        return Kind.SOURCE
    if line.cut and after and _is_quoted_above(line, after):
        return Kind.SOURCE
    return Kind.ASIDE if _ASIDE.match(text) else Kind.TEXT


def _is_quoted_above(line: Line, after: Line) -> bool:
    """Whether a line whose frame was cut off is program text: by its indent, and what follows."""
    follows = _PYTHON_FRAME.match(after.text) or _POINTER.match(after.text)
    return bool(follows) or (line.indent >= 4 and bool(_RAISED.match(after.text)))


def _joined(lines: Iterable[Line]) -> Iterator[Line]:
    """Join lines that were wrapped in the middle of a phrase."""
    held: Line | None = None
    for line in lines:
        if held is None:
            held = line
        elif _goes_on(held, line):
            held = replace(held, text=f"{held.text.rstrip()} {line.text.lstrip()}")
        else:
            yield held
            held = line
    if held is not None:
        yield held


def _goes_on(line: Line, after: Line) -> bool:
    if line.kind is not Kind.TEXT or after.kind is not Kind.TEXT or after.begins:
        return False
    if not _GOES_ON.match(after.text):
        return False
    if _UNFINISHED.search(line.text[-40:]):
        return True
    return len(line.text) >= _LONG and not _ENDED.search(line.text[-12:])
