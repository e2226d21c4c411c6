"""How the API server is reached: address, trust and credentials, and what its refusals mean."""

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from enum import StrEnum
from http import HTTPStatus
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient, Configuration

Configure = Callable[["Configuration"], Awaitable[None]]
"""Fills in where the API server is, and by what right it is asked."""


class ApiFailure(StrEnum):
    """Why the API server did not give what was asked for."""

    NOT_CONFIGURED = "not_configured"
    UNTRUSTED = "untrusted"
    UNAVAILABLE = "unavailable"
    TIMEOUT = "timeout"
    STALLED = "stalled"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    EXPIRED = "expired"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    MALFORMED = "malformed"
    UNKNOWN = "unknown"


class ApiError(Exception):
    """The API server did not do it; the message says what to do about it."""

    def __init__(self, reason: ApiFailure, message: str) -> None:
        super().__init__(message)
        self.reason = reason


_BY_STATUS: Final[Mapping[int, tuple[ApiFailure, str]]] = {
    HTTPStatus.UNAUTHORIZED: (ApiFailure.UNAUTHORIZED, ": check the service account's token"),
    HTTPStatus.FORBIDDEN: (ApiFailure.FORBIDDEN, ": check the service account's ClusterRole"),
    HTTPStatus.NOT_FOUND: (ApiFailure.NOT_FOUND, ""),
    HTTPStatus.CONFLICT: (ApiFailure.CONFLICT, ""),
    HTTPStatus.GONE: (ApiFailure.EXPIRED, ""),
    HTTPStatus.TOO_MANY_REQUESTS: (ApiFailure.RATE_LIMITED, ""),
}
_SERVER_ERRORS: Final = 500
_ANSWER_SECONDS: Final = 30.0
"""In which an answer has to begin, however long it then may go on."""


def refusal(asked: str, status: int, told: str) -> ApiError:
    """Return the error for an answer of ``status`` to what was ``asked``."""
    other = ApiFailure.SERVER_ERROR if status >= _SERVER_ERRORS else ApiFailure.UNKNOWN
    reason, advice = _BY_STATUS.get(status, (other, ""))
    return ApiError(reason, f"the API server answers {asked} with {status}, {told}{advice}")


async def in_cluster_or_kubeconfig(configuration: "Configuration") -> None:
    """Use the pod's service account, whose token is read again as it rotates; else a kubeconfig.

    The kubeconfig is that of ``KUBECONFIG``, or else of the user's home. Raises whatever its
    reading raises.
    """
    from kubernetes.aio.config import load_incluster_config, load_kube_config  # noqa: PLC0415

    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    else:
        await load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]


class ApiAccess:
    """One client of the API server, made at the first question and kept.

    The ``kubernetes`` package is imported only then: it takes 0.2 s and 21 MiB. Whoever made the
    access closes it, after those that ask have ended.
    """

    def __init__(self, configure: Configure = in_cluster_or_kubeconfig) -> None:
        self._configure = configure
        self._client: ApiClient | None = None
        self._stale = False
        self._connecting = asyncio.Lock()

    @classmethod
    def at(cls, url: str) -> Self:
        """Return access to a server that wants no credentials, such as a simulated one."""

        async def configure(configuration: "Configuration") -> None:
            configuration.host = url

        return cls(configure)

    async def close(self) -> None:
        """Let go of the connections. A later question makes new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()  # type: ignore[no-untyped-call]

    def renew(self) -> None:
        """Have the next question get its credentials anew: those that are held were refused."""
        self._stale = True

    @asynccontextmanager
    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        timeout_seconds: float,
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """Ask, and give the answer's body to read while the context lasts.

        Raises :class:`ApiError`, also for what goes wrong with reading the body: too late, broken
        off, or not what it should be (``ValueError``).
        """
        asked = f"{method} {path}"
        response: aiohttp.ClientResponse | None = None
        try:
            async with asyncio.timeout(timeout_seconds):
                async with asyncio.timeout(_ANSWER_SECONDS):
                    response = await self._send(method, path, query, body)
                if response.status >= HTTPStatus.BAD_REQUEST:
                    told = _told(await response.text())
                    raise refusal(asked, response.status, told)  # noqa: TRY301  (passed on below)
                yield response.content
        except ApiError:
            raise
        except TimeoutError as error:
            raise ApiError(
                ApiFailure.TIMEOUT,
                f"the API server has not answered {asked} in time",
            ) from error
        except (aiohttp.ClientSSLError, ssl.SSLError) as error:
            raise ApiError(
                ApiFailure.UNTRUSTED, f"no trusted connection to the API server ({error})"
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise ApiError(
                ApiFailure.UNAVAILABLE, f"no connection to the API server for {asked} ({error!r})"
            ) from error
        except ValueError as error:
            raise ApiError(
                ApiFailure.MALFORMED, f"{asked} gave no answer of the API ({error})"
            ) from error
        except Exception as error:  # credentials that can't be read, lines and nesting without end
            raise ApiError(ApiFailure.UNKNOWN, f"{asked} failed ({error!r})") from error
        finally:
            if response is not None:
                response.close()

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
    ) -> aiohttp.ClientResponse:
        client = await self._connected()
        request = await client.param_serialize(
            method,
            path,
            query_params=[*(query or {}).items()],
            header_params={"Accept": "application/json"},
            body=body,
            auth_settings=["BearerToken"],
        )
        # Time is kept by the caller: a watch has no end to wait for.
        answer = await client.call_api(*request, _request_timeout=aiohttp.ClientTimeout(total=None))
        response: aiohttp.ClientResponse = answer.response
        return response

    async def _connected(self) -> "ApiClient":
        async with self._connecting:
            if self._client is not None and not self._stale:
                return self._client
            # Off the loop, which has scrapes to serve.
            await asyncio.to_thread(import_module, "kubernetes.aio.config")
            from kubernetes.aio.client import ApiClient, Configuration  # noqa: PLC0415

            # Others may be in the middle of an answer: the client stays, with a new token.
            configuration = self._client.configuration if self._client else Configuration()
            try:
                await self._configure(configuration)
                self._client = self._client or ApiClient(configuration)
            except Exception as error:  # files, YAML, certificates, plug-ins that print tokens
                raise ApiError(
                    ApiFailure.NOT_CONFIGURED,
                    f"no service account or kubeconfig says where the API server is ({error})",
                ) from error
            self._stale = False
            return self._client


def _told(body: str) -> str:
    """Return the message of a ``Status``, which the body is in all but odd cases."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body[:200] or "no details"
