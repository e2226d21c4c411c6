"""One GPU, read on three ticks."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pynvml

from exporter.gpus import GpuError
from exporter.gpus.nvml import reads
from exporter.gpus.nvml.accounting import Accounting
from exporter.gpus.nvml.asking import Asker
from exporter.gpus.nvml.events import Source
from exporter.gpus.nvml.gate import Gate, Trails
from exporter.gpus.nvml.gpm import Gpm
from exporter.gpus.nvml.identity import Handle, Identity, Layout, identify, read_layout
from exporter.gpus.nvml.library import CallError, gpu_error, nvml
from exporter.gpus.nvml.processes import ProcessSamples
from exporter.gpus.nvml.samples import UtilizationSamples
from exporter.gpus.nvml.slow import slow
from exporter.gpus.nvml.turnstile import Turnstile
from exporter.model.devices import Gpu
from exporter.model.readings import FastReading, FullReading, Reason, SlowReading


class NvmlReader:
    """Reads one GPU, found again by its UUID after a loss. For one thread at a time.

    ``clock`` is monotonic, in seconds; ``wall`` gives Unix seconds. ``trails`` are those of the
    GPU's counters. All readers of a session share ``turnstile``.
    """

    def __init__(
        self,
        handle: Handle,
        uuid: str,
        index: int,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
        trails: Trails,
        turnstile: Turnstile,
    ) -> None:
        self._asker = Asker(clock, uuid)
        self._gate = Gate(self._asker, clock, trails)
        self._wall = wall
        self._gpm = Gpm(self._gate, clock, turnstile)
        self._samples = UtilizationSamples()
        self._processes = ProcessSamples()
        self._accounting = Accounting()
        self._handle: Handle | None = handle
        self._layout = Layout()
        self._identity = Identity(Gpu(uuid=uuid, index=index, model=""), fans=0, clock_events=0)
        self._attachments = itertools.count(1)
        self.source: Source | None = None
        """To hear of events from; ``None`` until the GPU is identified, and while it is lost."""

    @property
    def gpu(self) -> Gpu:
        return self._identity.gpu

    @property
    def is_new(self) -> bool:
        """Whether the GPU has been found, and has not been identified yet."""
        return self._handle is not None and self.source is None

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

    def close(self) -> None:
        """Free what NVML keeps for us, and let go of the handle. Never raises."""
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
        try:
            if self._handle is None:
                self._handle = self._find()
            if self.source is None:
                self._attach(self._handle)
            yield self._handle
        except GpuError:
            self._let_go()
            raise

    def _let_go(self) -> None:
        """Find the GPU anew next time. In another session an old handle would crash NVML."""
        self._handle = self.source = None
        self._gpm.drop()

    def _find(self) -> Handle:
        try:
            return nvml.nvmlDeviceGetHandleByUUID(self.gpu.uuid)
        except CallError as error:
            if error.code == pynvml.NVML_ERROR_NOT_FOUND:
                raise GpuError(Reason.GPU_LOST, f"no GPU {self.gpu.uuid}") from error
            raise gpu_error(self.gpu.uuid, error) from error

    def _attach(self, handle: Handle) -> None:
        self._asker.forget()
        self._identify(handle, read_layout(handle, self._asker) or Layout())
        self.source = Source(self.gpu.uuid, handle, next(self._attachments))

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
