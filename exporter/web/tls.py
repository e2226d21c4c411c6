"""HTTPS with a certificate that is replaced before it ends."""

import ssl
from pathlib import Path

from exporter.web.files import Reread, UnusableFileError, read


def tls(certificate: Path, key: Path) -> ssl.SSLContext:
    """Serve with a PEM certificate, its intermediates after it, and the key that goes with it.

    The files are looked at for each new connection, so that a new certificate is used from then on;
    connections that are open stay as they are. Raises :class:`UnusableFileError`.
    """
    current = Reread(lambda: _context(certificate, key), certificate, key)

    def choose(
        connection: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _first: ssl.SSLContext
    ) -> None:
        connection.context = current()

    # Called for connections without a server name as well: Prometheus scrapes addresses.
    first = _context(certificate, key)
    first.sni_callback = choose
    return first


def _context(certificate: Path, key: Path) -> ssl.SSLContext:
    read("TLS certificate", certificate)
    read("TLS key", key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # Without a password OpenSSL would ask the terminal for that of an encrypted key.
        context.load_cert_chain(certificate, key, password="")
    except OSError as error:  # ssl.SSLError is one, and means a file's content
        reason = getattr(error, "reason", None) or error.strerror or "not PEM"
        raise UnusableFileError(
            f"TLS certificate {certificate} with key {key}: {reason}"
        ) from error
    return context
