"""Where the API server is, and by what right it is asked: in a cluster, by the service account."""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from exporter.kubernetes.failures import ApiError, ApiFailure

SERVICE_ACCOUNT: Final = Path("var/run/secrets/kubernetes.io/serviceaccount")
"""The folder, below the root, in which the kubelet keeps the files of a pod's service account."""
HOST: Final = "KUBERNETES_SERVICE_HOST"
"""Environment variable of the API server's address; each container in a cluster has it."""

_PORT: Final = "KUBERNETES_SERVICE_PORT"
_TOKEN: Final = re.compile(rb"[!-~]+")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request to the API server needs beside what it asks for."""

    url: str
    """Scheme, host and port; a path if the server lies below one."""
    authorization: str | None = field(default=None, repr=False)
    """Value of the header ``Authorization``."""
    tls: ssl.SSLContext | bool = True
    """Whom to trust, and our own certificate if there is one; ``True``: the system's roots."""
    server_name: str | None = None
    """The name that the server's certificate has to have, where it is not the URL's host."""
    proxy: str | None = None


class Login(Protocol):
    """Gives the credentials for each request, so that they may change at any time."""

    async def credentials(self, *, refused: Credentials | None) -> Credentials:
        """Return those of now. ``refused``: the server has just refused these.

        Raises :class:`ApiError`.
        """


class Fixed:
    """The same credentials for ever, as for a simulated server."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    async def credentials(self, *, refused: Credentials | None) -> Credentials:  # noqa: ARG002
        return self._credentials


class ServiceAccount:
    """A pod's service account: files in ``folder``, and an address in ``environment``.

    The files are read for each request, of which there are a few in a minute: the kubelet replaces
    a token before it runs out, and the bundle of certificates when the cluster's changes.
    """

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self._environment = environment
        self._folder = folder
        self._bundle = b""
        self._tls: ssl.SSLContext | None = None

    async def credentials(self, *, refused: Credentials | None) -> Credentials:  # noqa: ARG002
        return self.read()

    def read(self) -> Credentials:
        """Return the credentials that the files hold now. Raises :class:`ApiError`."""
        return Credentials(self._url(), f"Bearer {self._token()}", self._trust())

    def _url(self) -> str:
        host, port = (self._environment.get(name, "").strip() for name in (HOST, _PORT))
        if not host or not port:
            raise _not_configured(f"{HOST} and {_PORT} do not say where the API server is")
        if ":" in host and not host.startswith("["):
            host = f"[{host}]"
        return f"https://{host}:{port}"

    def _token(self) -> str:
        path = self._folder / "token"
        token = _content(path).strip()
        if not _TOKEN.fullmatch(token):
            raise _not_configured(f"{path} holds no token")
        return token.decode()

    def _trust(self) -> ssl.SSLContext:
        path = self._folder / "ca.crt"
        bundle = _content(path)
        if self._tls is None or bundle != self._bundle:
            self._tls, self._bundle = trusting(bundle, path), bundle
        return self._tls


def trusting(bundle: bytes, path: Path) -> ssl.SSLContext:
    """Return a TLS context that trusts the certificates in ``bundle``, the content of ``path``.

    Raises :class:`ApiError`.
    """
    # Not create_default_context(): of an empty bundle, that would make the system's roots.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    as_kubernetes_does(context)
    try:
        # Comments between certificates may be in any encoding.
        context.load_verify_locations(cadata=bundle.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError) as error:
        raise _not_configured(f"{path} holds no certificates in PEM") from error
    return context


def as_kubernetes_does(context: ssl.SSLContext) -> None:
    """Have ``context`` accept what Go's TLS accepts, which is what clusters are made for.

    From Python 3.13 on, certificates without an identifier of their authority's key would be
    refused, as the roots of many clusters are.
    """
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _not_configured(f"{path}: {error.strerror}") from error


def _not_configured(why: str) -> ApiError:
    return ApiError(
        ApiFailure.NOT_CONFIGURED, f"the service account does not let us ask the API server: {why}"
    )
