"""Simulated devices get to a kubelet as a device plugin's do, also after the kubelet's restart."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import grpc
import grpc.aio
import pytest

from exporter.kubelet.deviceplugin.v1beta1 import api_pb2, api_pb2_grpc
from exporter.kubelet.plugin import DevicePlugins, environment

Advertised = dict[str, dict[str, bool]]


class Kubelet(api_pb2_grpc.RegistrationServicer):
    """The kubelet's end: it hears of plugins, and asks them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registered: dict[str, str] = {}
        self.refuses = False
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Forget every plugin, and delete their sockets, as a kubelet that starts does."""
        for left in await asyncio.to_thread(lambda: [*self.folder.iterdir()]):
            left.unlink()
        self.registered.clear()
        server = grpc.aio.server()
        api_pb2_grpc.add_RegistrationServicer_to_server(self, server)
        server.add_insecure_port(f"unix:{quote(str(self.folder))}/kubelet.sock")
        await server.start()
        self._server = server

    async def stop(self) -> None:
        assert self._server
        await self._server.stop(grace=None)

    async def Register(  # noqa: N802
        self, request: api_pb2.RegisterRequest, context: grpc.aio.ServicerContext[object, object]
    ) -> api_pb2.Empty:
        if self.refuses:
            await context.abort(grpc.StatusCode.UNKNOWN, "the version is not supported")
        assert request.version == "v1beta1"
        self.registered[request.resource_name] = request.endpoint
        return api_pb2.Empty()

    @asynccontextmanager
    async def plugin(self, resource: str) -> "AsyncIterator[api_pb2_grpc.DevicePluginAsyncStub]":
        target = f"unix:{quote(str(self.folder / self.registered[resource]))}"
        options = (("grpc.default_authority", "localhost"),)
        async with grpc.aio.insecure_channel(target, options=options) as channel:
            yield api_pb2_grpc.DevicePluginStub(channel)


@asynccontextmanager
async def advertising(
    folder: Path, advertised: Callable[[], Advertised]
) -> AsyncIterator[DevicePlugins]:
    plugins = DevicePlugins(folder, advertised, look_seconds=0.01)
    task = asyncio.create_task(plugins.run())
    try:
        yield plugins
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.fixture
def folder() -> Iterator[Path]:
    # A short name: a socket's path has 107 characters at most.
    with TemporaryDirectory() as made:
        yield Path(made)


@pytest.fixture
async def kubelet(folder: Path) -> AsyncIterator[Kubelet]:
    kubelet = Kubelet(folder)
    await kubelet.start()
    yield kubelet
    await kubelet.stop()


async def until(what: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not what():  # noqa: ASYNC110  both ends tell by their state alone
            await asyncio.sleep(0.005)


async def read(
    lists: grpc.aio.UnaryStreamCall[api_pb2.Empty, api_pb2.ListAndWatchResponse],
) -> api_pb2.ListAndWatchResponse:
    answer = await lists.read()
    assert isinstance(answer, api_pb2.ListAndWatchResponse)
    return answer


async def test_each_resource_is_a_plugin_that_lists_its_devices(kubelet: Kubelet) -> None:
    state: Advertised = {
        "nvidia.com/gpu": {"GPU-b": True, "GPU-a": False},
        "nvidia.com/mig-1g.10gb": {"MIG-c": True},
    }
    async with advertising(kubelet.folder, lambda: state):
        await until(lambda: kubelet.registered.keys() == state.keys())
        async with kubelet.plugin("nvidia.com/gpu") as plugin:
            lists = plugin.ListAndWatch(api_pb2.Empty())
            first = await read(lists)
            assert [(d.ID, d.health) for d in first.devices] == [
                ("GPU-a", "Unhealthy"),
                ("GPU-b", "Healthy"),
            ]
            state["nvidia.com/gpu"] = {"GPU-a": True}
            second = await read(lists)
            assert [(d.ID, d.health) for d in second.devices] == [("GPU-a", "Healthy")]
            del state["nvidia.com/gpu"]
            assert not (await read(lists)).devices


async def test_a_container_gets_the_environment_of_nvidias_plugin(kubelet: Kubelet) -> None:
    state = {"nvidia.com/gpu.shared": dict.fromkeys(("GPU-a::0", "GPU-a::1", "GPU-b::0"), True)}
    async with advertising(kubelet.folder, lambda: state):
        await until(lambda: kubelet.registered)
        async with kubelet.plugin("nvidia.com/gpu.shared") as plugin:
            options = await plugin.GetDevicePluginOptions(api_pb2.Empty())
            assert not options.pre_start_required
            assert not options.get_preferred_allocation_available
            asked = [["GPU-a::1"], ["GPU-a::0", "GPU-a::1", "GPU-b::0"]]
            answer = await plugin.Allocate(
                api_pb2.AllocateRequest(
                    container_requests=[
                        api_pb2.ContainerAllocateRequest(devices_ids=ids) for ids in asked
                    ]
                )
            )
            assert [dict(each.envs) for each in answer.container_responses] == [
                {"NVIDIA_VISIBLE_DEVICES": "GPU-a"},
                {"NVIDIA_VISIBLE_DEVICES": "GPU-a,GPU-b"},
            ]
            request = api_pb2.ContainerAllocateRequest(devices_ids=["GPU-x::0"])
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await plugin.Allocate(api_pb2.AllocateRequest(container_requests=[request]))
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert refused.value.details() == "nvidia.com/gpu.shared has no GPU-x::0"


async def test_a_kubelet_that_was_restarted_hears_of_every_plugin_again(kubelet: Kubelet) -> None:
    state = {"nvidia.com/gpu": {"GPU-a": True}}
    async with advertising(kubelet.folder, lambda: state):
        for _ in range(3):
            await until(lambda: kubelet.registered.keys() == state.keys())
            async with kubelet.plugin("nvidia.com/gpu") as plugin:
                lists = plugin.ListAndWatch(api_pb2.Empty())
                assert [device.ID for device in (await read(lists)).devices] == ["GPU-a"]
            await kubelet.stop()
            await kubelet.start()


async def test_a_kubelet_that_comes_late_or_refuses_is_asked_again(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kubelet = Kubelet(folder)
    async with advertising(folder, lambda: {"nvidia.com/gpu": {"GPU-a": True}}):
        await until(lambda: caplog.messages)
        kubelet.refuses = True
        await kubelet.start()
        await until(lambda: len(caplog.messages) > 1)
        kubelet.refuses = False
        await until(lambda: kubelet.registered)
    await kubelet.stop()
    assert caplog.messages == [
        f"there is no {folder}/kubelet.sock: the kubelet does not run",
        "nvidia.com/gpu can't be registered with the kubelet: the version is not supported",
    ]


async def test_sockets_go_with_the_program(kubelet: Kubelet) -> None:
    async with advertising(kubelet.folder, lambda: {"nvidia.com/gpu": {"GPU-a": True}}):
        await until(lambda: kubelet.registered)
        assert len([*kubelet.folder.iterdir()]) == 2
    assert [left.name for left in kubelet.folder.iterdir()] == ["kubelet.sock"]


def test_a_device_with_two_shares_is_named_once() -> None:
    assert environment(["MIG-a::0", "MIG-a::3"]) == {"NVIDIA_VISIBLE_DEVICES": "MIG-a"}
