"""The overlays, as the real ``kubectl kustomize`` renders them."""

import itertools
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

import exporter
from exporter.gpus.simulated import SimulatedBackend
from exporter.gpus.simulated.annotation import ANNOTATION, parse_annotation
from exporter.metrics.table import TABLE
from tests.daemonset.render import KUSTOMIZE, ROOT, Object, find, kustomize, run
from tests.daemonset.validation import problems

OVERLAYS: Final = sorted(path.name for path in (KUSTOMIZE / "overlays").iterdir())
COMPONENTS: Final = sorted(path.name for path in (KUSTOMIZE / "components").iterdir())
EXAMPLES: Final = sorted((ROOT / "daemonset" / "examples").glob("*.yaml"))
OBJECTS: Final = [path for path in EXAMPLES if path.stem != "prometheus-adapter"]
"""Those of the examples that are objects; the other is a part of one that is there already."""
SCALING: Final = [path for path in EXAMPLES if path.stem != "simulated-pods"]
APPLY_LIMIT_BYTES: Final = 262_144
"""Of all annotations of an object; ``kubectl apply`` keeps the object in one."""


def overlay(name: str) -> Sequence[Object]:
    return kustomize(KUSTOMIZE / "overlays" / name)


def composed(folder: Path, **more: Any) -> Sequence[Object]:
    """Render a kustomization that somebody makes of the base for a cluster of their own."""
    base, components = (
        os.path.relpath(KUSTOMIZE / part, folder) for part in ("base", "components")
    )
    used = [f"{components}/{name}" for name in more.pop("components", ())]
    text = json.dumps({"resources": [base], "components": used, **more})
    (folder / "kustomization.yaml").write_text(text)
    return kustomize(folder)


def pod(objects: Sequence[Object]) -> Any:
    return find(objects, "DaemonSet")["spec"]["template"]["spec"]


def container(objects: Sequence[Object]) -> Any:
    (only,) = pod(objects)["containers"]
    return only


@pytest.fixture(scope="module")
def base() -> Sequence[Object]:
    return kustomize(KUSTOMIZE / "base")


def test_base_is_valid(base: Sequence[Object]) -> None:
    assert problems(base) == []


@pytest.mark.parametrize("name", OVERLAYS)
def test_overlay_is_valid(name: str) -> None:
    assert problems(overlay(name)) == []


@pytest.mark.parametrize("name", OVERLAYS)
def test_overlay_says_when_to_use_it(name: str) -> None:
    page = (KUSTOMIZE / "overlays" / name / "README.md").read_text()
    assert page.startswith(f"# {name}\n")
    assert "\n## When\n" in page
    assert f"kubectl apply --server-side -k daemonset/kustomize/overlays/{name}\n" in page
    assert (
        f"](../daemonset/kustomize/overlays/{name}/README.md)"
        in (ROOT / "docs/install.md").read_text()
    )


@pytest.mark.parametrize("name", COMPONENTS)
def test_component_goes_with_the_base_and_valid(name: str, tmp_path: Path) -> None:
    assert problems(composed(tmp_path, components=[name])) == []


@pytest.mark.parametrize(
    "both",
    # Events are of what the watch sees.
    sorted({*itertools.combinations(COMPONENTS, 2)} - {("pod-events", "without-pod-watch")}),
    ids="+".join,
)
def test_components_go_together(both: tuple[str, str], tmp_path: Path) -> None:
    assert problems(composed(tmp_path, components=both)) == []


def test_another_namespace_and_image_reach_everything(tmp_path: Path) -> None:
    name = f"{exporter.REGISTRY}/kube-gpu-exporter"
    image = {"name": name, "newName": "registry.test/gpu", "newTag": "7"}
    made = composed(
        tmp_path, namespace="elsewhere", images=[image], components=["pod-monitor", "dashboards"]
    )
    assert problems(made) == []
    assert container(made)["image"] == "registry.test/gpu:7"
    assert find(made, "Namespace")["metadata"]["name"] == "elsewhere"
    assert find(made, "ClusterRoleBinding")["subjects"][0]["namespace"] == "elsewhere"
    assert "gpu-monitoring" not in json.dumps(made)


