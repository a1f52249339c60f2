"""The narrow key-value contract that every job store serves: embedded ones and cluster stores alike.

The semantics are etcd v3's, so that an etcd store is a translation and every other store has a model to follow:

- Keys are non-empty `str`, ordered by their UTF-8 bytes. Values are `bytes`. A Txn of up to 1 MiB is always accepted.
- The store has one *revision*, a counter. A Txn that changes something raises it by one, and everything that this Txn
  writes carries the new number as `mod_revision`. A Txn that changes nothing (a guard failed, or the key to delete was
  not there) does not raise it. A revision never comes back once it was seen, not even after a restart.
- `create_revision` is the revision at which a key came to be. A deletion ends that life; a later Put begins another.
- A *lease* is a promise to come back within its TTL. When the promise is broken, or the lease is revoked, the store
  deletes the keys bound to it: in one revision, in the order of the keys, by ordinary delete events. A Put binds its
  key to the lease that it names and unbinds it from any other; `lease=0` binds it to none.

`xchronos.testing.store.StoreContract` checks the contract.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import msgspec

MAX_OPERATIONS = 128
"""The most guards, and the most operations, of one Txn: an etcd server's default.

The embedded stores and Consul's have the same limit, so that what works on them works on etcd.
"""

RENEWALS = 5
"""How often in its TTL a holder renews a lease: several renewals may fail, or an event loop be busy, before it ends."""


class KeyValue(msgspec.Struct, frozen=True, gc=False):
    """One living key. `lease` is 0 when the key is bound to none.

    In a page of keys only, `value` is empty and `lease` is 0.
    """

    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    lease: int = 0


class Page(msgspec.Struct, frozen=True):
    """Some keys of a prefix, in order, as they were at `revision`. `more` says whether the limit left some out."""

    items: list[KeyValue]
    revision: int
    more: bool


class Guard(msgspec.Struct, frozen=True, gc=False):
    """A condition: the key's `mod_revision` (or `create_revision`) is exactly `revision`; 0: there is no such key.

    The mod revision says "unchanged since I read it". The create revision says "still the same life of the key": by
    it a holder proves that it still owns a key bound to its lease.
    """

    key: str
    revision: int
    target: Literal["mod", "create"] = "mod"


class Put(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Write a key, bound to `lease` unless that is 0."""

    key: str
    value: bytes
    lease: int = 0


