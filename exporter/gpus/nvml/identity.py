"""What a GPU is: its facts, and how MIG divides it."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pynvml

from exporter.gpus import GpuError
from exporter.gpus.nvml.asking import Asker
from exporter.gpus.nvml.bounds import Board, counted, flag
from exporter.gpus.nvml.gate import Gate
from exporter.gpus.nvml.library import CallError, nvml
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


def read_layout(handle: Handle, asker: Asker) -> Layout | None:
    """See how MIG divides the GPU; ``None`` when that can't be told now.

    A MIG device that we may not read is left out, and counted. Raises
    :class:`~exporter.gpus.GpuError` when the GPU is gone.
    """
    enabled = asker.ask("gpu", partial(_is_divided, handle), "mig_mode")
    if enabled is None:
        return None if asker.supported("gpu", "mig_mode") else Layout()
    if not enabled:
        return Layout(enabled=False)
    count = asker.ask("gpu", partial(_mig_device_count, handle), "mig_count")
    if count is None:
        return None
    try:
        parts = [_read_part(handle, asker, index) for index in range(count)]
    except CallError as error:
        asker.refused("gpu", error, "mig_device")
        return None
    return Layout(enabled=True, parts=tuple(part for part in parts if part))


def _is_divided(handle: Handle) -> bool:
    current, _pending = nvml.nvmlDeviceGetMigMode(handle)
    return flag("MIG mode", current)


def _mig_device_count(handle: Handle) -> int:
    return counted("number of MIG devices", nvml.nvmlDeviceGetMaxMigDeviceCount(handle))


def _read_part(handle: Handle, asker: Asker, index: int) -> Part | None:
    try:
        part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
    except CallError as error:
        # The list has holes, and past its end some drivers speak of an invalid argument.
        if error.code in {pynvml.NVML_ERROR_NOT_FOUND, pynvml.NVML_ERROR_INVALID_ARGUMENT}:
            return None
        if error.reason is Reason.NO_PERMISSION:
            asker.failed("gpu", Reason.NO_PERMISSION)
            return None
        raise
    attributes = _attributes(part)
    return Part(
        handle=part,
        uuid=nvml.nvmlDeviceGetUUID(part),
        gpu_instance=nvml.nvmlDeviceGetGpuInstanceId(part),
        compute_instance=nvml.nvmlDeviceGetComputeInstanceId(part),
        name=nvml.nvmlDeviceGetName(part),
        sm_count=attributes.multiprocessorCount if attributes else None,
        attributes=tuple(getattr(attributes, name) for name, _ in attributes._fields_)
        if attributes
        else (),
    )


def _attributes(part: Handle) -> pynvml.c_nvmlDeviceAttributes | None:
    try:
        return nvml.nvmlDeviceGetAttributes_v2(part)
    except CallError as error:
        if error.reason is Reason.NOT_SUPPORTED:
            return None
        raise


def identify(handle: Handle, uuid: str, index: int, layout: Layout, gate: Gate) -> Identity:
    """Read all that does not change while the layout stays, the board's limits among it.

    Raises :class:`~exporter.gpus.GpuError` when the GPU is gone.
    """
    asker = gate.asker

    def ask(name: str, *arguments: object) -> Any:
        call = partial(getattr(nvml, name), handle, *arguments)
        return asker.ask("gpu", call, (name, *arguments))

    pci = ask("nvmlDeviceGetPciInfo_v3")
    gpu = gate.piece(
        "gpu",
        Gpu,
        uuid=uuid,
        index=index,
        model=ask("nvmlDeviceGetName") or "",
        minor_number=ask("nvmlDeviceGetMinorNumber"),
        serial=ask("nvmlDeviceGetSerial"),
        pci_bus_id=(pci.domain, pci.bus, pci.device) if pci else None,
        architecture=_ARCHITECTURES.get(ask("nvmlDeviceGetArchitecture")),
        vbios_version=ask("nvmlDeviceGetVbiosVersion"),
        sm_count=_sm_count(handle, layout, asker),
        mig_enabled=layout.enabled,
        slices=_slices(handle, uuid, index, layout, gate),
        clock_max_hertz={
            domain: ask("nvmlDeviceGetMaxClockInfo", clock) for domain, clock in CLOCKS.items()
        },
        temperature_threshold_celsius={
            name: ask("nvmlDeviceGetTemperatureThreshold", threshold)
            for name, threshold in _THRESHOLDS.items()
        },
        pcie_link_generation_max=ask("nvmlDeviceGetMaxPcieLinkGeneration"),
        pcie_link_width_max=ask("nvmlDeviceGetMaxPcieLinkWidth"),
    )
    if gpu is None:
        raise GpuError(Reason.IMPLAUSIBLE, f"GPU {index} has a name or a UUID that none can have")
    gate.board = Board(clock_max_hertz=gpu.clock_max_hertz)
    fans = asker.ask("fan_speed_ratio", partial(_fan_count, handle), "count")
    reasons = asker.ask_first(
        "clock_event_active",
        [
            partial(nvml.nvmlDeviceGetSupportedClocksEventReasons, handle),
            partial(nvml.nvmlDeviceGetSupportedClocksThrottleReasons, handle),
        ],
        "supported",
    )
    return Identity(
        gpu=gpu,
        # Drivers that know neither number are asked for one fan and for every reason.
        fans=1 if fans is None else fans,
        clock_events=-1 if reasons is None else reasons,
    )


def _slices(handle: Handle, uuid: str, index: int, layout: Layout, gate: Gate) -> tuple[Slice, ...]:
    starts = {n: _placement_start(handle, n) for n in {part.gpu_instance for part in layout.parts}}
    return gate.pieces(
        "gpu",
        Slice,
        [
            {
                "uuid": part.uuid,
                "gpu_uuid": uuid,
                "gpu_index": index,
                "gpu_instance": part.gpu_instance,
                "compute_instance": part.compute_instance,
                # "NVIDIA H100 80GB HBM3 MIG 1g.10gb"
                "profile": part.name.rpartition(" MIG ")[2],
                "sm_count": part.sm_count,
                "placement_start": starts[part.gpu_instance],
            }
            for part in layout.parts
        ],
    )


def _fan_count(handle: Handle) -> int:
    return counted("number of fans", nvml.nvmlDeviceGetNumFans(handle))


def _placement_start(handle: Handle, gpu_instance: int) -> int | None:
    """Return where a GPU instance lies; ``None`` where that can't be told, as without privilege.

    Only slices that a DRA driver makes on claiming need it: no reading fails for it.
    """
    try:
        instance = nvml.nvmlDeviceGetGpuInstanceById(handle, gpu_instance)
        return int(nvml.nvmlGpuInstanceGetInfo(instance).placement.start)
    except CallError:
        return None


def _sm_count(handle: Handle, layout: Layout, asker: Asker) -> int | None:
    """Streaming multiprocessors that work can run on; under MIG those that slices can have.

    NVML does not tell the number. Under MIG the largest profile of a GPU instance has them all;
    else they follow from the cores and the compute capability.
    """
    if layout.enabled:
        return asker.ask("gpu", partial(_largest_instance, handle), "profiles")
    cores = asker.ask("gpu", partial(nvml.nvmlDeviceGetNumGpuCores, handle), "cores")
    capability = asker.ask(
        "gpu", partial(nvml.nvmlDeviceGetCudaComputeCapability, handle), "capability"
    )
    per_sm = _CORES_PER_SM.get(tuple(capability)) if capability else None
    return cores // per_sm if cores and per_sm else None


def _largest_instance(handle: Handle) -> int | None:
    counts = [_profile_sm_count(handle, p) for p in range(pynvml.NVML_GPU_INSTANCE_PROFILE_COUNT)]
    return max(counts) or None


def _profile_sm_count(handle: Handle, profile: int) -> int:
    for version in (2, 1):
        try:
            info = nvml.nvmlDeviceGetGpuInstanceProfileInfo(handle, profile, version)
        except CallError as error:
            if error.code == pynvml.NVML_ERROR_FUNCTION_NOT_FOUND:
                continue
            # A profile that this board, or that this driver, does not know.
            if error.code in {
                pynvml.NVML_ERROR_NOT_SUPPORTED,
                pynvml.NVML_ERROR_INVALID_ARGUMENT,
                pynvml.NVML_ERROR_NOT_FOUND,
            }:
                return 0
            raise
        return int(info.multiprocessorCount)
    return 0
