"""Kinds of texts that deceive, each tried with three courses of the GPU's memory.

The order of the verdicts is: flat at 40 %, flat at 97 %, filling up.
"""

import pytest

from tests.doubles.ends import COURSES, termination, verdicts

NONE, POSSIBLE, LIKELY, CONFIRMED = range(4)
RANK = {None: NONE, "possible": POSSIBLE, "likely": LIKELY, "confirmed": CONFIRMED}

HELP = (
    "\nSearch for `cudaErrorMemoryAllocation' in https://docs.nvidia.com/cuda/x.html for more."
    "\nCUDA kernel errors might be asynchronously reported at some other API call, so the"
    " stacktrace below might be incorrect.\nCompile with `TORCH_USE_CUDA_DSA` to enable"
    " device-side assertions."
)
FILE = "FileNotFoundError: Could not find database /data/uniref"


def ranks(text: str, exit_code: int = 1) -> tuple[int, ...]:
    found = verdicts(termination(text, exit_code))
    return tuple(RANK[found[course]] for course in COURSES)


@pytest.mark.parametrize(
    "text",
    [
        # Pinned memory of the host, said before or after CUDA's code, on the line or beside it.
        (
            "failed to alloc 8589934592 bytes on host: CUDA_ERROR_OUT_OF_MEMORY: out of memory\n"
            "could not allocate pinned host memory of size: 8589934592"
        ),
        (
            "CUDA failure 2: out of memory ; GPU=1 ; hostname=w ; file=a.cc ; line=71 ; "
            "expr=cudaMallocHost((void**)&p, size);"
        ),
        "cuMemAllocHost failed: out of memory",
        "pycuda._driver.MemoryError: cuMemHostAlloc failed: out of memory",
        (
            '  File "/srv/x.py", line 3, in stage\n    torch.empty(1 << 44, pin_memory=True)\n'
            f"torch.AcceleratorError: CUDA error: out of memory{HELP}"
        ),
        (
            '  File "/srv/x.py", line 3, in stage\n    return data.pin_memory(device)\n'
            "RuntimeError: CUDA error: out of memory"
        ),
        # The host's memory, by a library that also speaks of GPUs, and by a parent.
        (
            "com.nvidia.spark.rapids.jni.CpuSplitAndRetryOOM: CPU OutOfMemory: could not split"
            " inputs"
            " and retry"
        ),
        (
            "torch.multiprocessing.spawn.ProcessExitedException: process 3 terminated with signal"
            " SIGKILL"
        ),
        "Error: model requires more system memory (38.5 GiB) than is available (21.0 GiB)",
    ],
)
def test_the_hosts_memory_is_never_the_gpus(text: str) -> None:
    assert ranks(text) == (NONE, NONE, NONE)


@pytest.mark.parametrize(
    "text",
    [
        # Program text of a traceback, behind whatever prefix.
        (
            '  File "/srv/seg/loop.py", line 204, in fit\n    except torch.cuda.OutOfMemoryError:\n'
            "AttributeError: module 'torch.cuda' has no attribute 'OutOfMemoryError'"
        ),
        (
            '[rank0]:   File "/srv/loop.py", line 204, in fit\n[rank0]:     except'
            " torch.cuda.OutOfMemoryError:\n[rank0]: AttributeError: module 'torch.cuda' has no"
            " attribute 'OutOfMemoryError'"
        ),
        (
            '(Worker pid=7)   File "/srv/loop.py", line 204, in fit\n(Worker pid=7)     except'
            " torch.cuda.OutOfMemoryError:\n(Worker pid=7) AttributeError: module 'torch.cuda'"
            " has no"
            " attribute 'OutOfMemoryError'"
        ),
        # Caught, and tried again.
        (
            "RuntimeWarning: CUDA out of memory detected. Gradient Accumulation, the number of"
            " train"
            " microbatches, increased from 4 -> 8, and the batch will be retrained.\n"
            "PermissionError: [Errno 13] Permission denied: '/ckpt/ep3.pt'"
        ),
        "Pruning trial 3 due to torch.cuda.OutOfMemoryError\nKeyError: 'val_loss'",
        f"retrying with half the batch: CUDA out of memory. Tried to allocate 9.00 GiB.\n{FILE}",
        "Attempting to copy inputs of <function f at 0x7f> to CPU due to CUDA OOM\nKeyError: 'x'",
        # Advice and denial.
        (
            "ValueError: unknown scheduler: cosin\nTip: for CUDA out of memory errors, start with"
            " --medvram."
        ),
        (
            "Worker lost its shared memory segment. This is NOT CUDA out of memory.\nRuntimeError:"
            " unable to open shared memory object </torch_1_2>"
        ),
        # Another cause, said plainly.
        "ValueError: Shapes (None, 10) and (None, 1) are incompatible",
        "FileNotFoundError: [Errno 2] No such file or directory: '/data/train.tfrecord'",
    ],
)
def test_what_says_that_it_failed_of_something_else_is_possible_at_most(text: str) -> None:
    flat_40, flat_97, fill = ranks(text)
    assert (flat_40, flat_97) == (NONE, NONE)
    assert fill <= POSSIBLE