class Delete(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Remove a key. Nothing happens when there is no such key."""

    key: str


class DeleteRange(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Remove every key that begins with `prefix` (the empty prefix: all), in the order of the keys."""

    prefix: str


Operation: TypeAlias = Put | Delete | DeleteRange


class Txn(msgspec.Struct, frozen=True, gc=False):
    """Carry out all operations, in one revision, if every guard holds; otherwise nothing at all.

    Guards look at the store as it was before the Txn. No two operations may touch the same key.
    """

    guards: Sequence[Guard] = ()
    operations: Sequence[Operation] = ()


class Committed(msgspec.Struct, frozen=True, gc=False):
    """What became of a Txn. `succeeded` is False when a guard did not hold; nothing was written then.

    `revision` is the Txn's own when it changed something, otherwise the store's at that moment.
    """

    succeeded: bool
    revision: int


class Event(msgspec.Struct, frozen=True, gc=False):
    """A key was written or removed at `mod_revision`. A delete has no value, no lease and a `create_revision` of 0."""

    kind: Literal["put", "delete"]
    key: str
    value: bytes
    mod_revision: int
    create_revision: int = 0
    lease: int = 0


class WatchBatch(msgspec.Struct, frozen=True):
    """The events of one or more whole revisions, in order of revision and, within one, of the Txn's operations.

    After this batch the watcher has seen everything up to `revision`. Watching again from `revision + 1` leaves no gap
    and repeats nothing.
    """

    revision: int
    events: list[Event]


class Store(Protocol):
    """An ordered, revisioned, watchable map.

    Every method may raise StoreUnavailable. A write that raised it happened as a whole or not at all; which of the two
    is not known. The methods name the other special errors. Any other StoreError means that the call was malformed (a
    key twice in a Txn, too many operations, a revision of the future), or that the store is closed or broken.
    """

    @property
    def name(self) -> str:
        """`memory`, `sqlite`, `etcd` ...: what `JobStore=` calls it."""
        ...

    @property
    def max_operations(self) -> int:
        """The most guards, and the most operations, that one Txn may have."""
        ...

    async def get(self, key: str) -> KeyValue | None:
        """The key as it is now; None when there is no such key."""
        ...

    async def range(
        self, prefix: str, *, start: str = "", limit: int = 0, keys_only: bool = False, revision: int = 0
    ) -> Page:
        r"""The keys that begin with `prefix`, in order.

        Args:
            prefix: what the keys begin with; empty: all keys.
            start: leave out the keys before this one. The next page starts at the last key plus `"\0"`.
            limit: at most so many; 0: no limit.
            keys_only: leave the values empty, and the leases 0 (etcd 3.7 does not tell them there).
            revision: read the past, as it was at this revision; 0: the present. Pages that are all read at the first
                one's revision are one consistent read.

        Raises:
            Compacted: the store no longer remembers that revision.
        """
        ...

    async def commit(self, txn: Txn) -> Committed:
        """Carry out a Txn. When this returns, the Txn is durable.

        Cancelling the call does not stop the Txn: it may still happen, as a whole.

        Raises:
            LeaseLost: the guards hold but a Put names a lease that is gone; nothing was written.
        """
        ...

    async def commit_many(self, txns: Sequence[Txn]) -> list[Committed]:
        """Carry out Txns that do not depend on one another, in as few round trips as the store can.

        Each is atomic by itself. One whose guard fails does not touch the others. The results are in the order given;
        Txns that touch common keys also take effect in that order. Revisions of other callers may lie between those of
        one call.

        Raises:
            LeaseLost: as in `commit`, for at least one of them. The caller has to read what became of the others, so
                a Put with a lease is better committed by itself.
        """
        ...

    def watch(self, prefix: str, *, revision: int = 0) -> AbstractAsyncContextManager[AsyncIterator[WatchBatch]]:
        """Every event on keys beginning with `prefix` and with a `mod_revision` of *at least* `revision`.

        `revision` includes its own events, as etcd's start_revision does: after reading a page, watch from
        `page.revision + 1`. 0 means from the entry into the context on::

            async with store.watch("/jobs/", revision=page.revision + 1) as batches:
                async for batch in batches:
                    ...

        The iterator never ends by itself. Leaving the context ends the watch, also by a cancellation. One task at a
        time may iterate. A slow consumer receives bigger batches, until the store no longer remembers what it missed.

        Raises:
            Compacted: at the entry or during the iteration, when events that were asked for are gone. List again.
            StoreError: during the iteration, when the store was closed.
        """
        ...

    async def grant(self, ttl_seconds: float) -> int:
        """A new lease (a positive number) that lives at least `ttl_seconds`; a store may round up to whole seconds."""
        ...

    async def renew(self, lease: int) -> None:
        """Start the lease's TTL anew. Raises LeaseLost when it has expired or was revoked."""
        ...

    async def revoke(self, lease: int) -> None:
        """End the lease and delete its keys immediately. Raises LeaseLost when it is gone already."""
        ...

    async def compact(self, revision: int) -> None:
        """Forget the history up to `revision`. Its state can still be read, and what follows it can still be watched.

        Whoever has read a page at that revision, or a later one, loses nothing. To ask for less than an earlier call
        did is no error.
        """
        ...

    async def close(self) -> None:
        """Finish the writes under way, end the watches, release everything. Closing again does nothing."""
        ...


@runtime_checkable
class Reporting(Protocol):
    """A store that knows what is wrong with its servers, beyond not answering."""

    def faults(self) -> list[str]:
        """What an operator has to do something about, one sentence each; nothing when all is well."""
        ...
