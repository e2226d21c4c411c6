"""A simulated kubelet to ask, with the claims and the clock in the test's hands."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exporter.kubelet.simulated import SimulatedKubelet
from exporter.model.claims import Claim, Claims, Container, PodName
from exporter.model.clocks import Monotonic

GPU = "GPU-12345678-9abc-def0-1234-56789abcdef0"


def container(pod: str, name: str = "main") -> Container:
    return Container("research", pod, name)


def claims_of(*pods: str) -> Claims:
    held = tuple(Claim(container(pod), "nvidia.com/gpu", f"{GPU}::{pod}") for pod in pods)
    return Claims(held=held, allocatable={"nvidia.com/gpu": (f"{GPU}::0", f"{GPU}::1")})


class Clock:
    """A clock that the test moves on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> Monotonic:
        return Monotonic(self.now)


class Witness:
    """What the API server would know of pods."""

    def __init__(self) -> None:
        self.ended: set[PodName] = set()
        self.gone: set[PodName] = set()
        self.unknown: set[PodName] = set()

    def has_ended(self, pod: PodName) -> bool:
        return pod in self.ended

    def is_gone(self, pod: PodName) -> bool:
        return pod in self.ended | self.gone

    def knows(self, pod: PodName) -> bool:
        return pod not in self.unknown


class Node:
    """What the simulated kubelet answers from, with a clock of its own for the rate limit."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.claims = claims_of("0")
        self.clock = Clock()
        self.kubelet = SimulatedKubelet(socket, lambda: self.claims, clock=self.clock)


@contextmanager
def short_folder() -> Iterator[Path]:
    """Make a folder for sockets: pytest's own paths can be longer than a socket's may be."""
    with tempfile.TemporaryDirectory(prefix="kge-") as path:
        yield Path(path)
