"""The API server of a kubeconfig, for use outside a cluster.

Only this module imports the ``kubernetes`` package, and only when a kubeconfig has to be read:
the package takes 0.4 s and 22 MiB. It knows all that a kubeconfig may hold, plug-ins included.
"""

import asyncio
import ssl
from importlib import import_module
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from exporter.kubernetes.credentials import Credentials, as_kubernetes_does
from exporter.kubernetes.failures import ApiError, ApiFailure

if TYPE_CHECKING:
    from kubernetes.aio.client import Configuration


class Kubeconfig:
    """The kubeconfig of ``KUBECONFIG``, or else of the user's home.

    It is read again, and its plug-ins are run again, when its credentials are refused.
    """

    def __init__(self) -> None:
        self._credentials: Credentials | None = None
        self._reading = asyncio.Lock()

    async def credentials(self, *, refused: Credentials | None) -> Credentials:
        async with self._reading:
            if self._credentials is None or self._credentials is refused:
                try:
                    self._credentials = await _read()
                except Exception as error:  # files, YAML, certificates
                    raise ApiError(
                        ApiFailure.NOT_CONFIGURED,
                        f"no kubeconfig says where the API server is: {error}",
                    ) from error
            return self._credentials


async def _read() -> Credentials:
    # Off the loop, which has scrapes to serve.
    await asyncio.to_thread(import_module, "kubernetes.aio.config")
    from kubernetes.aio.client import Configuration  # noqa: PLC0415
    from kubernetes.aio.config import load_kube_config  # noqa: PLC0415

    configuration = Configuration()
    await load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    url = str(configuration.host)
    return Credentials(
        url,
        configuration.api_key.get("BearerToken"),
        _tls(configuration),
        configuration.tls_server_name,
        configuration.proxy or _proxy_of_environment(url),
    )


def _tls(configuration: "Configuration") -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    as_kubernetes_does(context)
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _proxy_of_environment(url: str) -> str | None:
    parts = urlsplit(url)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
