"""Pages of keys, and the keys of a store that holds them all in memory."""

from bisect import bisect_left, insort
from collections.abc import Iterable

from xchronos.store.contract import KeyValue, Page
from xchronos.store.history import History
from xchronos.store.transactions import Change, prefix_end


class RevisionedTable:
    """The living keys, by name and in order.

    The caller changes `rows` (by `apply` and `remove`), and then tells `follow` of every change.
    """

    def __init__(self, rows: dict[str, KeyValue]) -> None:
        self.rows = rows
        self._order = sorted(rows)

    def follow(self, changes: Iterable[Change]) -> None:
        """Keep the order of the keys in step with `rows`."""
        for event, previous in changes:
            if event.kind == "delete":
                del self._order[bisect_left(self._order, event.key)]
            elif previous is None:
                insort(self._order, event.key)

    def under(self, prefix: str) -> list[str]:
        """The keys of a prefix, in order."""
        low, high = self._between(prefix, prefix_end(prefix))
        return self._order[low:high]

    def page(self, history: History, prefix: str, start: str, limit: int, revision: int, *, keys_only: bool) -> Page:
        """See `Store.range`. `history` has to be as new as the keys."""
        begin, end = max(start, prefix), prefix_end(prefix)
        low, high = self._between(begin, end)
        if revision and revision != history.revision:
            history.check_state(revision)
            items = history.rewind([self.rows[key] for key in self._order[low:high]], revision, begin, end)
        else:
            # One more than asked for tells whether there are more.
            items = [self.rows[key] for key in self._order[low : min(high, low + limit + 1) if limit else high]]
        return cut(items, revision or history.revision, limit, keys_only=keys_only)

    def _between(self, begin: str, end: str | None) -> tuple[int, int]:
        low = bisect_left(self._order, begin)
        return low, len(self._order) if end is None else bisect_left(self._order, end)


def cut(items: list[KeyValue], revision: int, limit: int, *, keys_only: bool) -> Page:
    """A page of at most `limit` of the items found (0: all of them). `more` says whether the limit left some out."""
    more = bool(limit) and len(items) > limit
    if more:
        items = items[:limit]
    if keys_only:
        items = [KeyValue(row.key, b"", row.create_revision, row.mod_revision) for row in items]
    return Page(items, revision, more)
