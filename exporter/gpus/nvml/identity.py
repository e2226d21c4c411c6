"""What a GPU is: its facts, and how MIG divides it."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pynvml

from exporter.gpus.nvml.asking import Asker
from exporter.gpus.nvml.library import gpu_error, reason_of
from exporter.model.devices import Gpu, Slice
from exporter.model.readings import Reason

Handle = Any
"""NVML's opaque pointer to a GPU or to a MIG device."""

CLOCKS = {
    "graphics": pynvml.NVML_CLOCK_GRAPHICS,
    "sm": pynvml.NVML_CLOCK_SM,
    "memory": pynvml.NVML_CLOCK_MEM,
    "video": pynvml.NVML_CLOCK_VIDEO,
}

_THRESHOLDS = {
    "shutdown": pynvml.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN,
    "slowdown": pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN,
    "memory_max": pynvml.NVML_TEMPERATURE_THRESHOLD_MEM_MAX,
    "gpu_max": pynvml.NVML_TEMPERATURE_THRESHOLD_GPU_MAX,
}

_ARCHITECTURES = {
    pynvml.NVML_DEVICE_ARCH_KEPLER: "Kepler",
    pynvml.NVML_DEVICE_ARCH_MAXWELL: "Maxwell",
    pynvml.NVML_DEVICE_ARCH_PASCAL: "Pascal",
    pynvml.NVML_DEVICE_ARCH_VOLTA: "Volta",
    pynvml.NVML_DEVICE_ARCH_TURING: "Turing",
    pynvml.NVML_DEVICE_ARCH_AMPERE: "Ampere",
    pynvml.NVML_DEVICE_ARCH_ADA: "Ada",
    pynvml.NVML_DEVICE_ARCH_HOPPER: "Hopper",
    pynvml.NVML_DEVICE_ARCH_BLACKWELL: "Blackwell",
    13: "Rubin",  # NVML_DEVICE_ARCH_RUBIN, which older nvidia-ml-py 13 does not name
}

_CORES_PER_SM = {
    **dict.fromkeys([(3, 0), (3, 5), (3, 7)], 192),
    **dict.fromkeys([(6, 0), (7, 0), (7, 5), (8, 0)], 64),
    **dict.fromkeys([(5, 0), (5, 2), (6, 1), (8, 6), (8, 7), (8, 9)], 128),
    **dict.fromkeys([(9, 0), (10, 0), (10, 3), (12, 0), (12, 1)], 128),
}
"""By compute capability, from the CUDA programming guide's table of FP32 units per SM."""


@dataclass(frozen=True, slots=True)
class Part:
    """A MIG device as NVML lists it. Its handle may dangle once the layout has changed."""

    handle: Handle = field(compare=False)
    uuid: str
    gpu_instance: int
    compute_instance: int
    name: str
    sm_count: int | None
    attributes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """How MIG divides a GPU now. ``enabled`` is ``None`` on a board that can't do MIG.

    Two layouts are equal as long as nothing but handles differs. Instance ids are given out again
    at once, and a shape in a place always has the same UUID: neither tells alone.
    """

    enabled: bool | None = None
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Identity:
    """A GPU with what NVML needs to be asked about it."""

    gpu: Gpu
    fans: int
    clock_events: int
    """Mask of the clock event reasons that the board can tell."""


def look_up(index: int) -> tuple[Handle, str]:
    """Return handle and UUID of the GPU at ``index``. Raises :class:`~exporter.gpus.GpuError`."""
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        return handle, pynvml.nvmlDeviceGetUUID(handle)
    except pynvml.NVMLError as error:
        raise gpu_error(f"GPU {index}", error) from error


def read_layout(handle: Handle, asker: Asker) -> Layout | None:
    """See how MIG divides the GPU; ``None`` when that can't be told now.

    A MIG device that we may not read is left out, and counted. Raises
    :class:`~exporter.gpus.GpuError` when the GPU is gone.
    """
    mode = asker.ask("gpu", partial(pynvml.nvmlDeviceGetMigMode, handle), "mig_mode")
    if mode is None:
        return None if asker.supported("gpu", "mig_mode") else Layout()
    if mode[0] != pynvml.NVML_DEVICE_MIG_ENABLE:
        return Layout(enabled=False)
    count = asker.ask("gpu", partial(pynvml.nvmlDeviceGetMaxMigDeviceCount, handle), "mig_count")
    if count is None:
        return None
    try:
        parts = [_read_part(handle, asker, index) for index in range(count)]
    except pynvml.NVMLError as error:
        asker.refused("gpu", error.value, "mig_device")
        return None
    return Layout(enabled=True, parts=tuple(part for part in parts if part))


def _read_part(handle: Handle, asker: Asker, index: int) -> Part | None:
    try:
        part = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
    except pynvml.NVMLError as error:
        # The list has holes, and past its end some drivers speak of an invalid argument.
        if error.value in {pynvml.NVML_ERROR_NOT_FOUND, pynvml.NVML_ERROR_INVALID_ARGUMENT}:
            return None
        if reason_of(error.value) is Reason.NO_PERMISSION:
            asker.failed("gpu", Reason.NO_PERMISSION)
            return None
        raise
    attributes = _attributes(part)
    return Part(
        handle=part,
        uuid=pynvml.nvmlDeviceGetUUID(part),
        gpu_instance=pynvml.nvmlDeviceGetGpuInstanceId(part),
        compute_instance=pynvml.nvmlDeviceGetComputeInstanceId(part),
        name=pynvml.nvmlDeviceGetName(part),
        sm_count=attributes.multiprocessorCount if attributes else None,
        attributes=tuple(getattr(attributes, name) for name, _ in attributes._fields_)
        if attributes
        else (),
    )


