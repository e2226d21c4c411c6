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
    relabeling = "Relabeling rules of Prometheus"
    return (
        switch(
            f"{key}.enabled",
            f"Create a {kind}, by which the Prometheus operator scrapes the exporters. Refused "
            f"together with a {other}, because each series would exist twice.",
        ),
        Value(
            f"{key}.interval",
            "",
            DURATION_OR_NONE,
            "Interval of the scrapes. When empty, that of Prometheus.",
        ),
        Value(
            f"{key}.scrapeTimeout",
            "",
            DURATION_OR_NONE,
            "Timeout of a scrape, at most the interval. When empty, that of Prometheus.",
        ),
        Value(
            f"{key}.labels",
            {},
            LABELS,
            f"Labels by which your Prometheus selects {kind}s. kube-prometheus-stack "
            "selects by release: NAME, with the name of its Helm release.",
        ),
        Value(f"{key}.relabelings", [], OBJECTS, f"{relabeling} for the targets."),
        Value(f"{key}.metricRelabelings", [], OBJECTS, f"{relabeling} for each series."),
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
        Value(
            "image.tag",
            "",
            matching(r"[\w.-]*"),
            "Tag of the image. When empty, the chart's appVersion.",
        ),
        Value(
            "image.digest",
            "",
            matching(r"(sha256:[0-9a-f]{64})?"),
            "Digest of the image. It takes precedence over the tag.",
        ),
        Value(
            "image.pullPolicy",
            "",
            one_of("", "Always", "IfNotPresent", "Never"),
            "When nodes pull the image. When empty, Kubernetes decides by the tag.",
        ),
        Value(
            "imagePullSecrets", [], NAMED, "Secrets for pulling the image, as a list of name: ..."
        ),
    ),
)

