"""What a termination message speaks of: the GPU's memory, the host's, or neither.

The messages are the last lines of logs, up to 4 KiB. Words deceive both ways: frameworks give
advice about memory after unrelated failures, the same exception's name means the host's memory in
one library and the GPU's in another, and CUDA has one error for both.
"""

import re
from typing import Final

from exporter.model.pods import MessageClass

_LONGEST: Final = 4096
"""Bytes that the kubelet keeps of a message."""

_ADVICE: Final = (
    r"(?i)\b(?:if (?:you|this)|in case|to (?:avoid|prevent)|may|might|can (?:lead|cause|run))"
    r"\b[^.;:]{0,60}\b(?:out[ -]of[ -]memory|OOM)\b"
)
_PINNED: Final = (
    r"(?i)(?:cuMemHost|cudaHostAlloc|cudaMallocHost|cudaHostRegister|pinned memory)"
    r".{0,200}out[_ ]of[_ ]memory"
)
_BARE: Final = (
    r"(?i)(?:triton error \[cuda\]|cuda (?:driver |runtime )?error(?: \d{1,4})?):? out of memory"
)
_XLA: Final = (
    r"(?i)resource[_ ]exhausted: (?:\{\{.{0,200}\}\} )?"
    r"(?:out of memory|failed to allocate request|OOM when allocating)"
)

# Read line by line: the first rule that fits a line decides on it. Every gap is bounded, so that no
# line can make a search slow.
_RULES: Final = tuple(
    (re.compile(pattern), found)
    for pattern, found in (
        # Advice, and allocations that are tried again.
        (_ADVICE, MessageClass.NONE),
        (r"(?i)the caller indicates that this is not a failure", MessageClass.NONE),
        # A GPU framework's words for memory of the host.
        (r"OOM when allocating tensor.{0,400}device:CPU:", MessageClass.HOST_OOM),
        (r"DefaultCPUAllocator", MessageClass.HOST_OOM),
        (r"ray\.exceptions\.OutOfMemoryError", MessageClass.HOST_OOM),
        # Pinned memory of the host, or either: CUDA's word is the same.
        (_PINNED, MessageClass.CUDA_OOM_BARE),
        (r"CUDNN_STATUS_ALLOC_FAILED", MessageClass.CUDA_OOM_BARE),
        (r"BFCArena.{0,300}Failed to allocate memory", MessageClass.CUDA_OOM_BARE),
        # PyTorch.
        (r"(?:CUDA|HIP) out of memory", MessageClass.GPU_OOM),
        (r"torch\.(?:cuda\.)?OutOfMemoryError", MessageClass.GPU_OOM),
        (r"CUBLAS_STATUS_ALLOC_FAILED", MessageClass.GPU_OOM),
        # The CUDA driver and runtime, through Numba, CuPy, PyCUDA, TensorFlow, MXNet, llama.cpp.
        (r"CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation", MessageClass.GPU_OOM),
        (
            r"(?:cuMemAlloc|cuMemCreate|cudaMalloc)\w{0,20} (?:retry )?failed: out of memory",
            MessageClass.GPU_OOM,
        ),
        (r"cupy\.cuda\.memory\.OutOfMemoryError", MessageClass.GPU_OOM),
        (r"(?i)cuda failure (?:\d{1,4}:? ?)?'?out of memory", MessageClass.GPU_OOM),
        (r"(?i)cuda runtime \(out of memory\)", MessageClass.GPU_OOM),
        (r"NCCL.{0,200}out of memory", MessageClass.GPU_OOM),
        # RMM, of RAPIDS: the words of the host's std::bad_alloc around it.
        (r"rmm::out_of_memory|RMM_ERROR_OUT_OF_MEMORY", MessageClass.GPU_OOM),
        (r"(?:RMM failure at|out_of_memory: (?:RMM|CUDA))", MessageClass.GPU_OOM),
        # XLA and TensorFlow.
        (_XLA, MessageClass.GPU_OOM),
        (r"Failed to allocate request for .{1,40} on device ordinal", MessageClass.GPU_OOM),
        (r"OOM when allocating tensor", MessageClass.GPU_OOM),
        (r"Allocator \(GPU_\d{1,3}_bfc\) ran out of memory", MessageClass.GPU_OOM),
        # Paddle, TensorRT.
        (r"Out of memory error on GPU \d", MessageClass.GPU_OOM),
        (
            r"Requested amount of GPU memory \(.{1,40}\) could not be allocated",
            MessageClass.GPU_OOM,
        ),
        (_BARE, MessageClass.CUDA_OOM_BARE),
        # The host, by language and server.
        (r"java\.lang\.OutOfMemoryError|Java heap space", MessageClass.HOST_OOM),
        (r"insufficient memory for the Java Runtime", MessageClass.HOST_OOM),
        (r"JavaScript heap out of memory", MessageClass.HOST_OOM),
        (r"OOM command not allowed when used memory", MessageClass.HOST_OOM),
        (r"(?:ERROR|FATAL|PANIC): {1,4}out of memory", MessageClass.HOST_OOM),
        (r"fatal error: (?:runtime: )?(?:cannot allocate|out of) memory", MessageClass.HOST_OOM),
        (r"memory allocation of \d{1,20} bytes failed", MessageClass.HOST_OOM),
        (r"node running low on memory|killed due to memory pressure", MessageClass.HOST_OOM),
        (r"(?:^|[\s.'(])MemoryError\b|_ArrayMemoryError", MessageClass.HOST_OOM),
        (r"std::bad_alloc", MessageClass.HOST_OOM),
        (r"out of shared memory|unable to mmap \d{1,20} bytes", MessageClass.HOST_OOM),
        (r"(?i)cannot allocate memory", MessageClass.HOST_OOM),
        # The kernel's.
        (r"(?i)oom-kill|oom_reaper|OOMKilled|memory cgroup out of memory", MessageClass.HOST_OOM),
        (r"Out of memory: Killed process", MessageClass.HOST_OOM),
    )
)
# Each rule has one of these words in it. Most lines have none, and cost no more than this.
_SPEAKS: Final = re.compile(r"(?i)memory|oom|alloc|exhausted|mmap|heap|rmm")
_STRENGTH: Final = (
    MessageClass.GPU_OOM,
    MessageClass.CUDA_OOM_BARE,
    MessageClass.HOST_OOM,
    MessageClass.NONE,
)


def classify(message: str | None) -> MessageClass:
    """Return what ``message`` speaks of; of several, what is the most certain about the GPU."""
    lines = (message or "")[-_LONGEST:].splitlines()
    return min(map(_of_line, lines), key=_STRENGTH.index, default=MessageClass.NONE)


def _of_line(line: str) -> MessageClass:
    if not _SPEAKS.search(line):
        return MessageClass.NONE
    return next((found for rule, found in _RULES if rule.search(line)), MessageClass.NONE)
