"""A device plugin for devices that are not there: it has a kubelet give them to pods.

It speaks v1beta1 of the kubelet's device-plugin API, as NVIDIA's device plugin does: one plugin,
with a socket of its own, for each resource.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import quote

import grpc
import grpc.aio

from exporter.kubelet.deviceplugin.v1beta1 import api_pb2, api_pb2_grpc

_LOG = logging.getLogger(__name__)

Advertised = Mapping[str, Mapping[str, bool]]
"""Device ids by resource, each with whether its device is healthy."""

_VERSION: Final = "v1beta1"
_REGISTER_SECONDS: Final = 5.0
_HEALTH: Final = {True: "Healthy", False: "Unhealthy"}
# gRPC would send the socket's escaped path as the host, at which some servers balk.
_OPTIONS: Final = (("grpc.default_authority", "localhost"), ("grpc.use_local_subchannel_pool", 1))

_Context = grpc.aio.ServicerContext[object, object]


class DevicePlugins:
    """Keeps a kubelet informed of ``advertised``, by sockets in its ``folder``.

    A kubelet that starts empties the folder and knows no plugin: everything begins anew then. The
    kubelet that is not there is waited for.
    """

    def __init__(
        self, folder: Path, advertised: Callable[[], Advertised], *, look_seconds: float = 0.5
    ) -> None:
        self._folder = folder
        self._look_seconds = look_seconds
        self._advertised = advertised
        self._plugins: dict[str, _Plugin] = {}
        self._kubelet: tuple[int, int] | None = None
        self._trouble = ""

    async def run(self) -> NoReturn:
        """Serve for ever; ends by being cancelled, and takes the sockets with it."""
        try:
            while True:
                await self._look()
                await asyncio.sleep(self._look_seconds)
        finally:
            await self._stop()

    async def _look(self) -> None:
        kubelet = _identity(self._folder / "kubelet.sock")
        if kubelet != self._kubelet:
            await self._stop()
            self._kubelet = kubelet
        if kubelet is None:
            self._say(f"there is no {self._folder}/kubelet.sock: the kubelet does not run")
            return
        # One whose devices are gone stays, with an empty list, as the API has no other end.
        for resource in self._advertised().keys() - self._plugins.keys():
            try:
                self._plugins[resource] = await self._start(resource)
            except (grpc.aio.AioRpcError, RuntimeError) as error:
                words = error.details() if isinstance(error, grpc.aio.AioRpcError) else error
                self._say(f"{resource} can't be registered with the kubelet: {words}")
                return
        self._trouble = ""

    async def _start(self, resource: str) -> "_Plugin":
        plugin = _Plugin(resource, lambda: self._advertised().get(resource, {}), self._look_seconds)
        endpoint = f"simulated-{resource.rpartition('/')[2]}.sock"
        await plugin.serve(self._folder / endpoint)
        try:
            target = "unix:" + quote(str(self._folder / "kubelet.sock"))
            async with grpc.aio.insecure_channel(target, options=_OPTIONS) as channel:
                await api_pb2_grpc.RegistrationStub(channel).Register(
                    api_pb2.RegisterRequest(
                        version=_VERSION, endpoint=endpoint, resource_name=resource
                    ),
                    timeout=_REGISTER_SECONDS,
                )
        except BaseException:
            await plugin.stop()
            raise
        _LOG.info("the kubelet advertises simulated devices as %s", resource)
        return plugin

    async def _stop(self) -> None:
        plugins, self._plugins = self._plugins, {}
        for plugin in plugins.values():
            await plugin.stop()

    def _say(self, trouble: str) -> None:
        """Log what is wrong, once."""
        if trouble != self._trouble:
            _LOG.warning("%s", trouble)
        self._trouble = trouble


class _Plugin(api_pb2_grpc.DevicePluginServicer):
    """The plugin of one resource."""

    def __init__(
        self, resource: str, devices: Callable[[], Mapping[str, bool]], look_seconds: float
    ) -> None:
        self._resource = resource
        self._devices = devices
        self._look_seconds = look_seconds
        self._server: grpc.aio.Server | None = None

    async def serve(self, socket: Path) -> None:
        """Raise ``RuntimeError`` if the socket can't be made. gRPC removes one that was left."""
        server = grpc.aio.server()
        api_pb2_grpc.add_DevicePluginServicer_to_server(self, server)
        server.add_insecure_port("unix:" + quote(str(socket)))
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Break the kubelet's stream off; gRPC removes the socket."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(grace=None)

    async def GetDevicePluginOptions(  # noqa: N802  the API's name
        self, _request: api_pb2.Empty, _context: _Context
    ) -> api_pb2.DevicePluginOptions:
        return api_pb2.DevicePluginOptions()

    async def ListAndWatch(  # noqa: N802  the API's name
        self, _request: api_pb2.Empty, _context: _Context
    ) -> AsyncIterator[api_pb2.ListAndWatchResponse]:
        told: Mapping[str, bool] | None = None
        while True:
            devices = self._devices()
            if devices != told:
                told = dict(devices)
                yield api_pb2.ListAndWatchResponse(
                    devices=[
                        api_pb2.Device(ID=device_id, health=_HEALTH[healthy])
                        for device_id, healthy in sorted(devices.items())
                    ]
                )
            await asyncio.sleep(self._look_seconds)

    async def Allocate(  # noqa: N802  the API's name
        self, request: api_pb2.AllocateRequest, context: _Context
    ) -> api_pb2.AllocateResponse:
        known = self._devices()
        answer = api_pb2.AllocateResponse()
        for container in request.container_requests:
            for device_id in container.devices_ids:
                if device_id not in known:
                    await context.abort(
                        grpc.StatusCode.INVALID_ARGUMENT, f"{self._resource} has no {device_id}"
                    )
            answer.container_responses.add(envs=environment(container.devices_ids))
        return answer

    async def GetPreferredAllocation(  # noqa: N802  the API's name
        self, _request: api_pb2.PreferredAllocationRequest, context: _Context
    ) -> api_pb2.PreferredAllocationResponse:
        """Refuse: no device is better than another, and the options say so."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "any device will do")

    async def PreStartContainer(  # noqa: N802  the API's name
        self, _request: api_pb2.PreStartContainerRequest, context: _Context
    ) -> api_pb2.PreStartContainerResponse:
        """Refuse: nothing has to be done, and the options say so."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "there is nothing to do")


def environment(device_ids: Iterable[str]) -> dict[str, str]:
    """Return the variables that NVIDIA's device plugin gives a container with these devices.

    A share of a device is named by the device. Source: ``internal/plugin/server.go`` of
    NVIDIA/k8s-device-plugin, with its default, ``deviceListStrategy: envvar``.
    """
    devices = dict.fromkeys(device_id.partition("::")[0] for device_id in device_ids)
    return {"NVIDIA_VISIBLE_DEVICES": ",".join(devices)}


def _identity(socket: Path) -> tuple[int, int] | None:
    """Return what tells a kubelet's socket from the one before it."""
    try:
        status = socket.stat()
    except OSError:
        return None
    return status.st_ino, status.st_ctime_ns
