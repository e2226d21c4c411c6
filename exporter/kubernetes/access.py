"""Asks the API server over HTTP."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Self

import aiohttp

from exporter.kubernetes.credentials import (
    HOST,
    SERVICE_ACCOUNT,
    Credentials,
    Fixed,
    Login,
    ServiceAccount,
)
from exporter.kubernetes.failures import ApiError, explained, refusal
from exporter.kubernetes.kubeconfig import Kubeconfig

_ANSWER_SECONDS: Final = 30.0
"""In which an answer has to begin, however long it then may go on."""
_BUFFER_BYTES: Final = 2**21
"""A line of a watch, which holds a whole object, may be twice as long; aiohttp's own limit is
128 KiB, and objects of 1.2 MB occur."""


def find_login(environment: Mapping[str, str], root: Path = Path("/")) -> Login:
    """Return the pod's service account if this is a cluster's container, else the kubeconfig.

    ``root`` holds ``var``.
    """
    if environment.get(HOST):
        return ServiceAccount(environment, root / SERVICE_ACCOUNT)
    return Kubeconfig()


class ApiAccess:
    """Access to one API server, whose connections are made when needed and kept.

    Whoever made the access closes it, after those that ask have ended.
    """

    def __init__(self, login: Login | None = None) -> None:
        self._login = login or find_login(os.environ)
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def at(cls, url: str) -> Self:
        """Return access to a server that wants no credentials, such as a simulated one."""
        return cls(Fixed(Credentials(url)))

    async def close(self) -> None:
        """Let go of the connections. A later question makes new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

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
                if response.status >= HTTPStatus.MULTIPLE_CHOICES:
                    message = _status_message(await response.text())
                    raise refusal(asked, response.status, message)  # noqa: TRY301  (passed on)
                yield response.content
        except ApiError:
            raise
        except Exception as error:
            raise explained(asked, error) from error
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
        """Send a request; once more with the newest credentials if those of before are refused."""
        used = await self._login.credentials(refused=None)
        response = await self._send_as(used, method, path, query, body)
        if response.status == HTTPStatus.UNAUTHORIZED:
            response.close()
            anew = await self._login.credentials(refused=used)
            response = await self._send_as(anew, method, path, query, body)
        return response

    async def _send_as(
        self,
        credentials: Credentials,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
    ) -> aiohttp.ClientResponse:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                read_bufsize=_BUFFER_BYTES,
                cookie_jar=aiohttp.DummyCookieJar(),
                # Time is kept by the caller: a watch has no end to wait for.
                timeout=aiohttp.ClientTimeout(total=None),
            )
        headers = {"Accept": "application/json"}
        if credentials.authorization:
            headers["Authorization"] = credentials.authorization
        return await self._session.request(
            method,
            credentials.url.rstrip("/") + path,
            params=query,
            json=body,
            headers=headers,
            ssl=credentials.tls,
            server_hostname=credentials.server_name,
            proxy=credentials.proxy,
            allow_redirects=False,
        )


def _status_message(body: str) -> str:
    """Return the message of a ``Status``, which the body is in all but odd cases."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body[:200] or "no details"
