"""Calls that may never return, for commands that must not wait for ever."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, calls: Sequence[Callable[[], T]]) -> list[T | Exception]:
    """Make all calls at once and wait for their results, or for the time to pass.

    A call that has not returned by then gives :class:`TimeoutError`, and its thread is left alone.
    """
    results: list[T | Exception] = [TimeoutError(f"no answer for {seconds:g}s") for _ in calls]

    def run(index: int, call: Callable[[], T]) -> None:
        try:
            results[index] = call()
        except Exception as error:  # noqa: BLE001  (any error is a finding)
            results[index] = error

    threads = [
        threading.Thread(target=run, args=(index, call), daemon=True)
        for index, call in enumerate(calls)
    ]
    for thread in threads:
        thread.start()
    end = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return list(results)
