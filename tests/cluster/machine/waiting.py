"""Waiting for what has to come true, with generous deadlines: a busy machine is no failure."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

_POLL_SECONDS: Final = 0.05


class NeverCameError(AssertionError):
    """What was waited for did not come true in time."""


def until(
    condition: Callable[[], T],
    what: str,
    *,
    seconds: float = 120.0,
    poll: float = _POLL_SECONDS,
    show: Callable[[], str] = str,
) -> T:
    """Return the first true value of ``condition``; ``show`` says what there was instead.

    Raises :class:`NeverCameError`.
    """
    last = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > last:
            raise NeverCameError(f"not within {seconds:g} s: {what}\n{show()}")
        time.sleep(poll)
    return value


def stays(condition: Callable[[], object], what: str, *, seconds: float) -> None:
    """Look at ``condition`` again and again for a time. Raises :class:`AssertionError` if false."""
    last = time.monotonic() + seconds
    while time.monotonic() < last:
        assert condition(), f"not for the whole of {seconds:g} s: {what}"
        time.sleep(_POLL_SECONDS)
