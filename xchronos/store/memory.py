"""The store that forgets everything when the process ends: for tests, simulations and trying things out.

It is written to be obviously right. Tests of the other stores compare them with it.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import count

from xchronos.clock import Clock, SystemClock
from xchronos.errors import LeaseLost, StoreError
from xchronos.store.contract import MAX_OPERATIONS, Committed, KeyValue, Page, Txn, WatchBatch
from xchronos.store.history import MAX_BYTES, MAX_EVENTS, History
from xchronos.store.leases import LeaseTable, parse_ttl
from xchronos.store.paging import RevisionedTable
from xchronos.store.transactions import Change, apply, check_key, check_txn, remove
from xchronos.store.watching import WatchHub


class MemoryStore:
    """A `Store` in a dictionary. Its leases run out by the monotonic time of `clock`."""

    name = "memory"
    max_operations = MAX_OPERATIONS

    def __init__(
        self, clock: Clock | None = None, *, history_events: int = MAX_EVENTS, history_bytes: int = MAX_BYTES
    ) -> None:
        self._rows: dict[str, KeyValue] = {}
        self._table = RevisionedTable(self._rows)
        self._history = History(1, max_events=history_events, max_bytes=history_bytes)
        self._hub = WatchHub(self._history)
        self._lease_numbers = count(1)
        self._leases: set[int] = set()
        self._deadlines = LeaseTable(clock or SystemClock(), self._end_lease)
        self._closed = False

    async def get(self, key: str) -> KeyValue | None:
        """See `Store.get`."""
        self._check_open()
        check_key(key)
        return self._rows.get(key)

    async def range(
        self, prefix: str, *, start: str = "", limit: int = 0, keys_only: bool = False, revision: int = 0
    ) -> Page:
        """See `Store.range`."""
        self._check_open()
        return self._table.page(self._history, prefix, start, limit, revision, keys_only=keys_only)

    async def commit(self, txn: Txn) -> Committed:
        """See `Store.commit`."""
        self._check_open()
        check_txn(txn, self.max_operations)
        return self._commit(txn)

    async def commit_many(self, txns: Sequence[Txn]) -> list[Committed]:
        """See `Store.commit_many`."""
        self._check_open()
        for txn in txns:
            check_txn(txn, self.max_operations)
        results: list[Committed] = []
        lost: LeaseLost | None = None
        for txn in txns:
            try:
                results.append(self._commit(txn))
            except LeaseLost as error:
                lost = lost or error
        if lost is not None:
            raise lost
        return results

    def watch(self, prefix: str, *, revision: int = 0) -> AbstractAsyncContextManager[AsyncIterator[WatchBatch]]:
        """See `Store.watch`."""
        return self._hub.watch(prefix, revision)

    async def grant(self, ttl_seconds: float) -> int:
        """See `Store.grant`."""
        self._check_open()
        ttl = parse_ttl(ttl_seconds)
        lease = next(self._lease_numbers)
        self._leases.add(lease)
        self._deadlines.add(lease, ttl)
        return lease

    async def renew(self, lease: int) -> None:
        """See `Store.renew`."""
        self._check_open()
        self._deadlines.renew(lease)

    async def revoke(self, lease: int) -> None:
        """See `Store.revoke`."""
        self._check_open()
        await self._end_lease(lease)

    async def compact(self, revision: int) -> None:
        """See `Store.compact`."""
        self._check_open()
        self._history.compact(revision)

    async def close(self) -> None:
        """See `Store.close`."""
        self._closed = True
        await self._deadlines.close()
        self._hub.close()

    async def _end_lease(self, lease: int) -> None:
        if lease not in self._leases:
            raise LeaseLost(f"the lease {lease} has expired or was revoked")
        self._leases.remove(lease)
        self._deadlines.remove(lease)
        keys = sorted(key for key, row in self._rows.items() if row.lease == lease)
        self._publish(remove(keys, self._rows, self._history.revision + 1))

    def _commit(self, txn: Txn) -> Committed:
        changes = apply(txn, self._rows, self._leases, self._table.under, self._history.revision + 1)
        self._publish(changes or [])
        return Committed(changes is not None, self._history.revision)

    def _publish(self, changes: list[Change]) -> None:
        self._table.follow(changes)
        if changes:
            self._hub.publish(changes, self._history.revision + 1)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the store is closed")
