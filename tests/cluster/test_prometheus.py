"""A Prometheus finds the exporter through the API server, and what scales by it gets answers."""

import json
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.cluster.machine import identities, places, programs
from tests.cluster.machine.cluster import Cluster
from tests.cluster.machine.daemons import Daemon
from tests.cluster.machine.waiting import until
from tests.cluster.pods import FOREVER, container, pod_spec
from tests.cluster.scrapes import NAMESPACE, Exporter, ask

pytestmark = pytest.mark.cluster

EXAMPLES: Final = places.ROOT / "daemonset" / "examples"
SCRAPES: Final = places.ROOT / "daemonset/kustomize/overlays/plain-prometheus/scrape-config.yaml"
RULES: Final = places.ROOT / "rules" / "generated" / "prometheus"
ACCOUNT: Final = {"name": "prometheus", "namespace": NAMESPACE}
RBAC: Final = "rbac.authorization.k8s.io"
URL: Final = "http://127.0.0.1:19090"
ADMIN: Final = identities.FOLDER / "admin"


class Prometheus:
    def query(self, query: str) -> list[tuple[dict[str, str], float]]:
        """Return the answer's series."""
        answer = self._ask(f"query?{urllib.parse.urlencode({'query': query})}")
        assert answer["status"] == "success", answer
        return [(each["metric"], float(each["value"][1])) for each in answer["data"]["result"]]

    def targets(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ask("targets?state=active")["data"]["activeTargets"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        groups = self._ask("rules")["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def _ask(self, path: str) -> Any:
        status, text = ask(f"{URL}/api/v1/{path}")
        # While it starts, it says so in other words.
        starting = {"status": "starting", "data": {"activeTargets": [], "groups": []}}
        return json.loads(text) if status == 200 else starting


@pytest.fixture(scope="module")
def prometheus(cluster: Cluster, installed: Exporter) -> Iterator[Prometheus]:
    """Run Prometheus beside the cluster, with the rights that the overlay's page says it needs."""
    cluster.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": ACCOUNT},
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "Role",
            "metadata": ACCOUNT,
            "rules": [
                {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}
            ],
        },
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": ACCOUNT,
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": "prometheus"},
            "subjects": [{"kind": "ServiceAccount", **ACCOUNT}],
        },
    )
    folder = places.WORK / "prometheus"
    folder.mkdir(exist_ok=True)
    token = folder / "token"
    token.write_text(
        cluster.kubectl("create", "token", "prometheus", f"--namespace={NAMESPACE}").stdout
    )
    configuration = yaml.safe_load(SCRAPES.read_text())
    (job,) = configuration["scrape_configs"]
    # In a pod these are found without a word.
    job["kubernetes_sd_configs"][0] |= {
        "api_server": identities.API_SERVER,
        "authorization": {"credentials_file": str(token)},
        "tls_config": {"ca_file": str(identities.AUTHORITY)},
    }
    configuration["scrape_configs"].append(_cadvisor(cluster))
    configuration |= {
        "global": {"scrape_interval": "2s", "evaluation_interval": "2s"},
        "rule_files": [str(path) for path in sorted(RULES.glob("*.yaml"))],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    program = Daemon(
        "prometheus",
        [
            programs.prometheus() / "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={URL.removeprefix('http://')}",
        ],
    )
    program.start()
    started = Prometheus()

    def scraped() -> bool:
        return {target["health"] for target in started.targets()} == {"up"}

    until(scraped, "every target is up", show=lambda: f"{started.targets()}{program.tail()}")
    yield started
    program.kill()
    cluster.kubectl("delete", "rolebinding,role,serviceaccount", "prometheus", "-n", NAMESPACE)


def _cadvisor(cluster: Cluster) -> dict[str, Any]:
    address = cluster.node.namespaces.address
    return {
        "job_name": "cadvisor",
        "scheme": "https",
        "metrics_path": "/metrics/cadvisor",
        "static_configs": [{"targets": [f"{address}:10250"]}],
        "tls_config": {
            "insecure_skip_verify": True,
            "cert_file": f"{ADMIN}.crt",
            "key_file": f"{ADMIN}.key",
        },
    }


@pytest.fixture
def workload(cluster: Cluster, exporter: Exporter) -> Iterator[str]:
    """Run the Deployment that the examples scale; give its namespace."""
    namespace = "inference"
    cluster.kubectl("create", "namespace", namespace, check=False)
    labels = {"app": "llm"}
    one = container(FOREVER, name="server")
    cluster.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "llm", "namespace": namespace},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {
                        "labels": labels,
                        "annotations": {
                            "kube-gpu-exporter/simulate": "utilization=60%, memory=40%"
                        },
                    },
                    "spec": pod_spec([one], restart="Always"),
                },
            },
        }
    )
    yield namespace
    cluster.kubectl("delete", "namespace", namespace, "--timeout=120s")