def _attributes(part: Handle) -> pynvml.c_nvmlDeviceAttributes | None:
    try:
        return pynvml.nvmlDeviceGetAttributes_v2(part)
    except pynvml.NVMLError as error:
        if reason_of(error.value) is Reason.NOT_SUPPORTED:
            return None
        raise


def identify(handle: Handle, uuid: str, index: int, layout: Layout, asker: Asker) -> Identity:
    """Read all that does not change while the layout stays.

    Raises :class:`~exporter.gpus.GpuError` when the GPU is gone.
    """

    def ask(name: str, *arguments: object) -> Any:
        call = partial(getattr(pynvml, name), handle, *arguments)
        return asker.ask("gpu", call, (name, *arguments))

    starts = {n: _placement_start(handle, n) for n in {part.gpu_instance for part in layout.parts}}
    gpu = Gpu(
        uuid=uuid,
        index=index,
        model=ask("nvmlDeviceGetName") or "",
        minor_number=ask("nvmlDeviceGetMinorNumber"),
        serial=ask("nvmlDeviceGetSerial"),
        pci_bus_id=_pci_bus_id(ask("nvmlDeviceGetPciInfo_v3")),
        architecture=_ARCHITECTURES.get(ask("nvmlDeviceGetArchitecture")),
        vbios_version=ask("nvmlDeviceGetVbiosVersion"),
        sm_count=_sm_count(handle, layout, asker),
        mig_enabled=layout.enabled,
        slices=tuple(
            Slice(
                uuid=part.uuid,
                gpu_uuid=uuid,
                gpu_index=index,
                gpu_instance=part.gpu_instance,
                compute_instance=part.compute_instance,
                # "NVIDIA H100 80GB HBM3 MIG 1g.10gb"
                profile=part.name.rpartition(" MIG ")[2],
                sm_count=part.sm_count,
                placement_start=starts[part.gpu_instance],
            )
            for part in layout.parts
        ),
        clock_max_hertz={
            domain: megahertz * 1e6
            for domain, clock in CLOCKS.items()
            if (megahertz := ask("nvmlDeviceGetMaxClockInfo", clock)) is not None
        },
        temperature_threshold_celsius={
            name: float(celsius)
            for name, threshold in _THRESHOLDS.items()
            if (celsius := ask("nvmlDeviceGetTemperatureThreshold", threshold)) is not None
        },
        pcie_link_generation_max=ask("nvmlDeviceGetMaxPcieLinkGeneration"),
        pcie_link_width_max=ask("nvmlDeviceGetMaxPcieLinkWidth"),
    )
    fans = asker.ask("fan_speed_ratio", partial(pynvml.nvmlDeviceGetNumFans, handle), "count")
    reasons = asker.ask_first(
        "clock_event_active",
        [
            partial(pynvml.nvmlDeviceGetSupportedClocksEventReasons, handle),
            partial(pynvml.nvmlDeviceGetSupportedClocksThrottleReasons, handle),
        ],
        "supported",
    )
    return Identity(
        gpu=gpu,
        # Drivers that know neither number are asked for one fan and for every reason.
        fans=1 if fans is None else fans,
        clock_events=-1 if reasons is None else reasons,
    )


def _placement_start(handle: Handle, gpu_instance: int) -> int | None:
    """Return where a GPU instance lies; ``None`` where that can't be told, as without privilege.

    Only slices that a DRA driver makes on claiming need it: no reading fails for it.
    """
    try:
        instance = pynvml.nvmlDeviceGetGpuInstanceById(handle, gpu_instance)
        return int(pynvml.nvmlGpuInstanceGetInfo(instance).placement.start)
    except pynvml.NVMLError:
        return None


def _pci_bus_id(info: pynvml.nvmlPciInfo_t | None) -> str | None:
    # NVML writes 00000000:3B:00.0; a GPU's functions besides 0 are never its own.
    return f"{info.domain:04x}:{info.bus:02x}:{info.device:02x}.0" if info else None


def _sm_count(handle: Handle, layout: Layout, asker: Asker) -> int | None:
    """Streaming multiprocessors that work can run on; under MIG those that slices can have.

    NVML does not tell the number. Under MIG the largest profile of a GPU instance has them all;
    else they follow from the cores and the compute capability.
    """
    if layout.enabled:
        return asker.ask("gpu", partial(_largest_instance, handle), "profiles")
    cores = asker.ask("gpu", partial(pynvml.nvmlDeviceGetNumGpuCores, handle), "cores")
    capability = asker.ask(
        "gpu", partial(pynvml.nvmlDeviceGetCudaComputeCapability, handle), "capability"
    )
    per_sm = _CORES_PER_SM.get(tuple(capability)) if capability else None
    return cores // per_sm if cores and per_sm else None


def _largest_instance(handle: Handle) -> int | None:
    counts = [_profile_sm_count(handle, p) for p in range(pynvml.NVML_GPU_INSTANCE_PROFILE_COUNT)]
    return max(counts) or None


def _profile_sm_count(handle: Handle, profile: int) -> int:
    for version in (2, 1):
        try:
            info = pynvml.nvmlDeviceGetGpuInstanceProfileInfo(handle, profile, version)
        except pynvml.NVMLError as error:
            if error.value == pynvml.NVML_ERROR_FUNCTION_NOT_FOUND:
                continue
            # A profile that this board, or that this driver, does not know.
            if error.value in {
                pynvml.NVML_ERROR_NOT_SUPPORTED,
                pynvml.NVML_ERROR_INVALID_ARGUMENT,
                pynvml.NVML_ERROR_NOT_FOUND,
            }:
                return 0
            raise
        return int(info.multiprocessorCount)
    return 0
