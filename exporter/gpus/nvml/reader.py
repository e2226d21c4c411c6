"""One GPU, read on three ticks."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pynvml

from exporter.gpus import GpuError
from exporter.gpus.nvml import reads
from exporter.gpus.nvml.asking import Asker
from exporter.gpus.nvml.gpm import Gpm
from exporter.gpus.nvml.identity import Handle, Identity, Layout, identify, read_layout
from exporter.gpus.nvml.library import gpu_error
from exporter.gpus.nvml.samples import UtilizationSamples
from exporter.gpus.nvml.slow import slow
from exporter.model.devices import Gpu
from exporter.model.readings import FastReading, FullReading, Reason, SlowReading


class NvmlReader:
    """Reads one GPU, found again by its UUID after a loss. For one thread at a time.

    ``clock`` is monotonic, in seconds.
    """

    def __init__(self, handle: Handle, clock: Callable[[], float]) -> None:
        """Identify the GPU. Raises :class:`GpuError`."""
        self._asker = Asker()
        self._gpm = Gpm(self._asker, clock)
        self._samples = UtilizationSamples()
        self._handle: Handle | None = handle
        self._layout: Layout = read_layout(handle, self._asker) or Layout()
        self._identity: Identity = identify(handle, self._layout, self._asker)
        self._found = itertools.count(1)
        self.attachment: int | None = next(self._found)
        """Which finding of the GPU this is: another number after each loss, ``None`` while lost."""

    @property
    def gpu(self) -> Gpu:
        return self._identity.gpu

    @property
    def handle(self) -> Handle | None:
        """``None`` while the GPU is lost."""
        return self._handle

    def read_fast(self) -> FastReading:
        with self._reading() as handle:
            return reads.fast(handle, self._instances(), self._asker)

    def read_full(self) -> FullReading:
        with self._reading() as handle:
            self._follow_layout(handle)
            return reads.full(
                handle,
                self._identity,
                utilization=self._samples.read(handle, self._asker),
                activity=self._gpm.read_gpu(handle),
                instance_activity=self._gpm.read_instances(
                    handle, [i for i, _ in self._instances()]
                ),
                asker=self._asker,
            )

    def read_slow(self) -> SlowReading:
        with self._reading() as handle:
            return slow(handle, self._asker)

    def close(self) -> None:
        """Free what NVML keeps for us, and let go of the handle. Never raises."""
        self._let_go()

    def _instances(self) -> tuple[tuple[int, Handle], ...]:
        """GPU instances, each with the handle of its leading slice."""
        handles = {part.uuid: part.handle for part in self._layout.parts}
        return tuple((s.gpu_instance, handles[s.uuid]) for s in self.gpu.leading_slices)

    @contextmanager
    def _reading(self) -> Iterator[Handle]:
        try:
            if self._handle is None:
                self._find()
            yield self._handle
        except GpuError:
            self._let_go()
            raise

    def _let_go(self) -> None:
        """Find the GPU anew next time. In another session an old handle would crash NVML."""
        self._handle = self.attachment = None
        self._gpm.drop()

    def _find(self) -> None:
        try:
            handle = pynvml.nvmlDeviceGetHandleByUUID(self.gpu.uuid)
        except pynvml.NVMLError as error:
            if error.value == pynvml.NVML_ERROR_NOT_FOUND:
                raise GpuError(Reason.GPU_LOST, f"no GPU {self.gpu.uuid}") from error
            raise gpu_error(self.gpu.uuid, error) from error
        self._asker.forget()
        self._identify(handle, read_layout(handle, self._asker) or Layout())
        self._handle, self.attachment = handle, next(self._found)

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
        self._identity = identify(handle, layout, self._asker)
        self._layout = layout