@pytest.mark.parametrize(
    "text",
    [
        (
            "ERROR request 09ac failed: CUDA out of memory. Tried to allocate 768.00 MiB.\nINFO"
            " reloading configuration\nyaml.scanner.ScannerError: mapping values are not allowed"
            " here"
        ),
        (
            "cuda_driver.cc:764] failed to alloc 4294967296 bytes unified memory; result:"
            f" CUDA_ERROR_OUT_OF_MEMORY: out of memory\n{FILE}"
        ),
    ],
)
def test_earlier_lines_of_a_log_are_possible(text: str) -> None:
    assert ranks(text) == (POSSIBLE, POSSIBLE, POSSIBLE)


def test_an_earlier_exception_is_likely_where_memory_agrees() -> None:
    text = f"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.00 GiB.\n{FILE}"
    assert ranks(text) == (POSSIBLE, POSSIBLE, LIKELY)


@pytest.mark.parametrize("link", ["The above exception was the direct cause of the following"])
def test_an_exception_that_was_raised_from_another_stands_for_it(link: str) -> None:
    text = (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 9.00 GiB.\n\n"
        f"{link} exception:\n\npipeline.StepFailed: step 'encode'"
    )
    assert ranks(text) == (LIKELY, CONFIRMED, CONFIRMED)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # CUDA's one code: a rise tells, a level does not.
        (f"torch.AcceleratorError: CUDA error: out of memory{HELP}", (LIKELY, LIKELY, CONFIRMED)),
        ("Cuda error 2: out of memory", (LIKELY, LIKELY, CONFIRMED)),
        # Words for the device's memory, without an amount.
        ("ERROR: CUDA out of memory", (LIKELY, CONFIRMED, CONFIRMED)),
        (
            "Executor creation failed due to insufficient GPU memory.",
            (LIKELY, CONFIRMED, CONFIRMED),
        ),
        # With an amount that would have fitted at 40 %, and one that would not.
        (
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.00 GiB.",
            (LIKELY, CONFIRMED, CONFIRMED),
        ),
        (
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 300.00 GiB.",
            (CONFIRMED, CONFIRMED, CONFIRMED),
        ),
        ("ERROR: LoadError: Out of GPU memory trying to allocate 50.000 GiB", (CONFIRMED,) * 3),
        # The sentence itself says that it did not fit.
        (
            (
                "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0"
                " has a"
                " total capacity of 79.11 GiB of which 9.62 MiB is free."
            ),
            (CONFIRMED, CONFIRMED, CONFIRMED),
        ),
        (
            (
                "torch.OutOfMemoryError: Allocation on device 0 would exceed allowed memory. (out"
                " of"
                " memory)\nCurrently allocated     : 20.11 GiB\nRequested               : 2.50"
                " GiB\n"
                "Device limit            : 23.65 GiB\nFree (according to CUDA): 1.19 MiB"
            ),
            (CONFIRMED, CONFIRMED, CONFIRMED),
        ),
        # An allocator with a limit of its own.
        (
            (
                "jax.errors.JaxRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to"
                " allocate"
                " 4.00GiB with allocator GPU_0_bfc on device 0."
            ),
            (CONFIRMED, CONFIRMED, CONFIRMED),
        ),
        # The driver's own call, and nobody says for how much.
        (
            (
                "CudaAPIError: [<CUresult.CUDA_ERROR_OUT_OF_MEMORY: 2>] Call to cuMemAlloc"
                " results in"
                " CUDA_ERROR_OUT_OF_MEMORY"
            ),
            (CONFIRMED, CONFIRMED, CONFIRMED),
        ),
        # Device memory, by words that also mean the host's.
        (
            "MemoryError: Error allocating 1879048192 bytes of device memory (out of memory).",
            (LIKELY, CONFIRMED, CONFIRMED),
        ),
        # Other glue.
        (
            (
                "StandardGpuResources: alloc fail type TemporaryMemoryOverflow dev 0 space Device"
                " stream 0x7f20 size 1610612736 bytes (cudaMalloc error out of memory [2])"
            ),
            (LIKELY, CONFIRMED, CONFIRMED),
        ),
        (
            "syncedmem.cpp:56] Check failed: error == cudaSuccess (2 vs. 0)  out of memory",
            (LIKELY, LIKELY, CONFIRMED),
        ),
        # What the transport broke.
        (
            (
                "Execution of replica 0 failed: Resource exhausted: Out\nof memory while trying to"
                " allocate 3221225472 bytes."
            ),
            (LIKELY, CONFIRMED, CONFIRMED),
        ),
        (
            (
                "\x1b[31mRuntimeError\x1b[0m: \x1b[1mCUDA\x1b[0m out of memory. Tried to allocate"
                " 1.50"
                " GiB (GPU 0; 79.11 GiB total capacity)"
            ),
            (LIKELY, CONFIRMED, CONFIRMED),
        ),
        (
            (
                '{"event":"job failed","hint":"If you see out of memory errors lower --batch",'
                '"exception":"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1 GiB"}'
            ),
            (LIKELY, CONFIRMED, CONFIRMED),
        ),
        # What is left of PyTorch's sentence.
        (
            (
                "of memory. Tried to allocate 512.00 MiB. GPU 3 has a total capacity of 79.11 GiB"
                " of"
                " which 214.12 MiB is free. Including non-PyTorch memory"
            ),
            (CONFIRMED, CONFIRMED, CONFIRMED),
        ),
        (
            (
                "located memory is large try setting"
                " PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True"
                " to avoid fragmentation."
            ),
            (LIKELY, CONFIRMED, CONFIRMED),
        ),
        ("Set PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True", (NONE, POSSIBLE, LIKELY)),
        # Nothing of a cause.
        (
            (
                "RuntimeError: Engine core initialization failed. See root cause above. Failed core"
                " proc(s): {'EngineCore_0': 1}"
            ),
            (NONE, POSSIBLE, LIKELY),
        ),
        ("", (NONE, POSSIBLE, LIKELY)),
    ],
)
def test_words_and_memory_together(text: str, expected: tuple[int, ...]) -> None:
    assert ranks(text) == expected


