"""Watches inside one process: served from the history first, then from what is published as it happens."""

import asyncio
from heapq import heappop, heappush
from itertools import count
from types import TracebackType
from typing import Self

from xchronos.errors import StoreError
from xchronos.store.contract import Event, WatchBatch
from xchronos.store.history import History
from xchronos.store.transactions import Change

MAX_PENDING = 50_000
"""The most events that wait in memory for one slow consumer, in every store.

A watch of this module drops what waits beyond that and is served from the history. One of etcd stops reading.
"""


class WatchHub:
    """Hands every published event to the watches whose prefix the key has.

    It finds them by cutting the key to each length that some watched prefix has. So the work per event grows with the
    number of different lengths and not with that of the watches (`test_work_per_event_does_not_grow_with_the_watches`).
    """

    def __init__(self, history: History) -> None:
        self.history = history
        self._by_length: dict[int, dict[str, list[Watch]]] = {}
        self._closed = False
        # A heap of (revision, number, who waits for it). Futures have no order, so a number settles equal revisions.
        self._followers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = count()

    @property
    def watches(self) -> int:
        """How many watches are open."""
        return sum(len(watches) for prefixes in self._by_length.values() for watches in prefixes.values())

    def watch(self, prefix: str, revision: int) -> "Watch":
        """A watch that begins when its context is entered."""
        return Watch(self, prefix, revision)

    def publish(self, changes: list[Change], revision: int) -> None:
        """Record the changes of whole revisions, up to `revision`, and hand them to the watches. It never waits."""
        self.history.append(changes, revision)
        # A dict, not a set: the order in which watches wake must not depend on memory addresses, or a simulated run
        # could not be repeated exactly.
        touched: dict[Watch, None] = {}
        for length, prefixes in self._by_length.items():
            for event, _ in changes:
                watches = prefixes.get(event.key[:length])
                if watches is not None:
                    for watch in watches:
                        watch.pending.append(event)
                    touched.update(dict.fromkeys(watches))
        for watch in touched:
            watch.wake()
        while self._followers and self._followers[0][0] <= revision:
            _, _, future = heappop(self._followers)
            if not future.done():
                future.set_result(None)

    async def reached(self, revision: int) -> None:
        """Return once everything up to `revision` is published."""
        if revision > self.history.revision:
            future = asyncio.get_running_loop().create_future()
            heappush(self._followers, (revision, next(self._numbers), future))
            await future

    def restart(self, history: History) -> None:
        """Go on from another history. Nobody knows the events between the two.

        A watch that missed some of them raises Compacted.
        """
        self.history = history
        for prefixes in self._by_length.values():
            for watches in prefixes.values():
                for watch in watches:
                    watch.lag()

    def close(self) -> None:
        """End every watch with a StoreError."""
        self._closed = True
        for prefixes in self._by_length.values():
            for watches in prefixes.values():
                for watch in watches:
                    watch.wake()

    def check_open(self) -> None:
        """Raise StoreError once the hub is closed."""
        if self._closed:
            raise StoreError("the store is closed: nothing more can be watched")

    def add(self, watch: "Watch") -> None:
        """Let a watch receive what is published from now on."""
        self._by_length.setdefault(len(watch.prefix), {}).setdefault(watch.prefix, []).append(watch)

    def remove(self, watch: "Watch") -> None:
        """Let a watch receive nothing more."""
        prefixes = self._by_length[len(watch.prefix)]
        watches = prefixes[watch.prefix]
        watches.remove(watch)
        if not watches:
            del prefixes[watch.prefix]
            if not prefixes:
                del self._by_length[len(watch.prefix)]


class Watch:
    """One open watch: its own context manager and its own iterator. See `Store.watch`."""

    def __init__(self, hub: WatchHub, prefix: str, revision: int) -> None:
        self.prefix = prefix
        self.pending: list[Event] = []
        self._hub = hub
        self._next = revision
        self._lagging = False
        self._awake = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Begin. Raises Compacted when the start is forgotten."""
        self._hub.check_open()
        history = self._hub.history
        if self._next == 0:
            self._next = history.revision + 1
        if self._next <= history.revision:
            self._catch_up()
            self._awake.set()
        self._hub.add(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hub.remove(self)
        self.pending = []

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> WatchBatch:
        while True:
            await self._awake.wait()
            # The flag stays set until the news is taken: whoever asks again after an error gets the error again.
            self._hub.check_open()
            revision = self._hub.history.revision
            if self._lagging:
                self._catch_up()
                self._lagging = False
            self._awake.clear()
            events, self.pending = self.pending, []
            if events and events[0].mod_revision < self._next:  # a watch may begin at a revision of the future
                events = [event for event in events if event.mod_revision >= self._next]
            self._next = max(self._next, revision + 1)
            if events:
                return WatchBatch(revision, events)

    def wake(self) -> None:
        """There is news. A watch beyond the limit drops what waits and asks the history later.

        It raises Compacted if the history has forgotten that by then. Pinned by
        `test_a_slow_consumer_catches_up_from_the_history` and `test_a_consumer_that_is_too_slow_is_told`.
        """
        if self._lagging or len(self.pending) > MAX_PENDING:
            self.lag()
        else:
            self._awake.set()

    def lag(self) -> None:
        """Drop what waits; the next read asks the history for it."""
        self._lagging = True
        self.pending = []
        self._awake.set()

    def _catch_up(self) -> None:
        prefix = self.prefix
        self.pending = [event for event in self._hub.history.since(self._next) if event.key.startswith(prefix)]
