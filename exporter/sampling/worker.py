"""Threads for calls that may never return."""

import queue
import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Worker(Protocol):
    """Does one job at a time, on another thread or at once."""

    def submit(self, job: Callable[[], T], done: Callable[[T | Exception], None]) -> None:
        """Run ``job``; hand its result, or the exception that it raised, to ``done``."""

    def stop(self) -> None:
        """Take no further jobs. A job that is under way is left alone."""


class ThreadWorker:
    """A daemon thread. Nothing waits for its job, not even the exit of the interpreter.

    ``deliver`` runs a call on the owner's thread, as ``loop.call_soon_threadsafe`` does.
    """

    def __init__(self, name: str, deliver: Callable[[Callable[[], None]], object]) -> None:
        self._deliver = deliver
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def submit(self, job: Callable[[], T], done: Callable[[T | Exception], None]) -> None:
        def work() -> None:
            try:
                result: T | Exception = job()
            except Exception as error:  # noqa: BLE001 -- the owner decides what it means
                result = error
            self._deliver(lambda: done(result))

        self._jobs.put(work)

    def stop(self) -> None:
        self._jobs.put(None)

    def _run(self) -> None:
        while (work := self._jobs.get()) is not None:
            try:
                work()
            except RuntimeError:
                return  # the loop was closed while the job ran: nobody waits for the result
