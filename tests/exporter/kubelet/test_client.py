"""The pod-resources client against a real gRPC server on a unix socket."""

import asyncio
import math
import os
import socket as sockets
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from exporter.kubelet.client import (
    KubeletError,
    KubeletFailure,
    PodResourcesClient,
)
from exporter.kubelet.podresources.v1 import api_pb2
from exporter.kubelet.simulated import Fault, SimulatedKubelet
from exporter.model.claims import Claim, Claims, Container, DraClaim
from tests.doubles.kubelet_node import GPU, Node, claims_of, container, short_folder

MIG = "MIG-12345678-9abc-def0-1234-56789abcdef1"


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


@pytest.fixture
async def node(folder: Path) -> AsyncIterator[Node]:
    made = Node(folder / "kubelet.sock")
    async with made.kubelet:
        yield made


@pytest.fixture
async def client(folder: Path) -> AsyncIterator[PodResourcesClient]:
    made = PodResourcesClient(folder / "kubelet.sock")
    yield made
    await made.close()


async def failure(call: Awaitable[object]) -> KubeletError:
    with pytest.raises(KubeletError) as caught:
        await call
    assert str(caught.value)
    return caught.value


async def test_claims_come_over_the_wire_as_they_are(
    node: Node, client: PodResourcesClient
) -> None:
    odd = Container("team-ä", 'quo"te\\back\nline', "名前")
    node.claims = Claims(
        held=(
            Claim(container("a"), "nvidia.com/gpu", GPU),
            Claim(container("a", "sidecar"), "nvidia.com/mig-1g.10gb", MIG),
            Claim(container("b"), "nvidia.com/gpu.shared", f"{GPU}::0"),
            Claim(container("b"), "nvidia.com/gpu.shared", f"{GPU}::1"),
            Claim(odd, "nvidia.com/gpu", "not an id"),
        ),
        dra=(DraClaim(container("c"), "research", "claim", "gpu.nvidia.com", "node", "gpu-0"),),
        allocatable={"nvidia.com/gpu": (GPU,), "nvidia.com/mig-1g.10gb": (MIG,)},
    )
    answer = await client.claims()
    assert (answer.held, answer.dra) == (node.claims.held, node.claims.dra)
    assert answer.allocatable is None
    assert await client.allocatable() == node.claims.allocatable


async def test_what_is_not_ours_is_left_out(node: Node, client: PodResourcesClient) -> None:
    wanted = Claim(container("a"), "nvidia.com/gpu", GPU)
    others = (
        "nvidia.com/gpu-feature",
        "xnvidia.com/gpu",
        "NVIDIA.com/gpu",
        "nvidia.com/mig",
        "amd.com/gpu",
        "cpu",
    )
    foreign = DraClaim(container("a"), "research", "claim", "compute-domain.nvidia.com", "p", "d")
    node.claims = Claims(
        held=(wanted, *(Claim(container("a"), resource, GPU) for resource in others)),
        dra=(foreign,),
        allocatable={"nvidia.com/gpu": (GPU,), "amd.com/gpu": ("0",)},
    )
    assert await client.claims() == Claims(held=(wanted,))
    assert await client.allocatable() == {"nvidia.com/gpu": (GPU,)}


async def test_the_order_of_pods_does_not_matter(node: Node, client: PodResourcesClient) -> None:
    node.claims = claims_of("0", "1")
    before = await client.claims()
    node.claims = claims_of("1", "0")
    assert await client.claims() == before


async def test_a_full_node_is_answered(folder: Path, client: PodResourcesClient) -> None:
    kubelet = SimulatedKubelet(
        folder / "kubelet.sock", lambda: claims_of("0", "1"), bystander_pods=250
    )
    async with kubelet:
        assert (await client.claims()).held == claims_of("0", "1").held


