"""Every parser of foreign input, with where its inputs begin and what must be true of its answers.

A target's ``check`` gets one input. It lets those errors pass that the parser is allowed to raise,
and asserts what any answer has to be.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from os import getpid
from pathlib import Path
from random import Random
from tempfile import gettempdir
from typing import Any, Final

import click
from google.protobuf.message import DecodeError
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from exporter.attribution import device_ids
from exporter.attribution.resolve import resolve
from exporter.config.options import OPTIONS
from exporter.config.sources import _values as config_values
from exporter.config.values import ListenAddress
from exporter.document import (
    UNITS_PATTERN,
    DocumentError,
    DurationError,
    Value,
    parse,
    parse_duration,
)
from exporter.endings.reading import read as read_last_words
from exporter.gpus.simulated.annotation import parse_annotation
from exporter.gpus.simulated.node import Node
from exporter.gpus.simulated.profiles import PROFILES
from exporter.gpus.simulated.scenario import FAULTS, read_scenario
from exporter.gpus.simulated.workloads import WorkloadKind
from exporter.kubelet.answers import ResourceFilter, parse_allocatable, parse_list
from exporter.kubelet.podresources.v1 import api_pb2
from exporter.kubernetes.access import _status_message
from exporter.kubernetes.failures import MALFORMED
from exporter.kubernetes.listing import members
from exporter.kubernetes.pods import Patterns, parse_pod, parse_terminations
from exporter.kubernetes.slices import parse_slice
from exporter.model.claims import Claim, Claims, Container
from exporter.processes import cgroups
from exporter.web.certificates import validity
from exporter.web.files import UnusableFileError
from exporter.web.negotiation import accepts_gzip, negotiate_format
from exporter.web.users import _decode, parse_users
from rules.settings import table
from rules.settings_file import read_settings
from tests.doubles import api_manifests as api
from tests.fuzz.mutations import mutate_bytes, mutate_json, mutate_text

UID: Final = "2c48913c-b29f-11e7-9350-020968147796"
RUN: Final = "7be92808767a667f35c8505cbf40d14e931ef6db5b0210329cf193b15ba9d605"
TEXTS: Final = Path(__file__).parents[1] / "exporter/endings/texts"
SCENARIOS: Final = Path(__file__).parents[2] / "exporter/gpus/simulated/scenarios"


@dataclass(frozen=True, slots=True)
class Target:
    """``begin`` gives inputs to begin with, ``mutate`` changes one a little."""

    begin: SearchStrategy[Any]
    mutate: Callable[[Any, Random], Any]
    check: Callable[[Any], None]


def texts(check: Callable[[str], None], samples: Sequence[str], tokens: Sequence[str]) -> Target:
    def mutate(text: str, random: Random) -> str:
        return mutate_text(text, tokens, random)

    words = st.lists(st.sampled_from(tokens), max_size=12).map("".join)
    return Target(st.one_of(st.sampled_from(samples), words, st.text(max_size=40)), mutate, check)


def documents(
    check: Callable[[bytes], None], samples: Sequence[str], tokens: Sequence[str]
) -> Target:
    """Files of YAML, which are bytes of UTF-8 in most cases."""
    syntax = ("\n", "  ", "- ", ": ", "? ", "[", "]", "{", "}", ",", "&a ", "*a", "!!int ", "|\n")
    words = (*tokens, *syntax, "5s", "1h30m", "0.5", "999999999", "~", "on", "#")

    def check_text(text: str) -> None:
        check(text.encode("utf-8", "surrogatepass"))

    return texts(check_text, samples, words)


def binary(check: Callable[[bytes], None], samples: Sequence[bytes]) -> Target:
    begin = st.one_of(st.sampled_from(samples), st.binary(max_size=64))
    return Target(begin, mutate_bytes, check)


def json_values(check: Callable[[Any], None], samples: Sequence[Any]) -> Target:
    return Target(st.sampled_from(samples), mutate_json, check)


@contextmanager
def may_refuse(*errors: type[Exception]) -> Iterator[None]:
    """Let a parser refuse its input, in one line that a user can read."""
    try:
        yield
    except errors as error:
        message = str(error)
        if not 0 < len(message) < 2000 or "\n" in message:
            raise AssertionError(f"not one line: {message!r}") from error


# What the kubelet, the API server and /proc say.


def check_device_id(text: str) -> None:
    found = device_ids.parse(text)
    if found is None:
        return
    numbers = [getattr(found, f.name) for f in fields(found) if f.name != "uuid"]
    assert all(number is None or 0 <= number < 10**9 for number in numbers)
    assert found.uuid or found.minor_number is not None or found.index is not None
    claim = Claim(Container("a", "b", "c"), "nvidia.com/gpu", text)
    resolve(Claims(held=(claim,)), [])


def check_cgroup(text: str) -> None:
    if found := cgroups.parse(text):
        assert re.fullmatch(r"[0-9a-f-]{32,36}", found.pod_uid)
        assert re.fullmatch(r"[0-9a-f]{64}", found.container_id)


def check_last_words(text: str) -> None:
    found = read_last_words(text)
    for amount in (found.asked_bytes, found.free_bytes):
        assert amount is None or 0 <= amount < 2**64
    assert read_last_words(text) == found


WANTED: Final = ResourceFilter(("nvidia.com/gpu", "nvidia.com/mig-*"))


def check_list(answer: bytes) -> None:
    with suppress(DecodeError):
        claims = parse_list(answer, WANTED)
        resolution = resolve(claims, [])
        assert len(claims.held) + len(claims.dra) >= len(resolution.allocations)


def check_allocatable(answer: bytes) -> None:
    with suppress(DecodeError):
        for resource, ids in parse_allocatable(answer, WANTED).items():
            assert WANTED.matches(resource)
            assert list(ids) == sorted(set(ids))


def check_pod(pod: Any) -> None:
    with suppress(*MALFORMED):
        record = parse_pod(pod, Patterns(("team", "app*")), Patterns(("nvidia.com/gpu",)))
        names = (record.uid, record.namespace, record.name, record.workload_kind, record.workload)
        assert all(isinstance(text, str) for text in (*names, *record.labels.values()))
    with suppress(*MALFORMED):
        for ended in parse_terminations(pod, Patterns(("nvidia.com/gpu",))):
            termination = ended.termination
            assert hash(ended.key) is not None
            assert isinstance(termination.exit_code, int)
            assert math.isfinite(termination.finished_at)


def check_slice(resource_slice: Any) -> None:
    with suppress(*MALFORMED):
        _, devices = parse_slice(resource_slice)
        for device in devices:
            assert isinstance(device.uuid, str)
            assert hash(device) is not None


def check_list_body(text: str) -> None:
    with suppress(ValueError, RecursionError):
        for name, _ in members(text):
            assert isinstance(name, str)


def check_status_body(text: str) -> None:
    assert isinstance(_status_message(text), str)


def check_annotation(text: str) -> None:
    with may_refuse(DocumentError):
        parse_annotation(text)


# What users write.


def check_document(content: bytes) -> None:
    with may_refuse(DocumentError):
        _walk(parse("f.yaml", content))


def _walk(value: Value) -> None:
    for read in (Value.scalar, Value.text, Value.boolean, Value.count, Value.number, Value.seconds):
        with suppress(DocumentError):
            read(value)
    if value.is_list:
        for item in value.items():
            _walk(item)
    elif value.is_mapping:
        for _, item in value.entry():
            _walk(item)


def check_config(content: bytes) -> None:
    with may_refuse(DocumentError):
        values, places = config_values(parse("f.yaml", content))
        assert values.keys() == places.keys()
        for name, given in values.items():
            for text in given if isinstance(given, list) else [given]:
                with suppress(click.BadParameter):
                    OPTIONS[name].kind.convert(text, None, None)


def check_scenario(content: bytes) -> None:
    profile = PROFILES["h200-mixed"]
    with may_refuse(DocumentError):
        Node(profile, read_scenario(parse("f.yaml", content), profile), seed=0)


def check_settings(content: bytes) -> None:
    path = Path(gettempdir(), f"fuzzed-settings-{getpid()}.yaml")
    path.write_bytes(content)
    with may_refuse(DocumentError):
        read_settings(path)


def check_duration(text: str) -> None:
    is_duration = False
    with may_refuse(DurationError):
        assert 0 <= parse_duration(text) < 10**18
        is_duration = True
    in_units = bool(text and re.fullmatch(UNITS_PATTERN, text))
    in_seconds = bool(re.fullmatch(r"[0-9]{1,9}(?:\.[0-9]{1,3})?", text))
    assert is_duration == (in_units or in_seconds)


def check_flags(text: str) -> None:
    for kind in FLAG_KINDS:
        with suppress(click.BadParameter):
            kind.convert(text, None, None)
    with suppress(click.BadParameter):
        address = ListenAddress().convert(text, None, None)
        address.host.encode("idna" if address.host.isascii() else "ascii")
        assert 0 <= address.port < 65536


FLAG_KINDS: Final = list({type(each.kind): each.kind for each in OPTIONS.values()}.values())


def check_users(content: bytes) -> None:
    with may_refuse(UnusableFileError):
        hashes = parse_users(content, "users")
        assert hashes
        assert all(b":" not in name for name in hashes)


def check_certificate(pem: bytes) -> None:
    found = validity(b"-----BEGIN CERTIFICATE-----\n" + pem + b"\n-----END CERTIFICATE-----\n")
    assert found is None or math.isfinite(found.expires)


# What clients send.


def check_headers(text: str) -> None:
    _, content_type = negotiate_format(text)
    assert content_type.split(";")[0] in {"text/plain", "application/openmetrics-text"}
    assert "\n" not in content_type
    assert content_type.isascii()
    assert accepts_gzip(text) in {True, False}
    credentials = _decode(text)
    assert credentials is None or b":" in credentials


def _pods() -> list[Any]:
    leak = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
    ended = api.terminated(2000, message=leak, exit_code=137, reason="OOMKilled")
    labels = {"team": "ml", "app.kubernetes.io/name": "train", "kube-gpu-exporter/exempt": "memory"}
    owner = ("batch/v1", "Job", "train-28391")
    return [
        api.manifest(),
        api.manifest(labels=labels, owner=owner, containers=[api.requesting()]),
        api.manifest(
            containers=[api.requesting(), api.requesting("side", restartPolicy="Always")],
            statuses=[api.ended(finished=2000, message=leak), api.running("side", last=ended)],
            phase="Failed",
            reason="Evicted",
        ),
    ]


def _answers() -> tuple[bytes, bytes]:
    pod = api_pb2.PodResources(namespace="ml", name="train")
    container = pod.containers.add(name="main", cpu_ids=range(8))
    container.devices.add(resource_name="nvidia.com/gpu", device_ids=[api.GPU, "nvidia0/gi1"])
    dynamic = container.dynamic_resources.add(claim_name="gpu", claim_namespace="ml")
    dynamic.claim_resources.add(driver_name="gpu.nvidia.com", pool_name="n", device_name="gpu-0")
    listed = api_pb2.ListPodResourcesResponse(pod_resources=[pod, pod])
    allocatable = api_pb2.AllocatableResourcesResponse(devices=container.devices)
    return listed.SerializeToString(), allocatable.SerializeToString()


def _messages() -> list[str]:
    return [
        text.partition("\n")[2]
        for path in sorted(TEXTS.glob("*.txt"))
        for text in path.read_text().split("### ")
        if text
    ]


LISTED, ALLOCATABLE = _answers()
MESSAGES: Final = _messages()
DER: Final = bytes.fromhex(
    "3081b93060a0030201020214112233445566778899aabbccddeeff0011223344300a06082a8648ce3d040302300f"
    "310d300b06035504030c0474657374301e170d3236303130313030303030305a170d3237303130313030303030305a"
)
USERS: Final = b"# who\nprometheus:$2b$05$" + b"." * 53 + b"\n"
SCENARIO: Final = """
repeat: 10m
gpus:
- {gpu: 0, sharing: mps, replicas: 4}
pods:
- {pod: a, gpu: 0, spread: 3, workload: {kind: leak, period: 60s, backoff: 5s}}
faults:
- {fault: xid, gpu: 1, at: 1m, code: 31}
- {fault: mig_reconfigure, gpu: 2, at: 60, slices: [3g, 1g]}
"""
YAML_WORDS: Final = ("a", "key", "value", "1", "yes", "'", '"', "\\0", "\\ud800", "<<")
LAST_WORDS: Final = (
    *("CUDA out of memory", "RuntimeError: ", "Traceback (most recent call last):\n", "\n"),
    *(
        "torch.OutOfMemoryError: ",
        "Tried to allocate ",
        "2.00 GiB",
        "Killed",
        "caught ",
        "retrying",
    ),
    *("ERROR ", "W0101 00:00:00.000000 1 a.cc:1] ", '{"msg": "', '"}', "  File ", " line 1"),
    *("RESOURCE_EXHAUSTED: ", "std::bad_alloc", "exit code -9", "NCCL error", "loss=1.0"),
)

TARGETS: Final = {
    "device ids": texts(
        check_device_id,
        [f"{api.GPU}::3", api.MIG, f"MIG-{api.GPU}/7/0", "nvidia3/gi11/vgpu2", "15::2"],
        ("GPU-", "MIG-", "nvidia", "::", "/gi", "/vgpu", "/", "-", "0", "7", "a", api.GPU[4:]),
    ),
    "cgroups": texts(
        check_cgroup,
        [
            f"0::/kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice/crio-{RUN}.scope\n",
            f"11:cpu,cpuacct:/kubepods/burstable/pod{UID}/{RUN}\n10:pids:/kubepods\n",
            f"0::/../../pod{UID}/{RUN} (deleted)\n",
        ],
        ("/kubepods", "/..", "/pod", UID, RUN, ".slice", ".scope", ":", "\n", "crio-", "-", "/"),
    ),
    "last words": texts(check_last_words, MESSAGES, LAST_WORDS),
    "kubelet: list": binary(check_list, [LISTED]),
    "kubelet: allocatable": binary(check_allocatable, [ALLOCATABLE]),
    "pods": json_values(check_pod, _pods()),
    "resource slices": json_values(
        check_slice, [api.resource_slice(api.gpu(), api.mig(), api.mig(uuid=None))]
    ),
    "API server: lists": texts(
        check_list_body,
        ['{"kind": "PodList", "metadata": {"resourceVersion": "1"}, "items": [{}, {"a": [1]}]}'],
        ("{", "}", "[", "]", ",", ":", '"items"', '"a"', "1", "null", " ", "\n", "[" * 50),
    ),
    "API server: refusals": texts(
        check_status_body,
        ['{"kind": "Status", "message": "pods is forbidden", "reason": "Forbidden"}', "<html>"],
        ("{", "}", '"message"', ":", "null", "[", "]", ",", "[" * 50, '{"a":' * 50),
    ),
    "annotations": texts(
        check_annotation,
        ["leak, memory=10Gi, period=5m", "training", "memory=50%, utilization=0.5-0.9"],
        (
            *WorkloadKind,
            "kind",
            "memory",
            "utilization",
            "period",
            "=",
            ",",
            "10Gi",
            "5m",
            "%",
            "-",
        ),
    ),
    "documents": documents(
        check_document, ["a: 1\nb: [x, 'y']\nc: {d: &a 5s, e: *a}\n"], YAML_WORDS
    ),
    "configuration": documents(
        check_config,
        ["full-interval: 5s\nlisten: :9400\nresources: [nvidia.com/gpu]\nkubelet: on\nnode: n\n"],
        [f"{option.key}: " for option in OPTIONS.values()],
    ),
    "scenarios": documents(
        check_scenario,
        [
            SCENARIO,
            *(path.read_text() for path in SCENARIOS.glob("*.yaml") if path.stat().st_size < 1000),
        ],
        (
            *(f"fault: {kind}" for kind in FAULTS),
            *("pod: ", "gpu: ", "gpus:\n", "pods:\n", "faults:\n", "at: ", "for: ", "code: "),
            *(
                "workload: ",
                "spread: ",
                "replicas: ",
                "replicas: 99999999",
                "shares: ",
                "slices: ",
                "repeat: ",
                "all",
            ),
            *WorkloadKind,
        ),
    ),
    "rule settings": documents(
        check_settings,
        ["alerts:\n  GPULost:\n    severity: warning\nprices:\n  NVIDIA H100: 2.5\n"],
        sorted({f"{word}: " for path in table() for word in path.split(".")}),
    ),
    "durations": texts(
        check_duration,
        ["1h30m", "500ms", "0.25", "90"],
        ("1", "30", ".", "y", "w", "d", "h", "m", "s", "ms", "0", "-", "e3", "999999999"),
    ),
    "flags": texts(
        check_flags,
        [":9400", "[fe80::1%eth0]:1", "localhost:80", "nvidia.com/mig-*", "standard,-gpu_*", "5s"],
        (":", "[", "]", "::1", "%", ".", "a", "a" * 64, "9400", "*", ",", "-", "/", "gpu_info"),
    ),
    "users files": binary(check_users, [USERS, USERS * 2]),
    "certificates": binary(check_certificate, [DER]),
    "HTTP headers": texts(
        check_headers,
        ["application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1", "gzip;q=0.5, *;q=0"],
        (
            *("application/openmetrics-text", "text/plain", "*/*", "text/*", "gzip", "identity"),
            *(";", ",", "=", "q=", "version=", "1.0.0", "escaping=", '"', "0.5", "Basic ", "YTpi"),
        ),
    ),
}


def as_json(value: Any) -> str:
    """Write an input so that it can be pasted into a test."""
    return json.dumps(value) if isinstance(value, dict | list) else repr(value)
