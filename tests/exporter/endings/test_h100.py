"""The ends that were captured on an H100, with the memory that the device really had."""

import json
from typing import Any

import pytest

from exporter.model.ends import Cause
from tests.doubles.ends import TEXTS, termination, verdict

CAPTURED: dict[str, dict[str, Any]] = json.loads((TEXTS / "h100.json").read_text("utf-8"))

EXPECTED: dict[str, tuple[str | None, Cause | None]] = {
    # The verdict on GPU memory, and what the words blame.
    "torch-gradual": ("confirmed", Cause.GPU_OOM),
    "torch-oneshot": ("confirmed", Cause.GPU_OOM),
    "torch-oneshot-op": ("confirmed", Cause.GPU_OOM),
    "torch-pinned": (None, Cause.HOST_OOM),
    "torch-cpu": (None, None),
    "torch-caught-then-other": (None, Cause.PROGRAM),
    "torch-backend-cudamallocasync": ("confirmed", Cause.GPU_OOM),
    "cublas-alloc": ("confirmed", Cause.GPU_OOM),
    "cudnn-alloc": ("confirmed", Cause.GPU_OOM),
    "device-assert": (None, Cause.GPU_FAULT),
    "illegal-access": (None, Cause.GPU_FAULT),
    "jax-prealloc-then-big": ("confirmed", Cause.GPU_OOM),
    "jax-noprealloc-gradual": ("confirmed", Cause.GPU_OOM),
    "jax-prealloc-then-other": (None, Cause.PROGRAM),
    "cupy-gradual": ("confirmed", Cause.GPU_OOM),
    "cupy-oneshot": ("confirmed", Cause.GPU_OOM),
    "numba-oneshot": ("confirmed", Cause.GPU_OOM),
    "no-device": (None, Cause.NO_DEVICE),
    "bad-ordinal": (None, Cause.CONFIG),
    "shm-full": (None, None),
    "segfault": (None, None),
    # With one rank the end of PyTorch's sentence is kept, and the device was full.
    "torchrun-1": ("confirmed", Cause.GPU_OOM),
    "torchrun-2": ("likely", None),
    "torchrun-4": ("likely", None),
    "torchrun-2-record": ("confirmed", Cause.GPU_OOM),
}


def test_every_captured_end_is_tried() -> None:
    assert CAPTURED.keys() == EXPECTED.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_a_captured_end(name: str) -> None:
    captured = CAPTURED[name]
    end = termination(
        captured["log_tail"],
        captured["exit_code"],
        "Error" if captured["exit_code"] else "Completed",
    )
    peak = (captured["peak_ratio"] or 0.0) * 100
    rising = [peak * step / 8 for step in range(1, 9)]
    judged = verdict(end, *rising)
    assert (judged.confidence if judged else None, end.words.blames) == EXPECTED[name]
