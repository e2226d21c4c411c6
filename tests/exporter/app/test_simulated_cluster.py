"""A cluster's pods are on the simulated GPUs that its kubelet gave them, and do what they say."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from exporter.app.backends import make_backend
from exporter.app.parts import running
from exporter.app.simulated_cluster import Loads, real_gpu
from exporter.config import Config
from exporter.config.sources import ConfigError
from exporter.model.claims import Claim, Claims, Container, DraName, PodName
from exporter.model.clocks import Monotonic, UnixSeconds
from exporter.model.pods import ContainerRecord, DraDevice, PodRecord, Termination
from exporter.model.snapshot import SourceHealth
from exporter.sampling.slots import Ticks
from tests.doubles.simulation import WALL, World

GIB = 2**30
PCI_DEVICE = "sys/bus/pci/devices/0000:3b:00.0"
START = UnixSeconds(WALL + 5000.0)


class Cluster:
    """What the kubelet and the API server say, and a simulated node that hears of it."""

    def __init__(self, profile: str = "h100") -> None:
        self.world = World("cluster", profile)
        self.known: list[Claim] | None = []
        self.records: dict[PodName, PodRecord] = {}
        self._loads = Loads(self.world.backend, self, self)

    def claims(self, now: float) -> Claims | None:
        advertised = self.world.backend.claims().allocatable
        return None if self.known is None else Claims(tuple(self.known), (), advertised)

    def pods(self) -> Mapping[PodName, PodRecord]:
        return self.records

    def dra_devices(self) -> Mapping[DraName, DraDevice]:
        return {}

    def take_terminations(self) -> Sequence[Termination]:
        return ()

    def health(self) -> SourceHealth:
        return SourceHealth("cluster", up=True)

    def run(
        self, pod: str, simulate: str | None, device_id: str, *, since: float, run: str = "1"
    ) -> Container:
        """Have the only container of a pod run since ``since``, with a device."""
        container = Container("default", pod, "main")
        assert self.known is not None
        self.known = [claim for claim in self.known if claim.container != container]
        self.known.append(Claim(container, "nvidia.com/gpu", device_id))
        self.records[container.pod_name] = PodRecord(
            uid=f"uid-of-{pod}",
            namespace="default",
            name=pod,
            workload_kind="Pod",
            workload=pod,
            containers=(ContainerRecord("main", run, UnixSeconds(START + since)),),
            simulate=simulate,
        )
        return container

    def stop(self, pod: str) -> None:
        """Have the container wait for its restart."""
        record = self.records[PodName("default", pod)]
        waiting = tuple(replace(each, running_since=None) for each in record.containers)
        self.records[PodName("default", pod)] = replace(record, containers=waiting)

    def at(self, seconds: float) -> World:
        world = self.world.at(seconds)
        self._loads.look(Monotonic(seconds))
        return world

    def used(self, index: int) -> dict[Container, int | None]:
        """Return the memory of each container with a process on a GPU."""
        whose = self.world.backend.processes()
        fast = self.world.readers[index].read_fast()
        return {whose[each.pid]: each.memory_used_bytes for each in fast.processes or ()}


def uuid(cluster: Cluster, index: int) -> str:
    return cluster.world.backend.gpus()[index].uuid


def test_a_pod_does_what_its_annotation_says_from_its_containers_start_on() -> None:
    cluster = Cluster()
    pod = cluster.run("a", "leak, memory=8Gi, period=100s", uuid(cluster, 1), since=10)
    cluster.at(10)
    assert cluster.used(1) == {pod: 8 * GIB}
    cluster.at(55)
    assert cluster.used(1)[pod] == pytest.approx(43.8 * GIB, rel=0.02)
    assert not cluster.used(0)
    assert cluster.world.read(1)[1].utilization


def test_a_pod_that_says_nothing_trains() -> None:
    cluster = Cluster()
    pod = cluster.run("a", None, uuid(cluster, 0), since=0)
    cluster.at(30)
    assert cluster.used(0) == {pod: pytest.approx(0.7 * 79.1 * GIB, rel=0.02)}
    samples = cluster.world.read(0)[1].utilization
    assert samples
    assert samples[-1].ratio > 0.9


def test_a_mistake_makes_it_idle_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster()
    cluster.run("a", "leek", uuid(cluster, 0), since=0)
    for second in range(5):
        cluster.at(second)
    (line,) = caplog.messages
    assert line.startswith("pod default/a is simulated as idle: kube-gpu-exporter/simulate: kind: ")
    samples = cluster.world.read(0)[1].utilization
    assert samples
    assert {sample.ratio for sample in samples} == {0}


def test_each_run_begins_anew_and_none_goes_on_between_two() -> None:
    cluster = Cluster()
    pod = cluster.run("a", "leak, memory=8Gi, period=100s", uuid(cluster, 0), since=0)
    cluster.at(100)
    (first,) = cluster.world.backend.processes()
    cluster.stop("a")
    cluster.at(101)
    assert cluster.used(0) == {}
    cluster.run("a", "leak, memory=8Gi, period=100s", uuid(cluster, 0), since=120, run="2")
    cluster.at(120)
    assert cluster.used(0) == {pod: 8 * GIB}
    assert first not in cluster.world.backend.processes()


def test_what_a_pod_did_until_its_end_is_seen_at_the_next_read() -> None:
    cluster = Cluster()
    cluster.run("a", "utilization=100%", uuid(cluster, 0), since=0)
    cluster.at(0)
    cluster.world.read(0)
    cluster.known = []
    cluster.at(3)
    cluster.at(5)
    samples = cluster.world.read(0)[1].utilization
    assert samples
    assert [sample.ratio > 0.5 for sample in samples].count(True) == 14  # of 200 ms each, up to 3 s


def test_pods_that_share_a_gpu_each_have_a_process_and_slices_have_their_own() -> None:
    cluster = Cluster("h200-mixed")
    advertised = cluster.world.backend.claims().allocatable
    assert advertised
    shares = advertised["nvidia.com/gpu.shared"]
    assert len(shares) == 4
    one = cluster.run("one", "memory=1Gi", shares[0], since=0)
    two = cluster.run("two", "memory=2Gi", shares[2], since=0)
    (slice_resource, *_) = (name for name in advertised if name.startswith("nvidia.com/mig-"))
    mig_uuid = advertised[slice_resource][0]
    cut = cluster.run("cut", "memory=3Gi", mig_uuid, since=0)
    cluster.at(5)
    assert cluster.used(3) == {one: GIB, two: 2 * GIB}
    (index,) = (
        gpu.index for gpu in cluster.world.backend.gpus()
        if mig_uuid in [part.uuid for part in gpu.slices]
    )  # fmt: skip
    assert cluster.used(index) == {cut: 3 * GIB}


def test_while_the_kubelet_can_not_be_asked_everything_stays() -> None:
    cluster = Cluster()
    pod = cluster.run("a", "memory=1Gi", uuid(cluster, 0), since=0)
    cluster.at(1)
    cluster.known = None
    cluster.at(60)
    assert cluster.used(0) == {pod: GIB}


def test_every_gpu_says_that_it_is_simulated() -> None:
    assert {gpu.model for gpu in Cluster().world.gpus()} == {"NVIDIA H100 80GB HBM3 (simulated)"}


@pytest.mark.parametrize(
    ("path", "text", "found"),
    [
        ("proc/driver/nvidia/gpus", "", "/proc/driver/nvidia says that NVIDIA's driver is loaded"),
        ("sys/module/nvidia/refs", "", "/sys/module/nvidia says that NVIDIA's driver is loaded"),
        (PCI_DEVICE, "0x10de 0x030200", "PCI device 0000:3b:00.0 is a GPU of NVIDIA's"),
        (PCI_DEVICE, "0x10de 0x040300", None),
        ("sys/bus/pci/devices/0000:00:02.0", "0x8086 0x030000", None),
        ("sys/bus/pci/devices/0000:00:03.0", "", None),
    ],
)
def test_a_node_with_a_driver_or_a_gpu_of_nvidias_is_found(
    tmp_path: Path, path: str, text: str, found: str | None
) -> None:
    place = tmp_path / path
    place.mkdir(parents=True)
    for name, value in zip(("vendor", "class"), text.split(), strict=False):
        (place / name).write_text(f"{value}\n")
    assert real_gpu(tmp_path) == found


async def test_gpus_are_not_simulated_beside_real_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.app.simulated_cluster.real_gpu", lambda: "there is one")
    config = Config(backend="simulated", scenario="cluster")
    with pytest.raises(ConfigError, match="not simulated on a node that has some: there is one"):
        async with running(config, make_backend(config), Ticks()):
            pass
