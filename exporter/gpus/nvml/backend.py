"""The backend: a session with the driver, and the readers that live in it."""

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence

from exporter.gpus import GpuError, Reader
from exporter.gpus.nvml.asking import Asker
from exporter.gpus.nvml.bounds import counted
from exporter.gpus.nvml.events import Events
from exporter.gpus.nvml.gate import Gate, Trails
from exporter.gpus.nvml.identity import look_up
from exporter.gpus.nvml.library import CallError, Library, driver_error, nvml
from exporter.gpus.nvml.nameless import NamelessGpu
from exporter.gpus.nvml.reader import NvmlReader
from exporter.gpus.nvml.turnstile import Turnstile
from exporter.model.devices import Driver
from exporter.model.readings import Event, Reason

_NEW_GPU_SECONDS = 0.1
"""How long to wait for events while a GPU has not been read yet, so that it is heard soon."""


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
        self._wall = clock
        self._monotonic = monotonic
        self._library = Library()
        self._trails: defaultdict[str, Trails] = defaultdict(dict)
        """Of the counters of each GPU, by its UUID."""
        self._events = Events(clock, sleep)
        self._turnstile = Turnstile()
        self._known: dict[str, NvmlReader] = {}
        self._last_listed: list[str] = []
        """UUIDs by index, also those of the last session."""
        self._is_open = False

    def open(self) -> Driver:
        """Load NVML and connect to the driver. Raises :class:`GpuError`; may be tried again."""
        self.close()
        self._library.load()
        self._is_open = True
        try:
            version = nvml.nvmlSystemGetDriverVersion()
        except CallError as error:
            self.close()
            raise driver_error("driver version", error) from error
        gate = Gate(Asker(self._monotonic), self._monotonic, {})
        driver = gate.piece(
            "driver", Driver, vendor="nvidia", version=version, cuda_version=_cuda_version()
        )
        if driver is None:
            self.close()
            raise GpuError(Reason.IMPLAUSIBLE, f"no driver has the version {version!r}")
        return driver

    def readers(self) -> Sequence[Reader]:
        """List the GPUs that are there now, by index. A GPU that was known keeps its reader.

        Raises :class:`GpuError` when the driver is gone, or can't count them.
        """
        try:
            count = counted("number of GPUs", nvml.nvmlDeviceGetCount())
        except CallError as error:
            raise driver_error("nvmlDeviceGetCount", error) from error
        found = [self._reader(index) for index in range(count)]
        named = {reader.gpu.uuid for reader in found if reader}
        readers = [reader or self._nameless(index, named) for index, reader in enumerate(found)]
        self._last_listed = [reader.gpu.uuid for reader in readers]
        return readers

    def wait_events(self, timeout_seconds: float) -> Sequence[Event]:
        """Block until an event, at most for the timeout. Raises :class:`GpuError`."""
        readers = self._known.values()
        if any(reader.is_new for reader in readers):
            timeout_seconds = min(timeout_seconds, _NEW_GPU_SECONDS)
        sources = [source for reader in readers if (source := reader.source)]
        return self._events.wait(sources, timeout_seconds)

    def close(self) -> None:
        """Let go of the driver. No other call may be under way. Never raises."""
        if not self._is_open:
            return
        self._is_open = False
        for reader in self._known.values():
            reader.close()
        self._known = {}
        self._events.close()
        self._library.shut_down()

    def _reader(self, index: int) -> NvmlReader | None:
        try:
            handle, uuid = look_up(index)
        except GpuError as error:
            if error.reason.ends_session:
                raise
            return None
        if uuid not in self._known:
            # A new mapping, for events are waited for on a thread of their own.
            reader = NvmlReader(
                handle,
                uuid,
                index,
                clock=self._monotonic,
                wall=self._wall,
                trails=self._trails[uuid],
                turnstile=self._turnstile,
            )
            self._known = {**self._known, uuid: reader}
        return self._known[uuid]

    def _nameless(self, index: int, named: Collection[str]) -> NamelessGpu:
        """Take it for the GPU that was there last, unless that one is elsewhere now."""
        last = dict(enumerate(self._last_listed)).get(index)
        if last is None or last in named:
            last = f"GPU-at-index-{index}"
        return NamelessGpu(last, index)


def _cuda_version() -> int | None:
    for function in (
        nvml.nvmlSystemGetCudaDriverVersion_v2,
        nvml.nvmlSystemGetCudaDriverVersion,
    ):
        # A fact for people: a driver that does not report it works as well.
        with contextlib.suppress(CallError):
            return int(function())
    return None
