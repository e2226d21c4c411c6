"""Families of whole GPUs: what they do and what they use."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from exporter.metrics.family import Family, Point
from exporter.model.devices import Driver, Gpu
from exporter.model.snapshot import GpuData, GpuSample, Snapshot

GPU_LABELS: Final = ("uuid", "gpu")
_MIG_MODES: Final = {None: "unsupported", False: "disabled", True: "enabled"}


def gpu_labels(gpu: Gpu) -> tuple[str, str]:
    return gpu.uuid, str(gpu.index)


def readable(snapshot: Snapshot) -> Iterator[tuple[GpuSample, GpuData]]:
    """Yield the GPUs that have data. All other GPUs have only health."""
    for sample in snapshot.gpus:
        if sample.data is not None:
            yield sample, sample.data


def per_gpu(name: str, text: str, value: Callable[[GpuData], float | None]) -> Family:
    def points(snapshot: Snapshot) -> Iterator[Point]:
        for sample, data in readable(snapshot):
            if (number := value(data)) is not None:
                yield gpu_labels(sample.gpu), number

    return Family(name, text, GPU_LABELS, points)


def per_gpu_by(
    label: str, name: str, text: str, values: Callable[[GpuData], Mapping[str, float]]
) -> Family:
    def points(snapshot: Snapshot) -> Iterator[Point]:
        for sample, data in readable(snapshot):
            for key, number in values(data).items():
                yield (*gpu_labels(sample.gpu), key), number

    return Family(name, text, (*GPU_LABELS, label), points)


def _info(snapshot: Snapshot) -> Iterator[Point]:
    for sample, _ in readable(snapshot):
        gpu = sample.gpu
        labels = (
            gpu.model,
            *_driver_labels(snapshot.driver),
            gpu.pci_bus_id or "",
            gpu.architecture or "",
            gpu.serial or "",
            gpu.vbios_version or "",
            "" if gpu.minor_number is None else str(gpu.minor_number),
            _MIG_MODES[gpu.mig_enabled],
        )
        yield (*gpu_labels(gpu), *labels), 1


def _driver_labels(driver: Driver | None) -> tuple[str, str, str]:
    return (driver.vendor, driver.version, driver.cuda_version or "") if driver else ("", "", "")


def _processes(data: GpuData) -> Mapping[str, float]:
    if data.fast.processes is None:
        return {}
    counts = {"compute": 0, "graphics": 0, "mps": 0}
    for process in data.fast.processes:
        counts[process.type] += 1
    return counts


IDENTITY: Final = (
    Family(
        "gpu_info",
        "Facts about a GPU that can be read now; the value is 1.",
        (
            *GPU_LABELS,
            "model",
            "vendor",
            "driver_version",
            "cuda_version",
            "pci_bus_id",
            "architecture",
            "serial",
            "vbios_version",
            "minor_number",
            "mig_mode",
        ),
        _info,
    ),
)

UTILIZATION: Final = (
    per_gpu(
        "gpu_utilization_ratio",
        "Share of time in which any kernel ran, mean over the last full tick. On a MIG board, the"
        " mean of the slices weighted by SMs, where the hardware reports it (Hopper and newer).",
        lambda d: d.device.utilization_ratio,
    ),
    per_gpu(
        "gpu_utilization_peak_ratio",
        "Highest utilization sample of the peak window. The driver samples about 5 times a second.",
        lambda d: d.device.utilization_peak_ratio,
    ),
    per_gpu(
        "gpu_busy_seconds_total",
        "Time integral of utilization since the exporter started: its rate is the true mean.",
        lambda d: d.device.busy_seconds,
    ),
    per_gpu(
        "gpu_memory_busy_ratio",
        "Share of time in which device memory was read or written, over the driver's last sample.",
        lambda d: d.full.memory_busy_ratio,
    ),
    per_gpu_by(
        "engine",
        "gpu_engine_utilization_ratio",
        "Share of time in which a media engine was busy: encoder, decoder, jpeg, ofa.",
        lambda d: d.full.engine_utilization_ratio,
    ),
    per_gpu(
        "gpu_sm_activity_ratio",
        "Share of time in which an SM had a warp resident, mean over SMs and the last full tick.",
        lambda d: d.full.activity.sm_ratio if d.full.activity else None,
    ),
    per_gpu(
        "gpu_sm_occupancy_ratio",
        "Warps resident on SMs as a share of the most they can hold, mean over the last full tick.",
        lambda d: d.full.activity.sm_occupancy_ratio if d.full.activity else None,
    ),
    per_gpu(
        "gpu_dram_activity_ratio",
        "Share of device memory's bandwidth in use, mean over the last full tick.",
        lambda d: d.full.activity.dram_ratio if d.full.activity else None,
    ),
    per_gpu_by(
        "pipe",
        "gpu_pipe_activity_ratio",
        "Share of cycles in which an SM pipe was active, mean over the last full tick.",
        lambda d: d.full.activity.pipe_ratio if d.full.activity else {},
    ),
    per_gpu_by(
        "type",
        "gpu_processes",
        "Processes that have a context on the GPU, by type. A process may have several types.",
        _processes,
    ),
)

MEMORY: Final = (
    per_gpu(
        "gpu_memory_total_bytes",
        "Device memory of the board.",
        lambda d: d.fast.memory.total_bytes if d.fast.memory else None,
    ),
    per_gpu(
        "gpu_memory_used_bytes",
        "Device memory in use, without the memory that the driver reserves, where it reports that.",
        lambda d: d.fast.memory.used_bytes if d.fast.memory else None,
    ),
    per_gpu(
        "gpu_memory_free_bytes",
        "Device memory that can still be allocated.",
        lambda d: d.fast.memory.free_bytes if d.fast.memory else None,
    ),
    per_gpu(
        "gpu_memory_reserved_bytes",
        "Device memory that the driver and the firmware keep for themselves.",
        lambda d: d.fast.memory.reserved_bytes if d.fast.memory else None,
    ),
    per_gpu(
        "gpu_memory_used_peak_bytes",
        "Highest use of device memory in the peak window, as the fast tick saw it.",
        lambda d: d.device.memory_used_peak_bytes,
    ),
)

POWER_AND_CLOCKS: Final = (
    per_gpu(
        "gpu_power_draw_watts",
        "Power that the board draws: the mean over about a second on newer boards, the momentary"
        " value on older boards.",
        lambda d: d.full.power_draw_watts,
    ),
    per_gpu(
        "gpu_power_limit_watts",
        "Power limit that the driver enforces now.",
        lambda d: d.slow.power_limit_watts,
    ),
    per_gpu(
        "gpu_energy_joules_total",
        "Energy that the board has used since the driver was loaded.",
        lambda d: d.totals.energy_joules,
    ),
    per_gpu_by(
        "domain",
        "gpu_clock_hertz",
        "Clock of a domain now: graphics, sm, memory, video.",
        lambda d: d.full.clock_hertz,
    ),
    per_gpu_by(
        "domain",
        "gpu_clock_max_hertz",
        "Highest clock that a domain can have.",
        lambda d: d.full.gpu.clock_max_hertz,
    ),
    per_gpu_by(
        "reason",
        "gpu_clock_event_active",
        "A reason keeps the clocks down at this moment. The value is 1; other reasons are absent.",
        lambda d: {reason: 1 for reason, active in d.full.clock_event_active.items() if active},
    ),
    per_gpu_by(
        "reason",
        "gpu_clock_event_seconds_total",
        "Time for which a reason has kept the clocks down, as the driver counts it.",
        lambda d: d.totals.clock_event_seconds,
    ),
    per_gpu(
        "gpu_performance_state",
        "Performance state: 0 is the fastest, 15 the slowest.",
        lambda d: d.full.performance_state,
    ),
    per_gpu_by(
        "sensor",
        "gpu_temperature_celsius",
        "Temperature of a sensor: gpu, memory.",
        lambda d: d.full.temperature_celsius,
    ),
    per_gpu(
        "gpu_temperature_margin_celsius",
        "Degrees left until the driver slows the GPU down.",
        lambda d: d.slow.temperature_margin_celsius,
    ),
    per_gpu_by(
        "threshold",
        "gpu_temperature_threshold_celsius",
        "Temperature at which the driver or the board acts.",
        lambda d: d.full.gpu.temperature_threshold_celsius,
    ),
    per_gpu_by(
        "fan",
        "gpu_fan_speed_ratio",
        "Intended speed of a fan, as a fraction of its maximum speed.",
        lambda d: d.full.fan_speed_ratio,
    ),
)
