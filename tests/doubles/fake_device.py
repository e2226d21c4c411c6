"""GPUs of the NVML double: what each answers, and how that gets into the structs of C."""

import ctypes
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pynvml


@dataclass(frozen=True)
class Failure:
    """An answer that is an error."""

    code: int


NOT_SUPPORTED = Failure(pynvml.NVML_ERROR_NOT_SUPPORTED)
NOT_FOUND = Failure(pynvml.NVML_ERROR_NOT_FOUND)
UNKNOWN = Failure(pynvml.NVML_ERROR_UNKNOWN)
NO_PERMISSION = Failure(pynvml.NVML_ERROR_NO_PERMISSION)
TIMEOUT = Failure(pynvml.NVML_ERROR_TIMEOUT)
LOST = Failure(pynvml.NVML_ERROR_GPU_IS_LOST)

_addresses = itertools.count(0x7F0000000000, 0x1000)


def new_address() -> int:
    return next(_addresses)


@dataclass
class FakeDevice:
    """A GPU or a MIG device: what it answers, by function, or by function and its numbers.

    An answer is a value, a tuple of them, a mapping for a struct, or a Failure. What is not here is
    not supported.
    """

    uuid: str
    answers: dict[Any, Any] = field(default_factory=dict)
    fields: dict[Any, Any] = field(default_factory=dict)
    """Field values by id, or by id and scope: a number, a (type, number) or a Failure."""
    processes: dict[str, list[dict[str, int]]] = field(default_factory=dict)
    """By the word in the function's name: Compute, Graphics, MPSCompute."""
    samples: list[tuple[int, int]] | None = None
    """Utilisation: (microseconds, percent)."""
    sample_type: int = pynvml.NVML_VALUE_TYPE_UNSIGNED_INT
    process_samples: list[tuple[int, int, int]] | None = None
    """Utilisation of processes: (microseconds, pid, percent)."""
    accounting: dict[int, dict[str, int]] = field(default_factory=dict)
    """What the accounting keeps by pid: fields of its struct."""
    mig: list["FakeDevice | None"] | None = None
    """MIG devices by index, with holes; ``None``: no MIG."""
    gpm: dict[int | None, dict[int, Any]] = field(default_factory=dict)
    """GPM metrics by GPU instance, ``None`` for the GPU."""
    address: int = field(default_factory=new_address)

    def fail(self, function: str, failure: Failure) -> None:
        """Let a function fail, whatever its other arguments."""
        for key in [k for k in self.answers if k == function or k[0] == function]:
            del self.answers[key]
        self.answers[function] = failure


class Refused(Exception):  # noqa: N818  an answer, caught at once
    """A call gave an error code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def look_up(device: FakeDevice, name: str, arguments: tuple[Any, ...]) -> int:
    """Answer as the device is described: numbers go in, pointers and buffers come out."""
    numbers = []
    outputs = []
    for argument in arguments:
        if hasattr(argument, "_obj") or isinstance(argument, ctypes.Array):
            outputs.append(argument)
        else:
            numbers.append(getattr(argument, "value", argument))
    if isinstance(next(iter(outputs), None), ctypes.Array):
        numbers = []  # a string buffer's size
    key = (name, *numbers) if numbers else name
    answer = device.answers.get(key, device.answers.get(name, NOT_SUPPORTED))
    if isinstance(answer, Failure):
        return answer.code
    answers = answer if isinstance(answer, tuple) else (answer,)
    for output, value in zip(outputs, answers, strict=True):
        fill(output, value)
    return 0


def fill(output: Any, value: Any) -> None:
    target = getattr(output, "_obj", output)
    if isinstance(value, Mapping):
        for name, part in value.items():
            setattr(target, name, part)
    else:
        target.value = value.encode() if isinstance(value, str) else value


def point(pointer: Any, to: int) -> None:
    ctypes.c_void_p.from_buffer(pointer._obj).value = to


def address(pointer: Any) -> int:
    return ctypes.cast(pointer, ctypes.c_void_p).value or 0
