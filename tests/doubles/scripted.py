"""A backend, a clock and workers that do exactly what a test says."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from exporter.gpus import Backend, GpuError
from exporter.model.claims import Claims
from exporter.model.clocks import Monotonic, UnixSeconds
from exporter.model.devices import Driver, Gpu, Slice
from exporter.model.readings import (
    Event,
    FastReading,
    FullReading,
    Memory,
    ProcessUtilization,
    SlowReading,
    UtilizationSample,
)
from exporter.model.snapshot import SourceHealth
from exporter.model.verdicts import EndVerdict
from exporter.sampling.containers import Containers
from exporter.sampling.sampler import Sampler
from exporter.sampling.shared import ProcessContainers
from exporter.sampling.slots import Ticks
from exporter.sampling.sources import ClaimSource, PodSource

T = TypeVar("T")
GIB = 2**30


def at(seconds: float) -> Monotonic:
    """Return a time of the clock that is never set."""
    return Monotonic(seconds)


class ManualClock:
    """Time that passes when the test says so."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> Monotonic:
        return Monotonic(self.now)

    def wall(self) -> UnixSeconds:
        return UnixSeconds(1_800_000_000.0 + self.now)


@dataclass
class QueueWorker:
    """Keeps jobs until the test runs them, as a thread does while the loop is busy."""

    hold: bool = False
    """Jobs hang until released."""
    stopped: bool = False
    waiting: list[Callable[[], None]] = field(default_factory=list)

    def submit(self, job: Callable[[], T], done: Callable[[T | Exception], None]) -> None:
        def work() -> None:
            try:
                result: T | Exception = job()
            except Exception as error:  # noqa: BLE001
                result = error
            done(result)

        self.waiting.append(work)

    def run(self) -> bool:
        """Run what waits; return whether there was anything."""
        waiting, self.waiting = ([], self.waiting) if self.hold else (self.waiting, [])
        for work in waiting:
            work()
        return bool(waiting)

    def stop(self) -> None:
        self.stopped = True


def gpu(index: int, **fields: object) -> Gpu:
    plain = Gpu(
        uuid=f"GPU-{index:08d}-0000-0000-0000-000000000000",
        index=index,
        model="NVIDIA H100 80GB HBM3",
        minor_number=index,
        pci_bus_id=f"0000:{index + 1:02x}:00.0",
    )
    return replace(plain, **fields)  # type: ignore[arg-type]


def mig_slice(instance: int, sm_count: int, compute: int = 0, on: int = 0) -> Slice:
    return Slice(
        uuid=f"MIG-{instance}-{compute}",
        gpu_uuid=gpu(on).uuid,
        gpu_index=on,
        gpu_instance=instance,
        compute_instance=compute,
        profile="1g.10gb",
        sm_count=sm_count,
    )


MIG_GPU = gpu(0, mig_enabled=True, sm_count=100, slices=(mig_slice(1, 40), mig_slice(2, 20)))


class ScriptedReader:
    """A GPU that is busy at ``ratio``, with a sample buffer like the driver's: 5 a second, 14 s."""

    def __init__(self, described: Gpu, clock: ManualClock) -> None:
        self.gpu = described
        self.ratio = 0.5
        self.memory = Memory(80 * GIB, 10 * GIB, 70 * GIB, 0)
        self.slow = SlowReading()
        self.fast_extra: dict[str, object] = {}
        self.full_extra: dict[str, object] = {}
        self.process_utilization: tuple[ProcessUtilization, ...] | None = ()
        self.error: Exception | None = None
        self.find_error: Exception | None = None
        self.events: list[Event] = []
        self.event_error: Exception | None = None
        self.reads: list[str] = []
        self.returned = 0
        self.number: int | None = None
        """The driver's, if it is another than the GPU's own index."""
        self.uuid = described.uuid
        """What the driver says."""
        self._clock = clock

    @property
    def index(self) -> int:
        return self.gpu.index if self.number is None else self.number

    def find(self) -> str:
        if self.find_error is not None:
            raise self.find_error
        return self.uuid

    def known_as(self, uuid: str, index: int) -> None:
        self.gpu = replace(self.gpu, uuid=uuid, index=index)

    def wait_events(self, timeout_seconds: float) -> Sequence[Event]:
        del timeout_seconds
        if self.event_error is not None:
            raise self.event_error
        events, self.events = self.events, []
        return events

    def read_fast(self) -> FastReading:
        self._read("fast")
        return FastReading(memory=self.memory, **self.fast_extra)  # type: ignore[arg-type]

    def read_full(self, *, processes: bool = False) -> FullReading:
        self._read("full with processes" if processes else "full")
        newest = int(self._clock.now * 5)
        samples = tuple(
            UtilizationSample(n / 5, self.ratio) for n in range(newest - 70, newest + 1)
        )
        fields: dict[str, object] = {"utilization": samples, **self.full_extra}
        if processes:
            fields["process_utilization"] = self.process_utilization
        return FullReading(gpu=self.gpu, **fields)  # type: ignore[arg-type]

    def read_slow(self) -> SlowReading:
        self._read("slow")
        return self.slow

    def _read(self, kind: str) -> None:
        self.reads.append(kind)
        if self.error is not None:
            raise self.error


