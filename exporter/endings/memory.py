"""Words for memory that ran out: whether an allocation failed, and whose memory it was."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from exporter.endings import mood
from exporter.endings.phrases import phrases
from exporter.endings.plain import path_words, without_paths, words


class Whose(StrEnum):
    """Whose memory ran out, by the words of one line."""

    DEVICE = "device"
    EITHER = "either"
    """CUDA's one code, which failed allocations of pinned host memory have as well."""
    HOST = "host"
    NOBODY = "nobody"
    """Memory ran out, and the line does not say whose."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An allocation failed."""

    whose: Whose
    weak: bool = False
    """The words are general ones of an operating system or a language, such as ``Cannot allocate
    memory``, which programs also print after another allocator's failure."""
    own_limit: bool = False
    """The allocator has a limit of its own, below the device's size."""
    of_call: bool = False
    """The driver's own call for device memory failed."""


_FAILED: Final = phrases(
    # It ran out.
    "out of memory",
    "out of ... memory|vram|ram",
    "oom",
    "memory|vram|ram ... exhausted|depleted|insufficient",
    "exhausted ... memory|vram|ram",
    "memory limit ... exceeded|reached",
    "exceeded ... memory budget|limit|threshold",
    "memory|vram ... not|isn enough",
    "insufficient|inadequate ... memory|vram|ram",
    "not|no enough ... memory|vram|ram",
    "lack of ... memory|vram|ram",
    "lacks|lacked ... memory|vram|ram",
    "too large|big for ... memory|vram|ram",
    "requires more ... memory",
    "exceed* ... memory|vram|ram",
    # It was refused.
    "fail*|unable to|in alloc*|malloc|calloc|reserve|map|pin",
    "can|could not reserve ... memory|bytes",
    "fail*|unable|error|errors alloc*|malloc|calloc",
    "fail*|unable to create ... allocator",
    "fail*|unable to|in cuda|cu|hip malloc|calloc|mem|alloc*",
    "can|could|did not ... alloc*",
    "not able to ... alloc*",
    "can|could not be allocated",
    "error in? ... alloc*",
    "alloc*|malloc|calloc|realloc ..... fail|fails|failed|failure",
    "alloc*|malloc ... error|exceed*",
    "mem|memory alloc*|create|map ..... fail|fails|failed|failure|returned",
    "memory allocation error|failure",
    "error memory allocation",
    "bad alloc",
    "bad allocation",
    "memory error",
    "mem object allocation failure",
    "allocating available failed",
    # The kernel, a runtime or a launcher killed for it.
    "killed process #",
    "oom kill*",
    "running low on memory",
    "unable to mmap",
    "heap space",
    "metaspace",
    "locked memory is limited",
)

_NAMES_DEVICE: Final = phrases(
    "gpu|gpus|vram|hbm",
    "video memory",
    "device memory|buffer|allocation|stream|scratch|malloc",
    "accelerator memory?",
    "on|from|of device",
    "on accelerator",
    "out of device memory",
    "single device memory",
    "allocator for device",
    "cuda|vulkan # buffer",
    "cuda0|cuda1|cuda2|cuda3|cuda4|cuda5|cuda6|cuda7 buffer",
    "cuda # memory?",
    "cuda device|caching|custom|pre",
    "space|named cuda",
    "rmm|cnmem",
    "cupy ... memory",
    "torch cuda? out of memory error",
    "cuda|hip malloc",
    "cu|cuda|hip mem? malloc|alloc|create async|managed|pitch|array|failed|error|out|returned",
    "cu|cuda|hip mem? malloc|alloc|create handle*|results|reserve*",
    "cu mem alloc|create|map",
    "vk allocate memory",
    "cu array create",
    "cublas|cufft|cusolver|cusparse|curand|custatevec|hipblas|rocblas status? alloc failed",
    "oom when allocating tensor",
    "while|when trying to allocate",
    "allocated so far",  # CuPy
    "failed to allocate request",
)
_DEVICE_CALL: Final = phrases(
    "cuda|hip malloc", "cu mem alloc|create", "vk allocate memory", "cudnn|cublas create"
)
_DEVICE_SPELLINGS: Final = re.compile(
    r"\b(?:CUDA|HIP) (?:out of memory|OOM)\b|\bGPU_\d{1,3}_bfc\b|device:GPU:\d|\bon device\b"
)
_NAMES_CUDA: Final = phrases(
    "cuda*|cu|cudnn*|cublas*|nccl*|tensorrt|trt|hip*|rocm|nvml|nv*|opencl|pyopencl|cl|vulkan|vk|optix",
    "thrust|kokkos|sycl|onnxruntime|gpuassert|pxg|graphics|tensor",
    "bfc arena",
    "cuh?",
    "ur result error",
)
_NAMES_HOST: Final = phrases(
    "pinned|pageable",
    "page locked",
    "pin memory",
    "failed to pin",
    "host memory|buffer|staging|alloc*|malloc|register|ram",
    "on the? host",
    "alloc|malloc|mem|cuda host",
    "system memory|ram",
    "main|physical|locked memory",
    "cpu memory|ram|allocator|bfc|split|retry",
    "cpu out of memory",
    "alloc|default|device|allocator cpu",
    "java heap",
    "java script heap",
    "direct buffer memory",
    "heap space",
    "heap out of memory",
    "metaspace|swap|cgroup",
    "oom kill*",
    "killed process #",
    "node running low",
    "node out of memory",
    "buy new ram",
    # XLA on the CPU; on a GPU it says "while trying to allocate".
    "resource exhausted out of memory allocating",
)
_LANGUAGE: Final = phrases(
    "memory error",
    "out of memory in perl",
    "can not allocate vector",
    "memory limit ... exceeded",
    "memory budget",
    "could not allocate block",
    "bad alloc|allocation",
    "can not allocate memory",
    "errno 12",
    "malloc|realloc|calloc of size",
    "java lang out of memory error",
    "unable to mmap",
    "failed on request of size",
    "memory allocation of # bytes failed",
    "runtime out of memory",
    "java runtime environment",
    "oom command not allowed",
    "for an array with shape",
    "os commit memory",
    "memory context",
    "bytes for array",
    "allocate # bytes requested",
)
_LANGUAGE_SPELLINGS: Final = re.compile(r"(?:ERROR|PANIC): {1,4}out of memory\s{0,9}$")

