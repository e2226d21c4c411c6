"""Families of the node and of the exporter's own health, which are exported whatever fails."""

import platform
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from exporter import __version__
from exporter.metrics.family import Family, Point
from exporter.metrics.gpu import gpu_labels
from exporter.model.snapshot import GpuState, Snapshot

_FROM_ZERO: Final = {"gpu_lost", "timeout", "unknown"}
"""Reasons with a series before the first failure, which ``increase()`` does not see otherwise. The
others are rare, and a series of each would cost more than the first failure is worth."""

STATES: Final = tuple(GpuState)
"""The states of a GPU; the index of a state is the number that is exported.

A number serves queries better than a label would. A query over the last minutes gives the latest
state, and a change of state makes no new series.
"""


def numbered(words: Sequence[str]) -> str:
    """List words with their numbers: ``0 ok, 1 lost``."""
    return ", ".join(f"{number} {word}" for number, word in enumerate(words))


def _allocatable(snapshot: Snapshot) -> Iterator[Point]:
    for resource, count in snapshot.allocatable.items():
        yield (resource,), count


def _allocated(snapshot: Snapshot) -> Iterator[Point]:
    for resource in {**snapshot.allocatable, **snapshot.allocated}:
        yield (resource,), snapshot.allocated.get(resource, 0)


def _unresolved(snapshot: Snapshot) -> Iterator[Point]:
    for reason, count in snapshot.unresolved.items():
        yield (reason,), count


def _time(snapshot: Snapshot) -> Iterator[Point]:
    yield (), snapshot.timestamp


def _build_info(snapshot: Snapshot) -> Iterator[Point]:
    yield (__version__, platform.python_version(), snapshot.backend), 1


def _gpus(snapshot: Snapshot) -> Iterator[Point]:
    counts = Counter(sample.state for sample in snapshot.gpus)
    for state in GpuState:
        yield (state,), counts[state]


def _gpu_state(snapshot: Snapshot) -> Iterator[Point]:
    for sample in snapshot.gpus:
        yield gpu_labels(sample.gpu), STATES.index(sample.state)


def _source_up(snapshot: Snapshot) -> Iterator[Point]:
    for source in snapshot.sources:
        yield (source.name,), source.up


def _source_duration(snapshot: Snapshot) -> Iterator[Point]:
    for source in snapshot.sources:
        if source.duration_seconds is not None:
            yield (source.name,), source.duration_seconds


def _source_failures(snapshot: Snapshot) -> Iterator[Point]:
    for source in snapshot.sources:
        for reason, count in source.failures.items():
            yield (source.name, reason), count


def _certificate_expiry(snapshot: Snapshot) -> Iterator[Point]:
    if snapshot.certificate_expires is not None:
        yield (), snapshot.certificate_expires


def _last_sample(snapshot: Snapshot) -> Iterator[Point]:
    for sample in snapshot.gpus:
        if sample.last_sample_timestamp is not None:
            yield gpu_labels(sample.gpu), sample.last_sample_timestamp


def _read_failures(snapshot: Snapshot) -> Iterator[Point]:
    for sample in snapshot.gpus:
        for reason, count in sample.read_failures.items():
            if count or reason in _FROM_ZERO:
                yield (*gpu_labels(sample.gpu), reason), count


NODE: Final = (
    Family(
        "gpu_allocatable_devices",
        "Device-plugin devices that the kubelet can allocate to pods. A shared device counts once"
        " per share.",
        ("resource",),
        _allocatable,
    ),
    Family(
        "gpu_allocated_devices",
        "Device-plugin devices that are allocated to containers.",
        ("resource",),
        _allocated,
    ),
    Family(
        "gpu_unresolved_claims",
        "Claims of containers that match no device which the exporter sees, by reason.",
        ("reason",),
        _unresolved,
    ),
)

EXPORTER: Final = (
    Family(
        "gpu_exporter_build_info",
        "Versions of the exporter and of its Python, and the backend in use; the value is 1.",
        ("version", "python_version", "backend"),
        _build_info,
    ),
    Family(
        "gpu_exporter_time_seconds",
        "The node's own time at which these values were put together, in Unix time. Ages of"
        " timestamps are exact by it, however wrong the node's clock is.",
        (),
        _time,
    ),
    Family(
        "gpu_exporter_gpus",
        "Known GPUs by state: ok; lost: fallen off the bus; hung: a read does not return; failed.",
        ("state",),
        _gpus,
    ),
    Family(
        "gpu_exporter_gpu_state",
        f"State of each known GPU as a number: {numbered(STATES)}.",
        ("uuid", "gpu"),
        _gpu_state,
    ),
    Family(
        "gpu_exporter_source_up",
        "Whether a source answers (1) or not (0). The sources are the driver (by the name of its"
        " backend), events (the driver's), kubelet, kubernetes (the pod watch), processes (of the"
        " host) and kubernetes_events.",
        ("source",),
        _source_up,
    ),
    Family(
        "gpu_exporter_source_duration_seconds",
        "How long the last read of the source took; for the driver, the longest full reading.",
        ("source",),
        _source_duration,
    ),
    Family(
        "gpu_exporter_source_failures_total",
        "Failed attempts to read a source, by reason.",
        ("source", "reason"),
        _source_failures,
    ),
    Family(
        "gpu_exporter_last_sample_timestamp_seconds",
        "When the GPU was last read, in Unix time.",
        ("uuid", "gpu"),
        _last_sample,
    ),
    Family(
        "gpu_exporter_read_failures_total",
        "Reads and fields of a GPU that failed, by reason. What is not supported is not a failure.",
        ("uuid", "gpu", "reason"),
        _read_failures,
    ),
    Family(
        "gpu_exporter_tls_certificate_expiry_timestamp_seconds",
        "When the certificate that HTTPS is served with expires, in Unix time: the first of its"
        " chain. Absent where HTTP is served.",
        (),
        _certificate_expiry,
    ),
)
