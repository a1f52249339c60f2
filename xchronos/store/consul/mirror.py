"""The whole store in memory as of one entry of Consul's log, and a draft of what a write would make of it. No I/O."""

from collections.abc import Iterable

from xchronos.clock import SECOND
from xchronos.errors import LeaseLost, StoreError
from xchronos.store.consul.layout import Entry, Head, Written
from xchronos.store.contract import Committed, DeleteRange, Event, KeyValue, Page, Txn
from xchronos.store.history import History
from xchronos.store.leases import parse_ttl
from xchronos.store.paging import RevisionedTable
from xchronos.store.transactions import Change, apply, remove
from xchronos.store.watching import WatchHub


class Mirror:
    """The living keys and leases as of the entry `head.sequence`, and the history since they were read.

    Attributes:
        head: The newest entry taken; `take` moves it.
        head_index: The head's ModifyIndex in Consul, which a writer has to name; 0 while it is not known.
        rows: The living keys.
        leases: The numbers of the living leases.
        dirty: The keys that changed since the last fold seen: the entry of the key's last change, and the entry that
            created it (0: it may have been there before).
        log_bytes: Bytes of the entries since the last fold seen.
        checkpoint: The entry up to which the log is folded, as far as this client knows.
        hub: Serves the watches.
    """

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self._limits = {"max_events": max_events, "max_bytes": max_bytes}
        self.head = Head(0, 1)
        self.head_index = 0
        self.rows: dict[str, KeyValue] = {}
        self.leases: set[int] = set()
        self.dirty: dict[str, tuple[int, int]] = {}
        self.log_bytes = 0
        self.checkpoint = 0
        self._table = RevisionedTable(self.rows)
        self._by_lease: dict[int, set[str]] = {}
        self.hub = WatchHub(History(1, **self._limits))

    @property
    def history(self) -> History:
        """The changes of the last revisions, in memory."""
        return self.hub.history

    def begin(
        self, rows: dict[str, KeyValue], leases: set[int], head: Head, checkpoint: int, changed: Iterable[str]
    ) -> None:
        """Forget everything and begin with these keys and leases as of `head`. The history begins at its revision.

        `changed` names the keys that may have changed since the entry `checkpoint`.
        """
        self.head, self.head_index = head, 0
        self.rows = rows
        self._table = RevisionedTable(rows)
        # In place: the reaper of leases has a reference to this set.
        self.leases.clear()
        self.leases.update(leases)
        self._by_lease = {}
        for row in self.rows.values():
            self._bind(row)
        self.dirty = dict.fromkeys(changed, (head.sequence, 0))
        self.log_bytes = 0
        self.checkpoint = checkpoint
        self.hub.restart(History(head.revision, **self._limits))

    def take(self, entry: Entry, size: int, changes: list[Change] | None = None) -> None:
        """Go on by one entry, of `size` bytes. `changes` is what the entry does, if the caller knows that already.

        Raises StoreError when the entry does not follow the one before: the log is damaged then.
        """
        if entry.revision != self.head.revision:
            raise StoreError(
                f"the log in Consul is damaged: entry {self.head.sequence + 1} follows revision {entry.revision},"
                f" not {self.head.revision}"
            )
        sequence, revision = self.head.sequence + 1, self.head.revision + len(entry.revisions)
        if changes is None:
            changes = self._changes(entry)
        for event, previous in changes:
            key = event.key
            if previous is not None and previous.lease:
                self._by_lease[previous.lease].discard(key)
            if event.kind == "delete":
                del self.rows[key]
            else:
                row = KeyValue(key, event.value, event.create_revision, event.mod_revision, event.lease)
                self.rows[key] = row
                self._bind(row)
            born = self.dirty[key][1] if key in self.dirty else sequence if previous is None else 0
            self.dirty[key] = sequence, born
        self._table.follow(changes)
        last = self.head.lease
        for lease in entry.granted:
            self.leases.add(lease)
            last = max(last, lease)
        for lease in entry.ended:
            self.leases.discard(lease)
            self._by_lease.pop(lease, None)
        self.head, self.head_index = Head(sequence, revision, last), 0
        self.log_bytes += size
        if changes:
            self.hub.publish(changes, revision)
        if entry.compacted:
            self.history.compact(entry.compacted)

    def folded(self, checkpoint: int) -> None:
        """The keys in Consul are as of the entry `checkpoint`: changes up to it need no folding any more."""
        if checkpoint > self.checkpoint:
            self.checkpoint = checkpoint
            self.log_bytes = 0
            self.dirty = {
                key: (last, born if born > checkpoint else 0)
                for key, (last, born) in self.dirty.items()
                if last > checkpoint
            }

    def page(self, prefix: str, start: str, limit: int, revision: int, *, keys_only: bool) -> Page:
        """See `Store.range`."""
        return self._table.page(self.history, prefix, start, limit, revision, keys_only=keys_only)

    def under(self, prefix: str) -> list[str]:
        """The living keys of a prefix, in order."""
        return self._table.under(prefix)

    def bound_to(self, lease: int) -> set[str]:
        """The living keys of a lease."""
        return self._by_lease.get(lease, set())

    def _bind(self, row: KeyValue) -> None:
        if row.lease:
            self._by_lease.setdefault(row.lease, set()).add(row.key)

    def _changes(self, entry: Entry) -> list[Change]:
        seen: dict[str, KeyValue | None] = {}
        changes: list[Change] = []
        revision = entry.revision
        for written in entry.revisions:
            revision += 1
            for key, value, created, lease in written:
                previous = seen[key] if key in seen else self.rows.get(key)
                if value is None:
                    seen[key] = None
                    changes.append((Event("delete", key, b"", revision), previous))
                else:
                    seen[key] = KeyValue(key, value, created, revision, lease)
                    changes.append((Event("put", key, value, revision, created, lease), previous))
        return changes


