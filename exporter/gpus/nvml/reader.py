"""One GPU, read on three ticks."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pynvml

from exporter.gpus import GpuError
from exporter.gpus.nvml import reads
from exporter.gpus.nvml.accounting import Accounting
from exporter.gpus.nvml.asking import Asker
from exporter.gpus.nvml.events import Events, Source
from exporter.gpus.nvml.gate import Gate, Trails
from exporter.gpus.nvml.gpm import Gpm
from exporter.gpus.nvml.identity import Handle, Identity, Layout, identify, read_layout
from exporter.gpus.nvml.library import UNREADABLE, CallError, gpu_error, nvml, returning
from exporter.gpus.nvml.processes import ProcessSamples
from exporter.gpus.nvml.samples import UtilizationSamples
from exporter.gpus.nvml.slow import slow
from exporter.gpus.nvml.turnstile import Turnstile
from exporter.model.clocks import UnixSeconds
from exporter.model.devices import Gpu
from exporter.model.readings import Event, FastReading, FullReading, Reason, SlowReading


class NvmlReader:
    """Reads the GPU with the driver's number ``index``; a :class:`~exporter.gpus.Reader`.

    After a loss it is found again by its UUID. ``clock`` is monotonic, in seconds; ``wall`` gives
    Unix seconds; ``sleep`` waits seconds. ``trails_of`` gives the trails of a GPU's counters by its
    UUID, and ``is_bound`` whether the driver has the GPU at a PCI address. All readers of a session
    share ``turnstile``.
    """

    def __init__(
        self,
        index: int,
        *,
        clock: Callable[[], float],
        wall: Callable[[], UnixSeconds],
        sleep: Callable[[float], object],
        trails_of: Callable[[str], Trails],
        is_bound: Callable[[str | None], bool | None],
        turnstile: Turnstile,
    ) -> None:
        self._index = index
        self._asker = Asker(clock)
        self._gate = Gate(self._asker, clock)
        self._wall = wall
        self._trails_of = trails_of
        self._is_bound = is_bound
        self._gpm = Gpm(self._gate, clock, turnstile)
        self._samples = UtilizationSamples()
        self._processes = ProcessSamples()
        self._accounting = Accounting()
        self._events = Events(Gate(Asker(clock), clock), wall, sleep)
        self._handle: Handle | None = None
        self._uuid = ""
        """The GPU's own, as it was found; empty if it can't be read."""
        self._layout = Layout()
        self._identity = Identity(Gpu(uuid="", index=index, model=""), fans=0, clock_events=0)
        self._attachments = itertools.count(1)
        self._source: Source | None = None
        """To hear of events from; ``None`` until the GPU is identified, and while it is away."""
        self._returned = 0

    @property
    def index(self) -> int:
        return self._index

    @property
    def gpu(self) -> Gpu:
        return self._identity.gpu

    @property
    def returned(self) -> int:
        return self._returned

    def find(self) -> str:
        with self._counting():
            self._let_go()
            try:
                handle = nvml.nvmlDeviceGetHandleByIndex(self._index)
                uuid = str(nvml.nvmlDeviceGetUUID(handle))
            except CallError as error:
                raise gpu_error(f"GPU {self._index}", error) from error
        self._handle, self._uuid = handle, "" if UNREADABLE in uuid else uuid
        if not self.gpu.uuid:
            self.known_as(uuid, self._index)
        return self._uuid

    def known_as(self, uuid: str, index: int) -> None:
        self._asker.gpu = uuid
        self._gate.trails = self._trails_of(uuid)
        self._identity = replace(self._identity, gpu=Gpu(uuid=uuid, index=index, model=""))
        self._source = None  # identified anew, by this name

    def read_fast(self) -> FastReading:
        with self._reading() as handle:
            reading = reads.fast(handle, self._instances(), self._accounting, self._gate)
            if reading.memory is not None:
                self._know(memory_total_bytes=reading.memory.total_bytes)
            return reading

    def read_full(self, *, processes: bool = False) -> FullReading:
        with self._reading() as handle:
            self._follow_layout(handle)
            return reads.full(
                handle,
                self._identity,
                samples=self._samples.read(handle, self._gate),
                activity=self._gpm.read_gpu(handle),
                instance_activity=self._gpm.read_instances(
                    handle, [i for i, _ in self._instances()]
                ),
                process_utilization=(
                    self._processes.read(handle, self._gate) if processes else None
                ),
                gate=self._gate,
                wall=self._wall,
            )

    def read_slow(self) -> SlowReading:
        self._asker.renew()
        with self._reading() as handle:
            self._accounting.look(handle, self._asker)
            reading = slow(handle, self._gate)
            if reading.power_limit_watts is not None:
                self._know(power_limit_watts=reading.power_limit_watts)
            return reading

    def wait_events(self, timeout_seconds: float) -> Sequence[Event]:
        return self._events.wait(self._source, timeout_seconds)

    def close(self) -> None:
        """Free what NVML keeps for us, and let go of the handle. Never raises."""
        self._events.close()
        self._let_go()

    def _know(self, **limits: Any) -> None:
        """Bound later values by these."""
        self._gate.board = replace(self._gate.board, **limits)

    def _instances(self) -> tuple[tuple[int, Handle], ...]:
        """GPU instances, each with the handle of its leading slice."""
        handles = {part.uuid: part.handle for part in self._layout.parts}
        return tuple((s.gpu_instance, handles[s.uuid]) for s in self.gpu.leading_slices)

    @contextmanager
    def _reading(self) -> Iterator[Handle]:
        with self._counting():
            try:
                if self._handle is None:
                    self._find_again()
                if self._source is None:
                    self._attach(self._handle)
                yield self._handle
            except GpuError as error:
                self._let_go()
                if not error.reason.ends_session and self._is_bound(self.gpu.pci_bus_id) is False:
                    taken = "it is bound to another kernel driver, or off the PCI bus"
                    raise GpuError(Reason.GPU_REMOVED, taken) from error
                raise

    @contextmanager
    def _counting(self) -> Iterator[None]:
        with returning(self._count):
            yield

    def _count(self) -> None:
        self._returned += 1

    def _let_go(self) -> None:
        """Find the GPU anew next time. In another session an old handle would crash NVML."""
        self._handle = self._source = None
        self._gpm.drop()

    def _find_again(self) -> None:
        if not self._uuid:
            self.find()
            return
        try:
            self._handle = nvml.nvmlDeviceGetHandleByUUID(self._uuid)
        except CallError as error:
            if error.code == pynvml.NVML_ERROR_NOT_FOUND:
                raise GpuError(Reason.GPU_LOST, f"no GPU {self._uuid}") from error
            raise gpu_error(self._uuid, error) from error

    def _attach(self, handle: Handle) -> None:
        self._asker.forget()
        self._identify(handle, read_layout(handle, self._asker) or Layout())
        self._source = Source(self.gpu.uuid, handle, next(self._attachments))

    def _follow_layout(self, handle: Handle) -> None:
        """See whether MIG has been reconfigured. Costs nothing on a board that can't do MIG."""
        layout = read_layout(handle, self._asker)
        if layout is None:
            return
        if layout != self._layout:
            self._asker.forget()
            self._identify(handle, layout)
        self._layout = layout

    def _identify(self, handle: Handle, layout: Layout) -> None:
        """Start anew with a device that is not what it was."""
        self._gpm.drop()
        self._samples.restart()
        self._processes.restart()
        gpu = self._identity.gpu
        self._identity = identify(handle, gpu.uuid, gpu.index, layout, self._gate)
        self._layout = layout
