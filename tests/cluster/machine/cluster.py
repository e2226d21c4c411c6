"""The whole cluster, as those who use one see it: through ``kubectl`` and ``helm``."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from tests.cluster.machine import images, network, places
from tests.cluster.machine.control_plane import ControlPlane
from tests.cluster.machine.daemons import Daemon
from tests.cluster.machine.nodes import Node
from tests.cluster.machine.waiting import until

Object = dict[str, Any]

_DNS: Final = (sys.executable, "-m", "tests.cluster.machine.dns")


class Cluster:
    """A control plane and one node; more nodes on demand."""

    def __init__(self) -> None:
        network.set_up()
        self.control_plane = ControlPlane()
        self.dns = Daemon("dns", _DNS)
        self.nodes: dict[int, Node] = {}

    def start(self) -> None:
        self.control_plane.start()
        self.dns.start()
        self.add_node(1)
        until(
            lambda: self.kubectl("get", "serviceaccount", "default", check=False).returncode == 0,
            "there is a service account for pods",
        )

    def add_node(self, number: int) -> Node:
        """Return a node that is ready."""
        node = self.nodes.setdefault(number, Node(number))
        node.start([*self._small_images, self._exporter_image])

        def ready() -> bool:
            conditions = (
                (self.find("node", node.name) or {}).get("status", {}).get("conditions", ())
            )
            return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

        until(ready, f"{node.name} is ready", show=node.tails)
        return node

    def remove_node(self, number: int) -> None:
        """Stop a node, which is as if it had been switched off, and forget it."""
        node = self.nodes.pop(number)
        node.stop()
        self.kubectl("delete", "node", node.name, "--timeout=60s")

    @property
    def node(self) -> Node:
        """The first node."""
        return self.nodes[1]

    @cached_property
    def _small_images(self) -> list[Path]:
        return images.small()

    @cached_property
    def _exporter_image(self) -> Path:
        return images.exporter()

    # What people type

    def environment(self) -> Mapping[str, str]:
        beside = Path(sys.executable).parent
        return {
            "PATH": f"{beside}:{os.environ['PATH']}",
            "HOME": str(places.WORK),
            "KUBECONFIG": str(places.KUBECONFIG),
        }

    def shell(self, script: str, folder: Path = places.ROOT) -> str:
        """Run what a page tells people to run; return what it printed."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],  # noqa: S607
            cwd=folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def kubectl(
        self, *arguments: str, stdin: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["kubectl", *arguments],  # noqa: S607
            env=self.environment(),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            executable=Path(sys.executable).with_name("kubectl"),
        )
        if check:
            assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done

    # What tests ask

    def find(self, kind: str, name: str, namespace: str = "default") -> Object | None:
        """Return an object, or ``None`` where there is none or nobody answers."""
        done = self.kubectl(
            "get", kind, name, f"--namespace={namespace}", "--output=json", check=False
        )
        found: Object | None = json.loads(done.stdout) if done.returncode == 0 else None
        return found

    def list(self, kind: str, *arguments: str) -> list[Object]:
        done = self.kubectl("get", kind, "--output=json", *arguments)
        found: list[Object] = json.loads(done.stdout)["items"]
        return found

    def apply(self, *objects: Object) -> None:
        self.kubectl("apply", "--filename=-", stdin=_together(objects))

    def create(self, *objects: Object) -> None:
        self.kubectl("create", "--filename=-", stdin=_together(objects))

    def delete(self, kind: str, *names: str, namespace: str = "default") -> None:
        """Delete at once, and wait until nothing is left."""
        self.kubectl(
            "delete", kind, *names, f"--namespace={namespace}", "--ignore-not-found",
            "--grace-period=1", "--timeout=120s",
        )  # fmt: skip


def _together(objects: Sequence[Object]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
