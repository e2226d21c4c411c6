"""Files that are replaced while the program runs, as Kubernetes replaces mounted Secrets."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from exporter.document import FileError, read_file

log = logging.getLogger(__name__)

T = TypeVar("T")


class UnusableFileError(Exception):
    """A file that can't be read, or can't be used. The message says which file, and why."""


class Reread(Generic[T]):
    """A value that is made from files. A call returns it, and makes it anew if a file has changed.

    ``make`` may raise :class:`UnusableFileError`. The first time, the caller has to handle that.
    Later the error is logged, once per message, and the last value is used until ``make`` succeeds:
    a certificate that is half written must not take the server down.
    """

    def __init__(self, make: Callable[[], T], *paths: Path) -> None:
        self._make = make
        self._paths = paths
        # The state is taken before reading, so that a change meanwhile is seen the next time.
        self._state = self._look()
        self._made = make()
        self._message = ""

    def __call__(self) -> T:
        state = self._look()
        if state != self._state:
            try:
                self._made = self._make()
            except UnusableFileError as error:
                if str(error) != self._message:
                    log.warning("%s; the exporter goes on with the previous content", error)
                self._message = str(error)
            else:
                self._state, self._message = state, ""
                log.info("files were replaced, and are used: %s", ", ".join(map(str, self._paths)))
        return self._made

    def _look(self) -> list[tuple[int, ...] | None]:
        return [_identity(path) for path in self._paths]


def read(what: str, path: Path) -> bytes:
    """Raise :class:`UnusableFileError`, with ``what`` the file should be, if it can't be read."""
    try:
        return read_file(path)
    except FileError as error:
        raise UnusableFileError(f"{what} {path}: {error}") from error


def _identity(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except (OSError, ValueError):  # ValueError: NUL in its name
        return None
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
