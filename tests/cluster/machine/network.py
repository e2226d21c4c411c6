"""The cluster's network: a bridge in a namespace of its own, and one namespace for each node.

This process already runs in the cluster's namespaces, see :mod:`tests.cluster.machine.inside`.
"""

import subprocess
from pathlib import Path
from typing import Final

from tests.cluster.machine.daemons import Daemon
from tests.cluster.machine.waiting import until

CONTROL_PLANE: Final = "10.245.0.1"
SERVICES: Final = "10.96.0.0/16"
KUBERNETES_SERVICE: Final = "10.96.0.1"
_BRIDGE: Final = "cluster0"


def run(*command: str | Path) -> str:
    """Run a command that must not fail; return what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def set_up() -> None:
    """Make the bridge, unless it is there."""
    if Path("/sys/class/net", _BRIDGE).exists() or _BRIDGE in run("ip", "-br", "link"):
        return
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", _BRIDGE, "type", "bridge")
    run("ip", "addr", "add", f"{CONTROL_PLANE}/24", "dev", _BRIDGE)
    run("ip", "link", "set", _BRIDGE, "up")
    # Nothing is out there, but programs look for the address by which they would get there.
    run("ip", "route", "add", "default", "dev", _BRIDGE)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


class NodeNamespaces:
    """The network and the mounts of node ``number``, held by a process that does nothing else."""

    def __init__(self, number: int) -> None:
        self.address = f"10.245.0.{10 + number}"
        self.pods = f"10.244.{number}.0/24"
        self._number = number
        self._holder = Daemon(
            f"node-{number}-namespaces",
            ["unshare", "--mount", "--net", "--propagation", "private", "sleep", "infinity"],
        )

    def set_up(self) -> bool:
        """Make both; return whether they had to be made."""
        if self._holder.pid:
            return False
        self._holder.start()
        holder = self._holder.pid
        mine = Path("/proc/self/ns/net").readlink()
        until(
            lambda: (
                Path(f"/proc/{holder}/ns/net").readlink() != mine
                and Path(f"/proc/{holder}/comm").read_text().strip() == "sleep"
            ),
            "the node has a network of its own",
        )
        outside, inside = f"veth{self._number}", "eth0"
        run("ip", "link", "add", outside, "type", "veth", "peer", "name", inside, "netns",
            str(holder))  # fmt: skip
        run("ip", "link", "set", outside, "master", _BRIDGE, "up")
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "addr", "add", f"{self.address}/24", "dev", inside)
        self.run("ip", "link", "set", inside, "up")
        self.run("ip", "route", "add", "default", "via", CONTROL_PLANE)
        self.run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
        run("ip", "route", "replace", self.pods, "via", self.address)
        return True

    def enter(self, *command: str | Path) -> list[str | Path]:
        """Return the command that runs ``command`` on the node."""
        return ["nsenter", f"--target={self._holder.pid}", "--mount", "--net", "--", *command]

    def run(self, *command: str | Path) -> str:
        return run(*self.enter(*command))
