"""How Prometheus labels are named after the labels of pods."""

import re


def label_name(key: str) -> str:
    """Return the Prometheus label for a pod label's key, named as kube-state-metrics names it.

    ``app.kubernetes.io/name`` becomes ``label_app_kubernetes_io_name``. Two keys may become the
    same label; whoever takes keys from users has to refuse that.
    """
    return "label_" + re.sub(r"[^a-zA-Z0-9_]", "_", key)