async def test_an_old_kubelet_without_allocatable_is_no_failure(
    node: Node, client: PodResourcesClient
) -> None:
    node.claims = Claims(held=claims_of("0").held)
    assert await client.allocatable() is None
    assert (await client.claims()).held == node.claims.held


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("UNAVAILABLE", KubeletFailure.UNAVAILABLE),
        ("CANCELLED", KubeletFailure.UNAVAILABLE),
        ("DEADLINE_EXCEEDED", KubeletFailure.TIMEOUT),
        ("RESOURCE_EXHAUSTED", KubeletFailure.RATE_LIMITED),
        ("UNIMPLEMENTED", KubeletFailure.UNIMPLEMENTED),
        ("PERMISSION_DENIED", KubeletFailure.PERMISSION_DENIED),
        ("INTERNAL", KubeletFailure.UNKNOWN),
        ("UNKNOWN", KubeletFailure.UNKNOWN),
    ],
)
async def test_each_refusal_has_its_reason(
    node: Node, client: PodResourcesClient, status: str, reason: KubeletFailure
) -> None:
    node.kubelet.fault = Fault(status=status)
    assert (await failure(client.claims())).reason is reason
    node.kubelet.fault = None
    assert await client.claims()


async def test_a_hanging_kubelet_ends_at_the_deadline(node: Node) -> None:
    client = PodResourcesClient(node.socket, timeout_seconds=0.1)
    node.kubelet.fault = Fault(delay_seconds=math.inf)
    error = await failure(client.claims())
    assert error.reason is KubeletFailure.TIMEOUT
    assert "0.1 s" in str(error)
    node.kubelet.fault = None
    assert await client.claims()
    await client.close()


async def test_the_kubelets_rate_limit_is_told_from_other_exhaustion(
    node: Node, client: PodResourcesClient
) -> None:
    for _ in range(10):
        await client.claims()
    error = await failure(client.claims())
    assert error.reason is KubeletFailure.RATE_LIMITED
    assert "rate limit" in str(error)
    node.clock.now += 0.02
    assert await client.claims()


async def test_a_missing_socket_is_named(folder: Path, client: PodResourcesClient) -> None:
    error = await failure(client.claims())
    assert error.reason is KubeletFailure.SOCKET_MISSING
    assert str(folder / "kubelet.sock") in str(error)


async def test_a_stale_socket_is_unavailable(folder: Path, client: PodResourcesClient) -> None:
    with sockets.socket(sockets.AF_UNIX) as stale:
        stale.bind(str(folder / "kubelet.sock"))
    assert (await failure(client.claims())).reason is KubeletFailure.UNAVAILABLE


async def test_a_socket_that_may_not_be_opened_is_named(
    folder: Path, client: PodResourcesClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sockets.socket(sockets.AF_UNIX) as stale:
        stale.bind(str(folder / "kubelet.sock"))
    # Permissions do not bind root, under whom tests may run.
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert (await failure(client.claims())).reason is KubeletFailure.PERMISSION_DENIED


async def test_a_socket_path_may_hold_any_character(folder: Path) -> None:
    socket = folder / "a b%41#ü?.sock"
    async with SimulatedKubelet(socket, lambda: claims_of("0")):
        client = PodResourcesClient(socket)
        assert (await client.claims()).held == claims_of("0").held
        await client.close()


async def answers_once(client: PodResourcesClient, within_seconds: float) -> Claims:
    """Ask until there is an answer."""
    async with asyncio.timeout(within_seconds):
        while True:
            try:
                return await client.claims()
            except KubeletError:
                await asyncio.sleep(0.05)


async def test_a_restarted_kubelet_is_picked_up(node: Node, client: PodResourcesClient) -> None:
    await client.claims()
    await node.kubelet.stop()
    assert (await failure(client.claims())).reason is KubeletFailure.SOCKET_MISSING
    node.claims = claims_of("1")
    await node.kubelet.start()
    assert (await answers_once(client, within_seconds=2)).held == claims_of("1").held


async def test_a_kubelet_that_comes_late_is_picked_up(
    folder: Path, client: PodResourcesClient
) -> None:
    await failure(client.claims())
    async with SimulatedKubelet(folder / "kubelet.sock", lambda: claims_of("0")):
        assert await answers_once(client, within_seconds=2)


async def test_a_call_under_way_when_the_kubelet_stops_fails(
    node: Node, client: PodResourcesClient
) -> None:
    node.kubelet.fault = Fault(delay_seconds=math.inf)
    call = asyncio.ensure_future(failure(client.claims()))
    async with asyncio.timeout(5):
        while not node.kubelet.calls["List"]:  # noqa: ASYNC110  the server tells by this alone
            await asyncio.sleep(0.01)
        await node.kubelet.stop()
        gone = {KubeletFailure.UNAVAILABLE, KubeletFailure.SOCKET_MISSING}
        assert (await call).reason in gone


async def test_a_closed_client_may_be_asked_again(node: Node, client: PodResourcesClient) -> None:
    await client.claims()
    await client.close()
    await client.close()
    assert await client.claims()


async def test_one_connection_is_kept(node: Node, folder: Path) -> None:
    connections: list[asyncio.Task[None] | None] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.current_task())
        up_reader, up_writer = await asyncio.open_unix_connection(node.socket)
        await asyncio.gather(pump(reader, up_writer), pump(up_reader, writer))

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_unix_server(connected, folder / "proxy.sock"):
        client = PodResourcesClient(folder / "proxy.sock")
        assert not connections
        for _ in range(3):
            await client.claims()
            await client.allocatable()
        await client.close()
        [connection] = connections
        assert connection
        await connection


