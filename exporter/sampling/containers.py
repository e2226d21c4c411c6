"""What the exporter knows of containers: readings are booked on them, and samples come out."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from exporter.model.claims import Container
from exporter.model.clocks import Monotonic, UnixSeconds
from exporter.model.readings import XidEvent
from exporter.model.snapshot import ContainerSample, SourceHealth, Unattributed
from exporter.model.steps import BusyStep, Readings, Steps
from exporter.model.verdicts import EndCounts, EndVerdict
from exporter.sampling.allocations import Allocations
from exporter.sampling.ledger import Ledger
from exporter.sampling.runs import ContainerRuns
from exporter.sampling.shared import ProcessContainers, SharedGpus
from exporter.sampling.sources import ClaimSource, PodSource
from exporter.sampling.starts import Starts
from exporter.sampling.view import GpuView


class Containers:
    """Puts together the five subjects that concern containers, and hands readings to each.

    - :class:`Allocations` knows which device is allocated to which container.
    - :class:`SharedGpus` splits the readings of a GPU among the containers that share it.
    - :class:`Ledger` books on containers what their devices did.
    - :class:`ContainerRuns` follows how containers end, where there is a pod watch.
    - :class:`Starts` knows when they began.

    A source that is ``None`` is not asked, and has no health. ``started`` is when the program
    started. ``on_end`` is called for each end of a container. ``beside`` gives
    the health of further sources.
    """

    def __init__(
        self,
        *,
        claims: ClaimSource | None = None,
        pods: PodSource | None = None,
        processes: ProcessContainers | None = None,
        ended_grace: float,
        started: UnixSeconds,
        beside: Sequence[Callable[[], SourceHealth]] = (),
        on_end: Callable[[EndVerdict], None] = lambda _: None,
    ) -> None:
        self._sources = [source for source in (claims, pods) if source is not None]
        self._beside = beside
        self.allocations = Allocations(claims, pods)
        self._ledger = Ledger(ended_grace)
        self._shared = SharedGpus(processes)
        self._pods = pods
        self._starts = Starts()
        self._runs = (
            ContainerRuns(pods, started=started, ended_grace=ended_grace, on_end=on_end)
            if pods
            else None
        )

    def splits(self, gpu_uuid: str) -> bool:
        """Whether a GPU's full reading has to include the utilization of single processes."""
        return self._shared.splits(gpu_uuid)

    def book(
        self,
        view: GpuView,
        readings: Readings,
        steps: Steps,
        now: Monotonic,
        timestamp: UnixSeconds,
    ) -> None:
        """Book the readings of one visit to a GPU.

        ``view`` and ``steps`` are what the GPU's tracker made of them.
        """
        if readings.full is not None:
            busy = _without_the_board_under_mig(view, steps.busy)
            self._ledger.busy(view.gpu.uuid, busy, now, self._shared.busy_shares(readings.full))
        used = self._book_memory(view)
        if self._runs is not None:
            self._runs.gpu_found(view.gpu.uuid)
            self._keep_evidence(self._runs, view, used, timestamp)
        if readings.slow is not None:
            self._ledger.energy(steps.energy, now)

    def away(self, gpu_uuid: str, *, lost: bool = False) -> None:
        """Note that a GPU can't be read; ``lost``: because it fell off the bus."""
        self._ledger.away(gpu_uuid)
        if lost and self._runs is not None:
            self._runs.gpu_lost(gpu_uuid)

    def xid(self, event: XidEvent) -> None:
        if self._runs is not None:
            self._runs.xid(event)

    def refresh(self, gpus: Sequence[GpuView], now: Monotonic, timestamp: UnixSeconds) -> bool:
        """Ask all sources what has changed; return whether a new snapshot is needed."""
        changed = self.allocations.refresh(gpus, now)
        if changed:
            self._set_allocations(gpus, now)
        if self.allocations.known:
            self._starts.update(self.allocations.containers, timestamp)
        return self._follow_runs(now, timestamp) or changed

    def samples(self, now: Monotonic) -> tuple[ContainerSample, ...]:
        """Return a sample of each container that has a device, or had one a short while ago."""
        samples = self._ledger.samples(now)
        return samples if self._runs is None else self._runs.annotate(samples)

    def unattributed(self) -> Mapping[str, Unattributed]:
        """Return the work of devices that was booked on no container, by UUID."""
        return self._ledger.unattributed()

    def host_oom_kills(self, samples: Iterable[ContainerSample]) -> Mapping[Container, int]:
        """Return how often each container of the samples was killed for host memory."""
        if self._runs is None:
            return {}
        return self._runs.host_oom_kills({sample.allocation.container for sample in samples})

    def host_oom_last(self, samples: Iterable[ContainerSample]) -> Mapping[Container, UnixSeconds]:
        """Return when each container of the samples was last killed for host memory, if ever."""
        if self._runs is None:
            return {}
        return self._runs.host_oom_last({sample.allocation.container for sample in samples})

    def starts(self, samples: Iterable[ContainerSample]) -> Mapping[Container, UnixSeconds]:
        """Return when the present runs of those containers began that have a device now."""
        containers = dict.fromkeys(s.allocation.container for s in samples if not s.ended)
        return self._starts.of(containers, self._pods.pods() if self._pods else {})

    def container_ends(self, samples: Iterable[ContainerSample]) -> Mapping[Container, EndCounts]:
        """Return how often each container of the samples ended, by cause and confidence."""
        if self._runs is None:
            return {}
        return self._runs.ends({sample.allocation.container for sample in samples})

    def sources(self) -> Iterable[SourceHealth]:
        """Yield the health of each source."""
        for source in self._sources:
            yield source.health()
        yield from self._shared.health()
        for health in self._beside:
            yield health()

    def _set_allocations(self, gpus: Sequence[GpuView], now: Monotonic) -> None:
        current = self.allocations.current
        self._ledger.set_allocations(current if self.allocations.known else None, now)
        self._ledger.forget_devices({uuid for view in gpus for uuid in view.devices})
        self._shared.set_allocations(current)
        for view in gpus:  # the memory in use may belong to other containers now
            self._book_memory(view)

    def _follow_runs(self, now: Monotonic, timestamp: UnixSeconds) -> bool:
        """Take new runs and ends; return whether there is news of an end."""
        if self._runs is None:
            return False
        current = self.allocations.current
        self._ledger.set_runs(self._runs.latest(current), now)
        ended = self._runs.step(current if self.allocations.known else None, timestamp)
        for key in ended:
            self._ledger.serve_again(key, now)
        return bool(ended)

    def _book_memory(self, view: GpuView) -> Mapping[str, Mapping[Container, int]]:
        """Book the memory in use; return it by device and container, for devices that are split."""
        used = self._shared.memory_by_device(view.gpu, view.fast)
        for device_uuid, memory in view.memory_by_device():
            self._ledger.memory(device_uuid, memory, used.get(device_uuid))
        return used

    def _keep_evidence(
        self,
        runs: ContainerRuns,
        view: GpuView,
        used: Mapping[str, Mapping[Container, int]],
        timestamp: UnixSeconds,
    ) -> None:
        """Keep what may explain the end of a container on this GPU."""
        for device_uuid, memory in view.memory_by_device():
            if memory is not None:
                runs.memory(device_uuid, memory, used.get(device_uuid, {}), timestamp)
        uuid, ended = view.gpu.uuid, view.fast.ended
        if not ended:
            return
        sole = self.allocations.sole_container(uuid)
        owners = self._shared.owners(uuid, (process.pid for process in ended))
        for process in ended:
            if container := sole or owners.get(process.pid):
                runs.process_ended(container, uuid, process, timestamp)


def _without_the_board_under_mig(view: GpuView, steps: Sequence[BusyStep]) -> Sequence[BusyStep]:
    """Leave out the step of a MIG board: it repeats the steps of the board's slices."""
    if not view.gpu.mig_enabled:
        return steps
    return [step for step in steps if step.device_uuid != view.gpu.uuid]
