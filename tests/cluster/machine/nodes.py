"""A node: containerd, a kubelet and kube-proxy, in a network and with mounts of their own.

Each node has its own ``/var/lib/kubelet``, ``/run`` and so on at the usual places, so that what is
installed on it finds them where it would on any node.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.cluster.machine import identities, places
from tests.cluster.machine.control_plane import GATES
from tests.cluster.machine.daemons import Daemon
from tests.cluster.machine.network import CONTROL_PLANE, NodeNamespaces
from tests.cluster.machine.programs import CNI
from tests.cluster.machine.waiting import until

CGROUPS: Final = Path("/sys/fs/cgroup")
_HIDDEN: Final = ("/var/lib", "/var/log")
"""What of the machine a node does not see, so that nothing is made there either."""
_OWN_FOLDERS: Final = (
    "/run",
    "/var/lib/kubelet",
    "/var/lib/containerd",
    "/var/lib/cni",
    "/var/log/pods",
    "/var/log/containers",
)
_CONTAINERD: Final = """\
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
path = "{opt}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "localhost/pause:1"
disable_apparmor = true
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{bin}"
conf_dir = "{conf}"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
"""


class Node:
    def __init__(self, number: int) -> None:
        self.name = f"node-{number}"
        self.namespaces = NodeNamespaces(number)
        self.folder = places.WORK / self.name
        self._cgroup = f"{places.CGROUP}/{self.name}"

    def start(self, images: Sequence[Path]) -> None:
        """Start what does not run; a node that is new gets ``images``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        new = self.namespaces.set_up()
        if new:
            self._mount()
        self._configure()
        self.containerd = self._daemon(
            "containerd", "containerd", f"--config={self.folder / 'containerd.toml'}"
        )
        self.kubelet = self._daemon(
            "kubelet",
            places.kubernetes() / "kubelet",
            f"--config={self.folder / 'kubelet.json'}",
            f"--kubeconfig={self.folder / 'kubeconfig'}",
            f"--hostname-override={self.name}",
            f"--node-ip={self.namespaces.address}",
        )
        self.proxy = self._daemon(
            "kube-proxy",
            places.kubernetes() / "kube-proxy",
            f"--kubeconfig={places.KUBECONFIG}",
            f"--hostname-override={self.name}",
            "--proxy-mode=iptables",
            "--cluster-cidr=10.244.0.0/16",
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0",
            f"--healthz-bind-address={self.namespaces.address}:10256",
            f"--feature-gates={GATES}",
        )
        self.containerd.start()
        self.load(images if new else ())
        self.kubelet.start()
        self.proxy.start()

    def stop(self) -> None:
        """Stop what was started. Containers go on until the cluster ends."""
        for daemon in (self.proxy, self.kubelet, self.containerd):
            daemon.kill()

    def load(self, images: Sequence[Path]) -> None:
        """Put archives of images into the container runtime, as ``ctr images import`` does."""
        until(
            (self.run_folder / "containerd/containerd.sock").exists,
            "containerd has a socket",
            show=self.containerd.tail,
        )
        for image in images:
            self.run("ctr", "--namespace=k8s.io", "images", "import", "--no-unpack", image)

    def run(self, *command: str | Path) -> str:
        """Run a command on the node."""
        return self.namespaces.run(*command)

    @property
    def run_folder(self) -> Path:
        """Where the node's ``/run`` is."""
        return self.folder / "run"

    @property
    def kubelet_folder(self) -> Path:
        """Where the node's ``/var/lib/kubelet`` is."""
        return self.folder / "var/lib/kubelet"

    @property
    def _networks(self) -> Path:
        return self.folder / "networks"

    @property
    def static_pods(self) -> Path:
        return self.folder / "manifests"

    def tails(self) -> str:
        return "\n".join(each.tail() for each in (self.containerd, self.kubelet, self.proxy))

    def _daemon(self, kind: str, *command: str | Path) -> Daemon:
        return Daemon(f"{self.name}-{kind}", self.namespaces.enter(*command))

    def _mount(self) -> None:
        for path in _HIDDEN:
            self.run("mount", "-t", "tmpfs", "tmpfs", path)
        for path in _OWN_FOLDERS:
            own = self.folder / path.lstrip("/")
            own.mkdir(parents=True, exist_ok=True)
            self.run("mkdir", "-p", path)
            self.run("mount", "--bind", own, path)
        # As systemd has it: what the kubelet and containerd mount is seen by containers.
        self.run("mount", "--make-rshared", "/")
        for hierarchy in _hierarchies():
            (hierarchy / self._cgroup).mkdir(parents=True, exist_ok=True)
        _inherit_cpus(self._cgroup)

    def _configure(self) -> None:
        for folder in (self._networks, self.static_pods):
            folder.mkdir(parents=True, exist_ok=True)
        text = _CONTAINERD.format(bin=CNI, conf=self._networks, opt=self.folder / "opt")
        (self.folder / "containerd.toml").write_text(text)
        (self._networks / "10-bridge.conflist").write_text(json.dumps(self._bridge()))
        (self.folder / "kubelet.json").write_text(json.dumps(self._kubelet()))
        identity = identities.certificate(
            self.name, f"system:node:{self.name}", group="system:nodes"
        )
        identities.kubeconfig(self.folder / "kubeconfig", identity)

    def _bridge(self) -> dict[str, Any]:
        bridge = {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": self.namespaces.pods}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
        ports = {"type": "portmap", "capabilities": {"portMappings": True}}
        return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, ports]}

    def _kubelet(self) -> dict[str, Any]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self.namespaces.address,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(identities.AUTHORITY)},
            },
            "authorization": {"mode": "Webhook"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self._cgroup}",
            "clusterDNS": [CONTROL_PLANE],
            "clusterDomain": "cluster.local",
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            # The machine is shared: what it does beside this must not have pods evicted.
            "evictionHard": {"memory.available": "1Mi", "nodefs.available": "0.1%"},
            "imageGCHighThresholdPercent": 99,
            "imageGCLowThresholdPercent": 98,
            "failSwapOn": False,
            "failCgroupV1": False,
            "featureGates": {gate.partition("=")[0]: True for gate in GATES.split(",")},
            "nodeStatusUpdateFrequency": "2s",
            "registerNode": True,
            "resolvConf": "",
            "volumePluginDir": str(self.folder / "volume-plugins"),
            "staticPodPath": str(self.static_pods),
        }


def remove_cgroups() -> None:
    """Remove the control groups of clusters that are gone."""
    # Beside the hierarchies of version 1 there may be one of version 2, where runc makes its own.
    for top in [CGROUPS / places.CGROUP, *CGROUPS.glob(f"*/{places.CGROUP}")]:
        folders = [folder for folder in top.rglob("*") if folder.is_dir()]
        for folder in sorted([top, *folders], key=lambda path: -len(path.parts)):
            if folder.is_dir():
                folder.rmdir()


def _hierarchies() -> list[Path]:
    """Return where control groups are made: one place with version 2, several with version 1."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    found = (path for path in CGROUPS.iterdir() if path.is_dir() and not path.is_symlink())
    return sorted(path for path in found if (path / "tasks").exists())


def _inherit_cpus(cgroup: str) -> None:
    """Give a new cpuset its parent's CPUs: in version 1 it has none."""
    folder = CGROUPS / "cpuset"
    for part in cgroup.split("/"):
        folder /= part
        for name in ("cpuset.cpus", "cpuset.mems"):
            file = folder / name
            if file.exists() and not file.read_text().strip():
                file.write_text((folder.parent / name).read_text())
