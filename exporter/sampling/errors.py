"""What a backend raises, as one kind of error, and counters of failures that begin at 0."""

from collections import Counter

from exporter.gpus import GpuError
from exporter.model.readings import Reason


class FaultError(GpuError):
    """A fault in a backend's code, which is the error's cause."""


def as_gpu_error(error: Exception) -> GpuError:
    """Return the error as a backend should raise it: a fault in its code costs no more."""
    if isinstance(error, GpuError):
        return error
    fault_error = FaultError(Reason.UNKNOWN, f"{type(error).__name__}: {error}")
    fault_error.__cause__ = error
    return fault_error


def fault(error: GpuError) -> BaseException | None:
    """Return the fault in a backend's code that is behind an error, for the log."""
    return error.__cause__ if isinstance(error, FaultError) else None


def no_failures() -> Counter[str]:
    """Count from 0, because ``increase()`` misses the event that a counter begins with."""
    silent = {Reason.NOT_SUPPORTED, Reason.GPU_REMOVED}
    return Counter(dict.fromkeys((r for r in Reason if r not in silent), 0))
