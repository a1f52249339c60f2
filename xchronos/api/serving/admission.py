"""How many requests are answered together: an ASGI layer in front of the routes.

What a request costs is decided by who sends it, so the next one waits until there is room. Lists, and unit files that
have to be compiled, cost most: they have levels of their own, and whoever asks for one unit waits for none of them. Who
waits at a level gets its turn by flow, that is by peer: a hundred requests of one peer do not delay the one of another,
and when too many wait, those of the peer that has the most are told to ask again.

A request has no room while its body arrives or its answer leaves: how long that takes is decided by the peer. A probe,
and what comes in by the unix socket, need not wait. An answer that follows a log stands for hours, and is counted by
itself.
"""

import asyncio
import re
from collections import OrderedDict, deque

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

from xchronos.api.serving.access_control import UNGUARDED
from xchronos.api.serving.aside import Answering, Aside, AsideRequest, request_of
from xchronos.ipc import Disconnected
from xchronos.limits import (
    BODIES_BYTES,
    BODY_BYTES,
    COMPILES_AT_ONCE,
    COMPILES_WAITING,
    LISTS_AT_ONCE,
    LISTS_WAITING,
    LOGS_AT_ONCE,
    REQUESTS_AT_ONCE,
    REQUESTS_WAITING,
)
from xchronos.wire.messages import ErrorBody

AGAIN = ", and that is the most: ask again later"

RETRY_AFTER_SECONDS = 2
"""How long a client should wait before it asks again."""


class Level:
    """One level: how many of its requests are answered together, and in which order the others follow.

    Args:
        at_once: How many are answered together.
        waiting: How many may wait for that.
    """

    def __init__(self, at_once: int, waiting: int) -> None:
        self.at_once = at_once
        self.most_waiting = waiting
        self.inside = 0
        """The requests that are answered."""
        self._flows: OrderedDict[str, deque[asyncio.Future[bool]]] = OrderedDict()

    @property
    def waiting(self) -> int:
        """The requests that wait."""
        return sum(map(len, self._flows.values()))

    async def enter(self, flow: str) -> bool:
        """Wait for the turn of a request of this flow. False: too many wait, and those of its flow are the most."""
        if self.inside < self.at_once:
            self.inside += 1
            return True
        if self.waiting >= self.most_waiting:
            fullest = max(self._flows, key=lambda each: len(self._flows[each]))
            if len(self._flows[fullest]) <= len(self._flows.get(flow, ())) + 1:
                return False
            self._flows[fullest].pop().set_result(False)  # the one that has waited least
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._flows.setdefault(flow, deque()).append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.result():
                self.leave()
            else:
                self._forget(flow, turn)
            raise

    def leave(self) -> None:
        """A request is answered: the next one, of the flow whose turn it is, takes its place."""
        while self._flows:
            flow, turns = self._flows.popitem(last=False)
            turn = turns.popleft() if turns else None
            if turns:
                self._flows[flow] = turns  # behind the other flows
            if turn is not None and not turn.done():
                turn.set_result(True)
                return
        self.inside -= 1

    def _forget(self, flow: str, turn: "asyncio.Future[bool]") -> None:
        turns = self._flows.get(flow)
        if turns is not None and turn in turns:
            turns.remove(turn)
            if not turns:
                del self._flows[flow]


_LISTS = re.compile(r"/v1/(units|executions|machines|status|units/[^/]+/executions)|/metrics|/schema.*")
_COMPILES = re.compile(r"PUT /v1/units/[^/]+|POST /v1/(verify|destroy)")


class Room:
    """What there is room for in one server. Every route has a layer of its own, and all of them share this."""

    def __init__(self) -> None:
        self.lists = Level(LISTS_AT_ONCE, LISTS_WAITING)
        self.compiles = Level(COMPILES_AT_ONCE, COMPILES_WAITING)
        self.others = Level(REQUESTS_AT_ONCE, REQUESTS_WAITING)
        self.logs = 0
        """The logs that are read."""
        self.bodies = 0
        """The bytes of all bodies that have arrived and are not answered."""
        self.answered = 0
        """The requests that were answered."""

    @property
    def busy(self) -> bool:
        """Whether any request is answered now, logs that are followed aside."""
        return any(level.inside for level in (self.lists, self.compiles, self.others))

    def level(self, method: str, path: str) -> Level:
        """The level of a request."""
        if method == "GET" and _LISTS.fullmatch(path):
            return self.lists
        return self.compiles if _COMPILES.fullmatch(f"{method} {path}") else self.others


class Turnstile:
    """The ASGI layer. It passes on a request when there is room, and answers those that would have to wait for long."""

    def __init__(self, app: ASGIApp, room: Room, aside: Aside | None = None) -> None:
        self._app = app
        self._room = room
        self._aside = aside

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
                await _refuse(
                    send,
                    503,
                    f"requests of {BODIES_BYTES} bytes wait for their answers{AGAIN}",
                )
                return False
            if not message["more_body"]:
                return True

    async def _answer(self, body: bytes, scope: HTTPScope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        level = self._room.level(scope["method"], scope["path"])
        counted = client is not None
        if client is not None and not await level.enter(client[0]):
            await _refuse(
                send,
                503,
                f"{level.at_once} such requests are answered now and {level.most_waiting} wait{AGAIN}",
            )
            return
        read = False

        def leave() -> None:
            nonlocal counted
            self._room.answered += counted
            if counted:
                counted = False
                level.leave()

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
            if self._aside is not None and level is not self._room.others:
                async with self._aside.place() as answering:
                    if answering is not None:
                        await _answer_aside(answering, request_of(scope, body), sending)
                        return
                    await self._app(scope, replay, sending)
            else:
                await self._app(scope, replay, sending)
        finally:
            leave()

    async def _log(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._room.logs >= LOGS_AT_ONCE:
            await _refuse(send, 503, f"{LOGS_AT_ONCE} logs are being read now{AGAIN}")
            return
        self._room.logs += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._room.logs -= 1


async def _answer_aside(answering: Answering, request: AsideRequest, send: Send) -> None:
    try:
        answer = await answering(request)
    except Disconnected:
        await _refuse(send, 503, "the process that answers this has ended, and may have done what was asked: look")
        return
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": False})


async def _refuse(send: Send, status: int, what: str) -> None:
    body = msgspec.json.encode(ErrorBody(what))
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    # What is left of the body is not read.
    headers += [(b"retry-after", str(RETRY_AFTER_SECONDS).encode())] if status == 503 else [(b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
