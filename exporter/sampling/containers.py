"""Who holds what, and what it was used for: claims, pods and processes joined with readings."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from exporter.attribution.resolve import NO_DRA_DEVICES, resolve
from exporter.model.claims import Claims, Container, DraName, PodName, Resolution
from exporter.model.clocks import UnixSeconds
from exporter.model.oom import OomTotals, OomVerdict
from exporter.model.pods import DraDevice, PodRecord, Termination
from exporter.model.readings import FullReading, SlowReading, XidEvent
from exporter.model.snapshot import ContainerSample, SourceHealth, Unattributed
from exporter.sampling.ledger import Ledger
from exporter.sampling.memory_history import MemoryHistory
from exporter.sampling.oom import OomJudge
from exporter.sampling.shared import ProcessContainers, SharedGpus
from exporter.sampling.tracker import GpuTracker

log = logging.getLogger(__name__)


class ClaimSource(Protocol):
    """Tells who holds what: the kubelet's mapper."""

    def claims(self, now: float) -> Claims | None:
        """Return the claims that still hold; ``None`` when they can't be known any more."""

    def health(self) -> SourceHealth: ...


class PodSource(Protocol):
    """Tells of the node's pods: the watch on the API server."""

    def pods(self) -> Mapping[PodName, PodRecord]:
        """Return the pods by namespace and name."""

    def dra_devices(self) -> Mapping[DraName, DraDevice]:
        """Return what DRA drivers publish, by driver, pool and device."""

    def take_terminations(self) -> Sequence[Termination]:
        """Return the ends of containers that have not been returned yet."""

    def health(self) -> SourceHealth: ...


