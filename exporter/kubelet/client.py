"""The kubelet's pod-resources API over its unix socket."""

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from exporter.kubelet.answers import ResourceFilter, lists, parse_allocatable, parse_list
from exporter.kubelet.podresources.v1 import api_pb2
from exporter.model.claims import Claims, PodName

DEFAULT_SOCKET = Path("/var/lib/kubelet/pod-resources/kubelet.sock")
DEFAULT_RESOURCES = ("nvidia.com/gpu", "nvidia.com/gpu.shared", "nvidia.com/mig-*")

_SERVICE = api_pb2.DESCRIPTOR.services_by_name["PodResourcesLister"].full_name
_Answer = TypeVar("_Answer")

_OPTIONS = (
    # 250 pods of 10 containers answer 21 MB; gRPC's own limit is 4.
    ("grpc.max_receive_message_length", 64 * 2**20),
    # A restarted kubelet makes a new socket: look for it often, looking costs microseconds.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # How long a kubelet may take to greet us before we dial again. gRPC's own limit is 20 s.
    ("grpc.min_reconnect_backoff_ms", 5000),
    # Trying again is the mapper's decision.
    ("grpc.enable_retries", 0),
    # gRPC would send the socket's escaped path as the host, at which some servers balk.
    ("grpc.default_authority", "localhost"),
    # Two clients of one socket do not share a connection or its back-off.
    ("grpc.use_local_subchannel_pool", 1),
)


class KubeletFailure(StrEnum):
    """Why the kubelet did not answer."""

    SOCKET_MISSING = "socket_missing"
    PERMISSION_DENIED = "permission_denied"
    UNAVAILABLE = "unavailable"
    NOT_READY = "not_ready"
    TIMEOUT = "timeout"
    RATE_LIMITED = "rate_limited"
    TOO_LARGE = "too_large"
    UNIMPLEMENTED = "unimplemented"
    MALFORMED = "malformed"
    UNKNOWN = "unknown"


class KubeletError(Exception):
    """The kubelet did not answer; the message says what to do about it."""

    def __init__(self, reason: KubeletFailure, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Listing:
    """One answer about all pods."""

    claims: Claims
    """Without ``allocatable``."""
    lists_us: bool
    """Whether the kubelet lists the pod that asks. It lists every pod, if it is ready."""
    server: object
    """Equal in the answers of one run of the kubelet, as far as can be seen from its socket."""


class PodResourcesClient:
    """Asks one kubelet over one connection, which is made at the first question and kept.

    ``resources`` are shell patterns. A resource that matches none of them is left out of every
    answer. ``own_pod`` is the pod that asks, if that is known. Each call ends within
    ``timeout_seconds``.
    """

    def __init__(
        self,
        socket: Path = DEFAULT_SOCKET,
        *,
        resources: Collection[str] = DEFAULT_RESOURCES,
        own_pod: PodName | None = None,
        timeout_seconds: float = 5.0,
    ) -> None:
        self._socket = socket
        self._wanted = ResourceFilter(resources)
        self._own_pod = own_pod
        self._timeout_seconds = timeout_seconds
        self._channel: grpc.aio.Channel | None = None

    async def claims(self) -> Claims:
        """Ask for the claims, without ``allocatable``. Raises :class:`KubeletError`."""
        return (await self.listing()).claims

    async def listing(self) -> Listing:
        """Ask about all pods. Raises :class:`KubeletError`."""
        server = self._server()
        return await self._ask("List", lambda answer: self._read(answer, server))

    async def allocatable(self) -> Mapping[str, tuple[str, ...]] | None:
        """Ask for the advertised device ids by resource. Raises :class:`KubeletError`.

        ``None``: this kubelet does not know the call. Kubelets know it from 1.23 on.
        """
        try:
            return await self._ask(
                "GetAllocatableResources", lambda answer: parse_allocatable(answer, self._wanted)
            )
        except KubeletError as error:
            if error.reason is KubeletFailure.UNIMPLEMENTED:
                return None
            raise

    async def close(self) -> None:
        """Let go of the connection. A later question makes a new one."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    def _read(self, answer: bytes, server: object) -> Listing:
        own = self._own_pod
        return Listing(
            claims=parse_list(answer, self._wanted),
            lists_us=own is not None and lists(answer, own),
            server=server,
        )

    def _server(self) -> object:
        """Return what changes when the kubelet starts: it makes its socket anew."""
        try:
            found = self._socket.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_mtime_ns

    async def _ask(self, method: str, parse: Callable[[bytes], _Answer]) -> _Answer:
        # Bytes in, bytes out: the generated stub would parse the whole answer at once, and the
        # requests have no fields.
        if self._channel is None:
            target = "unix:" + quote(str(self._socket))
            self._channel = grpc.aio.insecure_channel(target, options=_OPTIONS)
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(
            f"/{_SERVICE}/{method}"
        )
        try:
            return parse(await call(b"", timeout=self._timeout_seconds))
        except DecodeError as error:
            raise KubeletError(
                KubeletFailure.MALFORMED,
                f"{method} of {self._socket} gave no pod-resources v1 answer ({error}): check that"
                " this is the kubelet's socket",
            ) from error
        except grpc.aio.AioRpcError as error:
            raise self._explained(method, error) from error

    def _explained(self, method: str, error: grpc.aio.AioRpcError) -> KubeletError:
        code, details = error.code(), error.details() or "no details"
        match code:
            # CANCELLED: a kubelet that stops drops the calls under way.
            case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED:
                return self._unreachable(details)
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                reason = KubeletFailure.TIMEOUT
                message = (
                    f"no answer to {method} from {self._socket} within {self._timeout_seconds:g} s:"
                    " check the kubelet's load and log"
                )
            case grpc.StatusCode.RESOURCE_EXHAUSTED if "larger than max" in details:
                reason = KubeletFailure.TOO_LARGE
                message = f"the kubelet's answer to {method} is too large: {details}"
            case grpc.StatusCode.RESOURCE_EXHAUSTED:
                reason = KubeletFailure.RATE_LIMITED
                message = (
                    f"the kubelet limits calls to its pod-resources API ({details}): look for"
                    " another client on this node that asks too often"
                )
            case grpc.StatusCode.UNIMPLEMENTED:
                reason = KubeletFailure.UNIMPLEMENTED
                message = (
                    f"the server on {self._socket} has no {method} of pod-resources v1: it takes a"
                    " kubelet of 1.20 or newer"
                )
            case grpc.StatusCode.PERMISSION_DENIED:
                reason = KubeletFailure.PERMISSION_DENIED
                message = f"the kubelet refused {method}: {details}"
            case _:
                reason = KubeletFailure.UNKNOWN
                message = f"the kubelet's {method} failed with {code.name}: {details}"
        return KubeletError(reason, message)

    def _unreachable(self, details: str) -> KubeletError:
        """Distinguish why a socket can't be reached; gRPC has one code for all reasons."""
        if os.access(self._socket, os.W_OK):
            return KubeletError(
                KubeletFailure.UNAVAILABLE,
                f"nothing serves {self._socket} ({details}): check that the kubelet runs",
            )
        try:
            self._socket.stat()
        except (FileNotFoundError, NotADirectoryError):
            return KubeletError(
                KubeletFailure.SOCKET_MISSING,
                f"there is no {self._socket}: check that the kubelet runs, and that its"
                " pod-resources folder is mounted here as a hostPath volume",
            )
        except OSError:
            pass
        return KubeletError(
            KubeletFailure.PERMISSION_DENIED,
            f"no permission to open {self._socket}: it takes the user root, and a security policy"
            " that lets it",
        )
