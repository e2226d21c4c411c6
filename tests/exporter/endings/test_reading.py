"""What messages blame, by messages that programs have really written."""

import pytest

from exporter.endings.reading import read
from exporter.model.ends import Cause

GPU, BARE = (Cause.GPU_OOM, True), (Cause.GPU_OOM, False)
HOST, SHM = (Cause.HOST_OOM, True), (Cause.SHM, True)
NEITHER = None
"""Any cause but memory, or none."""

TORCH_LOG = """\
Traceback (most recent call last):
  File "/workspace/train.py", line 210, in <module>
    loss.backward()
  File "/usr/lib/python3/dist-packages/torch/autograd/graph.py", line 825, in _engine_run_backward
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total \
capacity of 79.11 GiB of which 9.62 MiB is free. Process 1234 has 79.09 GiB memory in use. Of \
the allocated memory 78.41 GiB is allocated by PyTorch, and 15.11 MiB is reserved by PyTorch but \
unallocated. If reserved but unallocated memory is large try setting \
PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation.
E0612 10:00:00.000000 140 torch/distributed/elastic/multiprocessing/api.py:869] failed (exitcode: 1)
"""

MESSAGES = [
    # PyTorch.
    (TORCH_LOG, GPU),
    (
        (
            "RuntimeError: CUDA out of memory. Tried to allocate 1.12 MiB (GPU 0; 22.37 GiB total"
            " capacity; 15.87 GiB already allocated; 3.56 MiB free; 787.74 MiB cached)"
        ),
        GPU,
    ),
    ("torch.cuda.OutOfMemoryError: CUDA out of memory.", GPU),
    ("torch.OutOfMemoryError: HIP out of memory. Tried to allocate 2.00 GiB.", GPU),
    (
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        GPU,
    ),
    ("RuntimeError: cuDNN error: CUDNN_STATUS_ALLOC_FAILED", BARE),
    (
        (
            "RuntimeError: CUDA error: out of memory\n"
            "CUDA kernel errors might be asynchronously reported at some other API call, so the"
            " stacktrace below might be incorrect.\n"
            "For debugging consider passing CUDA_LAUNCH_BLOCKING=1."
        ),
        BARE,
    ),
    ("torch.AcceleratorError: CUDA error: out of memory", BARE),
    ("RuntimeError: Triton Error [CUDA]: out of memory", BARE),
    ("Cuda error 2: out of memory", BARE),
    ("CUDA Error: out of memory at /workspace/csrc/cumem_allocator.cpp:62", BARE),
    (
        (
            "RuntimeError: CUDA out of memory occurred when warming up sampler with 1024 dummy"
            " requests. Please try lowering `max_num_seqs` or `gpu_memory_utilization`."
        ),
        GPU,
    ),
    (
        (
            "RuntimeError: [enforce fail at alloc_cpu.cpp:75] err == 0. DefaultCPUAllocator: can't"
            " allocate memory: you tried to allocate 68719476736 bytes."
        ),
        HOST,
    ),
    (
        (
            "RuntimeError: DataLoader worker (pid 41) is killed by signal: Bus error. It is"
            " possible that dataloader's workers are out of shared memory. Please try to raise your"
            " shared memory limit."
        ),
        SHM,
    ),
    # JAX and TensorFlow.
    (
        (
            "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying"
            " to allocate 7406166528 bytes."
        ),
        GPU,
    ),
    (
        (
            "RuntimeError: Resource exhausted: Failed to allocate request for 32.00MiB (33554432B)"
            " on device ordinal 0"
        ),
        GPU,
    ),
    (
        (
            "2021-10-15 15:01:44.577626: E external/org_tensorflow/tensorflow/stream_executor/cuda/"
            "cuda_driver.cc:764] failed to alloc 2740606464 bytes unified memory; result:"
            " CUDA_ERROR_OUT_OF_MEMORY: out of memory"
        ),
        BARE,
    ),
    (
        (
            "tensorflow.python.framework.errors_impl.ResourceExhaustedError: OOM when allocating"
            " tensor with shape[64,512,512] and type float on"
            " /job:localhost/replica:0/task:0/device:GPU:0 by allocator GPU_0_bfc [Op:Conv2D]"
        ),
        GPU,
    ),
    (
        (
            "W tensorflow/core/framework/op_kernel.cc:1763] OP_REQUIRES failed at cast_op.cc:109 :"
            " Resource exhausted: OOM when allocating tensor with shape[1,559,512,3] and type float"
            " on /job:localhost/replica:0/task:0/device:CPU:0 by allocator cpu"
        ),
        HOST,
    ),
    (
        (
            "W tensorflow/core/common_runtime/bfc_allocator.cc:312] Allocator (GPU_0_bfc) ran out"
            " of memory trying to allocate 2.21GiB with freed_by_count=0. The caller indicates that"
            " this is not a failure, but this may mean that there could be performance gains if"
            " more memory were available."
        ),
        NEITHER,
    ),
    # NCCL.
    (
        "node-a:41:120 [0] enqueue.cc:230 NCCL WARN Cuda failure 2 'out of memory'",
        BARE,
    ),
    (
        (
            "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:2251,"
            " unhandled cuda error, NCCL version 2.21.5\nncclUnhandledCudaError: Call to CUDA"
            " function failed.\nLast error:\nCuda failure 'out of memory'"
        ),
        BARE,
    ),
    # RAPIDS, PyCUDA, CuPy, Numba, MXNet, Paddle, TensorRT, ONNX Runtime, llama.cpp, Spark.
    (
        (
            "MemoryError: std::bad_alloc: out_of_memory: CUDA error at: /usr/local/include/rmm/mr/"
            "device/cuda_memory_resource.hpp"
        ),
        GPU,
    ),
    (
        (
            "MemoryError: std::bad_alloc: CUDA error at: ../include/rmm/mr/device/"
            "cuda_memory_resource.hpp:68: cudaErrorMemoryAllocation out of memory"
        ),
        GPU,
    ),
    (
        (
            "MemoryError: std::bad_alloc: RMM failure at:/opt/rmm/include/rmm/mr/device/"
            "pool_memory_resource.hpp:179: Maximum pool size exceeded"
        ),
        GPU,
    ),
    ("terminate called after throwing an instance of 'rmm::out_of_memory'", GPU),
    ("pycuda._driver.MemoryError: cuMemAlloc failed: out of memory", GPU),
    (
        (
            "cupy.cuda.memory.OutOfMemoryError: Out of memory allocating 8,589,934,592 bytes"
            " (allocated so far: 76,235,735,040 bytes)."
        ),
        GPU,
    ),
    (
        (
            "numba.cuda.cudadrv.driver.CudaAPIError: [2] Call to cuMemAlloc results in"
            " CUDA_ERROR_OUT_OF_MEMORY"
        ),
        GPU,
    ),
    (
        (
            "numba.cuda.cudadrv.driver.CudaAPIError: [2] Call to cuMemHostAlloc results in"
            " CUDA_ERROR_OUT_OF_MEMORY"
        ),
        HOST,
    ),
    ("mxnet.base.MXNetError: cudaMalloc retry failed: out of memory", GPU),
    (
        (
            "ResourceExhaustedError: Out of memory error on GPU 0. Cannot allocate 1.50GB memory on"
            " GPU 0, 78.9GB memory has been allocated and available memory is only 300MB."
        ),
        GPU,
    ),
    (
        (
            "[TRT] [E] 1: [defaultAllocator.cpp::allocate::20] Error Code 1: Cuda Runtime (out of"
            " memory)"
        ),
        BARE,
    ),
    (
        (
            "[E] 2: [virtualMemoryBuffer.cpp::resizePhysical::140] Error Code 2: OutOfMemory"
            " (Requested amount of GPU memory (17179869184 bytes) could not be allocated.)"
        ),
        GPU,
    ),
    (
        (
            "onnxruntime::BFCArena::AllocateRawInternal(size_t, bool) Failed to allocate memory for"
            " requested buffer of size 458549052"
        ),
        BARE,
    ),
    (
        (
            "Error: llama runner process has terminated: cudaMalloc failed: out of memory\n"
            "ggml_gallocr_reserve_n: failed to allocate CUDA0 buffer of size 838447104"
        ),
        GPU,
    ),
    (
        "ggml_cuda_host_malloc: failed to allocate 512.00 MiB of pinned memory: out of memory",
        HOST,
    ),
    (
        (
            "java.lang.OutOfMemoryError: Could not allocate native memory: std::bad_alloc:"
            " out_of_memory: CUDA error at: /rmm/mr/device/cuda_memory_resource.hpp:70"
        ),
        GPU,
    ),
    # The host's memory.
    ("java.lang.OutOfMemoryError: Java heap space", HOST),
    ("# There is insufficient memory for the Java Runtime Environment to continue.", HOST),
    ("OOM command not allowed when used memory > 'maxmemory'.", HOST),
    (
        "FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory",
        HOST,
    ),
    ("ERROR:  out of memory\nDETAIL:  Failed on request of size 1048576.", HOST),
    (
        "ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory.",
        HOST,
    ),
    ("Traceback (most recent call last):\nMemoryError", HOST),
    (
        (
            "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 184. GiB for an array"
            " with shape (64, 26, 26, 3, 371) and data type float32"
        ),
        HOST,
    ),
    ("terminate called after throwing an instance of 'std::bad_alloc'", HOST),
    ("fatal error: runtime: out of memory", HOST),
    ("memory allocation of 34359738368 bytes failed", HOST),
    ("OSError: [Errno 12] Cannot allocate memory", HOST),
    ("Memory cgroup out of memory: Killed process 4242 (python3)", HOST),
    # Neither.
    ("", NEITHER),
    (None, NEITHER),
    ("RuntimeError: CUDA error: an illegal memory access was encountered", NEITHER),
    ("RuntimeError: CUDA error: device-side assert triggered", NEITHER),
    ("Set PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True", NEITHER),
    (
        (
            "ValueError: batch size must be positive\nTip: if you run out of memory, reduce the"
            " batch size, or set PYTORCH_CUDA_ALLOC_CONF to avoid CUDA out of memory errors."
        ),
        NEITHER,
    ),
    ("WARNING: gpu_memory_utilization=0.99 may lead to CUDA out of memory.", NEITHER),
    ("grpc._channel._InactiveRpcError: RESOURCE_EXHAUSTED: rate limit exceeded", NEITHER),
    (
        (
            "triton.runtime.errors.OutOfResources: out of resource: shared memory, Required:"
            " 147456, Hardware limit: 101376."
        ),
        NEITHER,
    ),
    ("Segmentation fault (core dumped)", NEITHER),
    ("KeyError: 'out'\nof memory nothing is said", NEITHER),
]


@pytest.mark.parametrize(("message", "expected"), MESSAGES)
def test_message(message: str | None, expected: tuple[Cause, bool] | None) -> None:
    words = read(message)
    if expected is None:
        assert words.blames not in {Cause.GPU_OOM, Cause.HOST_OOM}
    else:
        assert (words.blames, words.sure) == expected


def test_only_the_tail_of_a_long_message_is_read() -> None:
    assert read("CUDA out of memory\n" + "x" * 5000).blames is None
