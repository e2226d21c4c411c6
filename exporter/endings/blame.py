"""Words for every cause but memory: one table, and the first rule that fits decides.

Sources of the wordings: CUDA's names of errors, PyTorch ``c10/cuda``, NCCL ``src/misc``,
libnvidia-container, vLLM, SGLang, Hugging Face Hub, glibc.
"""

import re
from typing import Final, NamedTuple

from exporter.model.ends import Cause


class Blame(NamedTuple):
    """What a statement names as the cause."""

    cause: Cause
    sure: bool = True
    """Whether only this cause has these words."""


class _Rule(NamedTuple):
    blame: Blame
    words: re.Pattern[str]


def _rule(cause: Cause, *patterns: str, sure: bool = True) -> _Rule:
    return _Rule(Blame(cause, sure), re.compile("|".join(patterns), re.IGNORECASE))


_SHM_PATH: Final = r"(?:/dev/shm|</?torch_|\bnccl-|/pym-|shm_open|shmget|\bplasma)"
_FULL: Final = (
    r"(?:no space left|cannot allocate|resource temporarily unavailable|too small|enospc)"
)
_HUB: Final = r"(?:huggingface\.co|hf\.co|huggingface_hub|hf_hub|modelscope)"
_HTTP: Final = r"\b(?:401|403|404|429|5\d\d)\b"