class MirrorDraft:
    """What a group of requests would do to the store, one after another. The mirror itself does not change.

    `changes`, `granted` (lease and TTL in seconds), `ended` (lease and the ModifyIndex its key must have, 0: any) and
    `compacted` grow with each request. `revision` is the store's after them. `size` is about how many bytes they are.
    """

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._rows: dict[str, KeyValue] = {}
        self._known: set[str] = set()
        self._leases = set(mirror.leases)
        self._last_lease = mirror.head.lease
        self.revision = mirror.head.revision
        self.changes: list[Change] = []
        self.granted: dict[int, float] = {}
        self.ended: dict[int, int] = {}
        self.compacted = 0
        self.size = 0

    @property
    def empty(self) -> bool:
        """Whether nothing would change."""
        return not (self.changes or self.granted or self.ended or self.compacted)

    def commit(self, txn: Txn) -> Committed:
        """Carry out a checked Txn. Raises LeaseLost as `apply` does."""
        self._load([guard.key for guard in txn.guards])
        for operation in txn.operations:
            if isinstance(operation, DeleteRange):
                self._load(self._mirror.under(operation.prefix))
            else:
                self._load([operation.key])
        changes = apply(txn, self._rows, self._leases, self._under, self.revision + 1)
        self._add(changes or [])
        return Committed(changes is not None, self.revision)

    def grant(self, ttl_seconds: float) -> int:
        """Begin a lease; returns its number."""
        ttl = parse_ttl(ttl_seconds) / SECOND
        self._last_lease += 1
        self._leases.add(self._last_lease)
        self.granted[self._last_lease] = ttl
        return self._last_lease

    def end(self, lease: int, index: int = 0) -> None:
        """End a lease and delete its keys, on condition that its key in Consul still has this ModifyIndex (0: any).

        Raises LeaseLost when the lease is gone.
        """
        if lease not in self._leases:
            raise LeaseLost(f"the lease {lease} has expired or was revoked")
        self._load(self._mirror.bound_to(lease))
        self._leases.remove(lease)
        self.ended[lease] = index
        keys = sorted(key for key, row in self._rows.items() if row.lease == lease)
        self._add(remove(keys, self._rows, self.revision + 1))

    def compact(self, revision: int) -> None:
        """Forget the history up to `revision`. Raises StoreError when that revision is still to come."""
        if revision > self.revision:
            raise StoreError(f"cannot compact up to revision {revision}: the store is only at {self.revision}")
        self.compacted = max(self.compacted, revision)

    def entry(self, writer: str) -> Entry:
        """The whole draft as an entry of the log."""
        revisions: list[list[Written]] = []
        last = 0
        for event, _ in self.changes:
            if event.mod_revision != last:
                last = event.mod_revision
                revisions.append([])
            value = None if event.kind == "delete" else event.value
            revisions[-1].append((event.key, value, event.create_revision, event.lease))
        return Entry(
            writer, self._mirror.head.revision, revisions, list(self.granted), list(self.ended), self.compacted
        )

    def head(self) -> Head:
        """The head that the store would have."""
        return Head(self._mirror.head.sequence + 1, self.revision, self._last_lease)

    def _add(self, changes: list[Change]) -> None:
        if changes:
            self.revision += 1
            self.changes += changes
            self.size += sum([len(event.key) + len(event.value) + 32 for event, _ in changes])

    def _load(self, keys: Iterable[str]) -> None:
        for key in keys:
            if key not in self._known:
                self._known.add(key)
                row = self._mirror.rows.get(key)
                if row is not None:
                    self._rows[key] = row

    def _under(self, prefix: str) -> list[str]:
        return sorted(key for key in self._rows if key.startswith(prefix))
