"""The pods of this node, how their containers ended, and the devices that DRA drivers publish."""

import asyncio
import logging
import random
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NoReturn

from exporter.kubernetes.access import ApiAccess
from exporter.kubernetes.failures import ApiFailure
from exporter.kubernetes.pods import Patterns, parse_pod, parse_terminations
from exporter.kubernetes.reflector import Reflector, Timing
from exporter.kubernetes.slices import parse_slice
from exporter.model.claims import DraName, PodName
from exporter.model.clocks import Monotonic, UnixSeconds, monotonic
from exporter.model.pods import DraDevice, PodRecord, Termination
from exporter.model.snapshot import SourceHealth

_LOG = logging.getLogger(__name__)

PODS: Final = ("/api/v1/pods",)
RESOURCE_SLICES: Final = tuple(
    f"/apis/resource.k8s.io/{version}/resourceslices" for version in ("v1", "v1beta2", "v1beta1")
)

_GONE_LIMIT: Final = 1000
"""Pods that are kept after their end, at most: four times what a node runs."""
_UNTAKEN_LIMIT: Final = 10_000
"""Terminations that wait to be taken, at most; then the oldest are lost."""
_DELIVERED_LIMIT: Final = 64
"""Ends that are remembered of a pod, at most. A status holds the last two of each container."""


