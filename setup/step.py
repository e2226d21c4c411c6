"""One step of the set-up: what it does is one line on the screen, and so is why it failed.

``python -m setup.step WHAT COMMAND...`` runs a command like that.
"""

import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TextIO

_NO_NETWORK: Final = (
    # The C library and the kernel, and Go.
    re.compile(
        r"Name or service not known|[Tt]emporary failure in name resolution|timed out|no such host"
        r"|[Nn]etwork is unreachable|No route to host|[Cc]onnection refused|server misbehaving"
        r"|i/o timeout"
    ),
    # npm's and pip's names for the same, where the words are not in the line.
    re.compile(r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ENETUNREACH|EHOSTUNREACH|ETIMEDOUT"),
    re.compile(r"NewConnectionError|NameResolutionError|Connect\w*TimeoutError|ProxyError"),
)
_TAMPERED: Final = re.compile(r"DO NOT MATCH THE HASHES|EINTEGRITY|checksum mismatch")
_TAIL: Final = 30
"""Lines of a failed command's output that are shown."""


class StepError(Exception):
    """A step that failed, in words for whoever runs the set-up."""


class Screen:
    """The line of the step that runs. On a terminal it changes in place."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._moves = out.isatty()

    def begin(self, what: str) -> None:
        self._write(what if self._moves else f"{what}\n")

    def note(self, what: str, progress: str) -> None:
        if self._moves:
            self._write(f"\r\033[K{what}: {progress}"[:80])

    def end(self, what: str) -> None:
        if self._moves:
            self._write(f"\r\033[K{what}\n")

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def run(
    what: str,
    command: Sequence[str | Path],
    *,
    progress: Callable[[str], str | None] = lambda _: None,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run ``command`` without its output; ``progress`` makes a few words of a line of that.

    Raises :class:`StepError` if it fails.
    """
    screen, log = Screen(sys.stderr), list[str]()
    screen.begin(what)
    with subprocess.Popen(  # noqa: S603  (commands of our own)
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env=environment,
    ) as process:
        assert process.stdout is not None  # noqa: S101  (it was asked for)
        for line in process.stdout:
            log.append(line.rstrip())
            if words := progress(line):
                screen.note(what, words)
    screen.end(what)
    if process.returncode:
        raise StepError(explain(what, log))


def explain(what: str, log: Sequence[str]) -> str:
    """Say why a step failed: in one line if there is no network, else in the command's words."""
    text = "\n".join(log)
    causes = (found[0] for pattern in _NO_NETWORK if (found := pattern.search(text)))
    if not _TAMPERED.search(text) and (cause := next(causes, None)):
        return f"no network: {what} needs packages, and their index does not answer ({cause})"
    return "\n".join([*log[-_TAIL:], f"{what} failed"])


def main(arguments: Sequence[str]) -> int:
    what, *command = arguments
    try:
        run(what, command)
    except StepError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
