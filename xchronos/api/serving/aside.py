"""Requests that another process answers, because what they cost is decided by who sends them: lists, and unit files.

The process that has the connections admits a request and reads its body; the other one has the same application, and no
connections. So what a list costs is taken from nobody who asks for one unit.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeAlias

import msgspec
from litestar.types import ASGIApp, HTTPScope, Message

Headers: TypeAlias = list[tuple[bytes, bytes]]


class AsideRequest(msgspec.Struct, frozen=True):
    """A request that may be answered, with its whole body."""

    method: str
    path: str
    query: bytes
    headers: Headers
    body: bytes


class AsideAnswer(msgspec.Struct, frozen=True):
    """A whole answer."""

    status: int
    headers: Headers
    body: bytes


Answering: TypeAlias = Callable[[AsideRequest], Awaitable[AsideAnswer]]


class Aside(Protocol):
    """Where such requests are answered."""

    def place(self) -> AbstractAsyncContextManager[Answering | None]:
        """Wait for a place, and keep it: with what answers there, or None, when the request is to be answered here."""
        ...


def request_of(scope: HTTPScope, body: bytes) -> AsideRequest:
    """The request of a scope, whose body was read."""
    return AsideRequest(scope["method"], scope["path"], scope["query_string"], list(scope["headers"]), body)


async def answered(app: ASGIApp, request: AsideRequest) -> AsideAnswer:
    """What an application answers."""
    status, headers, body = 500, [], bytearray()
    scope: Any = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": request.path,
        "raw_path": request.path.encode(),
        "root_path": "",
        "query_string": request.query,
        "headers": request.headers,
        "client": None,
        "server": None,
        "extensions": {},
        "state": {},
    }

    async def receive() -> Any:
        return {"type": "http.request", "body": request.body, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status, headers = message["status"], list(message["headers"])
        elif message["type"] == "http.response.body":
            body.extend(message["body"])

    await app(scope, receive, send)
    return AsideAnswer(status, headers, bytes(body))
