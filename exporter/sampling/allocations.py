"""Which device is allocated to which container, by the kubelet's claims."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from exporter.attribution.resolve import NO_DRA_DEVICES, resolve
from exporter.model.claims import Allocation, Claim, Claims, Container, DraClaim, Resolution
from exporter.model.clocks import Monotonic
from exporter.sampling.sources import ClaimSource, PodSource
from exporter.sampling.view import GpuView

_LOG: Final = logging.getLogger(__name__)

_UNMATCHED_SECONDS: Final = 30.0
"""After which a claim that matches no device is logged: GPUs and slices may be found a little later
than the claims on them."""


class Allocations:
    """Resolves the kubelet's claims to devices, anew whenever something that matters has changed.

    What matters are the claims, the GPUs with their slices, which GPUs run MPS, and the devices
    that DRA drivers publish. A source that is ``None`` is not asked.
    """

    def __init__(self, claims: ClaimSource | None, pods: PodSource | None) -> None:
        self._claim_source = claims
        self._pod_source = pods
        self._claims: Claims | None = None
        self._resolution = Resolution()
        self._unmatched: dict[Claim | DraClaim, Monotonic] = {}
        """The claims that match no device, with the time since when."""
        self._logged: set[Claim | DraClaim] = set()
        self._resolved: object = None
        """What the present resolution was made from."""

    @property
    def known(self) -> bool:
        """Whether the kubelet has answered, and not too long ago."""
        return self._claims is not None

    @property
    def current(self) -> Sequence[Allocation]:
        """The present allocations; none while they are unknown."""
        return self._resolution.allocations

    @property
    def containers(self) -> AbstractSet[Container]:
        """The containers with claims, whether or not a claim matches a device that is known yet."""
        if self._claims is None:
            return frozenset()
        dra = {claim.container for claim in self._claims.dra}
        return dra | {claim.container for claim in self._claims.held}

    @property
    def allocatable(self) -> Mapping[str, int]:
        """How many devices the kubelet advertises, by resource."""
        advertised = (self._claims.allocatable if self._claims else None) or {}
        return {resource: len(ids) for resource, ids in advertised.items()}

    @property
    def allocated(self) -> Mapping[str, int]:
        """How many devices are allocated, by resource.

        These are devices and not claims: a pod that has ended may still be listed beside the pod
        that has its device now.
        """
        claims = self._claims.held if self._claims else ()
        return Counter(resource for resource, _ in {(c.resource, c.device_id) for c in claims})

    @property
    def unresolved(self) -> Mapping[str, int]:
        """How many claims match no device, by reason."""
        return self._resolution.unresolved

    def refresh(self, gpus: Sequence[GpuView], now: Monotonic) -> bool:
        """Ask the sources; return whether the allocations were resolved anew."""
        self._log_unmatched(now)
        claims = self._claim_source.claims(now) if self._claim_source else None
        devices = tuple(view.gpu for view in gpus)
        mps = frozenset(view.gpu.uuid for view in gpus if view.runs_mps)
        dra = self._pod_source.dra_devices() if self._pod_source else NO_DRA_DEVICES
        # Slices compare equal whatever their places, and a place may become known later.
        places = tuple(slice_.placement_start for gpu in devices for slice_ in gpu.slices)
        if (claims, devices, places, mps, dra) == self._resolved:
            return False
        self._resolved = (claims, devices, places, mps, dict(dra))
        self._claims = claims
        self._resolution = resolve(claims, devices, mps, dra) if claims else Resolution()
        return True

    def _log_unmatched(self, now: Monotonic) -> None:
        """Log each claim that has matched no device for some time, once."""
        unmatched = self._resolution.unmatched
        self._unmatched = {claim: self._unmatched.get(claim, now) for claim, _ in unmatched}
        self._logged &= self._unmatched.keys()
        for claim, reason in unmatched:
            if claim not in self._logged and now - self._unmatched[claim] >= _UNMATCHED_SECONDS:
                self._logged.add(claim)
                container = claim.container
                fields = {
                    "namespace": container.namespace,
                    "pod": container.pod,
                    "container": container.name,
                    "reason": reason,
                }
                _LOG.warning("no device matches %s", _name(claim), extra=fields)

    def sole_container(self, gpu_uuid: str) -> Container | None:
        """Return the container that has the whole GPU for itself, if there is one."""
        on_gpu = [a for a in self._resolution.allocations if a.device_uuid == gpu_uuid]
        return on_gpu[0].container if len(on_gpu) == 1 and on_gpu[0].sole else None


def _name(claim: Claim | DraClaim) -> str:
    """Return what the kubelet calls the device."""
    if isinstance(claim, Claim):
        return f"{claim.resource} {claim.device_id}"
    return " ".join(claim.device_name)
