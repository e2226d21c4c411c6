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

# A hash that bcrypt takes, at a cost at which it answers within seconds. A salt has 128 bits, so
# that the last of its 22 characters is one of four.
_HASH: Final = rb"\$2[aby]\$(?:0[4-9]|1[0-5])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}"
_ENTRY: Final = re.compile(rb"(?P<name>[^:#\s][^:]*):(?P<hash>" + _HASH + rb")")

_MOST_WAITING: Final = 16
"""Clients that wait for bcrypt at once. It runs for one at a time; Prometheus waits 10 seconds."""


@dataclass(frozen=True, slots=True)
class _Table:
    hashes: Mapping[bytes, bytes]
    nobody: bytes
    """The hash for users who are not in the file, so that they wait as long as the others."""
    admitted: set[bytes] = field(default_factory=set)
    """Digests of right credentials, because bcrypt is slow and Prometheus comes again and again."""


class Users:
    """The users who may scrape: lines ``name:hash`` of a file, as ``htpasswd -B`` writes them.

    The file is looked at for each request. Raises :class:`UnusableFileError`.
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
                if digest in table.admitted:  # another request was checked meanwhile
                    return True
                hashed = table.hashes.get(name, table.nobody)
                right = await asyncio.to_thread(_check, password, hashed)
        finally:
            self._waiting -= 1
        if right:
            table.admitted.add(digest)
        return right


def authenticate(users: Users, *, but: Collection[str]) -> Middleware:
    """Ask for a user's name and password on all paths ``but`` the given ones."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in but or await users.admit(request.headers.get(hdrs.AUTHORIZATION, "")):
            return await handler(request)
        challenge = 'Basic realm="kube-gpu-exporter", charset="UTF-8"'
        raise web.HTTPUnauthorized(headers={hdrs.WWW_AUTHENTICATE: challenge})

    return middleware


def _check(password: bytes, hashed: bytes) -> bool:
    # Most exporters have no users file, and need no bcrypt in memory.
    import bcrypt  # noqa: PLC0415

    # bcrypt looks at 72 bytes. A longer password must not pass by its first 72.
    return len(password) <= 72 and bcrypt.checkpw(password, hashed)


def _decode(authorization: str) -> bytes | None:
    """Return ``name:password`` from a header, or ``None`` where it has no such thing."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        credentials = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    return credentials if b":" in credentials else None


def _parse(path: Path) -> _Table:
    hashes = parse_users(read("users file", path), f"users file {path}")
    cost = max(hashed[4:6] for hashed in hashes.values())
    return _Table(hashes, nobody=b"$2b$" + cost + b"$" + b"." * 53)


def parse_users(content: bytes, file: str) -> Mapping[bytes, bytes]:
    """Return hashes by names. Raises :class:`UnusableFileError`, which calls the file ``file``."""
    hashes: dict[bytes, bytes] = {}
    for number, line in enumerate(content.splitlines(), start=1):
        entry = line.strip()
        if not entry or entry.startswith(b"#"):
            continue
        found = _ENTRY.fullmatch(entry)
        if not found:
            form = "name:hash with a bcrypt hash, as htpasswd -nB name writes it"
            raise UnusableFileError(f"{file}:{number}: not {form}")
        hashes[found["name"]] = found["hash"]
    if not hashes:
        raise UnusableFileError(f"{file}: it has no user")
    return hashes
