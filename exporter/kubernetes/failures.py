"""Why the API server did not do what it was asked for, in words that say what to do."""

import os
import ssl
from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Final

import aiohttp


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


MALFORMED: Final = (KeyError, TypeError, AttributeError, ValueError, OverflowError)
"""What reading an object raises if the object is not as the API defines it."""


class ApiError(Exception):
    """The API server did not do what it was asked for; the message says what to do about it."""

    def __init__(self, reason: ApiFailure, message: str) -> None:
        super().__init__(" ".join(message.split()))
        self.reason = reason


_BY_STATUS: Final[Mapping[int, tuple[ApiFailure, str]]] = {
    HTTPStatus.UNAUTHORIZED: (ApiFailure.UNAUTHORIZED, ": check the service account's token"),
    HTTPStatus.FORBIDDEN: (ApiFailure.FORBIDDEN, ": check the service account's ClusterRole"),
    HTTPStatus.NOT_FOUND: (ApiFailure.NOT_FOUND, ""),
    HTTPStatus.CONFLICT: (ApiFailure.CONFLICT, ""),
    HTTPStatus.GONE: (ApiFailure.EXPIRED, ""),
    HTTPStatus.TOO_MANY_REQUESTS: (ApiFailure.RATE_LIMITED, ""),
}


def refusal(asked: str, status: int, message: str) -> ApiError:
    """Return the error for an answer of ``status`` to what was ``asked``."""
    server_error = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    other = ApiFailure.SERVER_ERROR if server_error else ApiFailure.UNKNOWN
    reason, advice = _BY_STATUS.get(status, (other, ""))
    return ApiError(reason, f"the API server answers {asked} with {status}, {message}{advice}")


def explained(asked: str, error: Exception) -> ApiError:
    """Return the error for whatever asking raised, in one line without the objects of a library."""
    match error:
        case TimeoutError():
            reason, message = ApiFailure.TIMEOUT, f"the API server has not answered {asked} in time"
        case aiohttp.ClientSSLError() | ssl.SSLError():
            reason = ApiFailure.UNTRUSTED
            message = f"no trusted connection to the API server: {_tls(error)}"
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            reason, message = ApiFailure.NOT_CONFIGURED, f"{error} is no address of an API server"
        case aiohttp.ClientError() | OSError():
            reason = ApiFailure.UNAVAILABLE
            message = f"no connection to the API server for {asked}: {_connection(error)}"
        case ValueError():
            reason, message = ApiFailure.MALFORMED, f"{asked} gave no answer of the API ({error})"
        case _:  # nesting without end, for one
            reason, message = ApiFailure.UNKNOWN, f"{asked} failed: {type(error).__name__}, {error}"
    return ApiError(reason, message)


def _tls(error: Exception) -> str:
    """Return what TLS found fault with."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return _tls(error.certificate_error)
        case aiohttp.ClientConnectorError():
            return _tls(error.os_error)
        case ssl.SSLCertVerificationError():
            return f"its certificate can't be verified ({error.verify_message})"
        case ssl.SSLError() if error.reason:
            return error.reason.replace("_", " ").lower()
        case _:
            return str(error)


def _connection(error: Exception) -> str:
    """Return how a connection failed."""
    match error:
        case aiohttp.ClientConnectorDNSError():
            how = f"the name {error.host} has no address"
        case aiohttp.ClientConnectorError():
            how = f"{error.host}:{error.port}: {_connection(error.os_error)}"
        case aiohttp.ServerDisconnectedError() | ConnectionResetError():
            how = "the server closed it"
        case aiohttp.ClientPayloadError():
            how = "it broke off within the answer"
        case aiohttp.ClientHttpProxyError():
            how = f"the proxy answers with {error.status}"
        case aiohttp.ClientResponseError():
            how = "the answer is no HTTP"
        case OSError() if error.errno:
            # asyncio writes "Connect call failed" and Python objects in the place of the reason.
            how = os.strerror(error.errno).lower()
        case _:
            how = str(error) or type(error).__name__
    return how
