"""The driver's own utilisation samples: about five a second, kept for some 14 seconds."""

import ctypes
from functools import partial

import pynvml

from exporter.gpus.nvml.asking import number
from exporter.gpus.nvml.bounds import counted
from exporter.gpus.nvml.gate import Gate
from exporter.gpus.nvml.identity import Handle
from exporter.gpus.nvml.library import CallError, raw_call
from exporter.model.readings import UtilizationSample


class UtilizationSamples:
    """Fetches what the driver has sampled since the last read.

    That is what its buffer did not hold then. The driver would also give those after some time, but
    its times are the wall clock's: set back by an hour, it would give none for an hour.

    pynvml asks for the size of the buffer before each fetch, which doubles the cost of the dearest
    read of a tick. The size stays the same, so it is asked for once.
    """

    def __init__(self) -> None:
        self._seen: frozenset[int] = frozenset()
        """Times of the samples that the buffer held at the last read."""
        self._buffer: ctypes.Array[pynvml.c_nvmlSample_t] | None = None

    def restart(self) -> None:
        """Fetch whatever the driver still has the next time."""
        self._seen = frozenset()
        self._buffer = None

    def read(self, handle: Handle, gate: Gate) -> tuple[UtilizationSample, ...] | None:
        """Oldest first; empty when there is nothing new. Raises :class:`GpuError`."""
        new = gate.asker.ask("utilization", partial(self._read, handle))
        if new is None:
            return None
        raws = ({"timestamp": time, "ratio": percent} for time, percent in new)
        return gate.pieces("utilization", UtilizationSample, raws)

    def _read(self, handle: Handle) -> list[tuple[int, float]]:
        """Return (microseconds, percent) of each new sample."""
        try:
            if self._buffer is None:
                _, size = self._call(handle, None)
                size = counted("number of samples", size)
                self._buffer = (pynvml.c_nvmlSample_t * size)()
            value_type, count = self._call(handle, self._buffer)
        except CallError as error:
            if error.code == pynvml.NVML_ERROR_INSUFFICIENT_SIZE:
                self._buffer = None
            if error.code in {pynvml.NVML_ERROR_NOT_FOUND, pynvml.NVML_ERROR_NO_DATA}:
                return []
            raise
        # A slot that was never filled has no time.
        held = {sample.timeStamp: sample for sample in self._buffer[:count] if sample.timeStamp}
        new = sorted(held.keys() - self._seen)
        samples = [(time, number(value_type, held[time].sampleValue)) for time in new]
        self._seen = frozenset(held)
        return samples

    def _call(
        self, handle: Handle, buffer: ctypes.Array[pynvml.c_nvmlSample_t] | None
    ) -> tuple[int, int]:
        value_type = ctypes.c_uint()
        count = ctypes.c_uint(len(buffer) if buffer is not None else 0)
        raw_call(
            "nvmlDeviceGetSamples",
            handle,
            ctypes.c_uint(pynvml.NVML_GPU_UTILIZATION_SAMPLES),
            ctypes.c_ulonglong(0),
            ctypes.byref(value_type),
            ctypes.byref(count),
            buffer,
        )
        return value_type.value, count.value
