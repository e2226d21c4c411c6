"""The fast and the full reading of one GPU, field by field."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import pynvml

from exporter.gpus import GpuError
from exporter.gpus.nvml.accounting import Accounting
from exporter.gpus.nvml.asking import Asker
from exporter.gpus.nvml.bounds import Implausible, counted
from exporter.gpus.nvml.gate import Gate
from exporter.gpus.nvml.identity import CLOCKS, Handle, Identity
from exporter.gpus.nvml.library import nvml
from exporter.gpus.nvml.lists import running_processes
from exporter.gpus.nvml.utilization import from_sources
from exporter.model.readings import (
    Activity,
    FastReading,
    FullReading,
    Memory,
    Process,
    ProcessType,
    ProcessUtilization,
    Reason,
    UtilizationSample,
)

_NO_INSTANCE = 0xFFFFFFFF
_UNKNOWN_BYTES = pynvml.NVML_VALUE_NOT_AVAILABLE_ulonglong.value

_PROCESS_STRUCTS = {
    # Laid out alike in all drivers. Those of 535.43 to 535.98 fill longer structs by the newer
    # function than all others do.
    "v2": pynvml.c_nvmlProcessInfo_v2_t,
    "v3": pynvml.c_nvmlProcessInfo_v3_t,
}
"""By the version of a function that lists processes, the one to ask first."""

_PROCESS_LISTS = {
    ProcessType.COMPUTE: "nvmlDeviceGetComputeRunningProcesses",
    ProcessType.GRAPHICS: "nvmlDeviceGetGraphicsRunningProcesses",
    ProcessType.MPS: "nvmlDeviceGetMPSComputeRunningProcesses",
}

_ENGINES = {
    "encoder": nvml.nvmlDeviceGetEncoderUtilization,
    "decoder": nvml.nvmlDeviceGetDecoderUtilization,
    "jpeg": nvml.nvmlDeviceGetJpgUtilization,
    "ofa": nvml.nvmlDeviceGetOfaUtilization,
}

CLOCK_EVENTS = {
    "gpu_idle": pynvml.nvmlClocksEventReasonGpuIdle,
    "applications_clocks_setting": pynvml.nvmlClocksEventReasonApplicationsClocksSetting,
    "sw_power_cap": pynvml.nvmlClocksEventReasonSwPowerCap,
    "hw_slowdown": pynvml.nvmlClocksEventReasonHwSlowdown,
    "sync_boost": pynvml.nvmlClocksEventReasonSyncBoost,
    "sw_thermal_slowdown": pynvml.nvmlClocksEventReasonSwThermalSlowdown,
    "hw_thermal_slowdown": pynvml.nvmlClocksEventReasonHwThermalSlowdown,
    "hw_power_brake_slowdown": pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown,
    "display_clock_setting": pynvml.nvmlClocksEventReasonDisplayClockSetting,
}
"""NVML's reasons for a clock below what was asked for, by bit of the current reasons."""


def fast(
    handle: Handle,
    instances: Iterable[tuple[int, Handle]],
    accounting: Accounting,
    gate: Gate,
) -> FastReading:
    """Raise :class:`~exporter.gpus.GpuError` when the GPU is gone, like the others here.

    Also when neither memory nor processes can be had: a GPU whose device node we have lost, say to
    a reset of our cgroup, refuses every call by itself and never says that it is gone.
    """
    memory = _memory("memory", handle, gate)
    instance_memory = {
        instance: _memory("instance_memory", part, gate, instance) for instance, part in instances
    }
    processes = _processes(handle, gate)
    reading = gate.reading(
        FastReading,
        memory=memory,
        instance_memory=instance_memory,
        processes=processes,
        ended=accounting.read(handle, processes, gate),
    )
    reasons = {failure.field: failure.reason for failure in reading.failures}
    if memory is None and processes is None and {"memory", "processes"} <= reasons.keys():
        reason = reasons["memory"]
        raise GpuError(
            # The driver answers, or the read would have ended by that.
            Reason.UNKNOWN if reason.ends_session else reason,
            f"it reports neither memory nor processes: {reason}",
        )
    return reading


def full(
    handle: Handle,
    identity: Identity,
    *,
    samples: tuple[UtilizationSample, ...] | None,
    activity: Activity | None,
    instance_activity: Mapping[int, Activity],
    process_utilization: tuple[ProcessUtilization, ...] | None,
    gate: Gate,
    wall: Callable[[], float],
) -> FullReading:
    asker = gate.asker
    rates = asker.ask("memory_busy_ratio", partial(nvml.nvmlDeviceGetUtilizationRates, handle))
    engines = asker.ask_each(
        "engine_utilization_ratio",
        {name: partial(_percent, function, handle) for name, function in _ENGINES.items()},
    )
    clocks = asker.ask_each(
        "clock_hertz",
        {
            domain: partial(nvml.nvmlDeviceGetClockInfo, handle, clock)
            for domain, clock in CLOCKS.items()
        },
    )
    utilization, source = samples, "samples" if samples else None
    if not identity.gpu.mig_enabled:  # else the board's follows from its slices'
        utilization, source = from_sources(samples, rates, activity, wall=wall, gate=gate)
    return gate.reading(
        FullReading,
        gpu=identity.gpu,
        utilization=utilization,
        utilization_source=source,
        memory_busy_ratio=None if rates is None else rates.memory,
        engine_utilization_ratio=engines,
        activity=activity,
        instance_activity=instance_activity,
        power_draw_watts=asker.ask(
            "power_draw_watts", partial(nvml.nvmlDeviceGetPowerUsage, handle)
        ),
        clock_hertz=clocks,
        temperature_celsius=_temperatures(handle, asker),
        fan_speed_ratio=_fans(handle, identity, asker),
        clock_event_active=_clock_events(handle, identity, asker),
        performance_state=_performance_state(handle, asker),
        process_utilization=process_utilization,
    )


