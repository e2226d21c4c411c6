"""Simulated GPUs in a real cluster: its kubelet gives them to pods, which say what they do there.

The scenario's word for it is ``pods: cluster``. All but the driver is what runs in production.
"""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NoReturn

from exporter.attribution.resolve import NO_DRA_DEVICES, resolve
from exporter.document import DocumentError
from exporter.gpus.simulated.annotation import parse_annotation
from exporter.gpus.simulated.backend import SimulatedBackend
from exporter.gpus.simulated.guests import Guest
from exporter.gpus.simulated.workloads import DEFAULTS, Workload, WorkloadKind
from exporter.model.claims import Allocation
from exporter.model.clocks import Monotonic, monotonic
from exporter.model.pods import PodRecord
from exporter.sampling.sources import ClaimSource, PodSource

_LOG = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 0.5
_DEFAULT: Final = DEFAULTS[WorkloadKind.TRAINING]
"""What a pod does that says nothing: it is to be seen."""
_MISTAKEN: Final = DEFAULTS[WorkloadKind.IDLE]
"""What a pod does that says something which means nothing: so that this is seen, too."""
_REMEMBERED: Final = 1000

_NVIDIA: Final = "0x10de"
_DISPLAYS: Final = "0x03"
"""The PCI class of display controllers, of which GPUs without a display are, too."""


def real_gpu(root: Path = Path("/")) -> str | None:
    """Return what says that this node has real GPUs, if anything does.

    All of it can be seen from within a container that was given none.
    """
    for driver in ("proc/driver/nvidia", "sys/module/nvidia"):
        if (root / driver).exists():
            return f"/{driver} says that NVIDIA's driver is loaded"
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        vendor, kind = (_text(device / name) for name in ("vendor", "class"))
        if vendor == _NVIDIA and kind.startswith(_DISPLAYS):
            return f"PCI device {device.name} is a GPU of NVIDIA's"
    return None


class Loads:
    """Has the cluster's pods be on the simulated GPUs that they were given."""

    def __init__(
        self, backend: SimulatedBackend, claims: ClaimSource, pods: PodSource | None
    ) -> None:
        self._backend = backend
        self._claims = claims
        self._pods = pods
        self._told: dict[tuple[str, str], Workload] = {}
        """By a pod's uid and its annotation's text."""

    async def run(self) -> NoReturn:
        """Look for ever; ends by being cancelled."""
        while True:
            self.look(monotonic())
            await asyncio.sleep(_LOOK_SECONDS)

    def look(self, now: Monotonic) -> None:
        """Put the containers that have devices at ``now`` on these devices."""
        claims, gpus = self._claims.claims(now), self._backend.gpus()
        if claims is None:
            return
        mps = frozenset(gpu.uuid for gpu in gpus if self._backend.shared_by_mps(gpu))
        devices = self._pods.dra_devices() if self._pods else NO_DRA_DEVICES
        allocations = resolve(claims, gpus, mps, devices).allocations
        self._backend.occupy(guest for held in allocations for guest in self._guests(held))

    def _guests(self, allocation: Allocation) -> Iterator[Guest]:
        """Yield the container as a guest of its device, if it runs."""
        container = allocation.container
        pod = self._pods.pods().get(container.pod_name) if self._pods else None
        if pod is None:
            return
        for record in pod.containers:
            if record.name == container.name and record.running_since is not None:
                yield Guest(
                    container=container,
                    run=record.container_id or "",
                    device_uuid=allocation.device_uuid,
                    workload=self._workload(pod),
                    started=self._backend.scenario_time(record.running_since),
                )

    def _workload(self, pod: PodRecord) -> Workload:
        if pod.simulate is None:
            return _DEFAULT
        key = pod.uid, pod.simulate
        if key not in self._told:
            try:
                workload = parse_annotation(pod.simulate)
            except DocumentError as error:
                _LOG.warning("pod %s/%s is simulated as idle: %s", pod.namespace, pod.name, error)
                workload = _MISTAKEN
            if len(self._told) >= _REMEMBERED:
                self._told.clear()
            self._told[key] = workload
        return self._told[key]


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