def test_series_are_the_workloads_and_say_their_node(
    prometheus: Prometheus, exporter: Exporter, workload: str
) -> None:
    busy = f'gpu_container_utilization_ratio{{namespace="{workload}"}} > 0.4'
    until(lambda: len(prometheus.query(busy)) == 2, "both pods are seen at work")
    for labels, _ in prometheus.query(busy):
        assert labels["container"] == "server"
        assert labels["node"] == labels["instance"] == "node-1"
        assert not [name for name in labels if name.startswith("exported_")]
    query = f'gpu_allocation_info{{namespace="{workload}", workload_kind="Deployment"}}'
    assert {labels["workload"] for labels, _ in prometheus.query(query)} == {"llm"}


def test_every_rule_is_evaluated_and_recordings_give_series(
    prometheus: Prometheus, exporter: Exporter, workload: str
) -> None:
    def evaluated() -> bool:
        rules = prometheus.rules()
        return bool(rules) and {rule["health"] for rule in rules} == {"ok"}

    until(evaluated, "every rule is evaluated")
    until(
        lambda: prometheus.query(f'{{__name__=~".+:.+", namespace="{workload}"}}'),
        "rules record the workload",
    )


def test_keda_gets_an_answer(prometheus: Prometheus, exporter: Exporter, workload: str) -> None:
    scaled = yaml.safe_load((EXAMPLES / "keda-scaledobject.yaml").read_text())
    asked = {
        trigger["name"]: trigger["metadata"]["query"] for trigger in scaled["spec"]["triggers"]
    }

    # KEDA takes one number: the sum over the pods.
    def near(name: str, expected: float) -> bool:
        answer = prometheus.query(asked[name])
        return len(answer) == 1 and answer[0][1] == pytest.approx(expected, rel=0.15)

    for name, expected in (("utilization", 2 * 0.6), ("memory", 2 * 0.4)):
        until(
            lambda name=name, expected=expected: near(name, expected),  # type: ignore[misc]
            f"KEDA's {name}",
            show=lambda name=name: str(prometheus.query(asked[name])),  # type: ignore[misc]
            seconds=180,
        )


def test_the_adapter_gets_an_answer(
    prometheus: Prometheus, exporter: Exporter, workload: str
) -> None:
    text = Path(EXAMPLES / "prometheus-adapter.yaml").read_text()
    for rule in yaml.safe_load(text)["rules"]:
        series = rule["seriesQuery"]
        until(lambda series=series: prometheus.query(series), series)  # type: ignore[misc]
        query = (
            rule["metricsQuery"]
            .replace("<<.Series>>", series.partition("{")[0])
            .replace("<<.LabelMatchers>>", f'namespace="{workload}",pod=~"llm-.+"')
            .replace("<<.GroupBy>>", "pod")
        )
        until(
            lambda query=query: len(prometheus.query(query)) == 2,  # type: ignore[misc]
            rule["name"]["as"],
            seconds=180,
        )


def test_cadvisor_has_the_names_that_are_joined_with_ours(
    prometheus: Prometheus, exporter: Exporter, workload: str
) -> None:
    query = f'container_memory_working_set_bytes{{namespace="{workload}", container="server"}}'
    until(lambda: len(prometheus.query(query)) == 2, "cAdvisor has the pods' containers")
    joined = f"{query} * on (namespace, pod, container) group_left () gpu_allocation_info"
    assert len(prometheus.query(joined)) == 2
