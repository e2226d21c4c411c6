"""The fast and the full reading of one GPU, field by field, in base units."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import pynvml

from exporter.gpus import GpuError
from exporter.gpus.nvml.accounting import Accounting
from exporter.gpus.nvml.asking import Asker
from exporter.gpus.nvml.identity import CLOCKS, Handle, Identity
from exporter.model.readings import (
    Activity,
    FastReading,
    FullReading,
    Memory,
    Process,
    ProcessType,
    ProcessUtilization,
    UtilizationSample,
)

NO_INSTANCE = 0xFFFFFFFF

_PROCESS_LISTS = {
    ProcessType.COMPUTE: "nvmlDeviceGetComputeRunningProcesses",
    ProcessType.GRAPHICS: "nvmlDeviceGetGraphicsRunningProcesses",
    ProcessType.MPS: "nvmlDeviceGetMPSComputeRunningProcesses",
}

_ENGINES = {
    "encoder": pynvml.nvmlDeviceGetEncoderUtilization,
    "decoder": pynvml.nvmlDeviceGetDecoderUtilization,
    "jpeg": pynvml.nvmlDeviceGetJpgUtilization,
    "ofa": pynvml.nvmlDeviceGetOfaUtilization,
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
    asker: Asker,
) -> FastReading:
    """Raise :class:`~exporter.gpus.GpuError` when the GPU is gone, like the others here.

    Also when neither memory nor processes can be had: a GPU whose device node we have lost, say to
    a reset of our cgroup, refuses every call by itself and never says that it is gone.
    """
    memory = _memory("memory", handle, asker)
    instance_memory = {
        instance: read
        for instance, part in instances
        if (read := _memory("instance_memory", part, asker, instance)) is not None
    }
    processes = _processes(handle, asker)
    ended = accounting.read(handle, processes, asker)
    failures = asker.failures()
    reasons = {failure.field: failure.reason for failure in failures}
    if memory is None and processes is None and {"memory", "processes"} <= reasons.keys():
        raise GpuError(reasons["memory"], "it tells neither memory nor processes")
    return FastReading(memory, instance_memory, processes, ended, failures)


def full(
    handle: Handle,
    identity: Identity,
    *,
    utilization: tuple[UtilizationSample, ...] | None,
    activity: Activity | None,
    instance_activity: Mapping[int, Activity],
    process_utilization: tuple[ProcessUtilization, ...] | None,
    asker: Asker,
) -> FullReading:
    rates = asker.ask("memory_busy_ratio", partial(pynvml.nvmlDeviceGetUtilizationRates, handle))
    engines = asker.ask_each(
        "engine_utilization_ratio",
        {name: partial(function, handle) for name, function in _ENGINES.items()},
    )
    clocks = asker.ask_each(
        "clock_hertz",
        {
            domain: partial(pynvml.nvmlDeviceGetClockInfo, handle, clock)
            for domain, clock in CLOCKS.items()
        },
    )
    milliwatts = asker.ask("power_draw_watts", partial(pynvml.nvmlDeviceGetPowerUsage, handle))
    return FullReading(
        gpu=identity.gpu,
        utilization=utilization,
        memory_busy_ratio=None if rates is None else rates.memory / 100,
        engine_utilization_ratio={name: percent / 100 for name, (percent, _) in engines.items()},
        activity=activity,
        instance_activity=instance_activity,
        power_draw_watts=None if milliwatts is None else milliwatts / 1e3,
        clock_hertz={domain: megahertz * 1e6 for domain, megahertz in clocks.items()},
        temperature_celsius=_temperatures(handle, asker),
        fan_speed_ratio=_fans(handle, identity, asker),
        clock_event_active=_clock_events(handle, identity, asker),
        performance_state=_performance_state(handle, asker),
        process_utilization=process_utilization,
        failures=asker.failures(),
    )


def _memory(field: str, handle: Handle, asker: Asker, instance: int | None = None) -> Memory | None:
    """Read the frame buffer. Before R510 nothing tells what the driver reserves of it."""
    read = asker.ask_first(
        field,
        [
            partial(pynvml.nvmlDeviceGetMemoryInfo, handle, version=pynvml.nvmlMemory_v2),
            partial(pynvml.nvmlDeviceGetMemoryInfo, handle),
        ],
        instance,
    )
    if read is None:
        return None
    return Memory(read.total, read.used, read.free, getattr(read, "reserved", None))


def _processes(handle: Handle, asker: Asker) -> tuple[Process, ...] | None:
    """List the processes of every type, or ``None``: a list with gaps would pass for the truth."""
    found: list[Process] = []
    known = False
    for kind, name in _PROCESS_LISTS.items():
        calls = [partial(getattr(pynvml, f"{name}_{version}"), handle) for version in ("v3", "v2")]
        listed = asker.ask_first("processes", calls, kind)
        if listed is not None:
            known = True
            found += (_process(kind, process) for process in listed)
        elif any(asker.supported("processes", (kind, rank)) for rank in range(len(calls))):
            return None
    return tuple(found) if known else None


def _process(kind: ProcessType, process: Any) -> Process:
    gpu_instance, compute_instance = process.gpuInstanceId, process.computeInstanceId
    return Process(
        pid=process.pid,
        type=kind,
        # pynvml makes None of "not available".
        memory_used_bytes=process.usedGpuMemory,
        gpu_instance=None if gpu_instance == NO_INSTANCE else gpu_instance,
        compute_instance=None if compute_instance == NO_INSTANCE else compute_instance,
    )


def _temperatures(handle: Handle, asker: Asker) -> dict[str, float]:
    gpu = asker.ask_first(
        "temperature_celsius",
        [
            partial(pynvml.nvmlDeviceGetTemperatureV, handle, pynvml.NVML_TEMPERATURE_GPU),
            partial(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
        ],
        "gpu",
    )
    values = asker.ask_values(
        handle, [("temperature_celsius", "memory", pynvml.NVML_FI_DEV_MEMORY_TEMP, 0)]
    )
    read = {"gpu": gpu, "memory": values.get(("temperature_celsius", "memory"))}
    return {sensor: float(celsius) for sensor, celsius in read.items() if celsius is not None}


def _fans(handle: Handle, identity: Identity, asker: Asker) -> dict[str, float]:
    speeds = asker.ask_each(
        "fan_speed_ratio",
        {
            str(fan): partial(pynvml.nvmlDeviceGetFanSpeed_v2, handle, fan)
            for fan in range(identity.fans)
        },
    )
    return {fan: percent / 100 for fan, percent in speeds.items()}


def _clock_events(handle: Handle, identity: Identity, asker: Asker) -> dict[str, bool]:
    active = asker.ask_first(
        "clock_event_active",
        [
            partial(pynvml.nvmlDeviceGetCurrentClocksEventReasons, handle),
            partial(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle),
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
    state = asker.ask("performance_state", partial(pynvml.nvmlDeviceGetPerformanceState, handle))
    return None if state == pynvml.NVML_PSTATE_UNKNOWN else state
