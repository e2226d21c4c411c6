"""Certificates and kubeconfigs, all from one authority of the cluster's own."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.cluster.machine import places
from tests.cluster.machine.network import CONTROL_PLANE, KUBERNETES_SERVICE, run

FOLDER: Final = places.WORK / "pki"
AUTHORITY: Final = FOLDER / "ca.crt"
API_SERVER: Final = f"https://{CONTROL_PLANE}:6443"
_DAYS: Final = "30"


def authority() -> None:
    """Make the authority, and the key by which tokens of service accounts are signed."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    if AUTHORITY.exists():
        return
    _key(FOLDER / "service-accounts.key")
    self_signed(FOLDER / "ca", "cluster-authority")


def self_signed(stem: Path, name: str, alternatives: Sequence[str] = ()) -> None:
    """Make ``stem.key`` and ``stem.crt``, signed by itself."""
    _key(stem.with_suffix(".key"))
    more = ["-addext", f"subjectAltName={','.join(alternatives)}"] if alternatives else []
    run("openssl", "req", "-x509", "-new", "-key", stem.with_suffix(".key"), "-days", _DAYS,
        "-subj", f"/CN={name}", *more, "-out", stem.with_suffix(".crt"))  # fmt: skip


def certificate(
    file: str, name: str, *, group: str = "", alternatives: Sequence[str] = ()
) -> tuple[Path, Path]:
    """Return certificate and key of ``name``, signed by the authority; made if not there."""
    stem = FOLDER / file
    signed, key = stem.with_suffix(".crt"), stem.with_suffix(".key")
    if signed.exists():
        return signed, key
    _key(key)
    subject = f"/O={group}/CN={name}" if group else f"/CN={name}"
    request, extensions = stem.with_suffix(".csr"), stem.with_suffix(".ext")
    run("openssl", "req", "-new", "-key", key, "-subj", subject, "-out", request)
    lines = ["extendedKeyUsage=serverAuth,clientAuth"]
    if alternatives:
        lines.append(f"subjectAltName={','.join(alternatives)}")
    extensions.write_text("\n".join(lines) + "\n")
    run("openssl", "x509", "-req", "-in", request, "-CA", AUTHORITY, "-CAkey", FOLDER / "ca.key",
        "-CAcreateserial", "-days", _DAYS, "-extfile", extensions, "-out", signed)  # fmt: skip
    return signed, key


def api_server() -> tuple[Path, Path]:
    names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc")
    return certificate(
        "api-server",
        "kube-apiserver",
        alternatives=[
            *(f"DNS:{name}" for name in names),
            *(f"IP:{address}" for address in (CONTROL_PLANE, KUBERNETES_SERVICE, "127.0.0.1")),
        ],
    )


def kubeconfig(path: Path, certificate_and_key: tuple[Path, Path]) -> Path:
    signed, key = map(str, certificate_and_key)
    cluster = {"server": API_SERVER, "certificate-authority": str(AUTHORITY)}
    user = {"client-certificate": signed, "client-key": key}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "cluster", "cluster": cluster}],
        "users": [{"name": "user", "user": user}],
        "contexts": [{"name": "cluster", "context": {"cluster": "cluster", "user": "user"}}],
        "current-context": "cluster",
    }
    path.write_text(json.dumps(config))
    path.chmod(0o600)
    return path


def admin() -> Path:
    """Return the kubeconfig of who may do everything."""
    return kubeconfig(places.KUBECONFIG, certificate("admin", "admin", group="system:masters"))


def _key(path: Path) -> None:
    run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path)
    path.chmod(0o600)
