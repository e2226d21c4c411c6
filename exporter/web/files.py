"""Files that are replaced while the program runs, as Kubernetes does with mounted Secrets."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from exporter.document import FileError, read_file

log = logging.getLogger(__name__)

T = TypeVar("T")


class UnusableFileError(Exception):
    """A file that can't be read, or does not hold what it should: which, and why."""


class Reread(Generic[T]):
    """What is made from files; calling it gives that, made anew if a file has changed since.

    ``make`` may raise :class:`UnusableFileError`. At first that is the caller's to handle. Later it
    is logged, once per message, and tried again each time, while what was made last goes on being
    used: a certificate that is half written must not take the server down.
    """

    def __init__(self, make: Callable[[], T], *paths: Path) -> None:
        self._make = make
        self._paths = paths
        # Before reading, so that what changes meanwhile is seen next time.
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
                    log.warning("%s; what it held before is still used", error)
                self._message = str(error)
            else:
                self._state, self._message = state, ""
                log.info("read again: %s", ", ".join(map(str, self._paths)))
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
