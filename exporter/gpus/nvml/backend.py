"""The backend: a session with the driver, and the readers that live in it."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence

import pynvml

from exporter.gpus import GpuError
from exporter.gpus.nvml import library
from exporter.gpus.nvml.events import Events, Source
from exporter.gpus.nvml.library import gpu_error
from exporter.gpus.nvml.reader import NvmlReader
from exporter.model.devices import Driver
from exporter.model.readings import Event

_log = logging.getLogger(__name__)


class NvmlBackend:
    """NVIDIA GPUs through NVML; a :class:`~exporter.gpus.Backend`.

    ``clock`` gives Unix seconds for events, ``monotonic`` seconds to measure intervals with, and
    ``sleep`` waits where no GPU can tell events. NVML is loaded by ``open``, not before.
    """

    name = "nvml"

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._monotonic = monotonic
        self._events = Events(clock, sleep)
        self._known: dict[str, NvmlReader] = {}
        self._is_open = False

    def open(self) -> Driver:
        """Load NVML and connect to the driver. Raises :class:`GpuError`; may be tried again."""
        self.close()
        library.load()
        self._is_open = True
        try:
            return Driver(
                vendor="nvidia",
                version=pynvml.nvmlSystemGetDriverVersion(),
                cuda_version=_cuda_version(),
            )
        except pynvml.NVMLError as error:
            self.close()
            raise gpu_error("driver version", error) from error

    def readers(self) -> Sequence[NvmlReader]:
        """Find the GPUs that are there now, by index. A GPU that was known keeps its reader.

        A GPU that can't be identified is logged and left out. Raises :class:`GpuError` when that is
        so for every GPU, or for the driver.
        """
        try:
            count = pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as error:
            raise gpu_error("nvmlDeviceGetCount", error) from error
        found: list[NvmlReader] = []
        failure: GpuError | None = None
        for index in range(count):
            try:
                found.append(self._reader(index))
            except GpuError as error:
                if error.reason.ends_session:
                    raise
                _log.warning("GPU %d left out: %s", index, error)
                failure = error
        if failure and not found:
            raise failure
        return found

    def wait_events(self, timeout_seconds: float) -> Sequence[Event]:
        """Block until an event or the timeout. Raises :class:`GpuError`."""
        return self._events.wait(self._sources(), timeout_seconds)

    def close(self) -> None:
        """Let go of the driver. No other call may be under way. Never raises."""
        if not self._is_open:
            return
        self._is_open = False
        for reader in self._known.values():
            reader.close()
        self._known = {}
        self._events.close()
        library.unload()

    def _reader(self, index: int) -> NvmlReader:
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            uuid = pynvml.nvmlDeviceGetUUID(handle)
        except pynvml.NVMLError as error:
            raise gpu_error(f"GPU {index}", error) from error
        if uuid not in self._known:
            # A new mapping, for events are waited for on a thread of their own.
            self._known = {**self._known, uuid: NvmlReader(handle, self._monotonic)}
        return self._known[uuid]

    def _sources(self) -> Iterator[Source]:
        for reader in self._known.values():
            handle, attachment = reader.handle, reader.attachment
            if handle is not None and attachment is not None:
                yield Source(reader.gpu.uuid, handle, attachment)


def _cuda_version() -> str | None:
    for function in (
        pynvml.nvmlSystemGetCudaDriverVersion_v2,
        pynvml.nvmlSystemGetCudaDriverVersion,
    ):
        try:
            version = function()
        except pynvml.NVMLError:
            # A fact for people: a driver that does not tell it works as well.
            continue
        return f"{version // 1000}.{version % 1000 // 10}"
    return None
