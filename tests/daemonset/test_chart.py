"""The Helm chart, through the real helm: what it renders, and what it refuses."""

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from daemonset.generate import generated
from exporter import __version__
from exporter.config.options import OPTIONS
from exporter.metrics.table import TABLE
from tests.daemonset.render import CHART, EXAMPLES, ROOT, Object, find, helm, helm_template, run
from tests.daemonset.validation import OLDEST, problems

NAMES = sorted(path.stem for path in EXAMPLES.glob("*.yaml"))
EVERYTHING = (
    "--set=podEvents=true,hostPID=true,runtimeClassName=nvidia,port=9500,image.tag=1.2.3",
    "--set=imagePullSecrets[0].name=pull,podLabels.team=gpu,service.annotations.a=b",
    "--set=extraArgs={--pod-labels=team,--log-format=json},extraEnv[0].name=A,extraEnv[0].value=b",
    "--set=tls.secretName=cert,tls.serverName=gpu.example,basicAuth.secretName=login",
    "--set=serviceMonitor.enabled=true,serviceMonitor.interval=30s,serviceMonitor.labels.r=main",
    "--set=prometheusRule.enabled=true,prometheusRule.labels.role=alerts,prometheusRule.prices.T4=1",
    "--set=dashboards.enabled=true,dashboards.folder=GPUs,keda.enabled=true",
    "--set=networkPolicy.from[0].namespaceSelector.matchLabels.name=monitoring",
)


def exporter(objects: tuple[Object, ...]) -> dict[str, Any]:
    (container,) = find(objects, "DaemonSet")["spec"]["template"]["spec"]["containers"]
    return dict(container)


def test_generated_files_are_up_to_date() -> None:
    stale = [path for path, content in generated().items() if (ROOT / path).read_bytes() != content]
    assert stale == [], "run python -m setup.generate"


def test_versions_are_the_program_s() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


@pytest.mark.parametrize("values", [(), *((EXAMPLES / f"{name}.yaml",) for name in NAMES)])
def test_lint(values: tuple[Path, ...]) -> None:
    given = [part for path in values for part in ("--values", path)]
    done = run("helm", "lint", "--strict", CHART, *given)
    assert done.returncode == 0, done.stdout
    assert "[WARNING]" not in done.stdout
    assert "1 chart(s) linted, 0 chart(s) failed" in done.stdout


@pytest.mark.parametrize("arguments", [(), EVERYTHING], ids=["defaults", "everything"])
def test_all_is_valid(arguments: tuple[str, ...]) -> None:
    assert problems(helm_template(*arguments)) == []


def test_the_oldest_kubernetes_is_enough_and_an_older_one_is_refused() -> None:
    assert helm_template("--kube-version", f"{OLDEST}.0") == helm_template()
    refused = helm("template", "--kube-version", "1.27.0")
    assert "which is incompatible with Kubernetes v1.27.0" in refused.stderr


@pytest.mark.parametrize("name", NAMES)
def test_examples_are_valid(name: str) -> None:
    objects = helm_template("--values", EXAMPLES / f"{name}.yaml")
    assert problems(objects) == []
    assert exporter(objects)["ports"] == [{"name": "metrics", "containerPort": 9400}]


