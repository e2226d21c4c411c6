"""What is known of pods beside the kubelet's answers, and what follows for the claims.

The kubelet's answer is the truth about a running node, but not in three moments. A kubelet that has
just started lists its pods one after the other. A kubelet may list a pod that has ended, together
with the pod that has its devices now. And a pod may be listed before anybody knows whose it is.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Protocol, TypeVar

from exporter.model.claims import Claim, Claims, DraClaim, PodName

_Claim = TypeVar("_Claim", Claim, DraClaim)
_Advertised = Mapping[str, tuple[str, ...]]


class PodWitness(Protocol):
    """Knows pods by the API server. What it can't know, it does not claim."""

    def has_ended(self, pod: PodName) -> bool:
        """Whether all containers of the pod have ended for good."""

    def is_gone(self, pod: PodName) -> bool:
        """Whether the pod has ended, or does not exist."""

    def knows(self, pod: PodName) -> bool:
        """Whether it can say whose the pod is, or will never be able to."""


class NoWitness:
    """Knows nothing, and keeps nobody waiting: for where no pods are watched."""

    def has_ended(self, pod: PodName) -> bool:  # noqa: ARG002
        return False

    def is_gone(self, pod: PodName) -> bool:  # noqa: ARG002
        return False

    def knows(self, pod: PodName) -> bool:  # noqa: ARG002
        return True


def with_survivors(answer: Claims, before: Claims, witness: PodWitness) -> Claims:
    """Return the answer of a kubelet that has just started, with the claims that it still lacks.

    A claim of ``before`` that is missing has survived, unless the pod is gone or another container
    has the device now. Advertised devices that are missing have survived as well: plugins register
    again one after the other.
    """
    taken = {(claim.resource, claim.device_id) for claim in answer.held}
    held = [
        claim
        for claim in _missing(before.held, answer.held, witness)
        if (claim.resource, claim.device_id) not in taken
    ]
    return replace(
        answer,
        held=(*answer.held, *held),
        dra=(*answer.dra, *_missing(before.dra, answer.dra, witness)),
    )


def all_advertised(answer: _Advertised | None, before: _Advertised | None) -> _Advertised | None:
    """Return what either of two answers advertises."""
    if answer is None or before is None:
        return answer or before
    return {
        resource: tuple(sorted({*answer.get(resource, ()), *before.get(resource, ())}))
        for resource in sorted(answer.keys() | before.keys())
    }


def select(claims: Claims, keep: Callable[[PodName], bool]) -> Claims:
    """Return the claims of those pods that are to be kept; the same object if that is all."""
    held = tuple(claim for claim in claims.held if keep(claim.container.pod_name))
    dra = tuple(claim for claim in claims.dra if keep(claim.container.pod_name))
    if len(held) == len(claims.held) and len(dra) == len(claims.dra):
        return claims
    return replace(claims, held=held, dra=dra)


def pods_of(claims: Claims) -> set[PodName]:
    """Return the pods that have a claim."""
    held = {claim.container.pod_name for claim in claims.held}
    return held | {claim.container.pod_name for claim in claims.dra}


def _missing(
    before: Iterable[_Claim], answer: Collection[_Claim], witness: PodWitness
) -> list[_Claim]:
    there = set(answer)
    return [
        claim
        for claim in before
        if claim not in there and not witness.is_gone(claim.container.pod_name)
    ]
