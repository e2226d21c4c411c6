"""Lists that NVML fills: as long as it says, but never longer than any node has."""

import ctypes
from collections.abc import Callable
from typing import Any

import pynvml

from exporter.gpus.nvml.bounds import counted
from exporter.gpus.nvml.library import CallError, nvml, raw_call

Handle = Any


def running_processes(function: str, struct: type[Any], handle: Handle) -> list[Any]:
    """Call ``nvmlDeviceGet…RunningProcesses_v…``. Raises :class:`CallError`."""
    return _list(
        "number of processes",
        struct,
        lambda count, into: raw_call(function, handle, ctypes.byref(count), into),
        spare=lambda count: count + 5,  # more may be created meanwhile
    )


def process_samples(handle: Handle, since: int) -> list[Any]:
    """Call ``nvmlDeviceGetProcessUtilization``. Raises :class:`CallError`."""
    return _list(
        "number of processes",
        pynvml.c_nvmlProcessUtilizationSample_t,
        lambda count, into: raw_call(
            "nvmlDeviceGetProcessUtilization",
            handle,
            into,
            ctypes.byref(count),
            ctypes.c_ulonglong(since),
        ),
    )


def all_process_samples(handle: Handle, since: int) -> list[Any]:
    """Call ``nvmlDeviceGetProcessesUtilizationInfo``. Raises :class:`CallError`."""
    info = pynvml.c_nvmlProcessesUtilizationInfo_v1_t(0)
    info.version = pynvml.ProcessesUtilizationInfo_v1
    info.lastSeenTimeStamp = since

    def call(count: ctypes.c_uint, into: ctypes.Array[Any] | None) -> None:
        info.processSamplesCount = count.value
        if into is not None:
            info.procUtilArray = into
        try:
            raw_call("nvmlDeviceGetProcessesUtilizationInfo", handle, ctypes.byref(info))
        finally:
            count.value = info.processSamplesCount

    return _list("number of processes", pynvml.c_nvmlProcessUtilizationInfo_v1_t, call)


def accounted_pids(handle: Handle) -> list[int]:
    """Call ``nvmlDeviceGetAccountingPids``. Raises :class:`CallError`."""
    what = "number of accounted processes"
    count = ctypes.c_uint(counted(what, nvml.nvmlDeviceGetAccountingBufferSize(handle)))
    pids = (ctypes.c_uint * count.value)()
    raw_call("nvmlDeviceGetAccountingPids", handle, ctypes.byref(count), pids)
    return list(pids[: counted(what, count.value)])


def _list(
    what: str,
    struct: type[Any],
    call: Callable[[ctypes.c_uint, ctypes.Array[Any] | None], None],
    spare: Callable[[int], int] = lambda _: 0,
) -> list[Any]:
    """Ask for the length, then for as much."""
    count = ctypes.c_uint(0)
    try:
        call(count, None)
    except CallError as error:
        if error.code != pynvml.NVML_ERROR_INSUFFICIENT_SIZE:
            raise
    else:
        return []
    length = counted(what, count.value)
    count.value = length + spare(length)
    into = (struct * count.value)()
    call(count, into)
    return list(into[: counted(what, count.value)])
