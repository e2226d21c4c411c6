"""How long certificates are valid, from the one place in them that says so.

Python's ``ssl`` shows the dates of a peer's certificate alone, not those of one's own.
"""

import re
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

_BLOCK: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0
_FORMATS: Final = {0x17: "%y%m%d%H%M%SZ", 0x18: "%Y%m%d%H%M%SZ"}
"""UTCTime and GeneralizedTime, as RFC 5280 has them: in UTC, with seconds."""


@dataclass(frozen=True, slots=True)
class Validity:
    """From when to when a certificate, or each of a chain, is valid, in Unix seconds."""

    begins: float
    expires: float


def validity(pem: bytes) -> Validity | None:
    """Return when all certificates of a PEM file are valid; ``None`` where no date can be read."""
    found = []
    for block in _BLOCK.findall(pem):
        try:
            found.append(_validity(ssl.PEM_cert_to_DER_cert(block.decode())))
        except ValueError:
            return None
    if not found:
        return None
    return Validity(max(each.begins for each in found), min(each.expires for each in found))


def _validity(der: bytes) -> Validity:
    """Raise :class:`ValueError` for what is no certificate of RFC 5280, section 4.1."""
    _, certificate, _ = _element(der, _SEQUENCE)
    _, rest, _ = _element(certificate, _SEQUENCE)
    if rest[:1] == bytes([_VERSION]):
        _, _, rest = _element(rest)
    for _ in ("serial number", "signature", "issuer"):
        _, _, rest = _element(rest)
    _, dates, _ = _element(rest, _SEQUENCE)
    begins, rest = _time(dates)
    expires, _ = _time(rest)
    return Validity(begins, expires)


def _time(data: bytes) -> tuple[float, bytes]:
    """Take a time off the front, as Unix seconds."""
    tag, text, rest = _element(data)
    if tag not in _FORMATS:
        raise ValueError("not a time")
    moment = datetime.strptime(text.decode("ascii"), _FORMATS[tag]).replace(tzinfo=UTC)
    # strptime takes 69 to 99 for the last century, RFC 5280 takes 50 to 99.
    if tag == 0x17 and moment.year >= 2050:
        moment = moment.replace(year=moment.year - 100)
    return moment.timestamp(), rest


def _element(data: bytes, expected: int | None = None) -> tuple[int, bytes, bytes]:
    """Take a DER element off the front: its tag, what it holds, and what follows it."""
    if len(data) < 2 or expected not in (None, data[0]):
        raise ValueError("another element was expected")
    length, start = data[1], 2
    if length >= 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start])
    if start + length > len(data):
        raise ValueError("the element is cut off")
    return data[0], data[start : start + length], data[start + length :]
