"""Serving the API as one task of a daemon. It handles no signals, says when it is ready, and ends in bounded time."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
import uvicorn
from litestar import Litestar
from litestar.datastructures import State

from xchronos.aio import cancel_and_wait
from xchronos.api.connections import BoundedProtocol, Connections, descriptors, most_connections
from xchronos.api.context import context_of
from xchronos.errors import ConfigError
from xchronos.limits import CONNECTIONS, KEEP_ALIVE_SECONDS

log = structlog.get_logger(__name__)

GRACE_SECONDS = 5
"""How long requests that are under way may take when the server shuts down."""

BACKLOG = 128
"""The connections that the system keeps until they are accepted. asyncio accepts as many before one is looked at."""

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
    app: Litestar, host: str, port: int, ready: Callable[[str], object], connections: int = CONNECTIONS
) -> None:
    """Serve until cancelled. Then live streams end, and requests that are under way have GRACE_SECONDS to finish.

    Args:
        app: The application.
        host: A name or an address, or `unix:///path`.
        port: The TCP port; 0: any free one. It means nothing for a unix socket.
        ready: Called once, with the API's address (`http://127.0.0.1:7480`), when connections are accepted.
        connections: The most connections. They are fewer where the process may have too few descriptors for them.

    Raises:
        ConfigError: the server cannot listen on the address.
    """
    listener = _listen(host, port)
    address = _address(listener)
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
        backlog=BACKLOG,
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
        _forget(host)


async def _sweep(book: Connections) -> None:
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        book.sweep()


def _listen(host: str, port: int) -> socket.socket:
    try:
        if host.startswith("unix://"):
            return _listen_unix(host.removeprefix("unix://"))
        family, kind, protocol, _, where = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(where)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        where_to = host if host.startswith("unix://") else f"{host}:{port}"
        raise ConfigError(f"the API cannot listen on {where_to}: {error.strerror or error}") from error
    listener.setblocking(False)
    return listener


def _listen_unix(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        if _is_dead(path):
            Path(path).unlink()
        listener.bind(path)
        Path(path).chmod(0o660)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def _forget(host: str) -> None:
    if host.startswith("unix://"):
        Path(host.removeprefix("unix://")).unlink(missing_ok=True)


def _is_dead(path: str) -> bool:
    """Whether a socket is there on which nobody listens, because its daemon was killed."""
    if not Path(path).is_socket():
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
    return False


def _address(listener: socket.socket) -> str:
    if listener.family == socket.AF_UNIX:
        return f"unix://{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
