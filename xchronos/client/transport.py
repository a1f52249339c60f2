"""One HTTP exchange.

The client imports this module when it makes its first request: `http.client` costs more than the rest of the client.
"""

import http.client
import socket
from collections.abc import Iterator, Mapping
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from xchronos.errors import ApiError, ConfigError
from xchronos.limits import PART_BYTES
from xchronos.urls import shown
from xchronos.wire.messages import ErrorBody

UNAUTHORIZED = 401
"""The HTTP status of an answer to a request whose token is missing or wrong."""


class _UnixConnection(http.client.HTTPConnection):
    """A connection over a unix socket."""

    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _connection(address: str, timeout: float | None) -> http.client.HTTPConnection:
    if address.startswith("unix://"):
        return _UnixConnection(address.removeprefix("unix://"), timeout)
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    else:
        if parts.scheme == "http" and host:
            return http.client.HTTPConnection(host, port or 80, timeout=timeout)
        if parts.scheme == "https" and host:
            return http.client.HTTPSConnection(host, port or 443, timeout=timeout)
    raise ConfigError(f"the API's address is {shown(address)!r}: expected http://host:port or unix:///path")


def path_of(*parts: str) -> str:
    """The path of the API that consists of these parts. Each part is quoted, slashes too."""
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)


def exchange(
    address: str,
    method: str,
    path: str,
    *,
    query: Mapping[str, object] | None = None,
    body: bytes | None = None,
    token: str = "",
    timeout: float | None,
) -> Iterator[bytes]:
    """Send a request and yield the body of its answer in parts.

    Args:
        address: `http://host:port`, `https://host:port` or `unix:///path`.
        method: The HTTP method.
        path: The path, as `path_of` makes it.
        query: The query's values; a list is sent as several values of one name.
        body: JSON; None: the request has no body.
        token: The API's token; empty: none is sent.
        timeout: How long the daemon may be silent, in seconds; None: for ever.

    Raises:
        ApiError: the API answered with an error, does not answer (status 0), or broke off (status 0).
        ConfigError: the address is none.
    """
    connection = _connection(address, timeout)
    headers = {"accept": "*/*"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    if body is not None:
        headers["content-type"] = "application/json"
    target = path + ("?" + urlencode(query, doseq=True) if query else "")
    try:
        try:
            connection.request(method, target, body, headers)
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise ApiError(unreachable(address, error)) from error
        try:
            if answer.status >= 300:
                raise _refusal(address, answer.status, answer.read(), known=bool(token))
            while part := answer.read1(PART_BYTES):
                yield part
        except (OSError, http.client.HTTPException) as error:
            raise ApiError(broken_off(address, error)) from error
    finally:
        connection.close()


def _refusal(address: str, status: int, body: bytes, *, known: bool) -> ApiError:
    try:
        failure = msgspec.json.decode(body, type=ErrorBody)
    except msgspec.MsgspecError:
        # Something other than the API has answered, so its status says nothing about a unit: no daemon has answered
        # (`test_something_else_listens` in tests/cli/test_client.py).
        return ApiError(f"{shown(address)} answered with HTTP status {status} and no reason: is this an xchronosd?")
    if status == UNAUTHORIZED:
        wrong = "does not accept this token" if known else "wants a token"
        return ApiError(f"{shown(address)} {wrong}: set XCHRONOS_TOKEN to its api.token", status)
    return ApiError(failure.error, status, failure.problems)


def broken_off(address: str, error: Exception) -> str:
    """What is said when an answer has begun and does not end."""
    return f"the answer of {shown(address)} broke off: {_told(error)}"


def unreachable(address: str, error: Exception) -> str:
    """What is said when there is no answer."""
    if isinstance(error, TimeoutError):
        return f"{shown(address)} does not answer in time"
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        return f"cannot connect to {shown(address)}: is xchronosd running? Start it with `xchronosd`"
    return f"cannot connect to {shown(address)}: {_told(error)}"


def _told(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
