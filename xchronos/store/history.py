"""The recent past of an embedded store, in memory and bounded: what watches resume from and old reads are made of."""

from bisect import bisect_left
from collections import deque

import msgspec

from xchronos.errors import Compacted, StoreError
from xchronos.store.contract import Event, KeyValue
from xchronos.store.transactions import Change

MAX_EVENTS = 200_000
MAX_BYTES = 64 * 1024 * 1024
_EVENT_OVERHEAD = 250  # bytes that an event takes beside its key and values, roughly


class _Block(msgspec.Struct, frozen=True):
    """The changes of some whole revisions that were published together."""

    last: int
    changes: list[Change]
    size: int


class History:
    """The changes of the last revisions, each with what it replaced, so that the past can be told and undone.

    `revision` is the store's newest. Bounded by the number of events and by their bytes; what falls off is compacted.
    """

    def __init__(self, revision: int, *, max_events: int = MAX_EVENTS, max_bytes: int = MAX_BYTES) -> None:
        self.revision = revision
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._blocks: deque[_Block] = deque()
        self._events = 0
        self._bytes = 0
        # What can be told from the past begins at the present: events from the next revision on, states from this one.
        self._oldest_event = revision + 1
        self._oldest_state = revision

    def append(self, changes: list[Change], revision: int) -> None:
        """Add the changes of one or more whole revisions, the last of which is `revision`."""
        size = _EVENT_OVERHEAD * len(changes)
        for event, previous in changes:
            size += len(event.key) + len(event.value)
            if previous is not None:
                size += len(previous.value)
        self._blocks.append(_Block(revision, changes, size))
        self._events += len(changes)
        self._bytes += size
        self.revision = revision
        while self._blocks and (self._events > self._max_events or self._bytes > self._max_bytes):
            block = self._blocks.popleft()
            self._events -= len(block.changes)
            self._bytes -= block.size
            self._oldest_event = max(self._oldest_event, block.last + 1)
            self._oldest_state = max(self._oldest_state, block.last)

    def compact(self, revision: int) -> None:
        """Forget the events up to `revision`, and the states before it."""
        if revision > self.revision:
            raise StoreError(f"cannot compact up to revision {revision}: the store is only at {self.revision}")
        self._oldest_event = max(self._oldest_event, revision + 1)
        self._oldest_state = max(self._oldest_state, revision)
        while self._blocks and self._blocks[0].last < self._oldest_event:
            block = self._blocks.popleft()
            self._events -= len(block.changes)
            self._bytes -= block.size

    def since(self, revision: int) -> list[Event]:
        """Every event from `revision` on, in order. Raises Compacted when some are forgotten."""
        if revision < self._oldest_event:
            raise Compacted(self._oldest_event)
        found: list[list[Event]] = []
        for block in reversed(self._blocks):
            if block.last < revision:
                break
            found.append([event for event, _ in block.changes if event.mod_revision >= revision])
        return [event for events in reversed(found) for event in events]

    def check_state(self, revision: int) -> None:
        """Refuse a revision whose state is forgotten (Compacted) or yet to come (StoreError)."""
        if revision > self.revision:
            raise StoreError(f"cannot read revision {revision}: the store is only at {self.revision}")
        if revision < self._oldest_state:
            raise Compacted(self._oldest_event)

    def rewind(self, items: list[KeyValue], then: int, begin: str, end: str | None) -> list[KeyValue]:
        """Turn the keys of [begin, end) as they are, or lately were, into what they were at revision `then`.

        `items` must be all of them, in order; `end` None means the end of the store. The caller has called
        `check_state(then)`, and read at a revision that is not newer than this history. An older one does no harm: of
        a key that changed since, the first change after `then` tells what to put back, be it before or after the read.
        """
        before: dict[str, KeyValue | None] = {}
        for block in reversed(self._blocks):
            if block.last <= then:
                break
            for event, previous in reversed(block.changes):
                if event.mod_revision > then and begin <= event.key and (end is None or event.key < end):
                    before[event.key] = previous
        if not before:
            return items
        result = [item for item in items if item.key not in before]
        for previous in before.values():
            if previous is not None:
                result.insert(bisect_left(result, previous.key, key=_key), previous)
        return result


def _key(item: KeyValue) -> str:
    return item.key
