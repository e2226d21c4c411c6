"""The two clocks of the program, each with a type of its own, so that mypy refuses a mix-up.

The difference between two times of one clock is a duration: a plain ``float``, in seconds.
"""

import time
from typing import NewType

Monotonic = NewType("Monotonic", float)
"""Seconds of a clock that is never set. Its zero means nothing: only differences do."""

UnixSeconds = NewType("UnixSeconds", float)
"""Seconds since 1970 by the node's clock, which may be set, also backwards."""


def monotonic() -> Monotonic:
    """Return the time by the clock that is never set."""
    return Monotonic(time.monotonic())


def unix_time() -> UnixSeconds:
    """Return the time by the node's clock."""
    return UnixSeconds(time.time())
