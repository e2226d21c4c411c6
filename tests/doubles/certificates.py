"""Certificates for tests, made by OpenSSL."""

import shutil
import subprocess
from pathlib import Path

OPENSSL = shutil.which("openssl") or "openssl"

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
_AUTHORITY = """
[ca]
default_ca = own
[own]
database = {folder}/database
new_certs_dir = {folder}
serial = {folder}/serial
default_md = sha256
policy = any
[any]
commonName = supplied
"""


def make_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a self-signed certificate for 127.0.0.1 whose subject is ``name``, and its key.

    It is valid for two days.
    """
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    _openssl(
        *("req", "-x509", *_NEW_KEY, "-days", "2", "-subj", f"/CN={name}"),
        *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate),
    )
    return certificate, key


def make_dated_certificate(folder: Path, name: str, begins: str, expires: str) -> tuple[Path, Path]:
    """Make one that is valid between two dates, such as ``20200131120000Z``."""
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    own = folder / f"{name}.authority"
    own.mkdir()
    (own / "database").touch()
    (own / "serial").write_text("01")
    (own / "configuration").write_text(_AUTHORITY.format(folder=own))
    _openssl("req", "-new", *_NEW_KEY, "-subj", f"/CN={name}", "-keyout", key, "-out", own / "csr")
    _openssl(
        *("ca", "-batch", "-selfsign", "-notext", "-config", own / "configuration"),
        *("-startdate", begins, "-enddate", expires, "-keyfile", key),
        *("-in", own / "csr", "-out", certificate),
    )
    return certificate, key


def _openssl(*arguments: str | Path) -> None:
    subprocess.run([OPENSSL, *arguments], check=True, capture_output=True)
