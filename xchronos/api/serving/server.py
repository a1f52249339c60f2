"""Serving the API as one task of a daemon. It handles no signals, says when it is ready, and ends in bounded time."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
import uvicorn
from litestar import Litestar
from litestar.datastructures import State

from xchronos.aio import cancel_and_wait
from xchronos.api.context import context_of
from xchronos.api.serving.connections import BoundedProtocol, Connections, descriptors, most_connections
from xchronos.api.serving.listening import ACCEPTED_AT_ONCE, address_of
from xchronos.limits import CONNECTIONS, KEEP_ALIVE_SECONDS

log = structlog.get_logger(__name__)

GRACE_SECONDS = 5
"""How long requests that are under way may take when the server shuts down."""

SWEEP_SECONDS = 1.0
"""How often half requests are looked for."""


class _Server(uvicorn.Server):
    """uvicorn's server as one task among others. It calls `started` when it accepts connections."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._started = started

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: the daemon handles them."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections, and say so."""
        await super().startup(sockets=sockets)
        if self.started:
            self._started()


async def serve(
    app: Litestar, listener: socket.socket, ready: Callable[[str], object], connections: int = CONNECTIONS
) -> None:
    """Serve until cancelled. Then live streams end, and requests that are under way have GRACE_SECONDS to finish.

    Args:
        app: The application.
        listener: Where connections come in (`listening.listen`). It is closed at the end.
        ready: Called once, with the API's address (`http://127.0.0.1:7480`), when connections are accepted.
        connections: The most connections. They are fewer where the process may have too few descriptors for them.
    """
    address = address_of(listener)
    book = Connections(most_connections(connections, descriptors()))

    def started() -> None:
        log.debug("API ready", address=address)
        ready(address)

    config = uvicorn.Config(
        app,
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        ws="none",
        http=type("Bounded", (BoundedProtocol,), {"book": book}),
        backlog=ACCEPTED_AT_ONCE,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = _Server(config, started)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="api")
    sweeping = asyncio.create_task(_sweep(book), name="half requests")
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        context_of(State(app.state.dict())).closing.set()
        server.should_exit = True
        await asyncio.shield(serving)
        raise
    finally:
        await cancel_and_wait(sweeping)
        listener.close()


async def _sweep(book: Connections) -> None:
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        book.sweep()
