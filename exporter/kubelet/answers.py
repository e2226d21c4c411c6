"""From the kubelet's answers to claims, without paying for the pods that hold no GPU.

A full node's ``List`` is 3 to 21 MB, nearly all of it about other resources. Parsed whole it costs
five times its size in memory, so pods are cut out of the bytes one by one, and only those that
mention one of our resources are parsed.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from fnmatch import translate

from google.protobuf.message import DecodeError

from exporter.kubelet.podresources.v1 import api_pb2
from exporter.model.claims import Claim, Claims, Container, DraClaim, PodName

DRA_DRIVER = "gpu.nvidia.com"

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_POD = api_pb2.ListPodResourcesResponse.POD_RESOURCES_FIELD_NUMBER


class ResourceFilter:
    """Which resources are GPUs, by shell patterns such as ``nvidia.com/mig-*``, case-sensitive."""

    def __init__(self, patterns: Collection[str]) -> None:
        self.matches = re.compile("|".join(map(translate, patterns)) or r"(?!)").match
        heads = [re.split(r"[*?[]", pattern, maxsplit=1)[0] for pattern in patterns]
        # Where one head begins with another, the shorter finds both.
        self.heads = tuple(
            head.encode()
            for head in sorted({*heads, DRA_DRIVER})
            if not any(head != other and head.startswith(other) for other in heads)
        )
        """Bytes of which a pod that matters has at least one."""


def parse_list(answer: bytes, wanted: ResourceFilter) -> Claims:
    """Read a serialised ``ListPodResourcesResponse``. Raises ``DecodeError``.

    The kubelet lists pods in no order; claims are sorted, so that equal answers are equal.
    """
    held: set[Claim] = set()
    dra: set[DraClaim] = set()
    for start, end in _pods(answer):
        if any(answer.find(head, start, end) >= 0 for head in wanted.heads):
            pod = api_pb2.PodResources.FromString(answer[start:end])
            for resources in pod.containers:
                container = Container(pod.namespace, pod.name, resources.name)
                held.update(_held(container, resources, wanted))
                dra.update(_dra(container, resources))
    return Claims(
        held=tuple(sorted(held, key=lambda c: (c.container, c.resource, c.device_id))),
        dra=tuple(sorted(dra, key=lambda c: (c.container, c.pool, c.device))),
    )


def lists(answer: bytes, pod: PodName) -> bool:
    """Whether a serialised ``ListPodResourcesResponse`` has a pod. Raises ``DecodeError``."""
    name = pod.name.encode()
    for start, end in _pods(answer):
        if answer.find(name, start, end) >= 0:
            found = api_pb2.PodResources.FromString(answer[start:end])
            if (found.namespace, found.name) == pod:
                return True
    return False


def parse_allocatable(answer: bytes, wanted: ResourceFilter) -> dict[str, tuple[str, ...]]:
    """Return the advertised device ids by resource, sorted.

    Reads a serialised ``AllocatableResourcesResponse``. Raises ``DecodeError``.
    """
    ids: defaultdict[str, set[str]] = defaultdict(set)
    for devices in api_pb2.AllocatableResourcesResponse.FromString(answer).devices:
        if wanted.matches(devices.resource_name):
            ids[devices.resource_name].update(devices.device_ids)
    return {resource: tuple(sorted(ids[resource])) for resource in sorted(ids)}


def _held(
    container: Container, resources: api_pb2.ContainerResources, wanted: ResourceFilter
) -> Iterator[Claim]:
    for devices in resources.devices:
        if wanted.matches(devices.resource_name):
            for device_id in devices.device_ids:
                yield Claim(container, devices.resource_name, device_id)


def _dra(container: Container, resources: api_pb2.ContainerResources) -> Iterator[DraClaim]:
    for claim in resources.dynamic_resources:
        for device in claim.claim_resources:
            if device.driver_name == DRA_DRIVER:
                yield DraClaim(
                    container=container,
                    claim_namespace=claim.claim_namespace,
                    claim_name=claim.claim_name,
                    driver=device.driver_name,
                    pool=device.pool_name,
                    device=device.device_name,
                )


def _pods(answer: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each pod's message starts and ends; fields that we don't know are skipped."""
    at = 0
    while at < len(answer):
        key, at = _varint(answer, at)
        field, wire_type = key >> 3, key & 7
        if wire_type == _BYTES:
            length, at = _varint(answer, at)
        elif wire_type == _VARINT:
            length, at = 0, _varint(answer, at)[1]
        elif wire_type in {_FIXED64, _FIXED32}:
            length = 8 if wire_type == _FIXED64 else 4
        else:
            raise DecodeError(f"wire type {wire_type}")
        end = at + length
        if end > len(answer):
            raise DecodeError("ends within a field")
        if field == _POD and wire_type == _BYTES:
            yield at, end
        at = end


def _varint(answer: bytes, at: int) -> tuple[int, int]:
    """Return the base-128 number at ``at``, and where it ends."""
    number = 0
    for shift in range(0, 64, 7):
        if at >= len(answer):
            raise DecodeError("ends within a number")
        byte = answer[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise DecodeError("a number of more than 64 bits")
