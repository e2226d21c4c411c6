"""Exit codes."""

from enum import IntEnum


class ExitCode(IntEnum):
    OK = 0
    FAILED = 1
    """The command did not succeed, or something that is needed is missing."""
    USAGE = 2
    """The configuration can't be used, and nothing was started."""
    INTERRUPTED = 130
    """Ctrl-C, as shells report it."""
    TERMINATED = 143
    """SIGTERM before the command was done, as shells report it."""