_RULES: Final = (
    # The driver, and what is between it and the container. These words are exact.
    _rule(
        Cause.DRIVER,
        r"driver on your system is too old|driver is older than",
        r"requires (?:a newer|nvidia) driver",
        r"driver/library version mismatch|\bAPI mismatch\b|NVMLError_LibRmVersionMismatch",
        r"unsupported display driver|driver combination|SYSTEM_DRIVER_MISMATCH",
        r"forward compatibility was attempted|COMPAT_NOT_SUPPORTED_ON_DEVICE",
        r"unsatisfied condition: (?:cuda|driver|brand)|requirement error",
        r"compiled with an unsupported toolchain|UNSUPPORTED_PTX_VERSION",
        r"\berror 80[34]\b",
    ),
    # CUDA says so as well where the runtime did not give the container the driver's library.
    _rule(
        Cause.DRIVER,
        r"driver version is insufficient|cudaErrorInsufficientDriver|\bcuda error:? 35\b",
        sure=False,
    ),
    _rule(
        Cause.FABRIC,
        r"system not yet initialized|SYSTEM_NOT_READY|\berror 802\b",
        r"fabric ?manager.{0,40}(?:not|fail)",
    ),
    _rule(
        Cause.HARDWARE,
        r"uncorrectable (?:ecc|nvlink)|ECC_?Uncorrectable|NVLINK_UNCORRECTABLE",
        r"double[- ]bit ecc|uncontained (?:ecc|error)|hardware stack error|HardwareStackError",
        r"gpu(?: \S{1,30})? is lost|GPU_?IS_?LOST|fallen off the bus|\bGPU lost\b",
        r"unable to determine the device handle for gpu",
    ),
    # Shared memory comes before disks and memory: their words are the same, and the path decides.
    _rule(
        Cause.CONFIG,
        r"shared memory segment.{0,120}permission denied",
        r"permission denied.{0,40}/dev/shm",
    ),
    _rule(
        Cause.SHM,
        rf"{_SHM_PATH}.{{0,200}}{_FULL}|{_FULL}.{{0,120}}{_SHM_PATH}",
        r"exceeds? /dev/shm|/dev/shm.{0,60}(?:is full|too small|insufficient)",
        r"(?:are|is|ran|run) out of shared memory|shared memory.{0,20}\(shm\)",
        r"posix_fallocate failed ?:? no space",
        r"creating shared memory segment(?!.{0,120}(?:attach|permission))",
        r"(?:not enough|insufficient|increase).{0,20}shared memory(?! per)",
    ),
    _rule(
        Cause.SHM,
        r"\bbus error\b|\bSIGBUS\b|unable to open shared memory object",
        sure=False,
    ),
    _rule(
        Cause.NO_DEVICE,
        r"no cuda-capable device|CUDA_ERROR_NO_DEVICE|cudaErrorNoDevice",
        r"no cuda gpus? (?:are|is) available|cuda is not available(?! in)",
        r"devices? (?:are|is) busy or unavailable|cudaErrorDevicesUnavailable",
        r"\bno (?:nvidia |cuda |supported )?(?:gpus?|accelerators?|cuda devices?)"
        r" (?:were |was |is |are |could be )?(?:found|detected|available|visible)",
        r"failed to infer device type|setting the available devices to be zero",
        r"torch\.cuda\.is_available\(\) is false",
    ),
    _rule(
        Cause.RUNTIME,
        r"libcuda\.so[.\d]{0,9}:? (?:cannot open|not found|no such)",
        r"lib(?:nvidia-ml|nvidia-ptxjitcompiler|nvcuvid|nvidia-encode)\.so[.\d]{0,9}:? {0,2}"
        r"(?:cannot open|not found|no such)",
        r"found no nvidia driver|NVMLError_(?:LibraryNotFound|DriverNotLoaded|Unknown)",
        r"could not select device driver|unresolvable cdi|failed to inject cdi",
        r"nvidia-container-(?:cli|runtime)|libnvidia-container|failed to initialize nvml",
        r"\bMPS (?:client|server|control)",
    ),
    # The program's own kernel. PyTorch's help on device-side assertions is an aside.
    _rule(
        Cause.GPU_FAULT,
        r"illegal memory access|illegal_?address|\berror:? 700\b",
        r"device-side assert|cudaErrorAssert\b|CUDA_ERROR_ASSERT",
        r"misaligned_? ?address|unspecified launch failure|launch_failed|LaunchFailure\b",
        r"an illegal instruction was encountered|warp illegal|invalid program counter",
        r"block: \[\d{1,9},\d{1,9},\d{1,9}\], thread: \[|memory access fault by gpu",
        r"operation not supported on global/shared address space",
    ),
    _rule(
        Cause.SOFTWARE,
        r"no kernel image is available|NO_BINARY_FOR_GPU|cudaErrorNoKernelImage",
        r"undefined symbol|symbol lookup error|version `?GLIBC|GLIBCXX",
        r"cannot open shared object file|no module named|\b(?:ModuleNotFound|Import)Error\b",
        r"cannot import name|version tag does not match|deserializeCudaEngine",
        r"only supports? \w{1,20} gpus? or newer|requires? (?:sm_?\d|compute capability)",
        r"(?:compute|cuda) capability.{0,40}(?:not|requires|at least|lower|too low|unsupported)",
        r"was compiled (?:with|against|for)|module compiled (?:with|against)|ABI mismatch",
        r"failed to open lib\S{1,60}\.so|nvrtc: error|libcud\S{1,40}\.so.{0,20}not found",
        r"binary incompatib|not compiled with cuda|not compatible with the current pytorch",
        r"exec format error|illegal instruction",
    ),
    _rule(
        Cause.CONFIG,
        r"invalid device ordinal|INVALID_DEVICE\b|OpenEncodeSessionEx failed",
        r"\bkv[- ]?cache\b.{0,160}(?:needed|larger|not enough|insufficient|too small|available)",
        r"no available memory for the cache|cache blocks|mem[-_]fraction[-_]static",
        r"max(?:imum)?[-_ ](?:seq|sequence|model|context)[-_ ]len",
        r"(?:req|request|token)[-_ ]slots?\b|free memory on device.{0,80}desired gpu memory",
        r"unrecognized arguments|invalid choice|arguments? (?:are|is) required|no such option",
        r"unknown (?:flag|option|argument|command)|flag provided but not defined",
        r"unexpected (?:extra )?argument(?! ')|invalid value for '?-{1,2}|expected one argument",
        r"must be divisible by|(?:world|tensor parallel|pipeline parallel) size|tensor[-_]parallel",
        r"\b(?:yaml|toml|hydra|omegaconf|configparser)\b\S{0,60}(?:error|exception)",
        r"ScannerError|ParserError",
        r"validation errors? for \w{0,40}(?:config|settings|args|arguments|params)",
        r"(?:command|executable)(?: file)? not found|: not found\s{0,4}$",
        r"(?:/\S{0,160}|exec.{0,40}): permission denied",
        r"address already in use|port.{0,30}(?:in use|already)|EADDRINUSE",
        r"environment variable.{0,60}(?:not set|required|missing|expected)",
        r"invalid (?:config|configuration|option|setting)\b(?! argument)|missing required",
        r": error: argument ",
    ),
    _rule(
        Cause.HUB,
        r"gated ?repo|RepositoryNotFound|RevisionNotFound|HfHubHTTPError|LocalEntryNotFound",
        rf"{_HTTP}.{{0,80}}{_HUB}|{_HUB}.{{0,120}}{_HTTP}",
        rf"(?:couldn't connect|failed to (?:connect|resolve|download)|max retries).{{0,80}}{_HUB}",
        rf"{_HUB}.{{0,120}}(?:max retries|timed out|could ?n.t connect)",
        r"not a valid model identifier|error downloading|failed to download",
        r"dataset .{0,80}(?:doesn't exist|not found) on the hub",
    ),
    # Peers come after what a rank says of itself.
    _rule(
        Cause.PEER,
        r"remote process exited|connection (?:was )?(?:likely )?closed by (?:remote )?peer",
        r"collective (?:operation )?timeout|watchdog.{0,40}timeout|barrier.{0,60}time(?:d )?out",
        r"ncclRemoteError|NCCL communicator was aborted|ncclInProgress|ncclCommAbort",
        r"Dist(?:Network|Store)Error|Rendezvous(?:ConnectionError|Timeout|Closed)",
        r"clients joined|c10d store|TCPStore|store.{0,60}timed? ?out",
        r"got 0 bytes|socketProgress|got completion from peer|transport retry count",
        r"jax distributed service|coordination service|another task died|preempted task",
        r"horovod has been shut down|HorovodInternalError|MPI communication peer",
        r"peer process.{0,40}(?:disconnected|exited)|ORTE_ERROR_LOG",
        r"gloo.{0,200}(?:connection (?:reset|closed|refused)|timed out|read error)",
        r"\[rank.{0,12}\].{0,40}connection reset by peer|heartbeat.{0,60}(?:time ?out|lost|missed)",
        r"some (?:nccl )?operations have failed or timed out",
    ),
    _rule(
        Cause.STORAGE,
        r"no space left on device.{0,6}[:(]? {0,2}'?/|failed writing file|disk quota exceeded",
        r"stale (?:nfs )?file handle|transport endpoint is not connected",
        r"PytorchStreamWriter failed",
        r"input/output error|read-only file system|(?:disk|volume|filesystem) is full|\bEDQUOT\b",
        r"\berrno (?:5|30|107|116|122)\b",
    ),
    _rule(Cause.STORAGE, r"no space left on device|\bENOSPC\b", sure=False),
    _rule(
        Cause.CRASH,
        r"double free|\bfree\(\): invalid|\bmalloc\(\): |munmap_chunk|heap corruption",
        r"corrupted (?:size|double|unsorted)|stack smashing|worker.{0,40}segmentation fault",
    ),
    # These say no more than the exit codes 139 and 134.
    _rule(
        Cause.CRASH,
        r"segmentation fault|\bSIGSEGV\b|segfault|signal 11\b|exitcode: -11\b",
        r"\(core dumped\)|fatal python error|\bSIGABRT\b|signal 6\b|exitcode: -6\b",
        sure=False,
    ),
)


def find(text: str) -> Blame | None:
    """Return what ``text`` names as the cause; ``None``: none of these causes."""
    return next((blame for blame, words in _RULES if words.search(text)), None)
