"""The connections of the API: how many there may be, who may have how many, and which one goes when there are too many.

A connection costs a descriptor, and a request that never comes to its end keeps it. So a new connection is taken when
another one can go: one that sends its request slowly or not at all, the oldest of the peer that has the most of them.
One whose request is being answered is left alone. Few of them can be there, because the requests that are answered
together are bounded as well (`xchronos.api.serving.admission`). That is why a probe and a person still come in while
somebody holds all connections (`test_a_probe_comes_in_while_all_connections_are_used_up` in
tests/api/test_connections.py).
"""

import asyncio
import resource
import time
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from operator import itemgetter
from typing import Any, Literal, Protocol

import h11
import structlog
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from xchronos.limits import CONNECTIONS, DESCRIPTORS_KEPT, HALF_REQUEST_SECONDS, SLOW_READER_SECONDS, UNSENT_BYTES

log = structlog.get_logger(__name__)

TELL_EVERY = 5.0
"""How often, in seconds, it is logged at most that connections were cut or refused."""

LOCAL = ""
"""The peer of a unix socket. Only users of this machine reach it, so it has no share."""

Stage = Literal["reading", "serving", "blocked"]
"""A connection waits for a request or reads one, answers one, or waits for a peer that does not read the answer."""


class OpenConnection(Protocol):
    """What is known of a connection."""

    @property
    def peer(self) -> str:
        """Who is at its other end."""
        ...

    @property
    def since(self) -> float:
        """The moment at which it began to wait for the request that it reads, by time.monotonic."""
        ...

    @property
    def unsent(self) -> int:
        """The bytes of its answer that wait for the peer."""
        ...

    def stage(self) -> Stage:
        """What it does now."""
        ...

    def cut(self, status: int) -> None:
        """Close it. Where an answer is still possible, it has this status."""
        ...


