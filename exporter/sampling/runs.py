"""The runs of containers, as the pod watch reports them, and what is seen of the GPUs meanwhile."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Final

from exporter.model.claims import Allocation, AllocationKey, Container
from exporter.model.clocks import UnixSeconds
from exporter.model.ends import IN_WORDS, Cause, Responsible
from exporter.model.readings import EndedProcess, Memory, XidEvent
from exporter.model.snapshot import ContainerSample
from exporter.model.verdicts import EndCounts, EndVerdict
from exporter.sampling.judge import EndJudge, Judgement
from exporter.sampling.memory_history import MemoryHistory
from exporter.sampling.sources import PodSource

_LOG: Final = logging.getLogger(__name__)


class ContainerRuns:
    """Follows the runs of containers: which run is the latest, and how runs end.

    Readings of memory, XIDs and processes that have ended are kept for some minutes as evidence.
    When the pod watch reports an end, the judge decides why the container ended. ``on_end`` is
    called for each end.
    """

    def __init__(
        self,
        pods: PodSource,
        *,
        started: UnixSeconds,
        ended_grace: float,
        on_end: Callable[[EndVerdict], None],
    ) -> None:
        self._pods = pods
        self._on_end = on_end
        self._history = MemoryHistory()
        self._judge = EndJudge(self._history, started, ended_grace)

    def latest(self, allocations: Iterable[Allocation]) -> Mapping[Container, str]:
        """Return the runtime's id of the latest run of each container, where it is known."""
        pods = self._pods.pods()
        runs = {}
        for allocation in allocations:
            container = allocation.container
            pod = pods.get(container.pod_name)
            for record in pod.containers if pod else ():
                if record.name == container.name and record.container_id:
                    runs[container] = record.container_id
        return runs

    def xid(self, event: XidEvent) -> None:
        """Keep an XID as evidence."""
        self._judge.xid(event)

    def gpu_lost(self, gpu_uuid: str) -> None:
        """Note that a GPU fell off the bus."""
        self._judge.gpu_lost(gpu_uuid)

    def gpu_found(self, gpu_uuid: str) -> None:
        """Note that a GPU was read."""
        self._judge.gpu_found(gpu_uuid)

    def memory(
        self,
        device_uuid: str,
        memory: Memory,
        by_container: Mapping[Container, int],
        now: UnixSeconds,
    ) -> None:
        """Keep the memory in use on a device as evidence."""
        in_use = {container: used for container, used in by_container.items() if used}
        self._history.add(device_uuid, memory, in_use, now)

    def process_ended(
        self, container: Container, device_uuid: str, process: EndedProcess, now: UnixSeconds
    ) -> None:
        """Keep as evidence what the driver's accounting says about a process that has ended."""
        self._judge.process_ended(container, device_uuid, process, now)

    def step(
        self, allocations: Iterable[Allocation] | None, now: UnixSeconds
    ) -> list[AllocationKey]:
        """Judge the ends that were reported; return the allocations that there is news about.

        ``allocations`` are the present ones; ``None``: they are unknown. They count also if they
        have not changed, because another pod of the same name may have taken them over.
        """
        if allocations is not None:
            self._judge.set_allocations(allocations, self._pods.pods(), now)
        for termination in self._pods.take_terminations():
            self._judge.terminated(termination)
        judgements = self._judge.step(now)
        for judgement in judgements:
            self._report(judgement)
        return [allocation.key for judgement in judgements for allocation in judgement.allocations]

    def annotate(self, samples: Iterable[ContainerSample]) -> tuple[ContainerSample, ...]:
        """Return the samples with their pods and their out-of-memory counts."""
        pods, current = self._pods.pods(), self._counts_are_current
        samples = tuple(samples)
        return tuple(
            replace(
                sample,
                pod=pods.get(sample.allocation.container.pod_name),
                oom=self._judge.totals(*sample.allocation.key) if current else None,
            )
            for sample in (*samples, *self._unlisted(samples))
        )

    def _unlisted(self, samples: Iterable[ContainerSample]) -> Iterator[ContainerSample]:
        """Yield samples of containers that the kubelet never listed.

        The time of their devices is booked on those that the kubelet did list.
        """
        listed = {sample.allocation.key for sample in samples}
        for key, allocation in self._judge.unlisted.allocations.items():
            if key not in listed:
                yield ContainerSample(allocation, ended=True, allocated_seconds=0.0)

    def host_oom_kills(self, containers: AbstractSet[Container]) -> Mapping[Container, int]:
        """Return how often each of these containers was killed for host memory, where known."""
        if not self._counts_are_current:
            return {}
        kills = self._judge.host_kills.items()
        served = containers | self._judge.unlisted.containers
        return {container: count for container, count in kills if container in served}

    def host_oom_last(self, containers: AbstractSet[Container]) -> Mapping[Container, UnixSeconds]:
        """Return when each of these containers was last killed for host memory, if ever."""
        if not self._counts_are_current:
            return {}
        times = self._judge.host_kill_times.items()
        served = containers | self._judge.unlisted.containers
        return {container: time for container, time in times if container in served}

    def ends(self, containers: AbstractSet[Container]) -> Mapping[Container, EndCounts]:
        """Return how often each of these containers ended, by cause, where known."""
        if not self._counts_are_current:
            return {}
        counts = self._judge.ends.items()
        served = containers | self._judge.unlisted.containers
        return {container: count for container, count in counts if container in served}

    @property
    def _counts_are_current(self) -> bool:
        """Whether a count of ends that is 0 means that there were none."""
        return self._pods.health().up

    def _report(self, judgement: Judgement) -> None:
        verdict = judgement.verdict
        container, oom = verdict.termination.container, verdict.oom
        fields: dict[str, object] = {
            "namespace": container.namespace,
            "pod": container.pod,
            "container": container.name,
            "exit_code": verdict.termination.exit_code,
            "cause": verdict.cause,
            "confidence": verdict.confidence,
            "rule": verdict.rule,
        }
        if oom and verdict.cause is Cause.GPU_OOM:
            fields |= {
                "uuid": oom.device_uuid or "unknown",
                "oom_rule": oom.rule,
                "peak_bytes": oom.peak_bytes,
                "limit_bytes": oom.limit_bytes,
            }
        if verdict.first:
            fields["first"] = f"{verdict.first.container.namespace}/{verdict.first.container.pod}"
        level = logging.INFO if verdict.responsible is Responsible.NOBODY else logging.WARNING
        _LOG.log(level, "container ended: %s", IN_WORDS[verdict.cause], extra=fields)
        self._on_end(verdict)
