"""The driver's own utilisation samples: about five a second, kept for some 14 seconds."""

import ctypes
from functools import partial

import pynvml

from exporter.gpus.nvml.asking import Asker, number
from exporter.gpus.nvml.identity import Handle
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

    def read(self, handle: Handle, asker: Asker) -> tuple[UtilizationSample, ...] | None:
        """Oldest first; empty when there is nothing new. Raises :class:`GpuError`."""
        return asker.ask("utilization", partial(self._read, handle))

    def _read(self, handle: Handle) -> tuple[UtilizationSample, ...]:
        try:
            if self._buffer is None:
                _, size = self._call(handle, None)
                self._buffer = (pynvml.c_nvmlSample_t * size)()
            value_type, count = self._call(handle, self._buffer)
        except pynvml.NVMLError as error:
            if error.value == pynvml.NVML_ERROR_INSUFFICIENT_SIZE:
                self._buffer = None
            if error.value in {pynvml.NVML_ERROR_NOT_FOUND, pynvml.NVML_ERROR_NO_DATA}:
                return ()
            raise
        # Microseconds and percent. A slot that was never filled has no time.
        held = {sample.timeStamp: sample for sample in self._buffer[:count] if sample.timeStamp}
        new = sorted(held.keys() - self._seen)
        samples = tuple(
            UtilizationSample(time / 1e6, number(value_type, held[time].sampleValue) / 100)
            for time in new
        )
        self._seen = frozenset(held)
        return samples

    def _call(
        self, handle: Handle, buffer: ctypes.Array[pynvml.c_nvmlSample_t] | None
    ) -> tuple[int, int]:
        function = pynvml._nvmlGetFunctionPointer("nvmlDeviceGetSamples")  # noqa: SLF001  see above
        value_type = ctypes.c_uint()
        count = ctypes.c_uint(len(buffer) if buffer is not None else 0)
        code = function(
            handle,
            ctypes.c_uint(pynvml.NVML_GPU_UTILIZATION_SAMPLES),
            ctypes.c_ulonglong(0),
            ctypes.byref(value_type),
            ctypes.byref(count),
            buffer,
        )
        if code != pynvml.NVML_SUCCESS:
            raise pynvml.NVMLError(code)
        return value_type.value, count.value