@pytest.mark.parametrize("greeting", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 100])
async def test_a_server_that_is_not_grpc_fails_with_a_reason(
    folder: Path, client: PodResourcesClient, greeting: bytes
) -> None:
    async def greet(listener: sockets.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listener)
            with connection:
                await loop.sock_sendall(connection, greeting)

    with sockets.socket(sockets.AF_UNIX) as listener:
        listener.bind(str(folder / "kubelet.sock"))
        listener.listen()
        listener.setblocking(False)  # noqa: FBT003  the standard library's signature
        greeter = asyncio.create_task(greet(listener))
        assert (await failure(client.claims())).reason is KubeletFailure.UNAVAILABLE
        greeter.cancel()
        await asyncio.wait([greeter])


async def test_a_server_that_never_greets_ends_at_the_deadline(folder: Path) -> None:
    with sockets.socket(sockets.AF_UNIX) as listener:
        listener.bind(str(folder / "kubelet.sock"))
        listener.listen()
        client = PodResourcesClient(folder / "kubelet.sock", timeout_seconds=0.1)
        assert (await failure(client.claims())).reason is KubeletFailure.TIMEOUT
        await client.close()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"\xff" * 20, KubeletFailure.MALFORMED),
        (bytes(65 * 2**20), KubeletFailure.TOO_LARGE),
        (None, KubeletFailure.UNIMPLEMENTED),
    ],
)
async def test_answers_that_can_not_be_used_have_their_reasons(
    folder: Path, client: PodResourcesClient, answer: bytes | None, reason: KubeletFailure
) -> None:
    async def list_(request: bytes, context: object) -> bytes:
        return answer or b""

    server = grpc.aio.server()
    if answer is not None:
        methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "List": grpc.unary_unary_rpc_method_handler(list_)
        }
        handler = grpc.method_handlers_generic_handler("v1.PodResourcesLister", methods)
        server.add_generic_rpc_handlers((handler,))
    server.add_insecure_port(f"unix:{folder / 'kubelet.sock'}")
    await server.start()
    assert (await failure(client.claims())).reason is reason
    await server.stop(None)


async def test_get_tells_one_pod(node: Node) -> None:
    async with grpc.aio.insecure_channel(f"unix:{node.socket}") as channel:
        get = channel.unary_unary(
            "/v1.PodResourcesLister/Get",
            request_serializer=api_pb2.GetPodResourcesRequest.SerializeToString,
            response_deserializer=api_pb2.GetPodResourcesResponse.FromString,
        )
        answer = await get(
            api_pb2.GetPodResourcesRequest(pod_namespace="research", pod_name="0"), timeout=5
        )
        assert answer.pod_resources.containers[0].devices[0].device_ids == [f"{GPU}::0"]
        with pytest.raises(grpc.aio.AioRpcError, match="pod 1 not found"):
            await get(api_pb2.GetPodResourcesRequest(pod_namespace="research", pod_name="1"))
