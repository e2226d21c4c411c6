"""The chart's values, each declared once.

``values.yaml``, ``values.schema.json`` and the table in the chart's README are made from this.
"""

from typing import Final

import exporter
from daemonset.alerting import ALERTING
from daemonset.schema import (
    AFFINITY,
    ANYTHING,
    ARGUMENTS,
    DNS_LABEL_OR_NONE,
    DURATION_OR_NONE,
    ENVIRONMENT,
    IMAGE,
    LABELS,
    NAME,
    NAME_OR_NONE,
    NAMED,
    OBJECTS,
    PATH,
    POD_LABELS,
    RESOURCES,
    TEXT,
    TOLERATIONS,
    VOLUMES,
    either,
    matching,
    one_of,
    whole,
)
from daemonset.value import Section, Value, switch


def _monitor(kind: str, other: str) -> tuple[Value, ...]:
    key = kind[0].lower() + kind[1:]
    relabeling = "Rules of Prometheus for labels"
    return (
        switch(
            f"{key}.enabled",
            f"Have the Prometheus operator scrape through a {kind}. Refused with a {other}, for "
            "each series would be there twice.",
        ),
        Value(f"{key}.interval", "", DURATION_OR_NONE, "Prometheus' own when empty."),
        Value(
            f"{key}.scrapeTimeout",
            "",
            DURATION_OR_NONE,
            "Prometheus' own when empty. Not above the interval.",
        ),
        Value(f"{key}.labels", {}, LABELS, f"Labels by which your Prometheus chooses its {kind}s."),
        Value(f"{key}.relabelings", [], OBJECTS, f"{relabeling} of the target."),
        Value(f"{key}.metricRelabelings", [], OBJECTS, f"{relabeling} of each series."),
    )


_IMAGE: Final = Section(
    "Image",
    (
        Value(
            "image.repository",
            f"{exporter.REGISTRY}/kube-gpu-exporter",
            IMAGE,
            "The image, with its registry.",
        ),
        Value("image.tag", "", matching(r"[\w.-]*"), "Tag; the chart's appVersion when empty."),
        Value(
            "image.digest",
            "",
            matching(r"(sha256:[0-9a-f]{64})?"),
            "Digest, which then decides and not the tag.",
        ),
        Value(
            "image.pullPolicy",
            "",
            one_of("", "Always", "IfNotPresent", "Never"),
            "When it is pulled; Kubernetes decides by the tag when empty.",
        ),
        Value("imagePullSecrets", [], NAMED, "Secrets to pull it with, as a list of name: ..."),
    ),
)

