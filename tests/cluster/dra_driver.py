"""A DRA driver that hands out the simulated GPUs of one node, as NVIDIA's hands out real ones.

``python -m tests.cluster.dra_driver FOLDER``, where FOLDER is the node's ``/var/lib/kubelet``. The
driver prepares nothing: a container gets no device, and the kubelet lists what the scheduler has
allocated.
"""

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import grpc

DRIVER: Final = "gpu.nvidia.com"
_ENDPOINT: Final = f"/var/lib/kubelet/plugins/{DRIVER}/dra.sock"
_PROTOS: Final = "tests/cluster/protos"
_KUBECTL: Final = Path(sys.executable).with_name("kubectl")

dra: Any
dra_services: Any
registration: Any
registration_services: Any
dra, dra_services = grpc.protos_and_services(f"{_PROTOS}/dra.proto")
registration, registration_services = grpc.protos_and_services(f"{_PROTOS}/registration.proto")


class Driver(dra_services.DRAPluginServicer):  # type: ignore[misc]  # made at run time
    def NodePrepareResources(self, request: Any, _context: object) -> Any:  # noqa: N802
        answer = dra.NodePrepareResourcesResponse()
        for claim in request.claims:
            prepared = answer.claims[claim.uid]
            for result in _allocated(claim.namespace, claim.name):
                prepared.devices.add(
                    request_names=[result["request"]],
                    pool_name=result["pool"],
                    device_name=result["device"],
                    cdi_device_ids=[f"k8s.{DRIVER}/device={result['device']}"],
                )
        return answer

    def NodeUnprepareResources(self, request: Any, _context: object) -> Any:  # noqa: N802
        answer = dra.NodeUnprepareResourcesResponse()
        for claim in request.claims:
            answer.claims[claim.uid].error = ""
        return answer


class Registration(registration_services.RegistrationServicer):  # type: ignore[misc]  # the same
    def GetInfo(self, _request: object, _context: object) -> Any:  # noqa: N802
        return registration.PluginInfo(
            type="DRAPlugin",
            name=DRIVER,
            endpoint=_ENDPOINT,
            supported_versions=["v1.DRAPlugin"],
        )

    def NotifyRegistrationStatus(self, request: Any, _context: object) -> Any:  # noqa: N802
        sys.stdout.write(f"registered: {request.plugin_registered} {request.error}\n")
        sys.stdout.flush()
        return registration.RegistrationStatusResponse()


def _allocated(namespace: str, name: str) -> list[dict[str, str]]:
    done = subprocess.run(
        [_KUBECTL, "get", "resourceclaim", name, f"--namespace={namespace}", "--output=json"],
        capture_output=True,
        check=True,
    )
    devices = json.loads(done.stdout)["status"]["allocation"]["devices"]
    return [result for result in devices["results"] if result["driver"] == DRIVER]


def serve(kubelet: Path) -> None:
    sockets = {
        kubelet / f"plugins/{DRIVER}/dra.sock": (
            dra_services.add_DRAPluginServicer_to_server,
            Driver(),
        ),
        kubelet / f"plugins_registry/{DRIVER}-reg.sock": (
            registration_services.add_RegistrationServicer_to_server,
            Registration(),
        ),
    }
    servers = []
    for socket, (add, service) in sockets.items():
        socket.parent.mkdir(parents=True, exist_ok=True)
        server = grpc.server(ThreadPoolExecutor(4))
        add(service, server)
        server.add_insecure_port(f"unix:{socket}")
        server.start()
        servers.append(server)
    threading.Event().wait()


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
