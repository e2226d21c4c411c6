"""etcd, the API server, the controller manager and the scheduler."""

import ssl
import urllib.error
import urllib.request

from tests.cluster.machine import identities, places
from tests.cluster.machine.daemons import Daemon
from tests.cluster.machine.identities import FOLDER as PKI
from tests.cluster.machine.network import CONTROL_PLANE, SERVICES
from tests.cluster.machine.waiting import until

GATES = "DRAExtendedResource=true"
"""Alpha and beta features that are turned on everywhere."""


class ControlPlane:
    def __init__(self) -> None:
        identities.authority()
        programs, admin = places.kubernetes(), identities.admin()
        signed, key = identities.api_server()
        kubelets = identities.certificate("api-server-client", "admin", group="system:masters")
        accounts = PKI / "service-accounts.key"
        self.etcd = Daemon(
            "etcd",
            [
                *("etcd", "--data-dir", places.WORK / "etcd", "--unsafe-no-fsync"),
                "--listen-client-urls=http://127.0.0.1:2379",
                "--advertise-client-urls=http://127.0.0.1:2379",
                "--listen-peer-urls=http://127.0.0.1:2380",
            ],
        )
        self.api_server = Daemon(
            "kube-apiserver",
            [
                programs / "kube-apiserver",
                "--etcd-servers=http://127.0.0.1:2379",
                f"--advertise-address={CONTROL_PLANE}",
                "--secure-port=6443",
                f"--tls-cert-file={signed}",
                f"--tls-private-key-file={key}",
                f"--client-ca-file={identities.AUTHORITY}",
                f"--kubelet-client-certificate={kubelets[0]}",
                f"--kubelet-client-key={kubelets[1]}",
                "--kubelet-preferred-address-types=InternalIP",
                f"--service-cluster-ip-range={SERVICES}",
                "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
                f"--service-account-key-file={accounts}",
                f"--service-account-signing-key-file={accounts}",
                "--authorization-mode=Node,RBAC",
                "--enable-admission-plugins=NodeRestriction",
                "--allow-privileged=true",
                f"--feature-gates={GATES}",
            ],
        )
        own = [f"--kubeconfig={admin}", "--leader-elect=false", f"--feature-gates={GATES}"]
        self.controllers = Daemon(
            "kube-controller-manager",
            [
                programs / "kube-controller-manager",
                *own,
                "--controllers=*,-nodeipam",
                f"--root-ca-file={identities.AUTHORITY}",
                f"--service-account-private-key-file={accounts}",
                "--use-service-account-credentials",
            ],
        )
        self.scheduler = Daemon("kube-scheduler", [programs / "kube-scheduler", *own])

    def start(self) -> None:
        """Start what does not run, and wait until the API server has loaded all that it needs."""
        self.etcd.start()
        self.api_server.start()
        self.controllers.start()
        self.scheduler.start()
        self.until_ready()

    def until_ready(self) -> None:
        def ready() -> bool:
            # As its supervisor would.
            self.api_server.start()
            return self.ready()

        until(ready, "the API server is ready", poll=0.2, show=self.api_server.tail)

    def ready(self) -> bool:
        trust = ssl.create_default_context(cafile=str(identities.AUTHORITY))
        trust.load_cert_chain(*identities.certificate("admin", "admin", group="system:masters"))
        try:
            url = f"{identities.API_SERVER}/readyz"
            with urllib.request.urlopen(url, timeout=5, context=trust) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def tails(self) -> str:
        daemons = (self.etcd, self.api_server, self.controllers, self.scheduler)
        return "\n".join(daemon.tail() for daemon in daemons)