class ScriptedBackend:
    name = "nvml"

    def __init__(self, clock: ManualClock, described: Sequence[Gpu]) -> None:
        self.gpus = [ScriptedReader(each, clock) for each in described]
        self.listed: Sequence[ScriptedReader] = self.gpus
        self.open_error: GpuError | None = None
        self.on_bus: dict[str, bool] | None = None
        self.surveyed: frozenset[str] | Exception = frozenset()
        self.surveys = 0
        self.opened = 0
        self.closed = 0

    def open(self) -> Driver:
        if self.open_error is not None:
            raise self.open_error
        self.opened += 1
        return Driver("nvidia", "580.159.04", "13.0")

    def readers(self) -> Sequence[ScriptedReader]:
        return self.listed

    def close(self) -> None:
        self.closed += 1

    def present(self) -> dict[str, bool] | None:
        return self.on_bus

    def survey(self) -> frozenset[str]:
        self.surveys += 1
        if isinstance(self.surveyed, Exception):
            raise self.surveyed
        return self.surveyed


class ScriptedClaims:
    """What the kubelet says, as the mapper hands it on."""

    def __init__(self, claims: Claims | None = None) -> None:
        self.current = claims

    def claims(self, now: float) -> Claims | None:
        del now
        return self.current

    def health(self) -> SourceHealth:
        return SourceHealth("kubelet", up=self.current is not None, message="scripted")


class Rig:
    """A sampler whose clock and workers are the test's; ``run`` makes one fast tick a second."""

    def __init__(
        self,
        backend: Backend,
        clock: ManualClock,
        claims: ClaimSource | None,
        *,
        hold: Collection[str] = (),
        pods: PodSource | None = None,
        processes: ProcessContainers | None = None,
        on_end: Callable[[EndVerdict], None] = lambda _: None,
    ) -> None:
        self.clock = clock
        self._hold = hold
        self.workers: dict[str, QueueWorker] = {}
        self.sampler = Sampler(
            backend,
            ticks=Ticks(event_wait=0.0),
            workers=self._worker,
            containers=Containers(
                claims=claims,
                pods=pods,
                processes=processes,
                ended_grace=60.0,
                started=clock.wall(),
                on_end=on_end,
            ),
            clock=clock,
            wall=clock.wall,
        )
        self.step()

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds)):
            self.clock.now += 1.0
            for worker in self._ears():
                worker.run()  # once: each wait for events asks for the next
            self.step()

    def step(self) -> None:
        """Step, and only then let the workers work, until all are done."""
        self.sampler.step()
        while sum(worker.run() for worker in self._hands()):
            pass

    def _ears(self) -> list[QueueWorker]:
        return [w for name, w in self.workers.items() if name.startswith("events-")]

    def _hands(self) -> list[QueueWorker]:
        return [w for name, w in self.workers.items() if not name.startswith("events-")]

    def _worker(self, name: str) -> QueueWorker:
        worker = QueueWorker(hold=name in self._hold)
        self.workers[name] = worker
        return worker


class Harness(Rig):
    """A rig over a scripted backend and scripted claims."""

    def __init__(
        self,
        count: int = 2,
        *,
        claims: Claims | None = None,
        open_error: GpuError | None = None,
        hold: Collection[str] = (),
        listed: Sequence[Gpu] | None = None,
        without_claims: bool = False,
        pods: PodSource | None = None,
        processes: ProcessContainers | None = None,
        on_end: Callable[[EndVerdict], None] = lambda _: None,
    ) -> None:
        clock = ManualClock()
        self.backend = ScriptedBackend(clock, listed or [gpu(index) for index in range(count)])
        self.backend.open_error = open_error
        self.claims = ScriptedClaims(claims or Claims())
        super().__init__(
            self.backend,
            clock,
            None if without_claims else self.claims,
            hold=hold,
            pods=pods,
            processes=processes,
            on_end=on_end,
        )