def _memory(field: str, handle: Handle, gate: Gate, instance: int | None = None) -> Memory | None:
    """Read the frame buffer. Before R510 nothing tells what the driver reserves of it."""

    def ask(**version: int) -> Any:
        info = nvml.nvmlDeviceGetMemoryInfo(handle, **version)
        if info.total or info.used:
            return info
        if gate.board.memory_total_bytes is None:
            return None  # so answer boards that share the memory of the CPU
        raise Implausible("memory", 0)

    calls: list[Callable[[], Any]] = [partial(ask, version=pynvml.nvmlMemory_v2), ask]
    read = gate.asker.ask_first(field, calls, instance)
    if read is None:
        return None
    return gate.piece(
        field,
        Memory,
        total_bytes=read.total,
        used_bytes=read.used,
        free_bytes=read.free,
        reserved_bytes=getattr(read, "reserved", None),
    )


def _processes(handle: Handle, gate: Gate) -> tuple[Process, ...] | None:
    """List the processes of every type, or ``None``: a list with gaps would pass for the truth."""
    asker = gate.asker
    found: list[Process | None] = []
    known = False
    for kind, name in _PROCESS_LISTS.items():
        calls = [
            partial(running_processes, f"{name}_{version}", struct, handle)
            for version, struct in _PROCESS_STRUCTS.items()
        ]
        listed = asker.ask_first("processes", calls, kind)
        if listed is not None:
            known = True
            found += (_process(kind, process, gate) for process in listed)
        elif any(asker.supported("processes", (kind, rank)) for rank in range(len(calls))):
            return None
    complete = tuple(process for process in found if process is not None)
    return complete if known and len(complete) == len(found) else None


def _process(kind: ProcessType, process: Any, gate: Gate) -> Process | None:
    memory, instance = process.usedGpuMemory, process.gpuInstanceId
    part = process.computeInstanceId
    return gate.piece(
        "processes",
        Process,
        pid=process.pid,
        type=kind,
        memory_used_bytes=None if memory == _UNKNOWN_BYTES else memory,
        gpu_instance=None if instance == _NO_INSTANCE else instance,
        compute_instance=None if part == _NO_INSTANCE else part,
    )


def _percent(function: Callable[[Handle], tuple[int, int]], handle: Handle) -> int:
    """Leave out over how many microseconds it is."""
    return function(handle)[0]


def _temperatures(handle: Handle, asker: Asker) -> dict[str, float | None]:
    gpu = asker.ask_first(
        "temperature_celsius",
        [
            partial(nvml.nvmlDeviceGetTemperatureV, handle, pynvml.NVML_TEMPERATURE_GPU),
            partial(nvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
        ],
        "gpu",
    )
    values = asker.ask_values(
        handle, [("temperature_celsius", "memory", pynvml.NVML_FI_DEV_MEMORY_TEMP, 0)]
    )
    return {"gpu": gpu, "memory": values.get(("temperature_celsius", "memory"))}


def _fans(handle: Handle, identity: Identity, asker: Asker) -> dict[str, int]:
    return asker.ask_each(
        "fan_speed_ratio",
        {
            str(fan): partial(nvml.nvmlDeviceGetFanSpeed_v2, handle, fan)
            for fan in range(identity.fans)
        },
    )


def _clock_events(handle: Handle, identity: Identity, asker: Asker) -> dict[str, bool]:
    def mask(function: Callable[[Handle], int]) -> int:
        return counted("mask of clock event reasons", function(handle))

    active = asker.ask_first(
        "clock_event_active",
        [
            partial(mask, nvml.nvmlDeviceGetCurrentClocksEventReasons),
            partial(mask, nvml.nvmlDeviceGetCurrentClocksThrottleReasons),
        ],
    )
    if active is None:
        return {}
    return {
        reason: bool(active & bit)
        for reason, bit in CLOCK_EVENTS.items()
        if identity.clock_events & bit
    }


def _performance_state(handle: Handle, asker: Asker) -> int | None:
    state = asker.ask("performance_state", partial(nvml.nvmlDeviceGetPerformanceState, handle))
    return None if state == pynvml.NVML_PSTATE_UNKNOWN else state
