"""Whether to watch pods, and whether the API server permits it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from exporter.config import Config
from exporter.kubernetes.access import ApiAccess
from exporter.kubernetes.credentials import HOST, SERVICE_ACCOUNT
from exporter.kubernetes.failures import ApiError, ApiFailure
from exporter.kubernetes.watch import PODS, RESOURCE_SLICES

_WATCH_SECONDS: Final = 1
_REQUEST_SECONDS: Final = 5.0


def watches_pods(config: Config, environment: Mapping[str, str], root: Path = Path("/")) -> bool:
    """Return whether the configuration wants pods watched here. ``root`` holds ``var``."""
    if config.pod_watch == "auto":
        in_cluster = bool(environment.get(HOST)) and (root / SERVICE_ACCOUNT / "token").exists()
        return in_cluster and bool(config.node)
    return config.pod_watch == "on"


async def try_pods(access: ApiAccess, node: str) -> str | None:
    """List and watch this node's pods; return where they are.

    Raises :class:`ApiError` if that can't be done.
    """
    return await _try(access, PODS, node)


async def try_resource_slices(access: ApiAccess, node: str) -> str | None:
    """List and watch this node's ResourceSlices; return where they are, if there are any.

    Raises :class:`ApiError` if that can't be done.
    """
    return await _try(access, RESOURCE_SLICES, node)


async def _try(access: ApiAccess, paths: Sequence[str], node: str) -> str | None:
    listing = {"fieldSelector": f"spec.nodeName={node}", "limit": "1"}
    watching = {**listing, "watch": "true", "timeoutSeconds": str(_WATCH_SECONDS)}
    for path in paths:
        try:
            for query in (listing, watching):
                async with access.ask("GET", path, query=query, timeout_seconds=_REQUEST_SECONDS):
                    pass
        except ApiError as error:
            if error.reason is not ApiFailure.NOT_FOUND or len(paths) == 1:
                raise
        else:
            return path
    return None
