"""Which pod the exporter runs in."""

from collections.abc import Mapping
from pathlib import Path

from exporter.kubernetes.credentials import SERVICE_ACCOUNT
from exporter.model.claims import PodName


def own_pod(environment: Mapping[str, str], root: Path = Path("/")) -> PodName | None:
    """Return the pod's name as far as it can be known; ``root`` holds ``var``.

    ``POD_NAME`` and ``POD_NAMESPACE`` may be set from the pod's fields. Without them, the host's
    name is the pod's in most pods, and the service account has the namespace. So the result may be
    wrong: it counts once somebody has listed such a pod.
    """
    name = environment.get("POD_NAME") or environment.get("HOSTNAME")
    namespace = environment.get("POD_NAMESPACE")
    if not namespace:
        try:
            namespace = (root / SERVICE_ACCOUNT / "namespace").read_text().strip()
        except (OSError, UnicodeDecodeError):
            return None
    return PodName(namespace, name) if namespace and name else None
