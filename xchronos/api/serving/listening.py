"""Where the API listens: TCP, or a unix socket with a mode."""

import socket
from pathlib import Path

from xchronos.errors import ConfigError

BACKLOG = 1024
"""The connections that the system keeps until they are accepted. Those of a crowd that has no more room ask again after
a second, and with them whoever came meanwhile (tcp(7), tcp_max_syn_backlog)."""

ACCEPTED_AT_ONCE = 32
"""How many of them are accepted before the first of them is read. They are fewer than one peer may have, so that nobody
loses his connection to them before his request was looked at."""


class Listener(socket.socket):
    """A listening socket whose queue is as long as BACKLOG says, whatever asyncio asks for."""

    def listen(self, _backlog: int = BACKLOG, /) -> None:
        """Let connections come in."""
        super().listen(BACKLOG)


def listen(host: str, port: int) -> Listener:
    """A socket on which connections come in: see `reserve` and `begin`. Raises ConfigError."""
    listener = reserve(host, port)
    begin(listener, host)
    return listener


def reserve(host: str, port: int) -> Listener:
    """A socket that has an address of TCP. Connections are refused until `begin`, which a unix socket waits for.

    Args:
        host: A name or an address, or `unix:///path`.
        port: The TCP port; 0: any free one. It means nothing for a unix socket.

    Raises:
        ConfigError: nobody can listen on the address.
    """
    if host.startswith("unix://"):
        listener = Listener(socket.AF_UNIX)
    else:
        try:
            family, kind, protocol, _, where = socket.getaddrinfo(
                host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            listener = Listener(family, kind, protocol)
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(where)
            except OSError:
                listener.close()
                raise
        except OSError as error:
            raise ConfigError(f"the API cannot listen on {host}:{port}: {error.strerror or error}") from error
    listener.setblocking(False)
    return listener


def begin(listener: Listener, host: str) -> None:
    """Let connections come in. Once more does nothing. Raises ConfigError."""
    try:
        path = host.removeprefix("unix://")
        if path != host and not listener.getsockname():
            if _is_dead(path):
                Path(path).unlink()
            listener.bind(path)
            Path(path).chmod(0o660)
        listener.listen()
    except OSError as error:
        listener.close()
        raise ConfigError(f"the API cannot listen on {host}: {error.strerror or error}") from error


def forget(host: str) -> None:
    """Remove what `listen` has left in the file system: the socket's file, if it has one."""
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


def address_of(listener: socket.socket) -> str:
    """The address as clients need it: `http://127.0.0.1:7480`, `unix:///path`."""
    if listener.family == socket.AF_UNIX:
        return f"unix://{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
