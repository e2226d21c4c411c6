"""What the exporters on the cluster's nodes export."""

import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from tests.cluster.machine.cluster import Cluster
from tests.cluster.machine.waiting import until

NAMESPACE: Final = "gpu-monitoring"
SELECTOR: Final = "--selector=app.kubernetes.io/name=kube-gpu-exporter"


class Sample(NamedTuple):
    name: str
    labels: Mapping[str, str]
    value: float


class Exporter:
    """The exporter on one node, found anew each time: its pod may have been replaced."""

    def __init__(self, cluster: Cluster, node: str = "node-1") -> None:
        self._cluster = cluster
        self._node = node
        self._address = ""

    def address(self) -> str:
        """Return the address of its pod; the last one known while nobody answers."""
        done = self._cluster.kubectl(
            "get", "pods", f"--namespace={NAMESPACE}", SELECTOR,
            f"--field-selector=spec.nodeName={self._node},status.phase=Running",
            "--output=jsonpath={.items[0].status.podIP}", check=False,
        )  # fmt: skip
        self._address = done.stdout.strip() or self._address
        return self._address

    def get(self, path: str = "/metrics") -> tuple[int, str]:
        """Ask for a page; status 0 where nobody answers."""
        return ask(f"http://{self._address or self.address()}:9400{path}")

    def samples(self, name: str, **labels: str) -> list[Sample]:
        """Return the series of that name with those labels, as they are exported now."""
        return [
            sample
            for sample in parse(self.get()[1])
            if sample.name == name and labels.items() <= sample.labels.items()
        ]

    def value(self, name: str, **labels: str) -> float | None:
        """Return the sum of those series; ``None`` if there is none."""
        found = self.samples(name, **labels)
        return sum(sample.value for sample in found) if found else None

    def allocations(self, pod: str, namespace: str = "default") -> list[Mapping[str, str]]:
        """Return the labels of a pod's allocations."""
        found = self.samples("gpu_allocation_info", pod=pod, namespace=namespace)
        return [sample.labels for sample in found]

    def is_idle(self, pod: str) -> bool:
        return self.value("gpu_container_utilization_ratio", pod=pod) == 0

    def until(self, condition: Callable[[], object], what: str, *, seconds: float = 120.0) -> None:
        """Wait for something about the exporter; its log is shown where that never comes."""
        until(condition, what, seconds=seconds, show=self.log)

    def until_mapped(self, pod: str, devices: int = 1, *, namespace: str = "default") -> None:
        self.until(
            lambda: len(self.allocations(pod, namespace)) == devices,
            f"{pod} is mapped to {devices} devices",
        )

    def until_sees_everything(self) -> None:
        """Wait until every source is up and what the kubelet advertises is known."""

        def sees() -> bool:
            up = {sample.value for sample in self.samples("gpu_exporter_source_up")}
            return up == {1.0} and bool(self.value("gpu_allocatable_devices"))

        self.address()
        self.until(sees, "every source is up")

    def log(self) -> str:
        return self._cluster.kubectl(
            "logs", f"--namespace={NAMESPACE}", "daemonset/kube-gpu-exporter", "--tail=25",
            check=False,
        ).stdout  # fmt: skip


def ask(
    url: str, *, trust: ssl.SSLContext | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, str]:
    request = urllib.request.Request(url, headers=dict(headers or {}))  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=5, context=trust) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def parse(text: str) -> Iterable[Sample]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield Sample(sample.name, sample.labels, sample.value)