class PodWatch:
    """Follows the pods of ``node``, and the node's ResourceSlices if ``dra`` is set.

    The watch keeps those labels of a pod that match a pattern of ``labels``; a pod wants devices if
    it requests a resource that matches a pattern of ``resources``. The watch keeps a deleted
    pod for a further ``grace_seconds``, so that the pod's end can be judged. It does not deliver
    the ends of containers that ended before ``since``.
    """

    def __init__(
        self,
        access: ApiAccess,
        node: str,
        *,
        since: UnixSeconds,
        labels: Collection[str] = (),
        resources: Collection[str] = (),
        dra: bool = False,
        grace_seconds: float = 300.0,
        timing: Timing | None = None,
        clock: Callable[[], Monotonic] = monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._failures: Counter[str] = Counter(dict.fromkeys(ApiFailure, 0))
        self._pods = _Pods(
            labels=Patterns(labels),
            resources=Patterns(resources),
            since=since,
            grace_seconds=grace_seconds,
            clock=clock,
            malformed=self._malformed,
        )
        self._slices = _Slices()

        def follow(paths: Sequence[str], sink: _Pods | _Slices) -> Reflector:
            return Reflector(
                access,
                paths,
                sink,
                selector=f"spec.nodeName={node}",
                failures=self._failures,
                timing=timing or Timing(),
                clock=clock,
                rng=rng,
            )

        self._of_pods = follow(PODS, self._pods)
        self._of_slices = follow(RESOURCE_SLICES, self._slices) if dra else None

    def pods(self) -> Mapping[PodName, PodRecord]:
        """Return the pods by name, also those that were deleted within the grace.

        The mapping is a view: it changes as pods do.
        """
        return self._pods.view()

    def dra_devices(self) -> Mapping[DraName, DraDevice]:
        """Return the devices of ``gpu.nvidia.com``.

        The same object is returned for as long as nothing changes.
        """
        return self._slices.devices

    def take_terminations(self) -> Sequence[Termination]:
        """Return the ends of containers that were not taken yet, in the order of their arrival.

        Each end is returned once, however often the API server sends it.
        """
        return self._pods.take()

    def subscribe(self, on_wanting: Callable[..., None]) -> None:
        """Have ``on_wanting(name, new=...)`` called for each pod that wants devices.

        It is called when the pod is bound to the node (``new``), and with each change of the pod
        until the pod has ended.
        """
        self._pods.on_wanting = on_wanting

    def has_ended(self, pod: PodName) -> bool:
        """Whether all containers of a pod have ended for good; ``False`` if that is not known."""
        record = self._pods.existing(pod)
        return self._of_pods.up and record is not None and record.ended

    def is_gone(self, pod: PodName) -> bool:
        """Whether a pod has ended or does not exist; ``False`` if that is not known."""
        record = self._pods.existing(pod)
        return self._of_pods.up and (record is None or record.ended)

    def knows(self, pod: PodName) -> bool:
        """Whether there is a record of the pod, or no record will come."""
        return pod in self._pods.view() or self._of_pods.shut_out

    def health(self) -> SourceHealth:
        """Return whether pods are followed; the message reports trouble with ResourceSlices too."""
        messages = [self._of_pods.message, self._of_slices.message if self._of_slices else ""]
        return SourceHealth(
            name="kubernetes",
            up=self._of_pods.up,
            message="; ".join(filter(None, messages)),
            duration_seconds=self._of_pods.duration_seconds,
            failures=dict(self._failures),
        )

    def _malformed(self, what: str) -> None:
        self._failures[ApiFailure.MALFORMED] += 1
        _LOG.warning("%s: %s is no text", PODS[0], what)

    async def run(self) -> NoReturn:
        """Follow for ever; ends by being cancelled."""
        async with asyncio.TaskGroup() as tasks:
            if self._of_slices:
                tasks.create_task(self._of_slices.run())
            await self._of_pods.run()


class _Pods:
    """What the watch keeps of pods; see :class:`PodWatch`."""

    def __init__(
        self,
        *,
        labels: Patterns,
        resources: Patterns,
        since: UnixSeconds,
        grace_seconds: float,
        clock: Callable[[], Monotonic],
        malformed: Callable[[str], None],
    ) -> None:
        self._labels = labels
        self._resources = resources
        self._malformed = malformed
        self._since = since
        self._grace_seconds = grace_seconds
        self._clock = clock
        self._here: dict[str, PodRecord] = {}
        self._gone: OrderedDict[str, tuple[Monotonic, PodRecord]] = OrderedDict()
        """Deleted pods by uid, with the time until which they are kept; the earliest first."""
        self._by_name: dict[PodName, PodRecord] = {}
        self._delivered: dict[str, deque[tuple[str, str]]] = {}
        """The latest ends that were delivered, by the pod's uid, for as long as the pod is kept."""
        self._untaken: deque[Termination] = deque(maxlen=_UNTAKEN_LIMIT)
        self.on_wanting: Callable[..., None] = lambda _name, *, new: None  # noqa: ARG005

    def view(self) -> Mapping[PodName, PodRecord]:
        self._bury()
        return MappingProxyType(self._by_name)

    def take(self) -> Sequence[Termination]:
        taken = tuple(self._untaken)
        self._untaken.clear()
        return taken

    def existing(self, name: PodName) -> PodRecord | None:
        """Return the pod of that name that was not deleted."""
        record = self._by_name.get(name)
        return record if record and record.uid in self._here else None

    def known(self) -> Collection[str]:
        return self._here.keys()

    def put(self, found: Mapping[str, Any]) -> None:
        record = parse_pod(found, self._labels, self._resources, self._malformed)
        uid = record.uid
        self._gone.pop(uid, None)
        new = uid not in self._here
        self._here[uid] = record
        self._by_name[record.pod_name] = record
        for end in parse_terminations(found, self._resources):
            delivered = self._delivered.setdefault(uid, deque(maxlen=_DELIVERED_LIMIT))
            if end.key not in delivered:
                delivered.append(end.key)
                if end.finished_at >= self._since:
                    self._untaken.append(end.termination)
        if record.wants_devices and not record.ended:
            self.on_wanting(record.pod_name, new=new)

    def drop(self, uid: str) -> None:
        record = self._here.pop(uid)
        self._gone[uid] = (Monotonic(self._clock() + self._grace_seconds), record)
        self._bury()

    def _bury(self) -> None:
        now = self._clock()
        while self._gone:
            uid, (until, record) = next(iter(self._gone.items()))
            if until > now and len(self._gone) <= _GONE_LIMIT:
                break
            del self._gone[uid]
            self._delivered.pop(uid, None)
            if self._by_name.get(record.pod_name) is record:  # else a pod of the same name has come
                del self._by_name[record.pod_name]


class _Slices:
    """The devices in the ResourceSlices. The newest generation of a pool replaces the others."""

    def __init__(self) -> None:
        self.devices: Mapping[DraName, DraDevice] = {}
        self._slices: dict[str, tuple[int, tuple[DraDevice, ...]]] = {}

    def known(self) -> Collection[str]:
        return self._slices.keys()

    def put(self, found: Mapping[str, Any]) -> None:
        uid: str = found["metadata"]["uid"]
        self._slices[uid] = parse_slice(found)
        self._join()

    def drop(self, uid: str) -> None:
        del self._slices[uid]
        self._join()

    def _join(self) -> None:
        devices = {
            device.device_name: device
            for _, published in sorted(self._slices.values(), key=lambda kept: kept[0])
            for device in published
        }
        if devices != self.devices:
            self.devices = devices
