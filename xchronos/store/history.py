"""The recent past of a store, in memory and bounded: watches resume from it, and it makes reads of the past possible.

It remembers every change with what the key held before. A watch is told the changes; a read of the past takes the
present and undoes them.
"""

from bisect import bisect_left
from collections import deque

import msgspec

from xchronos.errors import Compacted, StoreError
from xchronos.store.contract import Event, KeyValue
from xchronos.store.transactions import Change

MAX_EVENTS = 200_000
MAX_BYTES = 64 * 1024 * 1024
_EVENT_OVERHEAD = 250  # bytes, roughly, that an event takes in memory besides its key and values


class _Block(msgspec.Struct, frozen=True):
    """The changes of some whole revisions that were published together; `last` is the newest of these revisions."""

    last: int
    changes: list[Change]
    size: int


class History:
    """The changes of the last revisions, each with what it replaced.

    `revision` is the store's newest; each `append` raises it. The number of events and their bytes are bounded. What
    no longer fits is forgotten, as if it had been compacted (`test_history_is_bounded_by_events_and_by_bytes`).
    """

    def __init__(self, revision: int, *, max_events: int = MAX_EVENTS, max_bytes: int = MAX_BYTES) -> None:
        self.revision = revision
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._blocks: deque[_Block] = deque()
        self._events = 0
        self._bytes = 0
        # At the beginning nothing of the past is known: events begin at the next revision, states at this one.
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
        """Every event from `revision` on, in order. Raises Compacted when some of them are forgotten."""
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
        """Turn the keys of [begin, end) as they were read into what they were at revision `then`.

        The caller has called `check_state(then)` before. `items` must be all keys of the range, in order; `end` None
        means the end of the store. They must have been read at a revision that is not newer than this history. They may
        be older than it: of a key that changed, the first change after `then` tells what to put back, whether the read
        had seen that change or not (`test_rewinding_leaves_alone_what_the_reader_had_not_seen`).
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
