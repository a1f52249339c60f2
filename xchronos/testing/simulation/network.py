"""What lies between a daemon and the store: requests and answers that take time, get lost, or arrive too late.

Everything is allowed that a network does and that the store's contract permits. A write may have happened although no
answer came. It may even happen after its caller was told that nobody knows. Of two requests under way, one may overtake
the other.

Watches are streams of messages, as a client of a cluster store has them. Each message names the revision that it
continues from. Delayed messages come late and in bigger batches. A message that comes twice is dropped. A message that
is lost or out of order leaves a gap; the client sees that, and the watch breaks.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from random import Random
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from xchronos.clock import MILLISECOND, SECOND, Clock, Micros
from xchronos.errors import StoreError, StoreUnavailable
from xchronos.store.contract import Committed, Event, KeyValue, Page, Txn, WatchBatch
from xchronos.store.memory import MemoryStore
from xchronos.store.transactions import Change
from xchronos.testing.simulation.loop import Process, SimulatedLoop

T = TypeVar("T")

Observer = Callable[[str, list[Change], int], None]


class WorldStore(MemoryStore):
    """The store itself. It calls `observe(author, changes, revision)` at the instant when a revision is written."""

    def __init__(self, clock: Clock, observe: Observer) -> None:
        super().__init__(clock)
        self.author = ""
        """Who is writing now; "" for nobody, as when a lease ends by itself."""
        self.feeds: dict[Feed, None] = {}
        self.away = False
        """Whether nobody can reach the store."""
        self._observe = observe

    @property
    def revision(self) -> int:
        """The newest revision."""
        return self._history.revision

    def rows(self) -> dict[str, KeyValue]:
        """All living keys. Only for looking: never change them."""
        return self._rows

    def since(self, revision: int, prefix: str) -> list[Event]:
        """The events of a prefix from a revision on. Raises Compacted."""
        return [event for event in self._history.since(revision) if event.key.startswith(prefix)]

    def _publish(self, changes: list[Change]) -> None:
        if not changes:
            return
        super()._publish(changes)
        revision = self.revision
        self._observe(self.author, changes, revision)
        for feed in list(self.feeds):
            prefix = feed.prefix
            events = [event for event, _ in changes if event.key.startswith(prefix)]
            if events:
                feed.publish(events, revision)


class Mood(msgspec.Struct):
    """How bad a connection is. Chances are per request or message, from 0 to 1; lengths are in microseconds."""

    latency: Micros = 2 * MILLISECOND
    refuse: float = 0.0
    lose: float = 0.0
    lose_answer: float = 0.0
    delay: float = 0.0
    longest_delay: Micros = 2 * SECOND
    split: float = 0.0
    drop_event: float = 0.0
    repeat_event: float = 0.0
    swap_event: float = 0.0


GIVE_UP: Micros = 2 * SECOND
"""How long after a request a client says that there is no answer."""

LONGEST_SILENCE: Micros = SECOND
"""How long a client takes, at most, to find that its stream is dead."""


class Connection:
    """A `Store`: one process's connection to the one store of the world."""

    name = "memory"

    def __init__(
        self, store: WorldStore, loop: SimulatedLoop, process: Process, random: Random, told: Callable[[str, str], None]
    ) -> None:
        self.store = store
        self.mood = Mood()
        self.cut = False
        """Whether nothing gets through, in either direction."""
        self.max_operations = store.max_operations
        self._loop = loop
        self._process = process
        self._random = random
        self._told = told
        self._feeds: dict[Feed, None] = {}

    def tell(self, what: str, more: str = "") -> None:
        """Report that something has gone wrong on this connection."""
        self._told(what, f"{self._process.name}: {what} {more}")

    # -- requests -----------------------------------------------------------------------------------------------------

    def travel(self) -> Micros:
        """How long the next message takes."""
        length = self._random.randrange(self.mood.latency // 2, self.mood.latency + 1)
        if self.mood.delay and self._random.random() < self.mood.delay:
            self.tell("delayed")
            length += self._random.randrange(self.mood.longest_delay)
        return length

    @property
    def severed(self) -> bool:
        """Whether nothing gets through now."""
        return self.cut or self.store.away or not self._process.alive

    async def _ask(self, operation: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Send an operation to the store and wait for its answer. Either may be lost or late."""
        if not self._process.alive:
            raise StoreUnavailable("this process is dead")
        loop, random, mood = self._loop, self._random, self.mood
        answer: asyncio.Future[T] = loop.create_future()
        chance = random.random()
        if chance < mood.refuse:
            self.tell("refused")
            loop.at(loop.elapsed + self.travel(), _fail, answer, "refused: the store is not ready")
            return await answer
        arrival = loop.elapsed + self.travel()
        give_up = loop.elapsed + GIVE_UP
        lost = chance < mood.refuse + mood.lose
        lost_answer = chance < mood.refuse + mood.lose + mood.lose_answer
        if lost or arrival > give_up:
            loop.at(give_up, _fail, answer, "no answer: the request may have been lost")
        if not lost:
            loop.at(arrival, self._arrive, operation, answer, give_up, lost_answer)
        else:
            self.tell("requests lost")
        return await answer

    def _arrive(
        self,
        operation: Callable[[], Coroutine[Any, Any, T]],
        answer: "asyncio.Future[T]",
        give_up: Micros,
        lost_answer: bool,
    ) -> None:
        loop = self._loop
        if self.cut or self.store.away:
            loop.at(max(give_up, loop.elapsed), _fail, answer, "no answer: the store cannot be reached")
            return
        result, error = self._carry_out(operation)
        back = loop.elapsed + self.travel()
        if lost_answer or back > give_up:
            self.tell("answers lost")
            loop.at(max(give_up, loop.elapsed), _fail, answer, "no answer: it may have been lost")
        else:
            loop.at(back, self._return, answer, result, error, give_up)

    def _carry_out(self, operation: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T | None, StoreError | None]:
        """Carry out an operation now. The memory store never waits, so its coroutines end at their first step."""
        self.store.author = self._process.name
        try:
            operation().send(None)
        except StopIteration as done:
            return done.value, None
        except StoreError as error:
            return None, error
        finally:
            self.store.author = ""
        raise AssertionError("the store waited for something")

    def _return(self, answer: "asyncio.Future[T]", result: T, error: StoreError | None, give_up: Micros) -> None:
        if self.cut or self.store.away:
            self.tell("answers lost")
            self._loop.at(max(give_up, self._loop.elapsed), _fail, answer, "no answer: the connection is cut")
        elif not answer.done():
            if error is None:
                answer.set_result(result)
            else:
                answer.set_exception(error)

    # -- the contract -------------------------------------------------------------------------------------------------

    async def get(self, key: str) -> KeyValue | None:
        """See `Store.get`."""
        return await self._ask(lambda: self.store.get(key))

    async def range(
        self, prefix: str, *, start: str = "", limit: int = 0, keys_only: bool = False, revision: int = 0
    ) -> Page:
        """See `Store.range`."""
        return await self._ask(
            lambda: self.store.range(prefix, start=start, limit=limit, keys_only=keys_only, revision=revision)
        )

    async def commit(self, txn: Txn) -> Committed:
        """See `Store.commit`."""
        return await self._ask(lambda: self.store.commit(txn))

    async def commit_many(self, txns: Sequence[Txn]) -> list[Committed]:
        """See `Store.commit_many`. Now and then each Txn goes by itself: others come between, and some may be lost."""
        if len(txns) > 1 and self._random.random() < self.mood.split:
            self.tell("split")
            return [await self.commit(txn) for txn in txns]
        return await self._ask(lambda: self.store.commit_many(txns))

    async def grant(self, ttl_seconds: float) -> int:
        """See `Store.grant`."""
        return await self._ask(lambda: self.store.grant(ttl_seconds))

    async def renew(self, lease: int) -> None:
        """See `Store.renew`."""
        await self._ask(lambda: self.store.renew(lease))

    async def revoke(self, lease: int) -> None:
        """See `Store.revoke`."""
        await self._ask(lambda: self.store.revoke(lease))

    async def compact(self, revision: int) -> None:
        """See `Store.compact`."""
        await self._ask(lambda: self.store.compact(revision))

    async def close(self) -> None:
        """Does nothing: the world's store goes on without this process."""

    # -- watches ------------------------------------------------------------------------------------------------------

    def watch(self, prefix: str, *, revision: int = 0) -> AbstractAsyncContextManager[AsyncIterator[WatchBatch]]:
        """See `Store.watch`."""
        return Feed(self, self._loop, self._random, prefix, revision)

    async def open(self, feed: "Feed") -> None:
        """Let a feed receive what is published from now on."""
        await self._ask(lambda: self._subscribe(feed))
        self._feeds[feed] = None

    async def _subscribe(self, feed: "Feed") -> None:
        feed.begin(self.store)
        self.store.feeds[feed] = None

    def forget(self, feed: "Feed") -> None:
        """A feed has ended."""
        self._feeds.pop(feed, None)
        self.store.feeds.pop(feed, None)

    def break_watches(self, reason: str) -> None:
        """End all watches of this connection with an error."""
        for feed in list(self._feeds):
            feed.fail(reason)


class Feed:
    """One watch of a connection: its own context manager and iterator."""

    def __init__(self, connection: Connection, loop: SimulatedLoop, random: Random, prefix: str, revision: int) -> None:
        self.prefix = prefix
        self._connection = connection
        self._loop = loop
        self._random = random
        self._from = revision
        self._sent = 0
        self._seen = 0
        self._latest: Micros = 0
        self._held_back: tuple[int, int, list[Event]] | None = None
        self._pending: list[Event] = []
        self._error: StoreError | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._connection.open(self)
        except BaseException:
            self._connection.forget(self)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.forget(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> WatchBatch:
        while not self._pending:
            if self._error is not None:
                raise self._error
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        events, self._pending = self._pending, []
        return WatchBatch(self._seen, events)

    # -- the store's side ---------------------------------------------------------------------------------------------

    def begin(self, store: WorldStore) -> None:
        """Send what has happened since the revision that was asked for. Raises Compacted."""
        now = store.revision
        first = self._from or now + 1
        backlog = store.since(first, self.prefix) if first <= now else []
        self._sent = self._seen = first - 1
        if backlog:
            self._send(backlog, now)
        else:
            self._sent = self._seen = max(now, first - 1)

    def publish(self, events: list[Event], revision: int) -> None:
        """Send the events of a revision, unless they are older than what was asked for."""
        if revision >= self._from:
            self._send(events, revision)

    def _send(self, events: list[Event], revision: int) -> None:
        connection, random, mood = self._connection, self._random, self._connection.mood
        message = (self._sent, revision, events)
        self._sent = revision
        chance = random.random()
        if chance < mood.drop_event:
            connection.tell("events dropped", f"#{revision}")
            self._break_soon()
            return
        # This is one stream, so no message overtakes another, except by the fault below.
        moment = self._latest = max(self._latest, self._loop.elapsed + connection.travel())
        if self._held_back is not None:
            held, self._held_back = self._held_back, None
            self._loop.at(moment, self._receive, *message)
            self._loop.at(moment, self._receive, *held)
        elif chance < mood.drop_event + mood.swap_event:
            connection.tell("events swapped")
            self._held_back = message
            self._break_soon()
        else:
            self._loop.at(moment, self._receive, *message)
            if chance < mood.drop_event + mood.swap_event + mood.repeat_event:
                connection.tell("events repeated")
                self._loop.at(moment, self._receive, *message)

    # -- the client's side --------------------------------------------------------------------------------------------

    def _receive(self, previous: int, revision: int, events: list[Event]) -> None:
        if self._error is not None:
            return
        if self._connection.severed:
            self._connection.tell("events dropped", f"#{revision}")
            self._break_soon()
            return
        if revision <= self._seen:
            return
        if previous != self._seen:
            self.fail(f"the watch of {self.prefix} has a gap behind revision {self._seen}")
            return
        self._seen = revision
        self._pending += events
        self._wake()

    def _break_soon(self) -> None:
        """Something was lost: the watch breaks within a second, if no later message shows the gap before.

        A real client finds that out by the stream's own sign of life.
        """
        self._loop.at(
            self._loop.elapsed + self._random.randrange(LONGEST_SILENCE),
            self.fail,
            f"the watch of {self.prefix} is broken",
        )

    def fail(self, reason: str) -> None:
        """End the watch with an error. Its client has to begin a new one."""
        if self._error is None:
            self._connection.tell("watches broken", f"({reason})")
            self._error = StoreUnavailable(reason)
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _fail(answer: "asyncio.Future[Any]", reason: str) -> None:
    if not answer.done():
        answer.set_exception(StoreUnavailable(reason))