def test_what_is_wrong_is_seen() -> None:
    daemonset = json.loads(json.dumps(find(helm_template(), "DaemonSet")))
    daemonset["spec"]["template"]["spec"]["hostPid"] = True
    del daemonset["spec"]["selector"]
    assert len(problems([daemonset])) == 4  # two mistakes, by two versions
    monitor = json.loads(json.dumps(find(helm_template(*EVERYTHING), "ServiceMonitor")))
    monitor["spec"]["endpoints"][0]["honourLabels"] = True
    (problem,) = problems([monitor])
    assert "'honourLabels' was unexpected" in problem
    assert problems([{"apiVersion": "v9", "kind": "Thing", "metadata": {"name": "x"}}]) != []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("hostPid=true", "at '': additional properties 'hostPid' not allowed"),
        ("image.name=x", "at '/image': additional properties 'name' not allowed"),
        ("image.tag=a b", "at '/image/tag': 'a b' does not match pattern"),
        ("podWatch=auto", "at '/podWatch': got string, want boolean"),
        ("port=80", "at '/port': minimum: got 80, want 1,024"),
        ("maxUnavailable=0", "at '/maxUnavailable'"),
        ("resources.limits.memory=lots", "at '/resources/limits/memory'"),
        ("resources.limit.memory=1Gi", "at '/resources': additional properties 'limit' not"),
        (
            r"resources.limits.nvidia\.com/gpu=1",
            "at '/resources/limits': additional properties 'nvidia.com/gpu' not allowed",
        ),
        ("fullnameOverride=9lives", "at '/fullnameOverride': '9lives' does not match pattern"),
        ("fullnameOverride=gpu.metrics", "at '/fullnameOverride': 'gpu.metrics' does not match"),
        (f"fullnameOverride={'x' * 64}", "at '/fullnameOverride': 'xxx"),
        (
            r"podLabels.app\.kubernetes\.io/name=mine",
            "invalid propertyName 'app.kubernetes.io/name'",
        ),
        ("priorityClass.name=system-gpu", "priorityClass.name must not begin with system-"),
        ("gpuAccess=cdi", "at '/gpuAccess': value must be one of 'environment', 'volumeMount'"),
        ("kubelet.rootDir=var/lib/kubelet", "at '/kubelet/rootDir': 'var/lib/kubelet' does not"),
        ("serviceAccount.create=false", "serviceAccount.name must be given when"),
        ("tls=null", "missing property 'tls'"),
        ("keda.name=null", "at '/keda': missing property 'name'"),
        ("image=null,port=null", "missing properties 'image', 'port'"),
        (
            "prometheusRule.alerts.GPULost=null",
            "at '/prometheusRule/alerts': missing property 'GPULost'",
        ),
        ("tolerations[0].effect=Never", "at '/tolerations/0/effect': value must be one of"),
        ("extraArgs={listen}", "at '/extraArgs/0': 'listen' does not match pattern"),
        ("podMonitor.interval=30", "at '/podMonitor/interval'"),
        ("podMonitor.enabled=true", "at '/serviceMonitor/enabled': value must be false"),
        ("podWatch=false,podEvents=true", "at '/podWatch': value must be true"),
        ("podWatch=false,hostPID=true", "at '/podWatch': value must be true"),
        ("podWatch=false,keda.enabled=true", "at '/podWatch': value must be true"),
        ("tls.secret=x", "at '/tls': additional properties 'secret' not allowed"),
        ("dashboards.labels.x=1", "at '/dashboards/labels/x': got number, want string"),
        ("keda.utilization=0.7", "at '/keda/utilization': got string, want number"),
        ("keda.utilization=70", "at '/keda/utilization': maximum: got 70, want 1"),
        ("keda.minReplicas=0", "at '/keda/minReplicas': minimum: got 0, want 1"),
        ("keda.enabled=true,keda.minReplicas=9", "keda.maxReplicas 8 is below keda.minReplicas 9"),
        (
            "prometheusRule.alerts.GPULost.for=soon",
            "at '/prometheusRule/alerts/GPULost/for': 'soon' does not match pattern",
        ),
        (
            "prometheusRule.alerts.GPUContainerUnderutilized.window=0s",
            "at '/prometheusRule/alerts/GPUContainerUnderutilized/window': '0s' does not match",
        ),
        (
            "prometheusRule.alerts.GPULost.severity=page",
            "value must be one of 'critical', 'warning', 'info'",
        ),
        (
            "prometheusRule.alerts.GPUContainerUnderutilized.busy=50",
            "at '/prometheusRule/alerts/GPUContainerUnderutilized/busy': maximum: got 50, want 1",
        ),
        (
            "prometheusRule.alerts.GPULots.enabled=false",
            "at '/prometheusRule/alerts': additional properties 'GPULots' not allowed",
        ),
        (
            "prometheusRule.alerts.GPULost.busy=1",
            "at '/prometheusRule/alerts/GPULost': additional properties 'busy' not allowed",
        ),
    ],
)
def test_values_outside_the_schema_are_refused(given: str, message: str) -> None:
    both = ["--set", "serviceMonitor.enabled=true"] if given.startswith("podMonitor.e") else []
    done = helm("template", *both, "--set", given)
    assert done.returncode != 0
    assert done.stdout == ""
    assert message in done.stderr


