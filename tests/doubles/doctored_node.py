"""A node for ``doctor`` to look at: its GPUs, and its files."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from exporter.gpus import GpuError
from exporter.model.devices import Driver, Gpu, Slice
from exporter.model.readings import (
    Activity,
    Event,
    FastReading,
    FieldFailure,
    FullReading,
    SlowReading,
)

VERSION = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build\n"
H100 = Gpu(uuid="GPU-0", index=0, model="NVIDIA H100 80GB HBM3", mig_enabled=False)
SLICE = Slice("MIG-0", "GPU-0", 0, 1, 0, "1g.10gb")


@dataclass
class FakeReader:
    gpu: Gpu
    error: Exception | None = None
    failures: tuple[FieldFailure, ...] = ()
    activity: Activity | None = field(default_factory=lambda: Activity(0.1, sm_ratio=0.5))
    hang: threading.Event | None = None
    reads: int = 0

    @property
    def index(self) -> int:
        return self.gpu.index

    @property
    def returned(self) -> int:
        return self.reads

    def find(self) -> str:
        return self.gpu.uuid

    def known_as(self, uuid: str, index: int) -> None: ...

    def wait_events(self, timeout_seconds: float) -> Sequence[Event]:
        return []

    def read_fast(self) -> FastReading:
        if self.hang:
            self.hang.wait()
        if self.error:
            raise self.error
        return FastReading(failures=self.failures)

    def read_full(self, *, processes: bool = False) -> FullReading:
        self.reads += 1
        return FullReading(self.gpu, activity=self.activity if self.reads > 1 else None)

    def read_slow(self) -> SlowReading:
        return SlowReading()


@dataclass
class FakeBackend:
    readers_there: Sequence[FakeReader] = ()
    error: GpuError | None = None
    name: str = "nvml"
    closed: bool = False

    def open(self) -> Driver:
        if self.error:
            raise self.error
        return Driver("nvidia", "580.159.04", "13.0")

    def readers(self) -> Sequence[FakeReader]:
        return self.readers_there

    def close(self) -> None:
        self.closed = True

    def present(self) -> None: ...

    def survey(self) -> frozenset[str]:
        return frozenset()


def write_node(tmp_path: Path) -> Path:
    """Build the files of a node on which nothing is missing."""
    (tmp_path / "proc/driver/nvidia/gpus/0000:19:00.0").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").write_text(VERSION)
    (tmp_path / "proc/self/ns").mkdir(parents=True)
    (tmp_path / "proc/self/ns/pid").symlink_to("pid:[4026531836]")
    (tmp_path / "dev").mkdir()
    for name in ("nvidiactl", "nvidia0", "nvidia-uvm"):
        (tmp_path / "dev" / name).touch()
    token = tmp_path / "var/run/secrets/kubernetes.io/serviceaccount/token"
    token.parent.mkdir(parents=True)
    token.touch()
    return tmp_path
