"""HTTPS with a certificate that is replaced before it expires, and a warning where it is not."""

import logging
import re
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from exporter.web.certificates import Validity, validity
from exporter.web.files import Reread, UnusableFileError, read

log = logging.getLogger(__name__)

_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"
_KEY: Final = re.compile(rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----")
_ENCRYPTED: Final = re.compile(
    rb"-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: 4,ENCRYPTED", re.MULTILINE
)

_DAY: Final = 86_400.0
_SOON: Final = 14 * _DAY
_SOON_RATIO: Final = 0.1
"""A certificate of a day is renewed within its last hours, and is nothing to warn of before."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    context: ssl.SSLContext
    valid: Validity | None


class Tls:
    """Serves with a PEM certificate, its intermediates after it, and the key that belongs to it.

    The files are looked at for each new connection, so that a new certificate is used from then on;
    connections that are open stay as they are. ``clock`` gives Unix seconds. Raises
    :class:`UnusableFileError`.
    """

    def __init__(
        self, certificate: Path, key: Path, clock: Callable[[], float] = time.time
    ) -> None:
        self._certificate = certificate
        self._clock = clock
        self._current = Reread(lambda: _load(certificate, key), certificate, key)
        self._warned = ""
        self._warned_at = 0.0
        self.context = self._current().context
        """To serve with. It shows the certificate of the moment."""
        # Called for connections without a server name as well: Prometheus scrapes addresses.
        self.context.sni_callback = self._choose

    @property
    def expires(self) -> float | None:
        """When the first certificate of the chain that is served expires, in Unix seconds."""
        valid = self._current().valid
        return valid.expires if valid else None

    def look(self) -> None:
        """Use files that were replaced, and warn, once a day, of a certificate that runs out."""
        valid, now = self._current().valid, self._clock()
        message, date = _warning(valid, now) if valid else ("", 0.0)
        if message and (message != self._warned or now - self._warned_at >= _DAY):
            moment = datetime.fromtimestamp(date, UTC).isoformat().replace("+00:00", "Z")
            log.warning(message, self._certificate, moment)
            self._warned_at = now
        self._warned = message

    def _choose(
        self,
        connection: ssl.SSLSocket | ssl.SSLObject,
        _name: str | None,
        _first: ssl.SSLContext,
    ) -> None:
        connection.context = self._current().context


def _warning(valid: Validity, now: float) -> tuple[str, float]:
    """Return what is wrong with the dates of a certificate, and the date that it is about."""
    soon = min(_SOON, _SOON_RATIO * (valid.expires - valid.begins))
    if now >= valid.expires:
        return "the TLS certificate %s expired at %s, and clients refuse it", valid.expires
    if now < valid.begins:
        return "the TLS certificate %s is not valid before %s", valid.begins
    if now >= valid.expires - soon:
        return "the TLS certificate %s expires at %s, and has not been renewed", valid.expires
    return "", 0.0


def _load(certificate: Path, key: Path) -> _Loaded:
    chain, secret = read("TLS certificate", certificate), read("TLS key", key)
    if _CERTIFICATE not in chain:
        raise UnusableFileError(f"TLS certificate {certificate}: it has no certificate in PEM")
    if not _KEY.search(secret):
        raise UnusableFileError(f"TLS key {key}: it has no private key in PEM")
    if _ENCRYPTED.search(secret):
        raise UnusableFileError(f"TLS key {key}: it is encrypted, and must not be")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # Without a password OpenSSL would ask the terminal for that of an encrypted key.
        context.load_cert_chain(certificate, key, password="")
    except OSError as error:  # ssl.SSLError is one, and means a file's content
        raise UnusableFileError(_explain(error, certificate, key, chain)) from error
    return _Loaded(context, validity(chain))


def _explain(error: OSError, certificate: Path, key: Path, chain: bytes) -> str:
    """OpenSSL says "PEM lib" of either file; so the certificate is tried once more, alone."""
    reason = getattr(error, "reason", None)
    if reason == "KEY_VALUES_MISMATCH":
        return f"TLS certificate {certificate}: it does not belong to the key {key}"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=chain.decode("ascii"))
    except (OSError, ValueError):
        return f"TLS certificate {certificate}: it is not a certificate in PEM"
    if reason:
        words = str(reason).replace("_", " ").lower()
        return f"TLS certificate {certificate} with the key {key}: {words}"
    return f"TLS key {key}: it is not a private key in PEM"