_PODS: Final = Section(
    "Pods",
    (
        Value(
            "fullnameOverride",
            "",
            DNS_LABEL_OR_NONE,
            "Name of every object; the release's, with kube-gpu-exporter in it, when empty.",
        ),
        Value(
            "runtimeClassName",
            "",
            NAME_OR_NONE,
            "Runtime class that brings the driver into the container: nvidia with the GPU "
            "operator. Empty where that is the node's default, or the driver is mounted (GKE).",
        ),
        Value(
            "gpuAccess",
            "environment",
            one_of("environment", "volumeMount"),
            "How the container asks for all GPUs and takes none: environment, by the image's "
            "NVIDIA_VISIBLE_DEVICES=all; or volumeMount, as well by a mount, for EKS Auto Mode and "
            "Bottlerocket, which ignore the variable of a container without privileges.",
        ),
        Value(
            "nodeSelector",
            {"kubernetes.io/os": "linux"},
            LABELS,
            "Nodes to run on; yours are added to this one. A driver that is loaded later is found. "
            "Its libraries, though, come into a container only when that is made: where they were "
            "missing then, and the kubelet advertises GPUs, /healthz fails after eleven minutes, "
            "and the kubelet makes a new one.",
        ),
        Value("affinity", {}, AFFINITY, "Nodes to run on, said in more words."),
        Value(
            "tolerations",
            [{"key": "nvidia.com/gpu", "operator": "Exists"}],
            TOLERATIONS,
            "Taints of GPU nodes that do not keep it away. A list replaces this one.",
        ),
        Value("podLabels", {}, POD_LABELS, "Further labels of the pods."),
        Value("podAnnotations", {}, LABELS, "Annotations of the pods."),
        Value(
            "maxUnavailable",
            "10%",
            either(matching(r"[1-9][0-9]?%|100%"), whole(1, 10_000)),
            "Nodes that may be without it during an update.",
        ),
        switch(
            "priorityClass.create",
            "Make a priority class that gets it a place on a full node and takes none from others.",
            on=True,
        ),
        Value(
            "priorityClass.name",
            "",
            NAME_OR_NONE,
            "Name of the class that is made, not system-..., or of one that is there.",
        ),
        Value(
            "priorityClass.value",
            1_000_000,
            whole(0, 1_000_000_000),
            "Its value. Kubernetes changes that of no class: for another one, give another name.",
        ),
        Value(
            "resources",
            {"requests": {"cpu": "10m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
            RESOURCES,
            "Never a GPU: it would be taken from a workload. A CPU limit would make it miss reads.",
        ),
        Value(
            "podSecurityContext",
            {"seccompProfile": {"type": "RuntimeDefault"}},
            ANYTHING,
            "Security context of the pods.",
        ),
        Value(
            "securityContext",
            {
                "runAsUser": 0,
                "runAsGroup": 0,
                "runAsNonRoot": False,
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
            ANYTHING,
            "Security context of the container. It is root, without any of root's capabilities, "
            "because the kubelet's socket is root's.",
        ),
    ),
)

_SEES: Final = Section(
    "What it sees, and with what rights",
    (
        switch(
            "podWatch",
            "Watch the node's pods: workloads, pod labels, out-of-memory verdicts, DRA. Takes a "
            "token, and the right to list and watch pods and resourceslices.",
            on=True,
        ),
        switch(
            "podEvents",
            "Write a GPUOutOfMemory event on the pod. Takes the right to create events; only with "
            "podWatch.",
        ),
        switch(
            "hostPID",
            "See the host's processes: containers' parts of GPUs that are shared. Only with "
            "podWatch.",
        ),
        switch(
            "kubelet.enabled",
            "Ask the kubelet which container holds which GPU, at its socket on the host. Without, "
            "nobody is known to hold one, the socket's directory is not mounted, and "
            "securityContext needs no root.",
            on=True,
        ),
        Value(
            "kubelet.rootDir",
            "/var/lib/kubelet",
            PATH,
            "The kubelet's --root-dir, which has pod-resources with the socket in it.",
        ),
        switch("serviceAccount.create", "Make a service account.", on=True),
        Value(
            "serviceAccount.name",
            "",
            NAME_OR_NONE,
            "Name of the one that is made, or of one that is there, which must be said.",
        ),
    ),
)

_PROGRAM: Final = Section(
    "The program",
    (
        Value("port", 9400, whole(1024, 65535), "Port that it listens on."),
        Value(
            "extraArgs",
            [],
            ARGUMENTS,
            "Further flags, such as --pod-labels=team: see the page on configuration. None that "
            "another value stands for.",
        ),
        Value("extraEnv", [], ENVIRONMENT, "Further environment variables."),
        Value("extraVolumes", [], VOLUMES, "Further volumes."),
        Value("extraVolumeMounts", [], VOLUMES, "Where they are mounted."),
        Value(
            "tls.secretName",
            "",
            NAME_OR_NONE,
            "Secret with tls.crt and tls.key, as cert-manager makes them. With one, only HTTPS is "
            "served; a renewed certificate is used without a restart.",
        ),
        Value(
            "tls.serverName",
            "",
            NAME_OR_NONE,
            "Name in the certificate, that Prometheus then checks against the Secret's ca.crt. "
            "Without it, monitors check nothing: pods are scraped by address.",
        ),
        Value(
            "basicAuth.secretName",
            "",
            NAME_OR_NONE,
            "Secret with users, lines of htpasswd -B, for the exporter; and for the monitors "
            "username and password. /healthz and /readyz stay open.",
        ),
    ),
)

_SCRAPED: Final = Section(
    "Who scrapes it",
    (
        *_monitor("PodMonitor", "ServiceMonitor"),
        *_monitor("ServiceMonitor", "PodMonitor"),
        Value("service.annotations", {}, LABELS, "Annotations of the headless Service."),
        switch(
            "networkPolicy.enabled",
            "Let nothing in but scrapes, and nothing out but what podWatch needs.",
            on=True,
        ),
        Value(
            "networkPolicy.from",
            [],
            OBJECTS,
            "Who may scrape, as peers of a NetworkPolicy. Everybody when empty.",
        ),
        Value(
            "networkPolicy.apiServerPorts",
            [443, 6443],
            {"type": "array", "minItems": 1, "items": whole(1, 65535)},
            "Ports of the API server, which podWatch needs.",
        ),
    ),
)

_DASHBOARDS: Final = Section(
    "Dashboards",
    (
        switch("dashboards.enabled", "Make a ConfigMap of each dashboard."),
        Value(
            "dashboards.namespace", "", NAME_OR_NONE, "Where they are; the release's when empty."
        ),
        Value(
            "dashboards.labels",
            {"grafana_dashboard": "1"},
            LABELS,
            "Labels by which Grafana's sidecar finds them.",
        ),
        Value("dashboards.annotations", {}, LABELS, "Further annotations."),
        Value(
            "dashboards.folder",
            "",
            TEXT,
            "Grafana's folder, as the sidecar's annotation grafana_folder. Its own when empty.",
        ),
    ),
)

_AUTOSCALING: Final = Section(
    "An example of autoscaling: a KEDA ScaledObject of a workload of yours",
    (
        switch(
            "keda.enabled",
            "Make the ScaledObject. Only with podWatch, which tells the workload's pods.",
        ),
        Value("keda.namespace", "default", NAME, "Namespace of the workload."),
        Value("keda.kind", "Deployment", one_of("Deployment", "StatefulSet"), "Its kind."),
        Value("keda.name", "inference", NAME, "Its name."),
        Value(
            "keda.minReplicas",
            1,
            whole(1, 10_000),
            "Fewest replicas: with none there is no GPU to tell that one is needed.",
        ),
        Value("keda.maxReplicas", 8, whole(1, 10_000), "Most replicas, no fewer than the fewest."),
        Value(
            "keda.serverAddress",
            "http://prometheus.monitoring.svc:9090",
            matching(r"https?://\S+"),
            "Prometheus' address.",
        ),
        Value(
            "keda.utilization",
            0.7,
            {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
            "Mean utilization of its GPUs from which there are more replicas.",
        ),
        Value(
            "keda.memory",
            0,
            {"type": "number", "minimum": 0, "maximum": 1},
            "Share of its GPUs' memory in use from which there are more replicas; 0: not looked at,"
            " as for servers that take all memory at their start.",
        ),
    ),
)

SECTIONS: Final = (_IMAGE, _PODS, _SEES, _PROGRAM, _SCRAPED, _DASHBOARDS, ALERTING, _AUTOSCALING)

REFUSED_TOGETHER: Final = (("podMonitor.enabled", "serviceMonitor.enabled"),)
"""Switches of which only one may be on."""

NEEDS: Final = (
    ("podEvents", "podWatch"),
    ("hostPID", "podWatch"),
    ("keda.enabled", "podWatch"),
)
"""Switches of which the first is of no use without the second."""
