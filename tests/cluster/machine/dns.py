"""The cluster's DNS: addresses of services' pods, and of services, as the API server has them."""

import json
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from tests.cluster.machine import places
from tests.cluster.machine.network import CONTROL_PLANE

_ADDRESS, _IN, _NO_NAME = 1, 1, 3
_SUFFIX: Final = "svc.cluster.local"


def answer(query: bytes) -> bytes:
    """Return the answer to one query: those for other than IPv4 addresses get an empty one."""
    (number,) = struct.unpack(">H", query[:2])
    labels, at = [], 12
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode().lower())
        at += 1 + length
    (kind,) = struct.unpack(">H", query[at + 1 : at + 3])
    question = query[12 : at + 5]
    service, namespace, suffix = labels[0], "".join(labels[1:2]), ".".join(labels[2:])
    addresses = _addresses(namespace, service) if suffix == _SUFFIX else None
    given = (addresses or []) if kind == _ADDRESS else []
    flags = 0x8580 | (_NO_NAME if addresses is None else 0)
    head = struct.pack(">HHHHHH", number, flags, 1, len(given), 0, 0)
    record = struct.pack(">HHHIH", 0xC00C, _ADDRESS, _IN, 1, 4)
    return head + question + b"".join(record + socket.inet_aton(each) for each in given)


def _addresses(namespace: str, service: str) -> list[str] | None:
    """Return the addresses of a service, or ``None`` if there is none of that name."""
    address = _kubectl("service", namespace, service)
    if address is None:
        return None
    cluster_ip: str = address["spec"]["clusterIP"]
    if cluster_ip != "None":
        return [cluster_ip]
    endpoints = _kubectl("endpoints", namespace, service) or {}
    return [
        each["ip"]
        for subset in endpoints.get("subsets") or ()
        for each in [*(subset.get("addresses") or ()), *(subset.get("notReadyAddresses") or ())]
    ]


def _kubectl(kind: str, namespace: str, name: str) -> Any:
    """Return an object, or ``None`` if there is none."""
    done = subprocess.run(
        [Path(sys.executable).with_name("kubectl"), f"--kubeconfig={places.KUBECONFIG}",
         "get", kind, name, f"--namespace={namespace}", "--output=json"],
        capture_output=True,
        check=False,
    )  # fmt: skip
    return json.loads(done.stdout) if done.returncode == 0 else None


def serve() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((CONTROL_PLANE, 53))
        while True:
            query, client = server.recvfrom(4096)
            server.sendto(answer(query), client)


if __name__ == "__main__":
    serve()