def test_encoder_sessions_are_no_memory() -> None:
    text = "[hevc_nvenc @ 0x5581] OpenEncodeSessionEx failed: out of memory (10)"
    assert max(ranks(text)[:2]) == NONE


@pytest.mark.parametrize("failed", [1, 2, 4, 8])
def test_a_launcher_pushes_the_words_out_and_the_remains_are_known(failed: int) -> None:
    sentence = (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 3.00 GiB. GPU 0 has a total"
        " capacity of 79.18 GiB of which 680.19 MiB is free. Including non-PyTorch memory, this"
        " process has 78.51 GiB memory in use. Of the allocated memory 78.00 GiB is allocated by"
        " PyTorch, and 0 bytes is reserved by PyTorch but unallocated. If reserved but unallocated"
        " memory is large try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid"
        " fragmentation.  See documentation for Memory Management  (https://pytorch.org/docs)"
    )
    summary = "\n".join(
        f"[{rank}]:\n  time      : 2026-11-28_14:36:31\n  host      : localhost\n  rank      :"
        f" {rank}"
        f" (local_rank: {rank})\n  exitcode  : 1 (pid: {rank + 1225})\n  error_file: <N/A>\n"
        "  traceback : To enable traceback see: https://pytorch.org/docs/elastic/errors.html"
        for rank in range(failed)
    )
    launcher = "".join(
        f'  File "/usr/lib/python3/dist-packages/torch/distributed/run.py", line {line}, in f\n'
        "    return f(*args, **kwargs)\n"
        for line in range(7)
    )
    log = f"{sentence}\nTraceback (most recent call last):\n{launcher}{summary}\n====\n"
    flat_40, _, fill = ranks(log)
    assert flat_40 in {NONE, LIKELY, CONFIRMED}
    assert fill >= LIKELY
