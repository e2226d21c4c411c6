"""The library: loading and letting go of it, its calls, and what its errors mean to us."""

import contextlib
import ctypes
import os
from _ctypes import dlclose
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import pynvml

from exporter.gpus import GpuError
from exporter.model.readings import Reason

T = TypeVar("T")

REASONS: Mapping[int, Reason] = MappingProxyType(
    {
        # Nobody initialised this library, or somebody has shut it down: the session is over.
        pynvml.NVML_ERROR_UNINITIALIZED: Reason.DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_INVALID_ARGUMENT: Reason.UNKNOWN,
        pynvml.NVML_ERROR_NOT_SUPPORTED: Reason.NOT_SUPPORTED,
        pynvml.NVML_ERROR_NO_PERMISSION: Reason.NO_PERMISSION,
        pynvml.NVML_ERROR_ALREADY_INITIALIZED: Reason.UNKNOWN,
        pynvml.NVML_ERROR_NOT_FOUND: Reason.NOT_FOUND,
        pynvml.NVML_ERROR_INSUFFICIENT_SIZE: Reason.UNKNOWN,
        pynvml.NVML_ERROR_INSUFFICIENT_POWER: Reason.UNKNOWN,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED: Reason.DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_TIMEOUT: Reason.TIMEOUT,
        pynvml.NVML_ERROR_IRQ_ISSUE: Reason.UNKNOWN,
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: Reason.LIBRARY_NOT_FOUND,
        # A symbol that an older driver's library lacks.
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: Reason.NOT_SUPPORTED,
        pynvml.NVML_ERROR_CORRUPTED_INFOROM: Reason.UNKNOWN,
        pynvml.NVML_ERROR_GPU_IS_LOST: Reason.GPU_LOST,
        pynvml.NVML_ERROR_RESET_REQUIRED: Reason.RESET_REQUIRED,
        # "The operating system has blocked the request": a device cgroup, most often.
        pynvml.NVML_ERROR_OPERATING_SYSTEM: Reason.NO_PERMISSION,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: Reason.LIBRARY_MISMATCH,
        pynvml.NVML_ERROR_IN_USE: Reason.UNKNOWN,
        pynvml.NVML_ERROR_MEMORY: Reason.UNKNOWN,
        pynvml.NVML_ERROR_NO_DATA: Reason.NOT_FOUND,
        pynvml.NVML_ERROR_VGPU_ECC_NOT_SUPPORTED: Reason.NOT_SUPPORTED,
        pynvml.NVML_ERROR_INSUFFICIENT_RESOURCES: Reason.UNKNOWN,
        pynvml.NVML_ERROR_FREQ_NOT_SUPPORTED: Reason.NOT_SUPPORTED,
        # A struct version that an older driver does not know.
        pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH: Reason.NOT_SUPPORTED,
        pynvml.NVML_ERROR_DEPRECATED: Reason.NOT_SUPPORTED,
        pynvml.NVML_ERROR_NOT_READY: Reason.UNKNOWN,
        pynvml.NVML_ERROR_GPU_NOT_FOUND: Reason.NOT_FOUND,
        pynvml.NVML_ERROR_INVALID_STATE: Reason.UNKNOWN,
        pynvml.NVML_ERROR_RESET_TYPE_NOT_SUPPORTED: Reason.NOT_SUPPORTED,
        pynvml.NVML_ERROR_UNKNOWN: Reason.UNKNOWN,
    }
)
"""What each NVML error means. A code that is not here is younger than we are: unknown."""

WHOLE_GPU = frozenset(
    {
        Reason.GPU_LOST,
        Reason.RESET_REQUIRED,
        Reason.DRIVER_NOT_LOADED,
        Reason.LIBRARY_NOT_FOUND,
        Reason.LIBRARY_MISMATCH,
    }
)
"""Reasons that say something about the GPU or the driver, whichever call met them."""


class CallError(Exception):
    """A call failed with NVML's ``code``.

    ``cause`` is what pynvml raised where it could not make sense of an answer; NVML reported no
    error then, and the code is its "unknown error".
    """

    def __init__(self, code: int, cause: Exception | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.cause = cause

    @property
    def reason(self) -> Reason:
        return reason_of(self.code)

    def __str__(self) -> str:
        if self.cause is not None:
            return f"{type(self.cause).__name__}: {self.cause}"
        try:
            return str(pynvml.NVMLError(self.code))  # it asks the library for a code's text
        except Exception:  # noqa: BLE001  as in attempt
            return f"NVML error {self.code}"


def reason_of(code: int) -> Reason:
    return REASONS.get(code, Reason.UNKNOWN)


UNREADABLE = "\N{REPLACEMENT CHARACTER}"
"""Stands for a byte of a text that is not UTF-8, and for a character that can't be printed."""

_ON_RETURN: ContextVar[Callable[[], None]] = ContextVar("on_return", default=lambda: None)


@contextmanager
def returning(on_return: Callable[[], None]) -> Iterator[None]:
    """Have ``on_return`` called whenever a call of this thread returns, until the block ends."""
    token = _ON_RETURN.set(on_return)
    try:
        yield
    finally:
        _ON_RETURN.reset(token)


def attempt(call: Callable[[], T]) -> T:
    """Make a call of pynvml. Raises :class:`CallError`, whatever pynvml raises.

    pynvml decodes texts strictly. Here a text that is not UTF-8 costs its characters alone.
    """
    try:
        answer = call()
    except CallError:
        raise
    except pynvml.NVMLError as error:
        raise CallError(error.value) from error
    except UnicodeDecodeError as error:
        answer = error.object.decode(errors="replace")  # type: ignore[assignment]
    except Exception as error:
        raise CallError(pynvml.NVML_ERROR_UNKNOWN, error) from error
    finally:
        _ON_RETURN.get()()
    return _printable(answer) if isinstance(answer, str) else answer  # type: ignore[return-value]


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else UNREADABLE for c in text)


