"""A kubelet's pod-resources API as a real gRPC server, for simulated nodes."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Self
from urllib.parse import quote

import grpc
import grpc.aio

from exporter.kubelet.podresources.v1 import api_pb2, api_pb2_grpc
from exporter.model.claims import Claims, Container, PodName

_CALLS_PER_SECOND = 100.0
_BURST = 10.0

_Context = grpc.aio.ServicerContext[object, object]


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with the calls of ``methods``: first the delay, then the refusal."""

    status: str | None = None
    """Name of the gRPC status to refuse with, such as ``UNAVAILABLE``."""
    delay_seconds: float = 0.0
    """``math.inf``: never answers."""
    methods: frozenset[str] = frozenset({"List", "GetAllocatableResources", "Get"})


class SimulatedKubelet(api_pb2_grpc.PodResourcesListerServicer):
    """Serves what ``claims`` returns at each call, on a unix socket.

    Calls are limited as the kubelet limits them: 100 per second, in bursts of 10. Where
    ``allocatable`` is ``None``, ``GetAllocatableResources`` is unimplemented, as in old kubelets.
    ``bystander_pods`` is how many pods hold other resources only, 84 kB of answer each.

    Set ``fault`` to have calls fail, and back to ``None`` to have them succeed.
    """

    def __init__(
        self,
        socket: Path,
        claims: Callable[[], Claims],
        *,
        bystander_pods: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.fault: Fault | None = None
        self.calls: Counter[str] = Counter()
        """Calls received by method, the refused ones included."""
        self.without_devices: set[PodName] = set()
        """Pods that have no device, which are listed as well."""
        self._target = "unix:" + quote(str(socket))
        self._claims = claims
        self._bystanders = [_bystander(number) for number in range(bystander_pods)]
        self._clock = clock
        self._tokens = _BURST
        self._tokens_at = clock()
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Serve, also again after :meth:`stop`. Raises ``RuntimeError`` if it can't bind."""
        server = grpc.aio.server()
        api_pb2_grpc.add_PodResourcesListerServicer_to_server(self, server)
        server.add_insecure_port(self._target)
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Go away at once, calls under way and the socket included."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(grace=None)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def List(  # noqa: N802  the API's name
        self, _request: api_pb2.ListPodResourcesRequest, context: _Context
    ) -> api_pb2.ListPodResourcesResponse:
        claims = await self._admitted("List", context)
        return api_pb2.ListPodResourcesResponse(pod_resources=self._listed(claims))

    async def GetAllocatableResources(  # noqa: N802  the API's name
        self, _request: api_pb2.AllocatableResourcesRequest, context: _Context
    ) -> api_pb2.AllocatableResourcesResponse:
        claims = await self._admitted("GetAllocatableResources", context)
        if claims.allocatable is None:
            await _refuse(context, "UNIMPLEMENTED", "unknown method GetAllocatableResources")
        return api_pb2.AllocatableResourcesResponse(
            devices=[
                api_pb2.ContainerDevices(resource_name=resource, device_ids=[device_id])
                for resource, ids in claims.allocatable.items()
                for device_id in ids
            ]
        )

    async def Get(  # noqa: N802  the API's name
        self, request: api_pb2.GetPodResourcesRequest, context: _Context
    ) -> api_pb2.GetPodResourcesResponse:
        claims = await self._admitted("Get", context)
        pods = {(pod.namespace, pod.name): pod for pod in self._listed(claims)}
        pod = pods.get((request.pod_namespace, request.pod_name))
        if pod is None:
            await _refuse(context, "UNKNOWN", f"pod {request.pod_name} not found")
        return api_pb2.GetPodResourcesResponse(pod_resources=pod)

    def _listed(self, claims: Claims) -> list[api_pb2.PodResources]:
        without = [
            api_pb2.PodResources(
                namespace=pod.namespace,
                name=pod.name,
                containers=[api_pb2.ContainerResources(name="main")],
            )
            for pod in sorted(self.without_devices)
        ]
        return [*self._bystanders, *without, *_pods(claims)]

    async def _admitted(self, method: str, context: _Context) -> Claims:
        """Return the claims of now to a call that is let through; fail it if it should fail."""
        self.calls[method] += 1
        now = self._clock()
        earned = (now - self._tokens_at) * _CALLS_PER_SECOND
        self._tokens, self._tokens_at = min(_BURST, self._tokens + earned), now
        if self._tokens < 1:
            await _refuse(context, "RESOURCE_EXHAUSTED", "rejected by rate limit")
        self._tokens -= 1
        fault = self.fault
        if fault and method in fault.methods:
            if math.isinf(fault.delay_seconds):
                await asyncio.Event().wait()
            await asyncio.sleep(fault.delay_seconds)
            if fault.status:
                await _refuse(context, fault.status, "simulated fault")
        return self._claims()


async def _refuse(context: _Context, status: str, details: str) -> NoReturn:
    await context.abort(grpc.StatusCode[status], details)


def _pods(claims: Claims) -> Iterable[api_pb2.PodResources]:
    """Return the pods that hold something, as the kubelet lists them."""
    pods: dict[PodName, api_pb2.PodResources] = {}
    containers: dict[Container, api_pb2.ContainerResources] = {}

    def resources(container: Container) -> api_pb2.ContainerResources:
        if container not in containers:
            name = container.pod_name
            if name not in pods:
                pods[name] = api_pb2.PodResources(namespace=name.namespace, name=name.name)
            containers[container] = pods[name].containers.add(name=container.name)
        return containers[container]

    for held in claims.held:
        # One entry per device, as each may have a NUMA node of its own.
        resources(held.container).devices.add(
            resource_name=held.resource, device_ids=[held.device_id]
        )
    for dra in claims.dra:
        device = api_pb2.ClaimResource(
            driver_name=dra.driver,
            pool_name=dra.pool,
            device_name=dra.device,
            cdi_devices=[api_pb2.CDIDevice(name=f"k8s.{dra.driver}/device={dra.device}")],
        )
        resources(dra.container).dynamic_resources.add(
            claim_name=dra.claim_name,
            claim_namespace=dra.claim_namespace,
            claim_resources=[device],
        )
    return pods.values()


def _bystander(number: int) -> api_pb2.PodResources:
    """Return a pod of ten containers with pinned CPUs and memory, and another vendor's devices."""
    pod = api_pb2.PodResources(namespace=f"team-{number % 20}", name=f"bystander-{number}")
    nodes = [api_pb2.TopologyInfo(nodes=[api_pb2.NUMANode(ID=node)]) for node in (0, 1)]
    for index in range(10):
        container = pod.containers.add(name=f"container-{index}", cpu_ids=range(128))
        for topology in nodes:
            container.memory.add(memory_type="memory", size=2**34, topology=topology)
        for device in range(100):
            container.devices.add(
                resource_name="vendor.example.com/device",
                device_ids=[f"device-{number}-{index}-{device}-0123456789abcdef0123456789"],
                topology=nodes[device % 2],
            )
    return pod
