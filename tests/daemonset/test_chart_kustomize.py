"""The chart and the overlays give a cluster the same objects, for the same intent.

What may differ, and why:

- the Namespace: ``helm install --create-namespace`` makes it, outside of any chart;
- the pod of ``helm test``, which kustomize has no word for;
- labels by which Helm knows a release's objects (``HELM_LABELS``), in selectors as well, so that a
  cluster may have two releases;
- lists of volumes and their mounts that are empty: kustomize leaves them, and the chart has none;
- the order of lists in which Kubernetes knows things by name, such as volumes: kustomize puts what
  an overlay adds first, and the chart last.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.daemonset.render import (
    EXAMPLES,
    KUSTOMIZE,
    ROOT,
    Object,
    example,
    find,
    helm_template,
    kustomize,
)

HELM_LABELS: Final = {
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
    "helm.sh/chart",
}
COMPONENTS: Final = {
    "gpus-by-volume-mount": "gpuAccess=volumeMount",
    "nri-plugin": (
        r"podAnnotations.nvidia\.cdi\.k8s\.io/container\.exporter=management.nvidia.com/gpu=all"
    ),
    "host-pid": "hostPID=true",
    "pod-events": "podEvents=true",
    "without-kubelet": (
        "kubelet.enabled=false,securityContext.runAsNonRoot=true,"
        "securityContext.runAsUser=65532,securityContext.runAsGroup=65532"
    ),
    "without-pod-watch": "podWatch=false",
    "pod-monitor": "podMonitor.enabled=true",
    "prometheus-rules": "prometheusRule.enabled=true",
    "dashboards": "dashboards.enabled=true",
}
INTENTS: Final = sorted(path.stem for path in EXAMPLES.glob("*.yaml"))


def test_there_is_an_example_for_each_overlay() -> None:
    assert sorted(path.name for path in (KUSTOMIZE / "overlays").iterdir()) == INTENTS


@pytest.mark.parametrize("intent", INTENTS)
def test_chart_and_overlay_give_the_same(intent: str) -> None:
    assert _by_name(example(intent)) == _by_name(kustomize(KUSTOMIZE / "overlays" / intent))


@pytest.mark.parametrize("component", COMPONENTS)
def test_value_and_component_give_the_same(component: str, tmp_path: Path) -> None:
    base, used = (
        os.path.relpath(KUSTOMIZE / path, tmp_path) for path in ("base", f"components/{component}")
    )
    overlay = {"resources": [base], "components": [used]}
    (tmp_path / "kustomization.yaml").write_text(json.dumps(overlay))
    assert _by_name(helm_template("--set", COMPONENTS[component])) == _by_name(kustomize(tmp_path))


def test_there_is_a_value_for_each_component() -> None:
    assert {path.name for path in (KUSTOMIZE / "components").iterdir()} == COMPONENTS.keys()


def test_chart_and_example_scale_alike() -> None:
    given = "keda.enabled=true,keda.name=llm,keda.namespace=inference"
    made = find(helm_template("--set", given, "--set-json", "keda.memory=0.8"), "ScaledObject")
    del made["metadata"]["labels"]
    path = ROOT / "daemonset" / "examples" / "keda-scaledobject.yaml"
    assert made == yaml.safe_load(path.read_text())


def _by_name(objects: Sequence[Object]) -> dict[str, Any]:
    return {
        f"{made['kind']}/{made['metadata']['name']}": _without(made, HELM_LABELS)
        for made in objects
        if made["kind"] not in {"Namespace", "Pod"}
    }


def _without(value: Any, keys: set[str]) -> Any:
    if isinstance(value, dict):
        return {
            key: _without(part, keys)
            for key, part in value.items()
            if key not in keys and (part or key not in {"volumes", "volumeMounts"})
        }
    if isinstance(value, list):
        parts = [_without(part, keys) for part in value]
        named = all(isinstance(part, dict) and "name" in part for part in parts)
        return sorted(parts, key=lambda part: part["name"]) if named else parts
    return value