class Containers:
    """Keeps what is known of containers. A source that is ``None`` is not asked, and not told of.

    ``started`` is when the program started, in Unix seconds. ``on_oom`` hears of each container
    that ran out of GPU memory. ``beside`` gives the health of what is told of with the sources.
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
        on_oom: Callable[[OomVerdict], None] = lambda _: None,
    ) -> None:
        self._claim_source = claims
        self._pod_source = pods
        self._beside = beside
        self._on_oom = on_oom
        self._ledger = Ledger(ended_grace)
        self._shared = SharedGpus(processes)
        self._history = MemoryHistory()
        self._judge = OomJudge(self._history, started, ended_grace)
        self._claims: Claims | None = None
        self._resolution = Resolution()
        self._resolved: object = None

    # What devices did

    def splits(self, gpu_uuid: str) -> bool:
        """Whether the GPU's full reading is to tell of single processes."""
        return self._shared.splits(gpu_uuid)

    def full(self, tracker: GpuTracker, reading: FullReading, now: float) -> None:
        gpu = tracker.gpu
        # Under MIG the board's own step is what its slices did once more.
        steps = [
            step
            for step in tracker.full(reading, now)
            if step.device_uuid != gpu.uuid or not reading.gpu.mig_enabled
        ]
        self._ledger.busy(gpu.uuid, steps, now, self._shared.busy_shares(reading))

    def slow(self, tracker: GpuTracker, reading: SlowReading, now: float) -> None:
        self._ledger.energy(tracker.slow(reading, now), now)

    def memory(self, tracker: GpuTracker, timestamp: UnixSeconds | None = None) -> None:
        """Book the memory of the GPU's last fast reading; ``timestamp``: it was made just now."""
        parts = self._shared.memory_by_device(tracker.gpu, tracker.last_fast)
        for device_uuid, memory in tracker.memory_by_device():
            held = parts.get(device_uuid)
            self._ledger.memory(device_uuid, memory, held)
            if memory is not None and timestamp is not None and self._pod_source:
                holding = {who: part for who, part in (held or {}).items() if part}
                self._history.add(device_uuid, memory, holding, timestamp)
        if timestamp is not None:
            self._take_ended(tracker, timestamp)

    def away(self, gpu_uuid: str) -> None:
        self._ledger.away(gpu_uuid)

    def xid(self, event: XidEvent) -> None:
        self._judge.xid(event)

    # Who held them

    def refresh(self, trackers: Iterable[GpuTracker], now: float, timestamp: UnixSeconds) -> bool:
        """Join everything again if a part of it has changed; return whether anything has."""
        changed = self._resolve(list(trackers), now)
        self._hear_of_runs(now)
        return self._hear_of_ends(now, timestamp) or changed

    def samples(self, now: float) -> tuple[ContainerSample, ...]:
        """Return every container that has a device, or had until a grace ago."""
        samples = self._ledger.samples(now)
        if self._pod_source is None:
            return samples
        pods = self._pod_source.pods()
        return tuple(
            replace(
                sample,
                pod=pods.get(sample.allocation.container.pod_name),
                oom=self._oom(sample),
            )
            for sample in samples
        )

    def unattributed(self) -> Mapping[str, Unattributed]:
        return self._ledger.unattributed()

    def host_oom_kills(self, samples: Iterable[ContainerSample]) -> Mapping[Container, int]:
        """Return how often host memory ran out for those containers that are told of."""
        if not self._hears_of_ends:
            return {}
        kills, told = self._judge.host_kills, {sample.allocation.container for sample in samples}
        return {container: count for container, count in kills.items() if container in told}

    @property
    def _hears_of_ends(self) -> bool:
        """Whether a count of ends that says 0 means that there were none."""
        return self._pod_source is not None and self._pod_source.health().up

    def _oom(self, sample: ContainerSample) -> OomTotals | None:
        if not self._hears_of_ends:
            return None
        return self._judge.totals(sample.allocation.container, sample.allocation.device_uuid)

    def sources(self) -> Iterable[SourceHealth]:
        if self._claim_source:
            yield self._claim_source.health()
        if self._pod_source:
            yield self._pod_source.health()
        yield from self._shared.health()
        for health in self._beside:
            yield health()

    @property
    def allocatable(self) -> Mapping[str, int]:
        advertised = (self._claims.allocatable if self._claims else None) or {}
        return {resource: len(ids) for resource, ids in advertised.items()}

    @property
    def allocated(self) -> Mapping[str, int]:
        """Devices, not claims: an ended pod may still be listed beside its successor."""
        held = self._claims.held if self._claims else ()
        return Counter(resource for resource, _ in {(c.resource, c.device_id) for c in held})

    @property
    def unresolved(self) -> Mapping[str, int]:
        return self._resolution.unresolved

    def _resolve(self, trackers: list[GpuTracker], now: float) -> bool:
        claims = self._claim_source.claims(now) if self._claim_source else None
        gpus = tuple(tracker.gpu for tracker in trackers)
        mps = frozenset(tracker.gpu.uuid for tracker in trackers if tracker.runs_mps)
        dra = self._pod_source.dra_devices() if self._pod_source else NO_DRA_DEVICES
        places = tuple(part.placement_start for gpu in gpus for part in gpu.slices)
        if (claims, gpus, places, mps, dra) == self._resolved:
            return False
        self._resolved = (claims, gpus, places, mps, dict(dra))
        self._claims = claims
        self._resolution = resolve(claims, gpus, mps, dra) if claims else Resolution()
        self._ledger.hold(self._resolution.allocations if claims is not None else None, now)
        self._ledger.keep({uuid for tracker in trackers for uuid in tracker.devices})
        self._shared.set_allocations(self._resolution.allocations)
        for tracker in trackers:
            self.memory(tracker)
        return True

    def _take_ended(self, tracker: GpuTracker, timestamp: UnixSeconds) -> None:
        """Have the judge know what the driver kept of processes that have just ended."""
        uuid, ended = tracker.gpu.uuid, tracker.last_fast.ended
        if not ended:
            return
        holders = [a for a in self._resolution.allocations if a.device_uuid == uuid]
        owners = self._shared.owners(uuid, (process.pid for process in ended))
        for process in ended:
            sole = holders[0].container if len(holders) == 1 and holders[0].sole else None
            if container := sole or owners.get(process.pid):
                self._judge.process_ended(container, uuid, process, timestamp)

    def _hear_of_runs(self, now: float) -> None:
        pods = self._pod_source.pods() if self._pod_source else {}
        runs = {}
        for allocation in self._resolution.allocations:
            container = allocation.container
            pod = pods.get(container.pod_name)
            for record in pod.containers if pod else ():
                if record.name == container.name and record.container_id:
                    runs[container] = record.container_id
        self._ledger.runs(runs, now)

    def _hear_of_ends(self, now: float, timestamp: UnixSeconds) -> bool:
        if self._pod_source is None:
            return False
        if self._claims is not None:  # else nobody can tell
            # Also without new claims: another pod of a name may hold what the one before it held.
            pods = self._pod_source.pods()
            self._judge.set_allocations(self._resolution.allocations, pods, timestamp)
        for termination in self._pod_source.take_terminations():
            self._judge.terminated(termination)
        judgements = self._judge.step(timestamp)
        for held, verdict in judgements:
            for allocation in held:
                self._ledger.tell_again(allocation.container, allocation.device_uuid, now)
            if verdict:
                self._tell(verdict)
        return bool(judgements)

    def _tell(self, verdict: OomVerdict) -> None:
        container = verdict.termination.container
        log.warning(
            "container ran out of GPU memory",
            extra={
                "namespace": container.namespace,
                "pod": container.pod,
                "container": container.name,
                "uuid": verdict.device_uuid,
                "confidence": verdict.confidence,
                "rule": verdict.rule,
                "peak_bytes": verdict.peak_bytes,
                "limit_bytes": verdict.limit_bytes,
            },
        )
        self._on_oom(verdict)
