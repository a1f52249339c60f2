"""Calls between two processes of one daemon, over a pair of connected sockets.

Both sides declare the same `Method`s. Each may serve some and call others, any number at a time. What a method raises
of xchronos' own errors is raised where it was called; a caller that is cancelled cancels what it has called. When one
process ends, the other one's calls end with Disconnected.

Each message is its length in four bytes and a MessagePack array.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import PurePath
from typing import Any, Generic, TypeVar

import msgspec
import structlog

from xchronos import errors
from xchronos.errors import Problem, XchronosError

log = structlog.get_logger(__name__)

Q = TypeVar("Q")
A = TypeVar("A")

HEAD = struct.Struct(">I")
UNSENT = 4 * 1024 * 1024
"""How many bytes may wait for the other process before whoever sends more waits as well."""


class Disconnected(XchronosError):  # noqa: N818
    """The other process has ended, or closed the connection. Whether it carried out the call is not known."""


class CallFailed(XchronosError):  # noqa: N818
    """The other process raised something that is no error of ours. Its own log has the traceback."""


def _from_path(value: object) -> str:
    if isinstance(value, PurePath):
        return str(value)
    raise NotImplementedError(f"{type(value)} cannot be sent to another process")


def _to_path(kind: type, value: object) -> object:
    if issubclass(kind, PurePath):
        return kind(str(value))
    raise NotImplementedError(f"{kind} cannot be sent to another process")


_encode = msgspec.msgpack.Encoder(enc_hook=_from_path).encode


class Method(Generic[Q, A]):
    """What one process can ask of the other one: a name, the type of the question and that of the answer."""

    def __init__(self, name: str, question: Any, answer: Any) -> None:
        self.name = name
        self._question = msgspec.msgpack.Decoder(question, dec_hook=_to_path)
        self._answer = msgspec.msgpack.Decoder(answer, dec_hook=_to_path)

    def read_question(self, data: bytes) -> Q:
        """The question that was sent."""
        question: Q = self._question.decode(data)
        return question

    def read_answer(self, data: bytes) -> A:
        """The answer that was sent."""
        answer: A = self._answer.decode(data)
        return answer


class _Call(msgspec.Struct, frozen=True, array_like=True, tag=0):
    id: int
    method: str
    question: bytes


class _Cancel(msgspec.Struct, frozen=True, array_like=True, tag=1):
    id: int


class _Answer(msgspec.Struct, frozen=True, array_like=True, tag=2):
    id: int
    answer: bytes


class _Failure(msgspec.Struct, frozen=True, array_like=True, tag=3):
    id: int
    kind: str
    message: str
    problems: tuple[Problem, ...] = ()
    revision: int = 0


_DECODER = msgspec.msgpack.Decoder(_Call | _Cancel | _Answer | _Failure)


class Channel:
    """One side of the connection. `run` has to run for anything to be answered.

    Args:
        end: The socket, which the channel closes. One task at a time may call `run`.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._writer: asyncio.StreamWriter | None = None
        self._served: dict[str, tuple[Method[Any, Any], Callable[[Any], Awaitable[Any]]]] = {}
        self._asked: dict[int, asyncio.Future[bytes]] = {}
        self._answering: dict[int, asyncio.Task[None]] = {}
        self._beyond: Channel | None = None
        self._last = 0
        self._open = asyncio.Event()
        self._closed = False

    def serve(self, method: Method[Q, A], handler: Callable[[Q], Awaitable[A]]) -> None:
        """Answer calls of a method from now on: each by a task of its own."""
        self._served[method.name] = (method, handler)

    def forward(self, beyond: "Channel") -> None:
        """Pass on what is asked here and not served here: to the process that is beyond this one."""
        self._beyond = beyond

    async def call(self, method: Method[Q, A], question: Q) -> A:
        """Ask the other process.

        Raises:
            Disconnected: it has ended, or ends before it answers.
            CallFailed: it failed in a way that nobody foresaw.
            XchronosError: what the method itself raises.
        """
        return method.read_answer(await self._ask(method.name, _encode(question)))

    async def _ask(self, method: str, question: bytes) -> bytes:
        await self._open.wait()
        if self._closed:
            raise Disconnected("the other process of this daemon has ended")
        self._last = id = self._last + 1  # noqa: A001
        answered = self._asked[id] = asyncio.get_running_loop().create_future()
        try:
            await self._send(_Call(id, method, question))
            answer: bytes = await answered
        except asyncio.CancelledError:
            self._post(_Cancel(id))
            raise
        else:
            return answer
        finally:
            del self._asked[id]

    async def run(self) -> None:
        """Carry messages until the other process ends, or this is cancelled. Then the channel is over."""
        self._end.setblocking(False)
        reader, self._writer = await asyncio.open_connection(sock=self._end)
        self._writer.transport.set_write_buffer_limits(UNSENT)
        self._open.set()
        try:
            while True:
                (length,) = HEAD.unpack(await reader.readexactly(HEAD.size))
                self._take(_DECODER.decode(await reader.readexactly(length)))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the other process is no more
        finally:
            self._end_all()

    def _end_all(self) -> None:
        self._closed = True
        self._open.set()
        for answered in self._asked.values():
            if not answered.done():
                answered.set_exception(Disconnected("the other process of this daemon has ended"))
        for task in self._answering.values():
            task.cancel()
        if self._writer is not None:
            self._writer.close()

    def _take(self, message: _Call | _Cancel | _Answer | _Failure) -> None:
        if isinstance(message, _Call):
            task = asyncio.create_task(self._answer(message), name=message.method)
            self._answering[message.id] = task
            task.add_done_callback(lambda _: self._answering.pop(message.id))
        elif isinstance(message, _Cancel):
            if message.id in self._answering:
                self._answering[message.id].cancel()
        else:
            answered = self._asked.get(message.id)
            if answered is None or answered.done():
                return  # nobody waits for it any more
            if isinstance(message, _Answer):
                answered.set_result(message.answer)
            else:
                answered.set_exception(_raised(message))

    async def _answer(self, call: _Call) -> None:
        try:
            if self._beyond is not None and call.method not in self._served:
                answer = await self._beyond._ask(call.method, call.question)  # noqa: SLF001 - it is another of these
            else:
                method, handler = self._served[call.method]
                answer = _encode(await handler(method.read_question(call.question)))
        except XchronosError as error:
            await self._send(_told(call.id, error))
        except Exception as error:
            log.exception("a call of the other process failed", method=call.method)
            await self._send(_Failure(call.id, CallFailed.__name__, f"{call.method}: {error!r}"))
        else:
            await self._send(_Answer(call.id, answer))

    async def _send(self, message: msgspec.Struct) -> None:
        self._post(message)
        if self._writer is not None and not self._closed:
            with suppress(ConnectionError):  # the reading side notices it as well, and ends every call
                await self._writer.drain()

    def _post(self, message: msgspec.Struct) -> None:
        if self._writer is not None and not self._closed:
            data = msgspec.msgpack.encode(message)
            self._writer.write(HEAD.pack(len(data)) + data)


def _told(id: int, error: XchronosError) -> _Failure:  # noqa: A002
    """An error as a message. An error of a class that is not in `errors` is told as the nearest one that is."""
    kind = next(each.__name__ for each in type(error).__mro__ if getattr(errors, each.__name__, None) is each)
    return _Failure(id, kind, str(error), getattr(error, "problems", ()), getattr(error, "revision", 0))


def _raised(failure: _Failure) -> XchronosError:
    """The error that a message tells."""
    if failure.kind == CallFailed.__name__:
        return CallFailed(failure.message)
    kind: type[XchronosError] = getattr(errors, failure.kind)
    if issubclass(kind, errors.UnitFileError):
        return kind(failure.problems)
    if issubclass(kind, errors.Compacted):
        return kind(failure.revision)
    return kind(failure.message)


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets, one for each process."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
