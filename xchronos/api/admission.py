"""How many requests are answered together: an ASGI layer in front of the routes.

What a request costs is decided by who sends it, so the next one waits until there is room. A request has no room while
its body arrives or its answer leaves: how long that takes is decided by the peer. A probe, and what comes in by the
unix socket, need not wait. An answer that follows a log stands for hours, and is counted by itself.
"""

import asyncio

import msgspec
from litestar.enums import ScopeType
from litestar.types import (
    ASGIApp,
    HTTPReceiveMessage,
    HTTPRequestEvent,
    HTTPScope,
    Message,
    Receive,
    Scope,
    Send,
    WebSocketReceiveMessage,
)

from xchronos.api.access_control import UNGUARDED
from xchronos.limits import BODIES_BYTES, BODY_BYTES, LOGS_AT_ONCE, REQUESTS_AT_ONCE, REQUESTS_WAITING
from xchronos.wire.messages import ErrorBody

RETRY_AFTER_SECONDS = 2
"""How long a client should wait before it asks again."""


class Room:
    """What there is room for in one server. Every route has a layer of its own, and all of them share this."""

    def __init__(self) -> None:
        self.answering = asyncio.Semaphore(REQUESTS_AT_ONCE)
        """The requests that are answered."""
        self.waiting = 0
        """The requests that wait for that."""
        self.logs = 0
        """The logs that are read."""
        self.bodies = 0
        """The bytes of all bodies that have arrived and are not answered."""


class Turnstile:
    """The ASGI layer. It passes on a request when there is room, and answers those that would have to wait for long."""

    def __init__(self, app: ASGIApp, room: Room) -> None:
        self._app = app
        self._room = room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve or answer one request."""
        if scope["type"] != ScopeType.HTTP or scope["path"] == UNGUARDED:
            await self._app(scope, receive, send)
        elif scope["path"].endswith("/logs"):
            await self._log(scope, receive, send)
        else:
            body = bytearray()
            try:
                if await self._read(body, scope, receive, send):
                    await self._answer(bytes(body), scope, receive, send)
            finally:
                self._room.bodies -= len(body)

    async def _read(self, body: bytearray, scope: HTTPScope, receive: Receive, send: Send) -> bool:
        """Read the whole body. False: the request was answered, or the peer has gone."""
        length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if int(length) > BODY_BYTES:
            await _refuse(send, 413, f"the body has {int(length)} bytes: {BODY_BYTES} are the most")
            return False
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return False
            part = message["body"]
            body += part
            self._room.bodies += len(part)
            if len(body) > BODY_BYTES:
                await _refuse(send, 413, f"the body has more than {BODY_BYTES} bytes, and these are the most")
                return False
            if self._room.bodies > BODIES_BYTES:
                await _refuse(send, 503, f"requests of {BODIES_BYTES} bytes wait for their answers")
                return False
            if not message["more_body"]:
                return True

    async def _answer(self, body: bytes, scope: HTTPScope, receive: Receive, send: Send) -> None:
        room = self._room
        counted = scope.get("client") is not None
        if counted:
            if room.answering.locked() and room.waiting >= REQUESTS_WAITING:
                await _refuse(send, 503, f"{REQUESTS_AT_ONCE} requests are answered now and {REQUESTS_WAITING} wait")
                return
            room.waiting += 1
            try:
                await room.answering.acquire()
            finally:
                room.waiting -= 1
        read = False

        def leave() -> None:
            nonlocal counted
            if counted:
                counted = False
                room.answering.release()

        async def replay() -> HTTPReceiveMessage | WebSocketReceiveMessage:
            nonlocal read
            if read:
                return await receive()
            read = True
            whole: HTTPRequestEvent = {"type": "http.request", "body": body, "more_body": False}
            return whole

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.body":
                leave()
            await send(message)

        try:
            await self._app(scope, replay, sending)
        finally:
            leave()

    async def _log(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._room.logs >= LOGS_AT_ONCE:
            await _refuse(send, 503, f"{LOGS_AT_ONCE} logs are being read now")
            return
        self._room.logs += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._room.logs -= 1


async def _refuse(send: Send, status: int, what: str) -> None:
    error = f"{what}, and that is the most: ask again later" if status == 503 else what
    body = msgspec.json.encode(ErrorBody(error))
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    # What is left of the body is not read.
    headers += [(b"retry-after", str(RETRY_AFTER_SECONDS).encode())] if status == 503 else [(b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
