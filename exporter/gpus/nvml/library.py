"""The library itself: loading and letting go of it, and what its errors mean to us."""

import contextlib
from _ctypes import dlclose
from collections.abc import Mapping
from types import MappingProxyType

import pynvml

from exporter.gpus import GpuError
from exporter.model.readings import Reason

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


def reason_of(code: int) -> Reason:
    return REASONS.get(code, Reason.UNKNOWN)


def gpu_error(what: str, error: pynvml.NVMLError) -> GpuError:
    return GpuError(reason_of(error.value), f"{what}: {error}")


def load() -> None:
    """Load the library and connect to the driver. Raises :class:`GpuError`, with nothing kept."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        failure = gpu_error("nvmlInit", error)
        _forget()
        raise failure from error


def unload() -> None:
    """Disconnect, and unmap the library, so that the next load finds an upgraded one. Never raises.

    No call may be under way: its code would vanish from under it.
    """
    with contextlib.suppress(pynvml.NVMLError):
        pynvml.nvmlShutdown()
    _forget()


def _forget() -> None:
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
