"""From the kubelet's bytes to claims."""

import pytest
from google.protobuf.message import DecodeError

from exporter.kubelet.answers import ResourceFilter, parse_allocatable, parse_list
from exporter.kubelet.client import DEFAULT_RESOURCES
from exporter.kubelet.podresources.v1 import api_pb2
from tests.doubles.kubelet_node import GPU, claims_of


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        (("*",), {"nvidia.com/gpu", "gpu.intel.com/xe", "example.com/gpu"}),
        (("*.intel.com/*",), {"gpu.intel.com/xe"}),
        (("*/gpu", "nvidia.com/gpu"), {"nvidia.com/gpu", "example.com/gpu"}),
        (("[en]*/gpu",), {"nvidia.com/gpu", "example.com/gpu"}),
        (("gpu.intel.com/x?",), {"gpu.intel.com/xe"}),
        ((), set()),
    ],
)
def test_resources_are_named_by_patterns(patterns: tuple[str, ...], found: set[str]) -> None:
    answer = api_pb2.ListPodResourcesResponse()
    for name in ("nvidia.com/gpu", "gpu.intel.com/xe", "example.com/gpu"):
        pod = answer.pod_resources.add(namespace="n", name=name)
        pod.containers.add(name="c").devices.add(resource_name=name, device_ids=["0"])
    claims = parse_list(answer.SerializeToString(), ResourceFilter(patterns))
    assert {claim.resource for claim in claims.held} == found


def test_fields_that_are_not_known_are_skipped() -> None:
    answer = api_pb2.ListPodResourcesResponse()
    pod = answer.pod_resources.add(namespace="research", name="0")
    pod.containers.add(name="main").devices.add(
        resource_name="nvidia.com/gpu", device_ids=[f"{GPU}::0"]
    )
    unknown = b"\x10\x96\x01" + b"\x19" + bytes(8) + b"\x25" + bytes(4) + b"\x2a\x02hi"
    wanted = ResourceFilter(DEFAULT_RESOURCES)
    both = unknown + answer.SerializeToString() + unknown
    assert parse_list(both, wanted).held == claims_of("0").held


@pytest.mark.parametrize(
    "answer",
    [
        b"\x0a",  # ends before its length
        b"\x0a\x05ab",  # ends within a field
        b"\x09\x00",  # ends within a fixed64
        b"\x0b",  # a group
        b"\xff" * 11,  # a number without an end
        b"\x0a\x10\x0a\xffnvidia.com/gpu ",  # a pod that is no pod
    ],
)
def test_broken_answers_are_told(answer: bytes) -> None:
    with pytest.raises(DecodeError):
        parse_list(answer, ResourceFilter(DEFAULT_RESOURCES))


def test_allocatable_ids_are_sorted_and_told_once() -> None:
    answer = api_pb2.AllocatableResourcesResponse(
        devices=[
            api_pb2.ContainerDevices(resource_name="nvidia.com/gpu", device_ids=ids)
            for ids in (["b"], ["a", "b"])
        ]
    )
    wanted = ResourceFilter(DEFAULT_RESOURCES)
    assert parse_allocatable(answer.SerializeToString(), wanted) == {"nvidia.com/gpu": ("a", "b")}
