"""Serving the API inside a daemon's task group: no signal handlers, a bounded end, readiness that is signalled."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
import uvicorn
from litestar import Litestar
from litestar.datastructures import State

from xchronos.api.context import context_of
from xchronos.errors import ConfigError

log = structlog.get_logger(__name__)

GRACE_SECONDS = 5
"""How long requests under way may take when the server shuts down."""

BACKLOG = 512


class _Server(uvicorn.Server):
    """uvicorn's server, as one task among others."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._started = started

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the daemon's."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept, and say so."""
        await super().startup(sockets=sockets)
        if self.started:
            self._started()


async def serve(app: Litestar, host: str, port: int, ready: Callable[[str], object]) -> None:
    """Serve until cancelled; then requests under way are finished and live streams are ended, within GRACE_SECONDS.

    `host` may be `unix:///path` (then `port` means nothing). `ready` is called once with the API's address, such as
    `http://127.0.0.1:7480`, when connections are accepted; with port 0 it tells which one it became.

    Raises:
        ConfigError: the address cannot be had.
    """
    listener = _listen(host, port)
    address = _address(listener)

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
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = _Server(config, started)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="api")
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        context_of(State(app.state.dict())).closing.set()
        server.should_exit = True
        await asyncio.shield(serving)
        raise
    finally:
        listener.close()
        _forget(host)


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
    """Whether a socket is there that nobody listens on: its daemon was killed."""
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
