"""Who may call: protection against DNS rebinding and cross-site requests, and the optional bearer token.

The API of a daemon on a laptop is in reach of every web page that its browser shows. A page cannot read or write
across origins by itself; with a name of its own that resolves to 127.0.0.1 it could, and a form posts anywhere. So the
`Host` must be a name of this API, and an `Origin`, which browsers send with what pages do, must be the API itself.
"""

import hmac
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from xchronos.wire.messages import ErrorBody

UNGUARDED = "/healthz"
"""Answers without a token, for probes."""


class AccessControl:
    """The outermost ASGI layer: passes on what may be served, answers the rest."""

    def __init__(self, app: ASGIApp, names: Collection[str], token: str) -> None:
        self._app = app
        self._names = frozenset(name.lower().rstrip(".") for name in names)
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == ScopeType.HTTP:
            refused = self._refuse(scope)
            if refused is not None:
                await _answer(send, *refused)
                return
        await self._app(scope, receive, send)

    def _refuse(self, scope: Scope) -> tuple[int, str] | None:
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            if name == b"host" and name in headers:
                return 400, "the request has two Host headers"
            headers[name] = value
        host = headers.get(b"host", b"").decode("latin-1")
        if not self._is_ours(host, scope.get("server")):
            return 403, f"{host!r} is no name of this API: call it by its address, or configure the name"
        origin = headers.get(b"origin")
        if origin is not None and origin.decode("latin-1").partition("://")[2].lower() != host.lower():
            return 403, f"requests of other origins are refused: {origin.decode('latin-1')!r} is not this API"
        if self._token and scope["path"] != UNGUARDED:
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            if scheme.lower() != b"bearer" or not hmac.compare_digest(given.strip(), self._token):
                return 401, "a token is needed: send it as 'Authorization: Bearer <token>'"
        return None

    def _is_ours(self, host: str, server: tuple[str, int | None] | None) -> bool:
        if server is not None and server[1] is None:
            return True  # a unix socket: no browser gets there
        name = host_name(host)
        if name in ("localhost", *self._names):
            return True
        address = _address(name)
        return address is not None and (address.is_loopback or (server is not None and address == _address(server[0])))


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An IP address; one of IPv4 that came in at a socket of IPv6 is the IPv4 one. None for what is no address."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def host_name(host: str) -> str:
    """The name in a Host header, lower case, without port, brackets or a final dot; empty when there is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


async def _answer(send: Send, status: int, error: str) -> None:
    body = msgspec.json.encode(ErrorBody(error))
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