_OWN_LIMIT: Final = re.compile(
    r"\bGPU_\d{1,3}_bfc\b|\d (?:[KMGT]iB|bytes) allowed[;,]|\blimit set to: \d"
    r"|Maximum pool size exceeded|pre-?allocated memory"
)

# The same words for something else: sessions of an encoder, memory on the chip, slots of a server,
# what was computed before anything was allocated.
_SOMETHING_ELSE: Final = phrases(
    "open encode session",
    "out of resource|resources",
    "request|req|token slots",
    "kv cache",
    "cache blocks",
    "mem fraction static",
    "shared memory",
    "max seq len",
    "startup is less than",
    "redzone checking",
)
_SENTENCE: Final = re.compile(r"(?<=[.;!?])\s{1,8}")
_NAME: Final = re.compile(r"\s{0,12}[\w.:]{0,150}[a-z][A-Z]\w{1,60}: ")
_EXAMPLES: Final = re.compile(r"\((?:e\.g\.|i\.e\.|such as|for example)[^()]{0,200}\)")
# What names a place, not an actor: fields, and hosts such as gpu-node-4.
_FIELD: Final = re.compile(
    r"\b(?:GPU|gpu|rank)=\d{1,3}\b|\bhostname=\S{1,80}|\bhost \w[\w.-]{0,40}\d\b"
    r"|\b[a-zA-Z]\w{0,30}(?:-\w{1,30}){0,6}-\d{1,6}\b(?::\d{1,8}){0,3}"
)
_NOT_THIS: Final = re.compile(
    r"(?<= )not (?:the )?(?:gpu|vram|device|cuda|host|cpu|ram|system)(?: memory| ram)? "
)


def read(text: str) -> Failure | None:
    """Return the allocation that ``text`` reports as failed; ``None``: it reports none.

    Advice, denials, questions and counts are no reports.
    """
    bare = _EXAMPLES.sub(" ", _FIELD.sub(" ", without_paths(text)))
    if not any(map(_reports, _clauses(bare))):
        return None
    plain = _NOT_THIS.sub("", words(bare))
    if _SOMETHING_ELSE.search(plain):
        return None
    whose, weak = _whose(text, plain, path_words(text))
    return Failure(
        whose,
        weak,
        own_limit=bool(_OWN_LIMIT.search(text)),
        of_call=bool(_DEVICE_CALL.search(plain)),
    )


def _clauses(text: str) -> list[str]:
    """Return the sentences, and before them an exception's name, which speaks for itself."""
    name = _NAME.match(text)
    if name is None:
        return _SENTENCE.split(text)
    return [name[0], *_SENTENCE.split(text[name.end() :])]


def names_host(text: str) -> bool:
    """Say whether a line beside a failure, or a call above it, is about the host's memory."""
    return bool(_NAMES_HOST.search(words(text))) or "pin_memory" in text or "hostAlloc" in text


def names_language(text: str) -> bool:
    """Say whether a line beside a failure speaks as a language or a database server does."""
    return bool(_LANGUAGE.search(_without_class(words(text))))


def _without_class(plain: str) -> str:
    """Take out ``OutOfMemoryError``, which only libraries for GPUs have in Python."""
    return plain.replace(" out of memory error ", " ")


def names_device_call(text: str) -> bool:
    """Say whether a line beside a failure shows a call that allocates the device's memory."""
    return bool(_DEVICE_CALL.search(words(text)))


def names_cuda(text: str) -> bool:
    """Say whether a line beside a failure is about CUDA or its kin."""
    plain = words(text)
    return bool(_NAMES_CUDA.search(plain) or _NAMES_DEVICE.search(plain))


def _reports(clause: str) -> bool:
    plain = words(clause)
    asked = clause.rstrip().endswith("?")
    found = _FAILED.search(plain)
    while found:
        if mood.is_report(plain[: found.start()], plain[found.end() :], asked=asked):
            return True
        found = _FAILED.search(plain, found.start() + 1)
    return False


def _whose(text: str, plain: str, of_paths: str) -> tuple[Whose, bool]:
    """Return whose memory it was, and whether only general words say so."""
    device = (
        _NAMES_DEVICE.search(plain) or _DEVICE_SPELLINGS.search(text) or " mr device " in of_paths
    )
    if _NAMES_HOST.search(plain) or " mr host " in of_paths:
        both = device and re.search(r" (?:gpu|vram|device memory) ", plain)
        return (Whose.EITHER if both else Whose.HOST), False
    if device:
        return Whose.DEVICE, False
    if _NAMES_CUDA.search(plain) or re.search(r" (?:cuda|cuh?|gpu|trt) ", of_paths):
        return Whose.EITHER, False
    if (
        _LANGUAGE.search(_without_class(plain))
        or _LANGUAGE_SPELLINGS.search(text)
        or " alloc cpu " in of_paths
    ):
        return Whose.HOST, True
    return Whose.NOBODY, False
