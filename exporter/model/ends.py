"""Why containers end: the causes, whose each is, and what the last words of a container blame."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Cause(StrEnum):
    """Why a container ended. Each cause is one that somebody can act on."""

    COMPLETED = "completed"
    """It ended with exit code 0."""
    GPU_OOM = "gpu_oom"
    """It ran out of GPU memory."""
    HOST_OOM = "host_oom"
    """It ran out of the host's memory, or of the container's limit of it."""
    SHM = "shm"
    """Shared memory, ``/dev/shm``, is too small."""
    DRIVER = "driver"
    """The driver is too old for the CUDA of the image, or the driver's parts do not match."""
    RUNTIME = "runtime"
    """The container runtime did not give the container its GPU or the driver's library."""
    NO_DEVICE = "no_device"
    """CUDA finds no device, or the device is busy."""
    HARDWARE = "hardware"
    """A GPU or a link failed: an uncorrectable ECC error, a GPU that fell off the bus."""
    FABRIC = "fabric"
    """The NVLink fabric is not set up (CUDA error 802)."""
    GPU_FAULT = "gpu_fault"
    """The program's own kernel failed: an illegal access, an assertion."""
    PEER = "peer"
    """Another process of the job is gone, or did not answer in time."""
    EVICTED = "evicted"
    """The kubelet evicted the pod, for the node ran out of something."""
    PREEMPTED = "preempted"
    """The pod had to make room, or its node was shut down."""
    DEADLINE = "deadline"
    """The pod's ``activeDeadlineSeconds`` passed."""
    STOPPED = "stopped"
    """Somebody deleted the pod or asked the container to stop."""
    STORAGE = "storage"
    """A disk is full or a mount failed."""
    CONFIG = "config"
    """The program's arguments or settings do not fit: a cache too small, an unknown flag."""
    SOFTWARE = "software"
    """The image does not fit together: a library is missing, a kernel is not built for the GPU."""
    HUB = "hub"
    """A model or a dataset could not be fetched."""
    PROGRAM = "program"
    """Any other error of the program itself."""
    CRASH = "crash"
    """A segmentation fault or an abort, and nothing says why."""
    UNKNOWN = "unknown"
    """The evidence says nothing."""


class Responsible(StrEnum):
    """Who can do something about a cause."""

    OWNER = "owner"
    """Whoever runs the workload."""
    OPERATOR = "operator"
    """Whoever runs the nodes and the cluster."""
    NOBODY = "nobody"
    """Nothing is wrong."""


_OPERATORS = (Cause.DRIVER, Cause.RUNTIME, Cause.NO_DEVICE, Cause.HARDWARE, Cause.FABRIC)
_NOBODYS = (Cause.COMPLETED, Cause.STOPPED, Cause.PREEMPTED)

RESPONSIBLE: Mapping[Cause, Responsible] = MappingProxyType(
    {
        cause: Responsible.OPERATOR
        if cause in _OPERATORS
        else Responsible.NOBODY
        if cause in _NOBODYS
        else Responsible.OWNER
        for cause in Cause
    }
)
"""Who acts on each cause first."""

IN_WORDS: Mapping[Cause, str] = MappingProxyType(
    {
        Cause.COMPLETED: "it completed",
        Cause.GPU_OOM: "it ran out of GPU memory",
        Cause.HOST_OOM: "it ran out of the host's memory",
        Cause.SHM: "shared memory (/dev/shm) is too small",
        Cause.DRIVER: "the NVIDIA driver does not fit the image's CUDA",
        Cause.RUNTIME: "the container runtime did not give it the GPU or the driver's library",
        Cause.NO_DEVICE: "CUDA finds no GPU, or the GPU is busy",
        Cause.HARDWARE: "a GPU or a link between GPUs failed",
        Cause.FABRIC: "the NVLink fabric is not set up",
        Cause.GPU_FAULT: "a kernel of the program failed on the GPU",
        Cause.PEER: "another process of the job is gone or did not answer",
        Cause.EVICTED: "the kubelet evicted the pod",
        Cause.PREEMPTED: "the pod had to make room, or its node was shut down",
        Cause.DEADLINE: "the pod's deadline passed",
        Cause.STOPPED: "it was asked to stop",
        Cause.STORAGE: "a disk is full or a mount failed",
        Cause.CONFIG: "its arguments or settings do not fit",
        Cause.SOFTWARE: "the software in its image does not fit together",
        Cause.HUB: "a model or a dataset could not be fetched",
        Cause.PROGRAM: "the program failed with an error of its own",
        Cause.CRASH: "the program crashed",
        Cause.UNKNOWN: "nothing says why",
    }
)
"""Each cause as the end of a sentence on a container."""


@dataclass(frozen=True, slots=True)
class LastWords:
    """What a container's termination message says, once it is read. The text is not kept."""

    blames: Cause | None = None
    """The cause that the last statement names. ``None``: there is no message, or the message says
    nothing of a cause, as launchers' reports on their children do."""
    sure: bool = True
    """Whether only this cause has these words. CUDA, for one, has the same words for device memory
    and for pinned memory of the host."""
    gpu_oom_before: bool = False
    """A device allocation failed earlier, and the program went on, or failed of something else."""
    raised_before: bool = False
    """That earlier failure was an exception of its own, not a line in a log."""
    child_killed: bool = False
    """It reports that a process of its own was killed with SIGKILL."""
    asked_bytes: int | None = None
    """What the device allocation that failed asked for."""
    free_bytes: int | None = None
    """What was free on the device then, by the text."""
    own_limit: bool = False
    """The allocator that failed is the device's, and has a limit of its own below the device's
    size: it can fail while memory is free."""
    mentioned: bool = False
    """A line mentions it, and neither a logger nor an exception nor the line's own words call it a
    failure. Help that no rule knows can look so."""
    call_failed: bool = False
    """An uncaught exception names the driver's call for device memory as what failed."""

    @property
    def did_not_fit(self) -> bool:
        """Whether the text itself says that it asked for more than there was."""
        if self.asked_bytes is None or self.free_bytes is None:
            return False
        return self.asked_bytes > self.free_bytes


NO_WORDS = LastWords()