_PODS: Final = Section(
    "Pods",
    (
        Value(
            "fullnameOverride",
            "",
            DNS_LABEL_OR_NONE,
            "Name of every object. When empty, the name of the release, with "
            "kube-gpu-exporter in it.",
        ),
        Value(
            "runtimeClassName",
            "",
            NAME_OR_NONE,
            "Runtime class that adds the driver's libraries to the container; with "
            "the GPU Operator it is nvidia. Leave it empty where that runtime is the "
            "node's default, or where the driver is mounted (GKE).",
        ),
        Value(
            "gpuAccess",
            "environment",
            one_of("environment", "volumeMount"),
            "How the container gets access to all GPUs without an allocation. "
            "environment: by NVIDIA_VISIBLE_DEVICES=all in the image. volumeMount: "
            "also by a mount, for EKS Auto Mode and Bottlerocket, which ignore the "
            "variable in containers without privileges.",
        ),
        Value(
            "nodeSelector",
            {"kubernetes.io/os": "linux"},
            LABELS,
            "Labels of the nodes to run on. Your labels are added to the default. A "
            "driver that is loaded after the start is found. The driver's libraries "
            "are added to a container only when it is created: if they were missing "
            "then and the kubelet advertises GPUs, /healthz fails after eleven "
            "minutes, and the kubelet replaces the container.",
        ),
        Value(
            "affinity",
            {},
            AFFINITY,
            "Affinity of the pods, for nodes that labels alone can't select.",
        ),
        Value(
            "tolerations",
            [{"key": "nvidia.com/gpu", "operator": "Exists"}],
            TOLERATIONS,
            "Taints of GPU nodes that the pods tolerate. A list of yours replaces this one.",
        ),
        Value("podLabels", {}, POD_LABELS, "More labels for the pods."),
        Value("podAnnotations", {}, LABELS, "Annotations for the pods."),
        Value(
            "maxUnavailable",
            "10%",
            either(matching(r"[1-9][0-9]?%|100%"), whole(1, 10_000)),
            "How many nodes may be without the exporter during an update.",
        ),
        switch(
            "priorityClass.create",
            "Create a priority class, so that the exporter is scheduled on a full "
            "node without preempting other pods.",
            on=True,
        ),
        Value(
            "priorityClass.name",
            "",
            NAME_OR_NONE,
            "Name of the priority class to create, or of an existing one. A name to "
            "create must not start with system-.",
        ),
        Value(
            "priorityClass.value",
            1_000_000,
            whole(0, 1_000_000_000),
            "Priority of the class. Kubernetes can't change the value of an existing "
            "class: for another value, choose another name.",
        ),
        Value(
            "resources",
            {"requests": {"cpu": "10m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
            RESOURCES,
            "Resources of the container. Never request a GPU: it would be taken from "
            "a workload. A CPU limit would make the exporter miss reads.",
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
            "Security context of the container. The container runs as root without "
            "any capability, because the kubelet's socket belongs to root.",
        ),
    ),
)

_SEES: Final = Section(
    "What the exporter sees, and its rights",
    (
        switch(
            "podWatch",
            "Watch the pods of the node. Needed for workloads, pod labels, "
            "out-of-memory verdicts and DRA. Needs a token, and the right to list "
            "and watch pods and resourceslices.",
            on=True,
        ),
        switch(
            "podEvents",
            "Write the event GPUOutOfMemory for a pod that ran out of GPU memory. "
            "Needs podWatch, and the right to create events.",
        ),
        switch(
            "hostPID",
            "Share the PID namespace of the host, so that the use of a shared GPU "
            "can be attributed to containers. Needs podWatch.",
        ),
        switch(
            "kubelet.enabled",
            "Ask the kubelet, at its socket on the host, which container has which "
            "GPU. When off, no GPU is attributed to a container, the directory of "
            "the socket is not mounted, and securityContext needs no root.",
            on=True,
        ),
        Value(
            "kubelet.rootDir",
            "/var/lib/kubelet",
            PATH,
            "The --root-dir of the kubelet. The socket is in its directory pod-resources.",
        ),
        switch("serviceAccount.create", "Create a service account.", on=True),
        Value(
            "serviceAccount.name",
            "",
            NAME_OR_NONE,
            "Name of the service account to create. When serviceAccount.create is "
            "false, the name of an existing account, which is then required.",
        ),
    ),
)

_PROGRAM: Final = Section(
    "The program",
    (
        Value("port", 9400, whole(1024, 65535), "Port on which the exporter listens."),
        Value(
            "extraArgs",
            [],
            ARGUMENTS,
            "More flags, such as --pod-labels=team; docs/configuration.md lists all. "
            "Flags that another value sets are refused.",
        ),
        Value("extraEnv", [], ENVIRONMENT, "More environment variables."),
        Value("extraVolumes", [], VOLUMES, "More volumes."),
        Value("extraVolumeMounts", [], VOLUMES, "Where the additional volumes are mounted."),
        Value(
            "tls.secretName",
            "",
            NAME_OR_NONE,
            "Secret with tls.crt and tls.key, as cert-manager creates it. With a "
            "Secret, the exporter serves HTTPS only. It uses a renewed certificate "
            "without a restart.",
        ),
        Value(
            "tls.serverName",
            "",
            NAME_OR_NONE,
            "Name in the certificate, which Prometheus then verifies against ca.crt "
            "of the Secret. Without a name, monitors verify nothing, because "
            "Prometheus scrapes pods by address.",
        ),
        Value(
            "basicAuth.secretName",
            "",
            NAME_OR_NONE,
            "Secret with users (lines of htpasswd -B) for the exporter, and with "
            "username and password for the monitors. /healthz and /readyz stay open.",
        ),
    ),
)

_SCRAPED: Final = Section(
    "Who scrapes it",
    (
        *_monitor("PodMonitor", "ServiceMonitor"),
        *_monitor("ServiceMonitor", "PodMonitor"),
        Value("service.annotations", {}, LABELS, "Annotations for the headless Service."),
        switch(
            "networkPolicy.enabled",
            "Create a NetworkPolicy that admits only scrapes, and lets out only what "
            "podWatch needs.",
            on=True,
        ),
        Value(
            "networkPolicy.from",
            [],
            OBJECTS,
            "Who may scrape, as peers of a NetworkPolicy. When empty, everyone may.",
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
        switch("dashboards.enabled", "Create a ConfigMap for each dashboard."),
        Value(
            "dashboards.namespace",
            "",
            NAME_OR_NONE,
            "Namespace of the ConfigMaps. When empty, the namespace of the release.",
        ),
        Value(
            "dashboards.labels",
            {"grafana_dashboard": "1"},
            LABELS,
            "Labels by which Grafana's sidecar selects the ConfigMaps.",
        ),
        Value("dashboards.annotations", {}, LABELS, "More annotations for the ConfigMaps."),
        Value(
            "dashboards.folder",
            "",
            TEXT,
            "Folder in Grafana, which the annotation grafana_folder names to the "
            "sidecar. When empty, Grafana's default.",
        ),
    ),
)

_AUTOSCALING: Final = Section(
    "An example of autoscaling: a KEDA ScaledObject for one of your workloads",
    (
        switch(
            "keda.enabled",
            "Create the ScaledObject. Needs podWatch, from which the pods of the "
            "workload are known.",
        ),
        Value("keda.namespace", "default", NAME, "Namespace of the workload."),
        Value(
            "keda.kind", "Deployment", one_of("Deployment", "StatefulSet"), "Kind of the workload."
        ),
        Value("keda.name", "inference", NAME, "Name of the workload."),
        Value(
            "keda.minReplicas",
            1,
            whole(1, 10_000),
            "Least number of replicas. At least 1: without a replica there is no GPU "
            "whose use could ask for more.",
        ),
        Value(
            "keda.maxReplicas",
            8,
            whole(1, 10_000),
            "Greatest number of replicas. Not less than keda.minReplicas.",
        ),
        Value(
            "keda.serverAddress",
            "http://prometheus.monitoring.svc:9090",
            matching(r"https?://\S+"),
            "Address of Prometheus.",
        ),
        Value(
            "keda.utilization",
            0.7,
            {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
            "Mean utilization of the workload's GPUs above which replicas are added.",
        ),
        Value(
            "keda.memory",
            0,
            {"type": "number", "minimum": 0, "maximum": 1},
            "Share of the memory of the workload's GPUs above which replicas are "
            "added. 0: memory is not considered, as for servers that take all memory "
            "at the start.",
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
"""Switches of which the first does nothing without the second."""
