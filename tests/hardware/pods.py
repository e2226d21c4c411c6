"""Pods on a real GPU without a cluster: real processes in cgroups laid out as the kubelet's.

Kubelet and API server are the simulated ones, over gRPC and HTTP; driver, processes, cgroups and
the exporter are real.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exporter.kubelet.simulated import SimulatedKubelet
from exporter.kubernetes.simulated import SimulatedApiServer
from exporter.model.claims import Claim, Claims, Container
from tests.doubles.api_manifests import NODE, manifest, rfc3339
from tests.doubles.process import Exporter, exporter

CGROUPS = Path("/sys/fs/cgroup")
RESOURCE = "nvidia.com/gpu"
_SLICE = "kubepods.slice/kubepods-burstable.slice"
_TERMINATION_MESSAGE_BYTES = 2048
"""What ``FallbackToLogsOnError`` keeps of the log."""


@dataclass
class Pod:
    """One container's process, in a cgroup of its own."""

    name: str
    device_id: str
    program: str
    arguments: tuple[str, ...]
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))
    container_id: str = field(default_factory=lambda: uuid.uuid4().hex * 2)
    process: subprocess.Popen[str] | None = None
    begun: float = 0.0
    log: list[str] = field(default_factory=list)

    @property
    def container(self) -> Container:
        return Container("research", self.name, "main")

    @property
    def cgroup(self) -> Path:
        pod = f"kubepods-burstable-pod{self.uid.replace('-', '_')}.slice"
        return CGROUPS / _SLICE / pod / f"cri-containerd-{self.container_id}.scope"

    async def start(self) -> None:
        """Run the program until it says that it is ready."""
        self.cgroup.mkdir(parents=True)
        self.begun = time.time()
        enter = f'echo $$ > {self.cgroup}/cgroup.procs && exec "$@"'
        self.process = subprocess.Popen(  # noqa: ASYNC220  it returns at once
            ["/bin/sh", "-c", enter, "sh", sys.executable, "-c", self.program, *self.arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        await asyncio.to_thread(self._read_until, "ready\n")

    async def wait(self) -> int:
        """Return the exit code, once the program has ended."""
        assert self.process is not None
        await asyncio.to_thread(self._read_until, "")
        return await asyncio.to_thread(self.process.wait)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        with contextlib.suppress(OSError):
            self.cgroup.rmdir()
            self.cgroup.parent.rmdir()

    def _read_until(self, said: str) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        while (line := self.process.stdout.readline()) != said:
            assert line, self.log
            self.log.append(line)

    def status(self, code: int | None = None, *, message: bool = False) -> dict[str, Any]:
        """Return the container's status: running, or ended with ``code``."""
        container_id = f"containerd://{self.container_id}"
        state: Mapping[str, Any] = {"running": {"startedAt": rfc3339(self.begun)}}
        if code is not None:
            ended = {
                "exitCode": code,
                "reason": "Error" if code else "Completed",
                "startedAt": rfc3339(self.begun),
                "finishedAt": rfc3339(time.time()),
                "containerID": container_id,
            }
            if message:
                ended["message"] = "".join(self.log)[-_TERMINATION_MESSAGE_BYTES:]
            state = {"terminated": ended}
        return {
            "name": "main",
            "containerID": container_id,
            "restartCount": 0,
            "state": state,
            "lastState": {},
        }


class Node:
    """The pods of a node with one GPU, and the exporter beside them."""

    def __init__(self, server: SimulatedApiServer, ids: tuple[str, ...]) -> None:
        self._server = server
        self._ids = ids
        self._pods: dict[str, Pod] = {}
        self.exporter: Exporter

    def claims(self) -> Claims:
        held = tuple(Claim(pod.container, RESOURCE, pod.device_id) for pod in self._pods.values())
        return Claims(held, allocatable={RESOURCE: self._ids})

    async def run(self, pod: Pod) -> Pod:
        self._pods[pod.name] = pod
        await pod.start()
        self._put(pod, pod.status())
        return pod

    def ended(self, pod: Pod, code: int, *, message: bool) -> None:
        """Have the API server tell how the pod ended."""
        self._put(pod, pod.status(code, message=message))

    def remove(self, pod: Pod) -> None:
        pod.kill()
        del self._pods[pod.name]
        self._server.delete("pods", pod.name, "research")

    def close(self) -> None:
        for pod in self._pods.values():
            pod.kill()

    def _put(self, pod: Pod, status: dict[str, Any]) -> None:
        found = manifest(pod.name, uid=pod.uid, containers=[{"name": "main"}], statuses=[status])
        self._server.put("pods", found)

    async def scrape(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        return dict(await asyncio.to_thread(self.exporter.scrape))

    async def by_pod(self, family: str, **labels: str) -> dict[str, float]:
        """Return one family's values by pod."""
        found = {}
        for (name, pairs), value in (await self.scrape()).items():
            told = dict(pairs)
            if name == family and labels.items() <= told.items():
                found[told["pod"]] = value
        return found

    async def until(self, family: str, pod: str, at_least: float, **labels: str) -> float:
        """Wait until a pod's value has come to something."""
        begun = time.monotonic()
        while (value := (await self.by_pod(family, **labels)).get(pod, 0.0)) < at_least:
            assert time.monotonic() - begun < 30, "\n".join([family, pod, *self.exporter.log])
            await asyncio.sleep(0.2)
        return value


@contextlib.asynccontextmanager
async def node(folder: Path, ids: tuple[str, ...]) -> AsyncIterator[Node]:
    """Run a node whose GPU is advertised under these ids, with the exporter beside it."""
    socket, kubeconfig = folder / "kubelet.sock", folder / "kubeconfig"
    async with SimulatedApiServer() as server:
        made = Node(server, ids)
        kubeconfig.write_text(json.dumps(_kubeconfig(server.url)))
        async with SimulatedKubelet(socket, made.claims):
            running = exporter(
                *("--backend", "nvml", "--node", NODE, "--kubelet-socket", socket),
                *("--kubelet", "on", "--pod-watch", "on", "--read-deadline", "2s"),
                *("--fast-interval", "1s", "--full-interval", "5s", "--slow-interval", "30s"),
                *("--metrics", "full"),
                environment={**os.environ, "KUBECONFIG": str(kubeconfig)},
            )
            made.exporter = await asyncio.to_thread(running.__enter__)
            try:
                yield made
            finally:
                made.close()
                await asyncio.to_thread(running.__exit__, None, None, None)


def _kubeconfig(url: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": url}}],
        "users": [{"name": "test", "user": {}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }
