"""The backend: a session with the driver, and the readers that live in it."""

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

from exporter.gpus import GpuError
from exporter.gpus.nvml import pci
from exporter.gpus.nvml.asking import Asker
from exporter.gpus.nvml.bounds import counted
from exporter.gpus.nvml.gate import Gate, Trails
from exporter.gpus.nvml.library import CallError, Library, driver_error, nvml
from exporter.gpus.nvml.reader import NvmlReader
from exporter.gpus.nvml.survey import Surveys
from exporter.gpus.nvml.turnstile import Turnstile
from exporter.model.clocks import UnixSeconds, unix_time
from exporter.model.devices import Driver
from exporter.model.readings import Reason


class NvmlBackend:
    """NVIDIA GPUs through NVML; a :class:`~exporter.gpus.Backend`.

    ``clock`` gives Unix seconds for events, ``monotonic`` seconds to measure intervals with, and
    ``sleep`` waits where a GPU can't be heard yet. ``devices`` is the kernel's folder of PCI
    devices. NVML is loaded by ``open``, not before.
    """

    name = "nvml"

    def __init__(
        self,
        *,
        clock: Callable[[], UnixSeconds] = unix_time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        devices: Path = pci.DEVICES,
    ) -> None:
        self._wall = clock
        self._monotonic = monotonic
        self._sleep = sleep
        self._devices = devices
        self._library = Library()
        self._surveys = Surveys()
        self._turnstile = Turnstile()
        self._trails: defaultdict[str, Trails] = defaultdict(dict)
        """Of the counters of each GPU, by its UUID."""
        self._readers: list[NvmlReader] = []
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
        gate = Gate(Asker(self._monotonic), self._monotonic)
        driver = gate.piece(
            "driver", Driver, vendor="nvidia", version=version, cuda_version=_cuda_version()
        )
        if driver is None:
            self.close()
            raise GpuError(Reason.IMPLAUSIBLE, f"no driver has the version {version!r}")
        return driver

    def readers(self) -> Sequence[NvmlReader]:
        """Return a reader for each GPU that the driver counts, and make no call on any GPU.

        Raises :class:`GpuError` when the driver is gone, or can't count them.
        """
        try:
            count = counted("number of GPUs", nvml.nvmlDeviceGetCount())
        except CallError as error:
            raise driver_error("nvmlDeviceGetCount", error) from error
        readers = [
            NvmlReader(
                index,
                clock=self._monotonic,
                wall=self._wall,
                sleep=self._sleep,
                trails_of=lambda uuid: self._trails[uuid],
                is_bound=lambda address: pci.is_bound(address, self._devices),
                turnstile=self._turnstile,
            )
            for index in range(count)
        ]
        self._readers += readers
        return readers

    def close(self) -> None:
        """Let go of the driver. No other call may be under way. Never raises."""
        if not self._is_open:
            return
        self._is_open = False
        for reader in self._readers:
            reader.close()
        self._readers = []
        self._library.shut_down()

    def present(self) -> Mapping[str, bool] | None:
        """Return the node's GPUs by PCI address, each with whether it is bound to the driver."""
        return pci.present(self._devices)

    def survey(self) -> AbstractSet[str]:
        """Return the UUIDs of the GPUs that a new session could read. Raises :class:`GpuError`."""
        return self._surveys.run()


def _cuda_version() -> int | None:
    for function in (
        nvml.nvmlSystemGetCudaDriverVersion_v2,
        nvml.nvmlSystemGetCudaDriverVersion,
    ):
        # A fact for people: a driver that does not report it works as well.
        with contextlib.suppress(CallError):
            return int(function())
    return None
