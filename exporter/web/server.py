"""The HTTP server. Serves what has been sampled; never touches hardware."""

import asyncio
import dataclasses
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, NoReturn, cast

from aiohttp import hdrs, web

from exporter.metrics.exposition import Exposition
from exporter.model.snapshot import Snapshot
from exporter.web.connections import Connections, limits_of_process
from exporter.web.negotiation import accepts_gzip, negotiate_format
from exporter.web.page import render_page
from exporter.web.readiness import checks, ready
from exporter.web.tls import Tls
from exporter.web.users import Users, authenticate

# The kubelet's probes have no password.
_OPEN_PATHS: Final = frozenset({"/healthz", "/readyz"})

_LOOK_SECONDS: Final = 60.0


class Handlers:
    """One method per path."""

    def __init__(
        self,
        exposition: Exposition,
        *,
        snapshot: Callable[[], Snapshot],
        dead: Callable[[], str],
    ) -> None:
        self._exposition = exposition
        self._snapshot = snapshot
        self._dead = dead

    async def metrics(self, request: web.Request) -> web.Response:
        """Answer with text or OpenMetrics by ``Accept``, gzipped when the client takes that."""
        form, content_type = negotiate_format(_header(request, hdrs.ACCEPT))
        zipped = accepts_gzip(_header(request, hdrs.ACCEPT_ENCODING))
        body = self._exposition.render(
            form, zipped=zipped, names=request.query.getall("name[]", [])
        )
        headers = {hdrs.CONTENT_TYPE: content_type, hdrs.VARY: "Accept, Accept-Encoding"}
        if zipped:
            headers[hdrs.CONTENT_ENCODING] = "gzip"
        return web.Response(body=body, headers=headers)

    async def healthz(self, request: web.Request) -> web.Response:
        """Answer 503, with the reason, when only a new process would help. Not GPU health."""
        del request
        reason = self._dead()
        return web.json_response(
            {"alive": not reason, "reason": reason}, status=503 if reason else 200
        )

    async def readyz(self, request: web.Request) -> web.Response:
        """Answer whether anything can be collected, and the reasons when not."""
        del request
        found = checks(self._snapshot())
        is_ready = ready(found)
        return web.json_response(
            {"ready": is_ready, "checks": [dataclasses.asdict(check) for check in found]},
            status=200 if is_ready else 503,
        )

    async def index(self, request: web.Request) -> web.Response:
        """Show a person what this is and what it sees."""
        del request
        return web.Response(text=render_page(self._snapshot()), content_type="text/html")


def _header(request: web.Request, name: str) -> str:
    """Return a header that may stand on several lines, as one."""
    return ",".join(request.headers.getall(name, []))


def make_app(handlers: Handlers, users: Users | None = None) -> web.Application:
    """Route to the handlers. With ``users``, nobody else sees more than health and readiness."""
    app = web.Application(
        middlewares=[authenticate(users, but=_OPEN_PATHS)] if users is not None else []
    )
    app.router.add_get("/", handlers.index)
    app.router.add_get("/metrics", handlers.metrics)
    app.router.add_get("/healthz", handlers.healthz)
    app.router.add_get("/readyz", handlers.readyz)
    return app


def listen(host: str, port: int) -> socket.socket:
    """Open the port. An empty host is every address, IPv4 and IPv6; port 0 takes a free one.

    Raises :class:`OSError` when the address can't be listened on.
    """
    if not host and socket.has_dualstack_ipv6():
        with suppress(OSError):  # IPv6 may be compiled in and switched off
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)


@asynccontextmanager
async def serving(
    app: web.Application,
    opened: socket.socket,
    tls: Tls | None = None,
    connections: Connections | None = None,
) -> AsyncIterator[str]:
    """Serve, over HTTPS with ``tls``, and yield a URL that works from this machine.

    Without ``connections``, there may be as many as the process has room for.
    """
    connections = connections or Connections(limits_of_process())
    app.middlewares.insert(0, connections.track)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        server = cast("web.Server", runner.server)  # there is one, because it is set up
        context = tls.context if tls else None
        async with connections.accepting(opened, server, context), _watching(tls):
            host, port = opened.getsockname()[:2]
            shown = {"0.0.0.0": "localhost", "::": "localhost"}.get(host, host)
            scheme = "https" if tls else "http"
            yield f"{scheme}://[{shown}]:{port}" if ":" in shown else f"{scheme}://{shown}:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _watching(tls: Tls | None) -> AsyncIterator[None]:
    """Look at the certificate from time to time, also while nobody connects."""

    async def watch(tls: Tls) -> NoReturn:
        while True:
            tls.look()
            await asyncio.sleep(_LOOK_SECONDS)

    task = asyncio.create_task(watch(tls)) if tls else None
    try:
        yield
    finally:
        if task:
            task.cancel()