class _Functions:
    """pynvml's functions by their names; each raises :class:`CallError` and nothing else."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def function(*arguments: Any, **options: Any) -> Any:
            if not hasattr(pynvml, name):
                raise CallError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
            return attempt(partial(getattr(pynvml, name), *arguments, **options))

        return function


nvml = _Functions()
"""The only way to call pynvml. What pynvml itself raises would end more than a field."""


def raw_call(name: str, *arguments: object) -> None:
    """Call a C function that pynvml wraps at the price of a second call, or of an unbounded loop.

    Raises :class:`CallError`.
    """
    code = attempt(lambda: pynvml._nvmlGetFunctionPointer(name)(*arguments))  # noqa: SLF001  see above
    if code != pynvml.NVML_SUCCESS:
        raise CallError(code)


def driver_answers() -> bool:
    """Ask something of the whole driver: whether the session that we have with it still lives."""
    try:
        nvml.nvmlSystemGetDriverVersion()
    except CallError:
        return False
    return True


def driver_error(what: str, error: CallError) -> GpuError:
    """Translate an error of a function that concerns the whole driver."""
    return GpuError(error.reason, f"{what}: {error}")


def gpu_error(what: str, error: CallError) -> GpuError:
    """Translate an error of a function that concerns one GPU.

    It ends the session only if the driver itself no longer answers: a GPU may claim of a driver,
    which all others use, that it is not loaded.
    """
    reason = error.reason
    if reason.ends_session and driver_answers():
        reason = Reason.UNKNOWN
    return GpuError(reason, f"{what}: {error}")


FileId = tuple[int, int]
"""Device and inode."""


class Library:
    """Loads NVML, and keeps it mapped from session to session.

    Each load of the library costs a file descriptor, which unmapping does not give back. So it is
    unmapped only where keeping it is worse: when the file on disk is another one, as after an
    upgrade of the driver, and when it could not be shut down, since its session would go on.
    """

    def __init__(self) -> None:
        self._file: FileId | None = None

    def load(self) -> None:
        """Connect to the driver, by the library that is on disk now. Raises :class:`GpuError`."""
        if pynvml.nvmlLib is not None and file_on_disk(pynvml.nvmlLib._handle) != self._file:  # noqa: SLF001  ctypes has no other way
            _unmap()
        try:
            nvml.nvmlInit()
        except CallError as error:
            raise driver_error("nvmlInit", error) from error
        finally:
            if pynvml.nvmlLib is not None:
                self._file = file_on_disk(pynvml.nvmlLib._handle)  # noqa: SLF001  the same

    def shut_down(self) -> None:
        """Disconnect from the driver. No call may be under way. Never raises."""
        try:
            nvml.nvmlShutdown()
        except CallError as error:
            if error.code != pynvml.NVML_ERROR_UNINITIALIZED:
                _unmap()


class _LinkMap(ctypes.Structure):
    """The public beginning of glibc's and musl's ``struct link_map``."""

    _fields_ = (("l_addr", ctypes.c_void_p), ("l_name", ctypes.c_char_p))


_RTLD_DI_LINKMAP = 2


def file_on_disk(handle: int) -> FileId | None:
    """Return which file lies now where dlopen found a library; ``None`` if there is none."""
    found = ctypes.POINTER(_LinkMap)()
    dlinfo = ctypes.CDLL(None).dlinfo
    if dlinfo(ctypes.c_void_p(handle), _RTLD_DI_LINKMAP, ctypes.byref(found)) != 0:
        return None
    try:
        # Of the file that a link leads to.
        status = Path(os.fsdecode(found.contents.l_name)).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _unmap() -> None:
    """Reset what pynvml keeps: the handle, the functions looked up in it, and its use count.

    pynvml never closes the library, and dlopen gives a library that is still mapped once more,
    whatever lies on disk by now.
    """
    library, pynvml.nvmlLib = pynvml.nvmlLib, None
    pynvml._nvmlGetFunctionPointer_cache.clear()  # noqa: SLF001  pynvml has no other way
    pynvml._nvmlLib_refcount = 0  # noqa: SLF001  the same
    if library is not None:
        with contextlib.suppress(OSError):
            dlclose(library._handle)  # noqa: SLF001  ctypes has no other way