def test_components_leave_objects_of_others_where_they_are(tmp_path: Path) -> None:
    """A component changes all objects that it comes to, not only those that it brings."""
    theirs: Object = {"name": "theirs", "namespace": "theirs", "labels": {"grafana_dashboard": "1"}}
    others = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": theirs}
    (tmp_path / "others.yaml").write_text(json.dumps(others))
    used = os.path.relpath(KUSTOMIZE / "overlays" / "gpu-operator", tmp_path)
    components = [name for name in COMPONENTS if name != "without-pod-watch"]
    made = composed(tmp_path, resources=[used, "others.yaml"], components=components)
    assert others in made
    kinds = ("PodMonitor", "PrometheusRule", "ConfigMap")
    brought = [one for one in made if one["kind"] in kinds and one != others]
    assert {(one["kind"], one["metadata"]["namespace"]) for one in brought} == {
        (kind, "gpu-monitoring") for kind in kinds
    }


def test_the_operators_nri_plugin_stands_in_for_the_runtime_class(tmp_path: Path) -> None:
    used = os.path.relpath(KUSTOMIZE / "overlays" / "gpu-operator", tmp_path)
    made = composed(tmp_path, resources=[used], components=["nri-plugin"])
    assert pod(overlay("gpu-operator"))["runtimeClassName"] == "nvidia"
    assert "runtimeClassName" not in pod(made)
    annotations = find(made, "DaemonSet")["spec"]["template"]["metadata"]["annotations"]
    name = container(made)["name"]
    assert annotations == {f"nvidia.cdi.k8s.io/container.{name}": "management.nvidia.com/gpu=all"}


def test_gpus_are_asked_for_by_a_mount_of_nothing(tmp_path: Path) -> None:
    """The toolkit looks at mounts of ``/dev/null`` alone; what is mounted where is the device."""
    made = composed(tmp_path, components=["gpus-by-volume-mount"])
    volumes = {volume["name"]: volume.get("hostPath") for volume in pod(made)["volumes"]}
    (mount,) = (
        mount
        for mount in container(made)["volumeMounts"]
        if volumes[mount["name"]] == {"path": "/dev/null", "type": "CharDevice"}
    )
    assert mount["mountPath"] == "/var/run/nvidia-container-devices/all"
    assert {one["name"] for one in container(made)["env"]} == {"NODE_NAME"}


@pytest.mark.parametrize("name", OVERLAYS)
def test_only_nodes_of_linux_are_taken(name: str) -> None:
    chosen = {"kube-gpu-exporter/simulated-gpus": "true"} if name == "simulated" else {}
    assert pod(overlay(name))["nodeSelector"] == {"kubernetes.io/os": "linux"} | chosen


def test_the_image_is_this_version(base: Sequence[Object]) -> None:
    image = f"{exporter.REGISTRY}/kube-gpu-exporter:{exporter.__version__}"
    assert container(base)["image"] == image