def descriptors() -> int:
    """How many files and connections this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 1 << 20


def most_connections(wanted: int, allowed: int) -> int:
    """How many connections the API may have.

    Args:
        wanted: How many are wished for.
        allowed: How many descriptors the process may have. The store and the executors come first.
    """
    return max(8, min(wanted, (allowed - DESCRIPTORS_KEPT) // 2))


class Connections:
    """All connections of one server.

    Args:
        most: How many there may be.
        clock: The time in seconds, which never goes back.
    """

    def __init__(self, most: int = CONNECTIONS, clock: Callable[[], float] = time.monotonic) -> None:
        self.most = most
        self.share = max(1, most * 3 // 4)
        """How many of them one peer may have."""
        self._clock = clock
        self._open: dict[str, dict[OpenConnection, None]] = {}
        """By peer. Those that have waited longest for their request come first; what answers may be anywhere."""
        self._count = 0
        self._blocked: dict[OpenConnection, tuple[float, int]] = {}
        self._cut = 0
        self._refused = 0
        self._told = -TELL_EVERY

    def __len__(self) -> int:
        return self._count

    def admit(self, connection: OpenConnection) -> bool:
        """Take a new connection; one that can go is cut for it. False: none can go, and the new one is not taken."""
        peer = connection.peer
        if peer != LOCAL and len(self._open.get(peer, ())) >= self.share:
            fits = self._make_room(peer)
        else:
            fits = self._count < self.most or self._make_room()
        if not fits:
            self._refused += 1
            self._tell()
            return False
        self._open.setdefault(peer, {})[connection] = None
        self._count += 1
        return True

    def forget(self, connection: OpenConnection) -> None:
        """A connection is closed. To say so again does nothing."""
        theirs = self._open.get(connection.peer)
        if theirs is not None and connection in theirs:
            del theirs[connection]
            self._count -= 1
            if not theirs:
                del self._open[connection.peer]

    def answered(self, connection: OpenConnection) -> None:
        """A connection begins to wait for its next request."""
        theirs = self._open.get(connection.peer)
        if theirs is not None and connection in theirs:
            theirs[connection] = theirs.pop(connection)

    def sweep(self) -> None:
        """Cut the connections that have read one request for too long. To be called every second or so."""
        now = self._clock()
        before = now - HALF_REQUEST_SECONDS
        everybody = [each for theirs in self._open.values() for each in theirs]
        for connection in everybody:
            if connection.since < before and connection.stage() == "reading":
                self._end(connection, 408)
        blocked = {each: each.unsent for each in everybody if each.stage() == "blocked"}
        # The moment from which on a peer has taken nothing, and what waited for it then.
        self._blocked = {
            each: known if (known := self._blocked.get(each)) and known[1] == unsent else (now, unsent)
            for each, unsent in blocked.items()
        }
        unsent_bytes = sum(blocked.values())
        for connection, (since, unsent) in sorted(self._blocked.items(), key=lambda each: each[1][0]):
            if since < now - SLOW_READER_SECONDS or unsent_bytes > UNSENT_BYTES:
                unsent_bytes -= unsent
                self._end(connection, 503)
        self._tell()

    def _make_room(self, peer: str | None = None) -> bool:
        """Cut the connection that can best be spared: of one peer, or of the one that has the most."""
        peers = [peer] if peer is not None else sorted(self._open, key=lambda each: -len(self._open[each]))
        for stage in ("reading", "blocked"):
            for each in peers:
                connection = self._first(self._open[each], stage)
                if connection is not None:
                    self._end(connection, 503)
                    return True
        return False

    def _first(self, theirs: dict[OpenConnection, None], stage: Stage) -> OpenConnection | None:
        """The first that is at a stage.

        Those before it, which answer, go to the end: they will have waited least for the request that follows. So a
        crowd costs each newcomer the same, however many are answered meanwhile.
        """
        for _ in range(len(theirs)):
            connection = next(iter(theirs))
            if connection.stage() == stage:
                return connection
            theirs[connection] = theirs.pop(connection)
        return None

    def _end(self, connection: OpenConnection, status: int) -> None:
        self._cut += 1
        self.forget(connection)
        connection.cut(status)

    def _tell(self) -> None:
        """One line for all that was cut and refused since the last one: a flood must not fill the log."""
        now = self._clock()
        if not (self._cut or self._refused) or now - self._told < TELL_EVERY:
            return
        peer, count = max(((each, len(them)) for each, them in self._open.items()), key=itemgetter(1), default=("", 0))
        log.warning(
            "the API cuts connections: half requests, or more of them than there may be",
            cut=self._cut,
            refused=self._refused,
            open=self._count,
            most=self.most,
            busiest=f"{peer or 'unix socket'}: {count}",
        )
        self._told, self._cut, self._refused = now, 0, 0


def peer_of(address: object) -> str:
    """Who is at the other end: an IPv4 address, the network of an IPv6 address (a peer has all of a /64), or LOCAL."""
    if not isinstance(address, tuple):
        return LOCAL
    try:
        found = ip_address(str(address[0]).partition("%")[0])
    except ValueError:
        return str(address[0])
    if isinstance(found, IPv6Address):
        return str(found.ipv4_mapped or IPv6Address(int(found) >> 64 << 64))
    return str(found)


class BoundedProtocol(H11Protocol):
    """uvicorn's protocol for one connection, which asks `Connections` whether it may be.

    `book` is set by a subclass for each server: uvicorn makes the protocols itself.
    """

    book: Connections

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.peer = LOCAL
        self.since = time.monotonic()
        self._admitted = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The connection is there."""
        super().connection_made(transport)
        self.peer = peer_of(transport.get_extra_info("peername"))
        self._admitted = self.book.admit(self)
        if not self._admitted:
            self.cut(503)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self.book.forget(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes have come. After the connection was cut, they are not read."""
        if not self.transport.is_closing():
            super().data_received(data)

    def on_response_complete(self) -> None:
        """An answer was sent: from now on it waits for the next request."""
        self.since = time.monotonic()
        self.book.answered(self)
        super().on_response_complete()

    @property
    def unsent(self) -> int:
        """See `OpenConnection.unsent`."""
        return self.transport.get_write_buffer_size()

    def stage(self) -> Stage:
        """See `OpenConnection.stage`."""
        if not self._answers() or self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            return "reading"
        return "blocked" if self.unsent else "serving"

    def _answers(self) -> bool:
        # uvicorn says nothing of the time before the first request.
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def cut(self, status: int) -> None:
        """See `OpenConnection.cut`."""
        self.book.forget(self)
        if self.transport.is_closing():
            return
        if self.unsent or (self._answers() and self.cycle.response_started):
            self.transport.abort()
            return
        self.transport.write(_ANSWERS[status])
        self.transport.close()


def _answer(line: str, error: str) -> bytes:
    body = f'{{"error":"{error}"}}'
    head = f"HTTP/1.1 {line}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n"
    return f"{head}\r\n{body}".encode()


_ANSWERS = {
    408: _answer("408 Request Timeout", f"the request was not complete after {HALF_REQUEST_SECONDS:g} seconds"),
    503: _answer("503 Service Unavailable\r\nretry-after: 2", "too many connections: close some, or ask again later"),
}
