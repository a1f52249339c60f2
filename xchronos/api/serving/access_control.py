"""Who may call the API: protection against DNS rebinding and cross-site requests, and the optional bearer token.

Every web page that a browser shows can reach the API of a daemon on the same laptop. A browser lets no page read across
origins. But a page whose own name resolves to 127.0.0.1 is of the same origin (DNS rebinding), and a form may post
anywhere. So two rules hold, with or without a token. `Host` must be a name of this API (`test_other_names_are_refused`
in tests/api/test_cluster_api.py). `Origin`, which browsers send with what pages do, must be the API itself
(`test_other_origins_change_nothing`, there too).
"""

import hmac
from collections.abc import Callable, Collection
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from xchronos.wire.messages import ErrorBody

UNGUARDED = "/healthz"
"""The path that answers without a token: probes have none."""


class AccessControl:
    """The outermost ASGI layer. It passes on the requests that may be served, and answers all others.

    Args:
        app: What serves the requests.
        names: The names of this API besides `localhost`, loopback addresses, and the address a request came in at.
        token: Says what a request must bring as `Authorization: Bearer`, each time anew; empty: nothing.
    """

    def __init__(self, app: ASGIApp, names: Collection[str], token: Callable[[], str]) -> None:
        self._app = app
        self._names = frozenset(name.lower().rstrip(".") for name in names)
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve or answer one request."""
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
        token = self._token().encode()
        if token and scope["path"] != UNGUARDED:
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            if scheme.lower() != b"bearer" or not hmac.compare_digest(given.strip(), token):
                return 401, "a token is needed: send it as 'Authorization: Bearer <token>'"
        return None

    def _is_ours(self, host: str, server: tuple[str, int | None] | None) -> bool:
        if server is not None and server[1] is None:
            return True  # a unix socket, which no browser reaches
        name = host_name(host)
        if name in ("localhost", *self._names):
            return True
        address = _address(name)
        return address is not None and (address.is_loopback or (server is not None and address == _address(server[0])))


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """The IP address that a text names; None for what is no address.

    An IPv4 address is the same however it is written: a socket of IPv6 tells it as `::ffff:127.0.0.1`.
    """
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def host_name(host: str) -> str:
    """The name in a `Host` header, in lower case, without port, brackets and final dot; empty when it has none."""
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
