"""The ingress as a process: one socket, one writer, one pool of connections."""

from __future__ import annotations

import gc
import socket
from collections.abc import Callable

import uvicorn

from console.web.ingress.app import Ingress
from console.web.ingress.bodies import Bounds
from console.web.ingress.protocol import BoundedProtocol
from ipaas_resources.core.clock import Clock, SystemClock, SystemIds
from ipaas_resources.store.database import Database
from ipaas_resources.store.inbox import InboxWriter
from sensors.beating import beating

#: No sign-in and no TLS stand here, so nothing beyond this machine reaches it; a proxy in front has both.
LOOPBACK = "127.0.0.1"
_MOST_CONNECTIONS = 1000
_BACKLOG = 2048
_SECONDS_TO_END = 10


def listen(port: int) -> socket.socket:
    """A socket on this machine's own address; port 0: any free one. Raises OSError when the port is taken."""
    return socket.create_server((LOOPBACK, port), backlog=_BACKLOG)


def server(app: Ingress) -> uvicorn.Server:
    """The HTTP server of the application, not yet running."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=BoundedProtocol,
            ws="none",
            lifespan="off",
            # A line per request would show the URL, which is a secret for some products.
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            # Answers 503 beyond it.
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_graceful_shutdown=_SECONDS_TO_END,
        )
    )


async def serve(
    database_url: str,
    listening: socket.socket,
    ready: Callable[[], None],
    *,
    bounds: Bounds | None = None,
    clock: Clock | None = None,
) -> None:
    """Take deliveries until SIGTERM or Ctrl-C; those that were handed over are committed and answered first."""
    database = Database(database_url, pool_size=4)
    try:
        async with InboxWriter(database) as writer:
            app = Ingress(database, writer, clock=clock or SystemClock(), ids=SystemIds(), bounds=bounds)
            # What was loaded never dies; looking through it again would stop every delivery for tens of milliseconds.
            gc.collect()
            gc.freeze()
            async with beating(database, role="ingress", clock=clock or SystemClock()):
                ready()
                await server(app).serve(sockets=[listening])
    finally:
        await database.close()
