"""Files that a user names: read whole, if they are files at all."""

import errno
import os
import stat
from pathlib import Path
from typing import Final

MOST_BYTES: Final = 2**20
"""A ConfigMap or a Secret holds no more, and no file that the program reads needs more."""

_SOCKET: Final = "it is a socket, not a file"
_KINDS: Final = (
    (stat.S_ISDIR, "Is a directory"),
    (stat.S_ISFIFO, "it is a pipe, not a file"),
    (stat.S_ISSOCK, _SOCKET),
    (stat.S_ISCHR, "it is a device, not a file"),
    (stat.S_ISBLK, "it is a device, not a file"),
)


class FileError(Exception):
    """A file that can't be read. The message is the reason, without the file's name."""


def read_file(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """Return what a regular file holds. Raises :class:`FileError`; never waits for a writer.

    Anything else that has a name, such as a pipe or a device, is refused before it is read: reading
    could block for ever, or never come to an end.
    """
    try:
        # A pipe without a writer would block the open itself, and a terminal could become ours.
        opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise FileError(_reason(error)) from error
    except ValueError as error:  # NUL in the name
        raise FileError("its name has a NUL character in it") from error
    try:
        mode = os.fstat(opened).st_mode
        for is_kind, what in _KINDS:
            if is_kind(mode):
                raise FileError(what)
        with os.fdopen(opened, "rb", closefd=False) as file:
            content = file.read(most_bytes + 1)
    except OSError as error:
        raise FileError(_reason(error)) from error
    finally:
        os.close(opened)
    if len(content) > most_bytes:
        raise FileError(f"it is larger than {most_bytes // 1024} KiB")
    return content


def _reason(error: OSError) -> str:
    # Linux answers so when a socket is opened: "No such device or address".
    return _SOCKET if error.errno == errno.ENXIO else str(error.strerror)
