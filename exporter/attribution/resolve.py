"""Resolves claims to devices: which container has which GPU or slice, and how much of it."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from exporter.attribution.device_ids import parse
from exporter.attribution.directory import Device, Directory
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
from exporter.model.devices import Gpu
from exporter.model.pods import DraDevice

NO_DRA_DEVICES: Final[Mapping[DraName, DraDevice]] = MappingProxyType({})

_Holders = Mapping[int | None, Mapping[Container, str]]
"""The containers that have each share of a device, with the resources that they asked for."""

_NAMES_MPS: Final = re.compile(r"(?:^|[^a-z0-9])mps(?:$|[^a-z0-9])")


class Unresolved(StrEnum):
    """Why a claim matches no device."""

    UNKNOWN_FORM = "unknown_form"
    """The device id has no form that the exporter knows."""
    NO_SUCH_DEVICE = "no_such_device"
    MIG_ENABLED = "mig_enabled"
    """The id names a whole GPU, but the GPU is divided into slices."""
    DRA = "dra"
    """No ResourceSlice publishes the device, or the exporter does not watch ResourceSlices."""
    DRA_AMBIGUOUS = "dra_ambiguous"
    """The published device may be any of several slices."""


def resolve(
    claims: Claims,
    gpus: Sequence[Gpu],
    mps_gpus: AbstractSet[str] = frozenset(),
    dra_devices: Mapping[DraName, DraDevice] = NO_DRA_DEVICES,
) -> Resolution:
    """Return the allocations that the claims amount to, and the claims that match no device.

    ``mps_gpus`` holds the UUIDs of the GPUs on which MPS clients run. It is needed because device
    ids do not distinguish MPS from time-slicing. ``dra_devices`` are the devices that DRA drivers
    publish.

    - **Who has an id.** Kubelets go on listing pods that have ended, while other pods have their
      devices already. So an id belongs to the container whose claim was first seen last
      (``Claim.since``). Claims that were first seen in the same answer split the id.
    - **How much of the device** (``share``). An id stands for one share of its device, or for the
      whole device. A container's ``share`` is the number of its shares, divided by the number of
      all shares that the kubelet advertises or that are claimed. After the device plugin was
      reconfigured, whole ids and shared ids of one device may be claimed at once. Then the shares
      are scaled so that they sum to 1.
    - **Whether alone** (``sole``). A container is the sole one on its device if nobody else has a
      claim on the device, if its own id stands for the whole device, and, for a slice, if no other
      slice has the same GPU instance, because memory and activity belong to the GPU instance.
    - **DRA.** Containers that share a ResourceClaim have its device in equal shares.
    """
    directory = Directory(gpus)
    devices: dict[str, _ClaimedDevice] = {}
    unmatched: list[tuple[Claim | DraClaim, str]] = []
    for dra_claim in claims.dra:
        candidate = _find_dra(dra_devices.get(dra_claim.device_name), directory)
        if isinstance(candidate, Unresolved):
            unmatched.append((dra_claim, candidate.value))
        else:
            claimed = devices.setdefault(candidate.uuid, _ClaimedDevice(candidate))
            claimed.dra[dra_claim.container] = dra_claim
    for claim in claims.held:
        found = _find(claim, directory)
        if isinstance(found, Unresolved):
            unmatched.append((claim, found.value))
        else:
            device, share = found
            devices.setdefault(device.uuid, _ClaimedDevice(device)).add(claim, share)
    advertised = _advertised_shares(claims.allocatable, directory) if devices else {}
    return Resolution(
        allocations=tuple(
            allocation
            for uuid, each in devices.items()
            for allocation in each.allocations(advertised.get(uuid, set()), mps_gpus)
        ),
        unmatched=tuple(unmatched),
    )


def _find(claim: Claim, directory: Directory) -> tuple[Device, int | None] | Unresolved:
    """Return the device and the number of the share that an id stands for, or why there is none.

    The share is ``None`` if the id stands for the whole device.
    """
    device_id = parse(claim.device_id)
    if device_id is None:
        return Unresolved.UNKNOWN_FORM
    device = directory.find(device_id, claim.since)
    if device is None:
        return Unresolved.NO_SUCH_DEVICE
    if device.slice is None and device.gpu.mig_enabled:
        return Unresolved.MIG_ENABLED
    return device, device_id.share


def _find_dra(published: DraDevice | None, directory: Directory) -> Device | Unresolved:
    if published is None:
        return Unresolved.DRA
    candidates = directory.find_dra(published)
    if not candidates:
        return Unresolved.NO_SUCH_DEVICE
    return candidates[0] if len(candidates) == 1 else Unresolved.DRA_AMBIGUOUS


def _advertised_shares(
    allocatable: Mapping[str, tuple[str, ...]] | None, directory: Directory
) -> dict[str, set[int]]:
    """Return the numbers of the shares that the kubelet advertises of each device, by UUID."""
    shares: defaultdict[str, set[int]] = defaultdict(set)
    for ids in (allocatable or {}).values():
        for device_id in filter(None, map(parse, ids)):
            device = directory.find(device_id) if device_id.share is not None else None
            if device and device_id.share is not None:
                shares[device.uuid].add(device_id.share)
    return shares


@dataclass(slots=True)
class _ClaimedDevice:
    """A device and the claims on it."""

    device: Device
    claims: dict[int | None, list[Claim]] = field(default_factory=dict)
    """By the number of the share that the id stands for; ``None``: the whole device."""
    dra: dict[Container, DraClaim] = field(default_factory=dict)

    def add(self, claim: Claim, share: int | None) -> None:
        self.claims.setdefault(share, []).append(claim)

    def allocations(
        self, advertised: AbstractSet[int], mps_gpus: AbstractSet[str]
    ) -> Iterator[Allocation]:
        """Yield an allocation for each container that has the device or a share of it.

        ``advertised`` are the numbers of the device's shares that the kubelet advertises.
        """
        holders = {share: _newest(claims) for share, claims in self.claims.items()}
        sharing = _sharing(holders)
        resources = self._resources(holders)
        size = max(1, len(advertised | (self.claims.keys() - {None})))
        shares = self._shares(holders, size)
        total = sum(shares.values())
        alone = len(shares) == 1 and not self.device.shares_gpu_instance
        for container, count in shares.items():
            resource, dra = resources[container], self.dra.get(container)
            uses_mps = self.device.uuid in mps_gpus or bool(_NAMES_MPS.search(resource))
            yield Allocation(
                container=container,
                resource=resource,
                sharing=self._kind(dra, shares=container in sharing, uses_mps=uses_mps),
                gpu=self.device.gpu,
                slice=self.device.slice,
                share=count / max(size, total),
                sole=alone and container not in sharing,
                claim_namespace=dra.claim_namespace if dra else "",
                claim_name=dra.claim_name if dra else "",
            )

    def _shares(self, holders: _Holders, size: int) -> dict[Container, float]:
        """Return how many of the device's ``size`` shares each container has.

        The id of the whole device stands for all shares, and so does a DRA claim. Containers that
        have the same id split what it stands for evenly.
        """
        shares: defaultdict[Container, float] = defaultdict(float)
        for share, found in holders.items():
            for container in found:
                shares[container] += (size if share is None else 1) / len(found)
        for container in self.dra:
            shares[container] += size / len(self.dra)
        return shares

    def _resources(self, holders: _Holders) -> dict[Container, str]:
        """Return the resource that each container asked for: of several, the first."""
        resources: dict[Container, str] = {}
        for found in holders.values():
            for container, resource in found.items():
                resources.setdefault(container, resource)
        for container, claim in self.dra.items():
            resources.setdefault(container, claim.driver)
        return resources

    def _kind(self, dra: DraClaim | None, *, shares: bool, uses_mps: bool) -> Sharing:
        """Return the way in which a container has the device, by its claims."""
        if dra:
            return Sharing.DRA
        if shares:
            return Sharing.MPS if uses_mps else Sharing.TIME_SLICED
        return Sharing.MIG if self.device.slice else Sharing.EXCLUSIVE


def _sharing(holders: _Holders) -> set[Container]:
    """Return the containers that have a share of a device, and not only the whole device."""
    return {who for share, found in holders.items() if share is not None for who in found}


def _newest(claims: Sequence[Claim]) -> dict[Container, str]:
    """Return the containers that have an id, with the resource of each claim.

    These are the containers whose claims were first seen last.
    """
    latest = max(claim.since for claim in claims)
    holders: dict[Container, str] = {}
    for claim in claims:
        if claim.since == latest:
            holders.setdefault(claim.container, claim.resource)
    return holders
