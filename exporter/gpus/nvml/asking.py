"""Asking NVML for one field at a time, so that a field that fails takes no other with it."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import pynvml

from exporter.gpus.nvml.library import (
    WHOLE_GPU,
    CallError,
    attempt,
    driver_answers,
    gpu_error,
    nvml,
)
from exporter.model.readings import FieldFailure, Reason

log = logging.getLogger(__name__)

T = TypeVar("T")

_MEMBERS = {
    pynvml.NVML_VALUE_TYPE_DOUBLE: "dVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_INT: "uiVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG: "ulVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG: "ullVal",
    pynvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG: "sllVal",
    pynvml.NVML_VALUE_TYPE_SIGNED_INT: "siVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_SHORT: "usVal",
}

ALL_LINKS = 0xFFFFFFFF
"""The scope of a field value that sums over a GPU's NVLinks."""

ASK_AGAIN_SECONDS = 600.0
"""How long "not supported" is believed. Drivers also say it of what is not ready, or of a link that
is down."""

LOG_SECONDS = 60.0
"""How often the same kind of answer that nobody can make sense of is logged of one GPU."""

Call = Callable[[], T]


def number(value_type: int, value: pynvml.c_nvmlValue_t) -> float:
    """Read the member of NVML's value union that its type names.

    Raises NVML's unknown error for a type that is younger than we are.
    """
    if value_type not in _MEMBERS:
        raise CallError(pynvml.NVML_ERROR_UNKNOWN)
    return getattr(value, _MEMBERS[value_type])  # type: ignore[no-any-return]


class Asker:
    """Remembers what one GPU does not support, and what failed since the last :meth:`failures`.

    ``field`` is the name of a field of a reading, ``detail`` tells the calls that it takes apart.
    Errors that concern the whole GPU are raised as :class:`GpuError`; the others leave the field
    absent. A call that has been answered is supported from then on: "not supported" is a failure of
    it like any other.

    ``clock`` is monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float], gpu: str = "") -> None:
        self._clock = clock
        self.gpu = gpu
        """Its UUID, for people who read the log."""
        self._logged: dict[str, float] = {}
        """When each kind of exception was logged last."""
        self._unsupported: set[tuple[str, object]] = set()
        self._answered: set[tuple[str, object]] = set()
        self._failures: dict[FieldFailure, None] = {}
        self._ask_again_due = clock() + ASK_AGAIN_SECONDS

    def forget(self) -> None:
        """Ask for everything again: the device has changed."""
        self._unsupported.clear()
        self._answered.clear()

    def renew(self) -> None:
        """When it is time, ask again for what is not supported. To be called between reads."""
        if (now := self._clock()) >= self._ask_again_due:
            self._ask_again_due = now + ASK_AGAIN_SECONDS
            self._unsupported.clear()

    def failures(self) -> tuple[FieldFailure, ...]:
        """Take what failed since the last call: each field and reason once."""
        failed, self._failures = tuple(self._failures), {}
        return failed

    def supported(self, field: str, detail: object = None) -> bool:
        return (field, detail) not in self._unsupported

    def ask(self, field: str, call: Call[T], detail: object = None) -> T | None:
        """Call, unless it is known to be unsupported. ``None`` when there is no answer.

        A call that itself returns ``None`` has answered nothing, without having failed.
        """
        if not self.supported(field, detail):
            return None
        try:
            answer = attempt(call)
        except CallError as error:
            self.refused(field, error, detail)
            return None
        if answer is not None:
            self._answered.add((field, detail))
        return answer

    def ask_first(self, field: str, calls: Sequence[Call[T]], detail: object = None) -> T | None:
        """Ask by the newest call that the driver knows. ``calls`` are sorted newest first."""
        for rank, call in enumerate(calls):
            if self.supported(field, (detail, rank)):
                answer = self.ask(field, call, (detail, rank))
                if self.supported(field, (detail, rank)):
                    return answer
        return None

    def ask_each(self, field: str, calls: Mapping[str, Call[T]]) -> dict[str, T]:
        """Ask for the parts of a field that is a mapping; parts without an answer are left out."""
        answers = {part: self.ask(field, call, part) for part, call in calls.items()}
        return {part: answer for part, answer in answers.items() if answer is not None}

    def ask_values(
        self, handle: object, wanted: Iterable[tuple[str, object, int, int]]
    ) -> dict[tuple[str, object], float]:
        """Ask for field values in one call: (field, detail, NVML's field id, scope) of each.

        The answers are keyed by (field, detail), and each fails alone. A driver that is older than
        a field id calls it an invalid argument, which is "not supported" here.
        """
        asked = [entry for entry in wanted if self.supported(*entry[:2])]
        if not asked:
            return {}
        try:
            values = nvml.nvmlDeviceGetFieldValues(handle, [entry[2:] for entry in asked])
        except CallError as error:
            for field, detail, *_ in asked:
                self.refused(field, error, detail)
            return {}
        answers = {}
        for (field, detail, *_), value in zip(asked, values, strict=True):
            if value.nvmlReturn == pynvml.NVML_ERROR_INVALID_ARGUMENT:
                self.refused(field, CallError(pynvml.NVML_ERROR_NOT_SUPPORTED), detail)
            elif value.nvmlReturn != pynvml.NVML_SUCCESS:
                self.refused(field, CallError(value.nvmlReturn), detail)
            else:
                read = self.ask(field, partial(number, value.valueType, value.value), detail)
                if read is not None:
                    answers[field, detail] = read
        return answers

    def refused(self, field: str, error: CallError, detail: object = None) -> None:
        """Note an error for a field. Raises :class:`GpuError` if the GPU or the driver is gone.

        That the driver is gone is believed only of the driver itself.
        """
        reason = error.reason
        if error.cause is not None:
            self._log(field, error)
        if reason in WHOLE_GPU and not (reason.ends_session and driver_answers()):
            raise gpu_error(field, error)
        if reason is Reason.NOT_SUPPORTED and (field, detail) not in self._answered:
            self._unsupported.add((field, detail))
        else:
            self.failed(field, reason)

    def failed(self, field: str, reason: Reason) -> None:
        self._failures[FieldFailure(field, reason)] = None

    def _log(self, field: str, error: CallError) -> None:
        kind, now = type(error.cause).__name__, self._clock()
        if now - self._logged.get(kind, float("-inf")) >= LOG_SECONDS:
            self._logged[kind] = now
            log.error(
                "%s: the driver's answer makes no sense: %s",
                field,
                error,
                extra={"uuid": self.gpu},
            )
