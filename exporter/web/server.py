"""The HTTP server. Serves what has been sampled; never touches hardware."""

import dataclasses
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from aiohttp import hdrs, web

from exporter.metrics.exposition import Exposition
from exporter.model.snapshot import Snapshot
from exporter.web.negotiation import accepts_gzip, negotiate_format
from exporter.web.page import render_page
from exporter.web.readiness import checks, ready
from exporter.web.users import Users, authenticate

# The kubelet's probes know no password.
_OPEN_PATHS = frozenset({"/healthz", "/readyz"})


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
        """Text or OpenMetrics by ``Accept``, gzipped when the client takes it."""
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
        """Liveness: 503 with the reason when only a new process would help. Not GPU health."""
        del request
        reason = self._dead()
        return web.json_response(
            {"alive": not reason, "reason": reason}, status=503 if reason else 200
        )

    async def readyz(self, request: web.Request) -> web.Response:
        """Readiness: whether anything can be collected, with the reasons when not."""
        del request
        found = checks(self._snapshot())
        is_ready = ready(found)
        return web.json_response(
            {"ready": is_ready, "checks": [dataclasses.asdict(check) for check in found]},
            status=200 if is_ready else 503,
        )

    async def index(self, request: web.Request) -> web.Response:
        """Tell a person what this is and what it sees."""
        del request
        return web.Response(text=render_page(self._snapshot()), content_type="text/html")


def _header(request: web.Request, name: str) -> str:
    """Return a header that may stand on several lines, as one."""
    return ",".join(request.headers.getall(name, []))


def make_app(handlers: Handlers, users: Users | None = None) -> web.Application:
    """Route to the handlers. With ``users``, only they see more than health and readiness."""
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

    Raises :class:`OSError` when the address can't be had.
    """
    if not host and socket.has_dualstack_ipv6():
        with suppress(OSError):  # IPv6 may be compiled in and switched off
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)


@asynccontextmanager
async def serving(
    app: web.Application, opened: socket.socket, tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """Serve, over HTTPS with ``tls``, and yield a URL that works from this machine."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.SockSite(runner, opened, ssl_context=tls).start()
        host, port = opened.getsockname()[:2]
        shown = {"0.0.0.0": "localhost", "::": "localhost"}.get(host, host)
        scheme = "https" if tls else "http"
        yield f"{scheme}://[{shown}]:{port}" if ":" in shown else f"{scheme}://{shown}:{port}"
    finally:
        await runner.cleanup()