@pytest.mark.parametrize("name", OVERLAYS)
def test_no_gpu_is_ever_asked_for(name: str) -> None:
    asked = container(overlay(name))["resources"]
    assert {*asked["requests"], *asked["limits"]} == {"cpu", "memory"}
    assert "cpu" not in asked["limits"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_nodes_of_the_device_plugins_taint_are_tolerated(name: str) -> None:
    assert {"key": "nvidia.com/gpu", "operator": "Exists"} in pod(overlay(name))["tolerations"]


def test_the_kubelets_directory_is_mounted_read_only_and_not_its_socket(
    base: Sequence[Object],
) -> None:
    (volume,) = pod(base)["volumes"]
    (mount,) = container(base)["volumeMounts"]
    assert volume["hostPath"] == {"path": "/var/lib/kubelet/pod-resources", "type": "Directory"}
    assert mount == {
        "name": volume["name"],
        "mountPath": "/var/lib/kubelet/pod-resources",
        "readOnly": True,
    }


def test_the_token_is_there_with_the_watch_only(base: Sequence[Object], tmp_path: Path) -> None:
    assert find(base, "ServiceAccount")["automountServiceAccountToken"] is False
    assert pod(base)["automountServiceAccountToken"] is True
    assert "--pod-watch=on" in container(base)["args"]
    without = composed(tmp_path, components=["without-pod-watch"])
    assert pod(without)["automountServiceAccountToken"] is False
    assert "--pod-watch=off" in container(without)["args"]
    assert not {"ClusterRole", "ClusterRoleBinding"} & {made["kind"] for made in without}
    assert find(without, "NetworkPolicy")["spec"]["egress"] == []


def test_without_the_kubelet_nothing_is_roots(tmp_path: Path) -> None:
    without = composed(tmp_path, components=["without-kubelet", "without-pod-watch"])
    assert container(without)["args"][1:] == ["--pod-watch=off", "--kubelet=off"]
    assert not pod(without)["volumes"]
    assert not container(without)["volumeMounts"]
    context = container(without)["securityContext"]
    assert context["runAsNonRoot"] is True
    assert {context["runAsUser"], context["runAsGroup"]} == {65532}


def test_rights_are_these_and_no_others(base: Sequence[Object], tmp_path: Path) -> None:
    def rights(objects: Sequence[Object]) -> set[tuple[str, str]]:
        return {
            (resource, verb)
            for rule in find(objects, "ClusterRole")["rules"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        }

    watch = {(what, verb) for what in ("pods", "resourceslices") for verb in ("list", "watch")}
    assert rights(base) == watch
    with_events = composed(tmp_path, components=["pod-events"])
    assert rights(with_events) == watch | {("events", "create")}
    assert "--pod-events=on" in container(with_events)["args"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_privilege_and_its_limits_do_not_contradict(name: str) -> None:
    """The API server refuses a privileged container that must not escalate; no schema does."""
    context = container(overlay(name))["securityContext"]
    assert not (context.get("privileged") and context.get("allowPrivilegeEscalation") is False)


def test_rules_and_dashboards_are_the_generated_ones() -> None:
    made = overlay("prometheus-operator")
    rule = yaml.safe_load((ROOT / "rules/generated/prometheusrule.yaml").read_text())
    assert find(made, "PrometheusRule")["spec"] == rule["spec"]
    given = {path.name: json.loads(path.read_text()) for path in _dashboards()}
    mounted = {
        name: json.loads(text)
        for config in made
        if config["kind"] == "ConfigMap"
        for name, text in config["data"].items()
    }
    assert mounted == given


def test_objects_fit_into_what_kubectl_apply_keeps() -> None:
    for made in overlay("prometheus-operator"):
        size = len(json.dumps(made))
        assert size < APPLY_LIMIT_BYTES, (made["kind"], made["metadata"]["name"])


def test_the_scrape_config_is_one(tmp_path: Path) -> None:
    path = KUSTOMIZE / "overlays" / "plain-prometheus" / "scrape-config.yaml"
    (job,) = yaml.safe_load(path.read_text())["scrape_configs"]
    # Debian's promtool is built without the discovery of Kubernetes.
    checked = tmp_path / "prometheus.yaml"
    elsewhere = {key: value for key, value in job.items() if key != "kubernetes_sd_configs"}
    checked.write_text(json.dumps({"scrape_configs": [elsewhere]}))
    _promtool("check", "config", "--syntax-only", checked)
    assert job["honor_labels"] is True
    made = overlay("plain-prometheus")
    (ports,) = container(made)["ports"]
    labels = find(made, "DaemonSet")["spec"]["template"]["metadata"]["labels"]
    assert job["relabel_configs"][0]["regex"] == ";".join([*labels.values(), ports["name"]])
    spaces = job["kubernetes_sd_configs"][0]["namespaces"]["names"]
    assert spaces == [find(made, "DaemonSet")["metadata"]["namespace"]]


def test_annotations_say_where_to_scrape() -> None:
    made = overlay("plain-prometheus")
    annotations = find(made, "DaemonSet")["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(container(made)["ports"][0]["containerPort"]),
        "prometheus.io/path": "/metrics",
    }


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.stem)
def test_example_is_valid(path: Path) -> None:
    assert problems(yaml.safe_load_all(path.read_text())) == []


@pytest.mark.parametrize("path", SCALING, ids=lambda path: path.stem)
def test_queries_of_an_example_are_promql_on_our_metrics(path: Path, tmp_path: Path) -> None:
    queries = list(_queries(yaml.safe_load(path.read_text())))
    assert queries or path.stem == "horizontalpodautoscaler"
    rules = [{"record": f"example:{n}", "expr": query} for n, query in enumerate(queries)]
    checked = tmp_path / "rules.yaml"
    checked.write_text(json.dumps({"groups": [{"name": "example", "rules": rules}]}))
    _promtool("check", "rules", checked)
    names = {family.name for family in TABLE}
    assert {name for query in queries for name in re.findall(r"\bgpu_\w+", query)} <= names


def test_pods_of_an_example_say_what_the_simulated_node_knows() -> None:
    advertised = SimulatedBackend(scenario="cluster").advertised()
    for made in yaml.safe_load_all((ROOT / "daemonset/examples/simulated-pods.yaml").read_text()):
        pod = made["spec"].get("template", made)
        assert parse_annotation(pod["metadata"]["annotations"][ANNOTATION])
        (one,) = pod["spec"]["containers"]
        assert one["resources"]["limits"].keys() <= advertised.keys()


def test_only_the_deployments_own_pods_scale_it(tmp_path: Path) -> None:
    """Another's pods may have names that begin as the Deployment's do."""
    scaled = yaml.safe_load((ROOT / "daemonset/examples/keda-scaledobject.yaml").read_text())
    series = [
        {"series": f'{metric}{{namespace="inference", pod="{pod}"{labels}}}', "values": value}
        for pod, workload in (("llm-7f9-a", "llm"), ("llm-7f9-b", "llm"), ("llm-db-0", "llm-db"))
        for metric, labels, value in (
            ("gpu_container_utilization_ratio", "", "0.5+0x9"),
            ("gpu_container_memory_used_bytes", "", "30+0x9"),
            ("gpu_container_memory_limit_bytes", "", "80+0x9"),
            (
                "gpu_allocation_info",
                f', workload_kind="Deployment", workload="{workload}"',
                "1+0x9",
            ),
        )
    ]
    asked = [
        {"expr": query, "eval_time": "5m", "exp_samples": [{"labels": "{}", "value": value}]}
        for query, value in zip(_queries(scaled), (1.0, 0.75), strict=True)
    ]
    checked = tmp_path / "tests.yaml"
    suite = {"interval": "1m", "input_series": series, "promql_expr_test": asked}
    checked.write_text(json.dumps({"tests": [suite]}))
    _promtool("test", "rules", checked)


def test_the_autoscaler_asks_for_what_the_adapter_gives() -> None:
    adapter, scaler = (
        yaml.safe_load((ROOT / "daemonset/examples" / f"{name}.yaml").read_text())
        for name in ("prometheus-adapter", "horizontalpodautoscaler")
    )
    given = {rule["name"]["as"] for rule in adapter["rules"]}
    assert given == {metric["pods"]["metric"]["name"] for metric in scaler["spec"]["metrics"]}


def test_each_dashboard_is_in_a_config_map_that_the_sidecar_finds() -> None:
    made = kustomize(ROOT / "dashboards")
    assert {one["metadata"]["labels"]["grafana_dashboard"] for one in made} == {"1"}
    assert {name: content for one in made for name, content in one["data"].items()} == {
        path.name: path.read_text() for path in _dashboards()
    }


def _dashboards() -> list[Path]:
    return sorted((ROOT / "dashboards/generated").glob("*.json"))


def _queries(made: Object) -> list[str]:
    """Return the queries of an example, the adapter's with its placeholders filled in."""
    if made.get("kind") == "ScaledObject":
        return [trigger["metadata"]["query"] for trigger in made["spec"]["triggers"]]
    return [
        rule["metricsQuery"]
        .replace("<<.Series>>", rule["seriesQuery"].partition("{")[0])
        .replace("<<.LabelMatchers>>", 'namespace="inference",pod=~"llm-0|llm-1"')
        .replace("<<.GroupBy>>", "pod")
        for rule in made.get("rules", [])
    ]


def _promtool(*arguments: str | Path) -> None:
    done = run("promtool", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