def test_names_of_what_is_there_already_are_taken() -> None:
    given = "serviceAccount.create=false,serviceAccount.name=mine,priorityClass.create=false"
    objects = helm_template("--set", f"{given},priorityClass.name=system-node-critical")
    assert {"ServiceAccount", "PriorityClass"}.isdisjoint(made["kind"] for made in objects)
    pod = find(objects, "DaemonSet")["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "mine"
    assert pod["priorityClassName"] == "system-node-critical"
    assert find(objects, "ClusterRoleBinding")["subjects"][0]["name"] == "mine"


def test_further_flags_are_those_that_no_other_value_stands_for() -> None:
    """Given twice, a flag is an error of the program, or says other than the pod's mounts do."""
    every = ("--set", "kubelet.enabled=false")
    given = exporter(helm_template(*EVERYTHING, *every))["args"]
    own = {argument.partition("=")[0] for argument in given} - {"--pod-labels", "--log-format"}
    own |= {"--node", "--kubelet-socket"}
    for option in OPTIONS.values():
        done = helm("template", "--set", f"extraArgs={{{option.flag}=1}}")
        assert (done.returncode != 0) == (option.flag in own), option.flag


def test_every_flag_that_is_rendered_is_an_option() -> None:
    given = exporter(helm_template(*EVERYTHING))["args"]
    flags = {argument.partition("=")[0] for argument in given}
    assert flags <= {option.flag for option in OPTIONS.values()}
    assert {"--listen", "--pod-watch", "--pod-events", "--tls-cert", "--tls-key"} <= flags
    assert {"--basic-auth-users", "--pod-labels", "--log-format"} <= flags


def test_the_network_policy_lets_the_test_in() -> None:
    objects = helm_template(*EVERYTHING)
    peers = find(objects, "NetworkPolicy")["spec"]["ingress"][0]["from"]
    labels = find(objects, "Pod")["metadata"]["labels"]
    assert any(
        selector["matchLabels"].items() <= labels.items()
        for peer in peers
        if (selector := peer.get("podSelector"))
    )
    selected = find(objects, "DaemonSet")["spec"]["selector"]["matchLabels"]
    assert not selected.items() <= labels.items(), "the test counts as an exporter"


def test_without_the_pod_watch_there_is_no_token_and_no_right() -> None:
    objects = helm_template("--set", "podWatch=false")
    assert {"ClusterRole", "ClusterRoleBinding"}.isdisjoint(made["kind"] for made in objects)
    pod = find(objects, "DaemonSet")["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert "--pod-watch=off" in exporter(objects)["args"]
    assert find(objects, "NetworkPolicy")["spec"]["egress"] == []


def test_events_take_a_right_of_their_own() -> None:
    def rights(objects: tuple[Object, ...]) -> set[tuple[str, str]]:
        return {
            (resource, verb)
            for rule in find(objects, "ClusterRole")["rules"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        }

    watching = {(r, v) for r in ("pods", "resourceslices") for v in ("list", "watch")}
    assert rights(helm_template()) == watching
    assert rights(helm_template("--set", "podEvents=true")) == watching | {("events", "create")}


def test_tls_and_the_password_s_hash_are_mounted_where_the_flags_look() -> None:
    objects = helm_template(*EVERYTHING)
    container = exporter(objects)
    pod = find(objects, "DaemonSet")["spec"]["template"]["spec"]
    folders = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    files = {
        f"{folders[volume['name']]}/{item['path']}": (volume["secret"]["secretName"], item["key"])
        for volume in pod["volumes"]
        if "secret" in volume
        for item in volume["secret"]["items"]
    }
    options = dict(argument.split("=", 1) for argument in container["args"])
    assert files == {
        options["--tls-cert"]: ("cert", "tls.crt"),
        options["--tls-key"]: ("cert", "tls.key"),
        options["--basic-auth-users"]: ("login", "users"),
    }
    for probe in ("livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["scheme"] == "HTTPS"
    (endpoint,) = find(objects, "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["scheme"] == "https"
    assert endpoint["tlsConfig"]["serverName"] == "gpu.example"
    assert endpoint["basicAuth"]["password"] == {"name": "login", "key": "password"}


def test_the_example_of_autoscaling_asks_for_metrics_that_exist() -> None:
    made = find(helm_template(*EVERYTHING, "--set-json", "keda.memory=0.8"), "ScaledObject")
    queries = " ".join(trigger["metadata"]["query"] for trigger in made["spec"]["triggers"])
    named = set(re.findall(r"gpu_\w+", queries))
    assert len(named) == 4
    assert named <= {family.name for family in TABLE}


def test_large_numbers_stay_whole() -> None:
    """Helm keeps numbers as floats, and would write a million as 1e+06."""
    objects = helm_template("--set", "priorityClass.value=123456789")
    assert find(objects, "PriorityClass")["value"] == 123456789


def test_a_release_of_another_name_has_its_own_objects() -> None:
    done = run("helm", "template", "second", CHART, "--set", "dashboards.enabled=true")
    named = re.findall(r"^  name: (\S+)$", done.stdout, re.MULTILINE)
    assert len(named) > 10
    assert all(name.startswith("second-kube-gpu-exporter") for name in named)


def test_a_release_fits_the_secret_that_helm_keeps_it_in() -> None:
    """Kubernetes takes a Secret of 1 MiB, and the chart's dashboards are in it twice."""
    done = helm("install", "--dry-run=client", "--output=json", *EVERYTHING)
    assert done.returncode == 0, done.stderr
    assert len(base64.b64encode(gzip.compress(done.stdout.encode()))) < 512 * 1024


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("port=9400", "No Prometheus scrapes it yet"),
        ("podMonitor.enabled=true", "There are no alerts yet"),
        ("podWatch=false", "podWatch is off: there are no workloads"),
        ("podMonitor.enabled=true", "podMonitor.labels is empty. kube-prometheus-stack ignores"),
        (
            "podMonitor.enabled=true,prometheusRule.enabled=true",
            "podMonitor.labels and prometheusRule.labels are empty.",
        ),
        ("dashboards.enabled=true", "WARNING: prometheusRule.runbooksUrl is https://example.com/"),
        ("tls.secretName=x", "curl -s -k https://localhost:9400/metrics"),
        (
            "port=9400",
            "WARNING: image.repository is registry.example.com/kube-gpu-exporter, a placeholder",
        ),
        (
            "port=9400",
            "kubectl label namespace gpu-monitoring pod-security.kubernetes.io/enforce=privileged",
        ),
    ],
)
def test_notes_say_the_next_command(given: str, said: str) -> None:
    done = helm("install", "--dry-run=client", "--set", given)
    assert done.returncode == 0, done.stderr
    notes = done.stdout.partition("NOTES:\n")[2]
    assert "kubectl -n gpu-monitoring rollout status daemonset/kube-gpu-exporter" in notes
    assert "helm -n gpu-monitoring test kube-gpu-exporter" in notes
    assert said in notes


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("image.repository=registry.test/kube-gpu-exporter", "WARNING"),
        ("podMonitor.enabled=true,podMonitor.labels.release=x", "kube-prometheus-stack"),
        ("port=9400", "kube-prometheus-stack"),
        ("port=9400", "runbooksUrl"),
        ("dashboards.enabled=true,prometheusRule.runbooksUrl=https://rb.test/", "WARNING: prom"),
        ("image.pullPolicy=Never", "WARNING"),
        ("kubelet.enabled=false", "pod-security.kubernetes.io"),
    ],
)
def test_notes_do_not_say_what_is_done_already(given: str, said: str) -> None:
    done = helm("install", "--dry-run=client", "--set", given)
    assert done.returncode == 0, done.stderr
    assert said not in done.stdout.partition("NOTES:\n")[2]
