"""Claims against the devices that we see: who holds which GPU or slice, and how much of it."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from exporter.attribution.device_ids import DeviceId, parse
from exporter.model.claims import (
    Allocation,
    Claim,
    Claims,
    Container,
    DraClaim,
    DraName,
    Resolution,
    Sharing,
)
from exporter.model.devices import Gpu, Slice
from exporter.model.pods import DraDevice

NO_DRA_DEVICES: Mapping[DraName, DraDevice] = MappingProxyType({})

_NAMES_MPS = re.compile(r"(?:^|[^a-z0-9])mps(?:$|[^a-z0-9])")


def resolve(
    claims: Claims,
    gpus: Sequence[Gpu],
    mps_gpus: AbstractSet[str] = frozenset(),
    dra_devices: Mapping[DraName, DraDevice] = NO_DRA_DEVICES,
) -> Resolution:
    """Find the device of each claim, and how much of it each container holds.

    ``mps_gpus`` holds the uuids of the GPUs on which MPS clients run: ids alone do not tell MPS
    from time-slicing. A resource that is named after MPS says so too. ``dra_devices`` are what DRA
    drivers publish, by driver, pool and device.

    - An id belongs to the container whose claim was seen last (``Claim.since``): kubelets go on
      listing ended pods while their devices are with others already. Claims seen in the same
      answer can't be told apart: they split the id, and are not ``sole``. An id is one share of
      its device, or all of it.
    - ``share`` is the shares held of all that are advertised or held by anyone. If the plugin was
      reconfigured, so that whole and shared ids of one device are held at once, all are scaled to
      sum to 1, and none is ``sole``.
    - GKE names a slice by its GPU instance only; that is the instance's leading slice.
    - Memory and activity belong to a GPU instance, so a slice that has its instance for itself is
      the only kind of slice whose holder is ``sole``.

    - Containers that share a DRA claim all hold its device, in equal parts. A slice that is made on
      claiming has no uuid in advance: it is its GPU's slice of that profile and place, or, where
      no place is known, its only one of that profile, or ambiguous.

    ``unresolved`` counts claims as ``unknown_form``, ``no_such_device``, ``mig_enabled`` (a whole
    GPU that is cut into slices), ``dra`` (no ResourceSlice tells the device, or nobody looks) and
    ``dra_ambiguous``.
    """
    directory = _Directory(gpus)
    holdings: dict[str, _Holdings] = {}
    unresolved: Counter[str] = Counter()
    for dra_claim in claims.dra:
        published = dra_devices.get(dra_claim.device_name)
        found = directory.find_dra(published) if published else []
        if published is None:
            unresolved["dra"] += 1
        elif len(found) != 1:
            unresolved["dra_ambiguous" if found else "no_such_device"] += 1
        else:
            (device,) = found
            holdings.setdefault(device.uuid, _Holdings(device)).dra[dra_claim.container] = dra_claim
    for claim in claims.held:
        device_id = parse(claim.device_id)
        claimed = directory.find(device_id) if device_id else None
        if device_id is None:
            unresolved["unknown_form"] += 1
        elif claimed is None:
            unresolved["no_such_device"] += 1
        elif claimed.part is None and claimed.gpu.mig_enabled:
            unresolved["mig_enabled"] += 1
        else:
            holdings.setdefault(claimed.uuid, _Holdings(claimed)).add(claim, device_id.share)
    advertised = _advertised_shares(claims.allocatable, directory) if holdings else {}
    return Resolution(
        allocations=tuple(
            allocation
            for uuid, held in holdings.items()
            for allocation in held.allocations(advertised.get(uuid, set()), mps_gpus)
        ),
        unresolved=dict(unresolved),
    )


@dataclass(frozen=True, slots=True)
class _Device:
    gpu: Gpu
    part: Slice | None = None

    @property
    def uuid(self) -> str:
        return self.part.uuid if self.part else self.gpu.uuid

    @property
    def shares_gpu_instance(self) -> bool:
        return self.part is not None and any(
            other.gpu_instance == self.part.gpu_instance and other.uuid != self.part.uuid
            for other in self.gpu.slices
        )


class _Directory:
    """Every name under which a device may be claimed. Finding is equality, never resemblance."""

    def __init__(self, gpus: Iterable[Gpu]) -> None:
        self._devices: dict[DeviceId, _Device] = {}
        for gpu in gpus:
            whole = _Device(gpu)
            self._devices[DeviceId(uuid=gpu.uuid)] = whole
            self._devices[DeviceId(index=gpu.index)] = whole
            minor = gpu.minor_number
            if minor is not None:
                self._devices[DeviceId(minor_number=minor)] = whole
            leading = gpu.leading_slices
            for part in gpu.slices:
                device, instance = _Device(gpu, part), part.gpu_instance
                self._devices[DeviceId(uuid=part.uuid)] = device
                by_instances = DeviceId(
                    uuid=gpu.uuid, gpu_instance=instance, compute_instance=part.compute_instance
                )
                self._devices[by_instances] = device
                if minor is not None and part in leading:
                    self._devices[DeviceId(minor_number=minor, gpu_instance=instance)] = device

    def find(self, device_id: DeviceId) -> _Device | None:
        return self._devices.get(replace(device_id, share=None))

    def find_dra(self, published: DraDevice) -> list[_Device]:
        """Return every device that it may be."""
        if published.uuid:
            device = self.find(DeviceId(uuid=published.uuid))
            return [device] if device else []
        parent = self.find(DeviceId(uuid=published.parent_uuid)) if published.parent_uuid else None
        if parent is None:
            return []
        cut = [part for part in parent.gpu.slices if part.profile == published.profile]
        if any(part.placement_start is not None for part in cut):
            cut = [part for part in cut if part.placement_start == published.placement_start]
        return [_Device(parent.gpu, part) for part in cut]


def _advertised_shares(
    allocatable: Mapping[str, tuple[str, ...]] | None, directory: _Directory
) -> dict[str, set[int]]:
    """Return the shares of each shared device by its uuid."""
    shares: defaultdict[str, set[int]] = defaultdict(set)
    for ids in (allocatable or {}).values():
        for device_id in filter(None, map(parse, ids)):
            device = directory.find(device_id) if device_id.share is not None else None
            if device and device_id.share is not None:
                shares[device.uuid].add(device_id.share)
    return shares


@dataclass(slots=True)
class _Holdings:
    """The claims on one device, by share (``None``: all of it)."""

    device: _Device
    claims: dict[int | None, list[Claim]] = field(default_factory=dict)
    dra: dict[Container, DraClaim] = field(default_factory=dict)

    def add(self, claim: Claim, share: int | None) -> None:
        self.claims.setdefault(share, []).append(claim)

    def allocations(
        self, advertised: AbstractSet[int], mps_gpus: AbstractSet[str]
    ) -> Iterator[Allocation]:
        size = max(1, len(advertised | (self.claims.keys() - {None})))
        units: defaultdict[Container, float] = defaultdict(float)
        resources: dict[Container, str] = {}
        sharing: set[Container] = set()
        for share, claims in self.claims.items():
            holders = _newest(claims)
            for container, resource in holders.items():
                units[container] += (size if share is None else 1) / len(holders)
                resources.setdefault(container, resource)
            if share is not None:
                sharing.update(holders)
        for container, dra_claim in self.dra.items():
            units[container] += size / len(self.dra)
            resources.setdefault(container, dra_claim.driver)
        total = sum(units.values())
        alone = len(units) == 1 and not self.device.shares_gpu_instance
        for container, held in units.items():
            resource = resources[container]
            through = self.dra.get(container)
            if through:
                kind = Sharing.DRA
            elif container in sharing:
                mps = self.device.uuid in mps_gpus or _NAMES_MPS.search(resource)
                kind = Sharing.MPS if mps else Sharing.TIME_SLICED
            else:
                kind = Sharing.MIG if self.device.part else Sharing.EXCLUSIVE
            yield Allocation(
                container=container,
                resource=resource,
                sharing=kind,
                gpu=self.device.gpu,
                slice=self.device.part,
                share=held / max(size, total),
                sole=alone and container not in sharing,
                claim_namespace=through.claim_namespace if through else "",
                claim_name=through.claim_name if through else "",
            )


def _newest(claims: Sequence[Claim]) -> dict[Container, str]:
    """Return who holds an id, with the resource's name: whoever was seen with it last."""
    latest = max(claim.since for claim in claims)
    holders: dict[Container, str] = {}
    for claim in claims:
        if claim.since == latest:
            holders.setdefault(claim.container, claim.resource)
    return holders
