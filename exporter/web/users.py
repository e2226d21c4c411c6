"""Basic authentication, with the users' names and bcrypt hashes in a file."""

import asyncio
import base64
import binascii
import hashlib
import re
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from exporter.web.files import Reread, UnusableFileError, read

# Of what a hash may be, only what bcrypt takes, at a cost that answers within seconds: its salt has
# 128 bits, so that the last of its 22 characters is one of four.
_HASH: Final = rb"\$2[aby]\$(?:0[4-9]|1[0-5])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}"
_ENTRY: Final = re.compile(rb"(?P<name>[^:#\s][^:]*):(?P<hash>" + _HASH + rb")")

_MOST_WAITING: Final = 16
"""Who waits for bcrypt at once. It takes one after the other, and Prometheus waits 10 seconds."""


@dataclass(frozen=True, slots=True)
class _Table:
    hashes: Mapping[bytes, bytes]
    nobody: bytes
    """Somebody whom the file does not name is answered as slowly as the slowest whom it names."""
    admitted: set[bytes] = field(default_factory=set)
    """Digests of what was found right, because bcrypt is slow and Prometheus comes each time."""


class Users:
    """Who may ask: lines ``name:hash``, as ``htpasswd -B`` writes them, looked at each time.

    Raises :class:`UnusableFileError`.
    """

    def __init__(self, path: Path) -> None:
        self._table = Reread(lambda: _parse(path), path)
        self._key = secrets.token_bytes(32)
        self._one_at_a_time = asyncio.Lock()
        self._waiting = 0

    async def admit(self, authorization: str) -> bool:
        """Whether an ``Authorization`` header is of a user with the right password.

        Raises ``HTTPServiceUnavailable`` while too many wait for the answer.
        """
        credentials = _decode(authorization)
        if credentials is None:
            return False
        table = self._table()
        digest = hashlib.blake2b(credentials, key=self._key).digest()
        if digest in table.admitted:
            return True
        if self._waiting >= _MOST_WAITING:
            raise web.HTTPServiceUnavailable(headers={hdrs.RETRY_AFTER: "5"})
        name, _, password = credentials.partition(b":")
        self._waiting += 1
        try:
            async with self._one_at_a_time:
                if digest in table.admitted:  # found right while this one waited
                    return True
                hashed = table.hashes.get(name, table.nobody)
                right = await asyncio.to_thread(_check, password, hashed)
        finally:
            self._waiting -= 1
        if right:
            table.admitted.add(digest)
        return right


def authenticate(users: Users, *, but: Collection[str]) -> Middleware:
    """Ask for a user's name and password on every path ``but`` some."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in but or await users.admit(request.headers.get(hdrs.AUTHORIZATION, "")):
            return await handler(request)
        challenge = 'Basic realm="kube-gpu-exporter", charset="UTF-8"'
        raise web.HTTPUnauthorized(headers={hdrs.WWW_AUTHENTICATE: challenge})

    return middleware


def _check(password: bytes, hashed: bytes) -> bool:
    # Most exporters have no users, and need no bcrypt in memory.
    import bcrypt  # noqa: PLC0415

    # It takes 72 bytes. A longer password is nobody's, and must not pass for its first 72.
    return len(password) <= 72 and bcrypt.checkpw(password, hashed)


def _decode(authorization: str) -> bytes | None:
    """Return ``name:password``, if that is what the header holds."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        credentials = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    return credentials if b":" in credentials else None


def _parse(path: Path) -> _Table:
    hashes: dict[bytes, bytes] = {}
    for number, line in enumerate(read("users file", path).splitlines(), start=1):
        entry = line.strip()
        if not entry or entry.startswith(b"#"):
            continue
        found = _ENTRY.fullmatch(entry)
        if not found:
            form = "name:hash with a bcrypt hash, as htpasswd -nB name writes it"
            raise UnusableFileError(f"users file {path}:{number}: not {form}")
        hashes[found["name"]] = found["hash"]
    if not hashes:
        raise UnusableFileError(f"users file {path}: names nobody")
    cost = max(hashed[4:6] for hashed in hashes.values())
    return _Table(hashes, nobody=b"$2b$" + cost + b"$" + b"." * 53)
