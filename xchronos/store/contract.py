"""The narrow key-value contract that every job store serves: embedded ones and cluster stores alike.

The semantics are etcd v3's, so that an etcd store is a translation and every other store has a model to follow:

- Keys are non-empty `str`, ordered by their UTF-8 bytes; values are `bytes`. A Txn of up to 1 MiB is always accepted.
- The store has one *revision*, a counter. A Txn that changes something raises it by one, and everything that Txn writes
  carries the new number as `mod_revision`. A Txn that changes nothing (a failed guard, the deletion of a key that is
  not there) leaves it alone. A revision once seen never comes back, not even through a restart.
- `create_revision` is the revision at which a key came to be; a deletion ends that life, a later Put begins another.
- A *lease* is a promise to come back within its TTL. When the promise is broken, or the lease revoked, the keys bound
  to it go away in one revision, in the order of the keys, through ordinary delete events. A Put binds its key to the
  lease it names and unbinds it from any other; `lease=0` binds to none.

The contract is checked by `xchronos.testing.store.StoreContract`.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import msgspec

MAX_OPERATIONS = 128
"""An etcd server's default for one Txn; the embedded stores keep to it, so that what works on them works there."""

RENEWALS = 5
"""How often in its TTL a holder renews a lease: several renewals may fail, or an event loop be busy, before it ends."""


class KeyValue(msgspec.Struct, frozen=True, gc=False):
    """One living key. `lease` is 0 when the key is bound to none; `value` is empty in a `keys_only` page."""

    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    lease: int = 0


class Page(msgspec.Struct, frozen=True):
    """Some keys of a prefix, in order, as they were at `revision`. `more`: keys beyond the limit remain."""

    items: list[KeyValue]
    revision: int
    more: bool


class Guard(msgspec.Struct, frozen=True, gc=False):
    """A condition: the key's `mod_revision` (or `create_revision`) is exactly `revision`; 0: there is no such key.

    The mod revision says "unchanged since I read it", the create revision "still the same life of the key", which is
    how a holder proves that it still owns a lease-bound key.
    """

    key: str
    revision: int
    target: Literal["mod", "create"] = "mod"


class Put(msgspec.Struct, frozen=True, gc=False):
    """Write a key, bound to `lease` unless that is 0."""

    key: str
    value: bytes
    lease: int = 0


class Delete(msgspec.Struct, frozen=True, gc=False):
    """Remove a key; nothing happens when there is none."""

    key: str


class DeleteRange(msgspec.Struct, frozen=True, gc=False):
    """Remove every key that begins with `prefix` (the empty prefix: all), in the order of the keys."""

    prefix: str


Operation: TypeAlias = Put | Delete | DeleteRange


class Txn(msgspec.Struct, frozen=True, gc=False):
    """When every guard holds: all operations, in one revision. Otherwise: nothing at all.

    Guards look at the store as it was before the Txn. No two operations may touch the same key.
    """

    guards: Sequence[Guard] = ()
    operations: Sequence[Operation] = ()


class Committed(msgspec.Struct, frozen=True, gc=False):
    """What became of a Txn. `succeeded` is False when a guard did not hold, and then nothing was written.

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

    With this batch the watcher has seen everything up to `revision`: watching again from `revision + 1` leaves no gap
    and repeats nothing.
    """

    revision: int
    events: list[Event]


class Store(Protocol):
    """An ordered, revisioned, watchable map.

    Every method may raise StoreUnavailable; a write that raised it happened as a whole or not at all, and which of the
    two is not known. A StoreError that is neither that nor one of those named below means that the call was malformed
    (a key twice in a Txn, too many operations, a revision of the future) or that the store is closed or broken.
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
        """The key as it is now; None when there is none."""
        ...

    async def range(
        self, prefix: str, *, start: str = "", limit: int = 0, keys_only: bool = False, revision: int = 0
    ) -> Page:
        r"""The keys that begin with `prefix`, in order.

        Args:
            prefix: what the keys begin with; empty: all keys.
            start: leave out the keys before this one. The next page starts at the last key plus `"\0"`.
            limit: at most so many; 0: no limit.
            keys_only: leave the values empty.
            revision: read the past, as it was at this revision; 0: now. Passing the first page's revision on to the
                following ones makes them one consistent read.

        Raises:
            Compacted: the store no longer remembers that revision.
        """
        ...

    async def commit(self, txn: Txn) -> Committed:
        """Carry out a Txn. When this returns, the Txn is durable.

        A caller that is cancelled meanwhile does not stop the Txn: it may still happen, as a whole.

        Raises:
            LeaseLost: the guards hold but a Put names a lease that is gone; nothing was written.
        """
        ...

    async def commit_many(self, txns: Sequence[Txn]) -> list[Committed]:
        """Carry out Txns that do not depend on one another, in as few round trips as the store can.

        Each is atomic by itself, and one whose guard fails does not touch the others. Results are in the order given;
        when the Txns touch common keys, they take effect in that order too. The revisions of one call may have those
        of other callers between them.

        Raises:
            LeaseLost: as in `commit`, for at least one of them; what became of the others must be read. A Put with a
                lease is therefore better committed by itself.
        """
        ...

    def watch(self, prefix: str, *, revision: int = 0) -> AbstractAsyncContextManager[AsyncIterator[WatchBatch]]:
        """Every event on keys beginning with `prefix` and with a `mod_revision` of *at least* `revision`.

        As etcd's start_revision does, `revision` includes its own events: after reading a page, watch from
        `page.revision + 1`. 0 means from now on, now being the entry into the context::

            async with store.watch("/jobs/", revision=page.revision + 1) as batches:
                async for batch in batches:
                    ...

        The iterator never ends by itself. Leaving the context, by a cancellation too, ends the watch. One task at a
        time may iterate. A slow consumer receives bigger batches, until the store no longer remembers what it missed.

        Raises:
            Compacted: from the entry or from the iteration: events that were asked for are gone. List again.
            StoreError: from the iteration: the store was closed.
        """
        ...

    async def grant(self, ttl_seconds: float) -> int:
        """A new lease (a positive number), which lives at least so long; a store may round up to whole seconds."""
        ...

    async def renew(self, lease: int) -> None:
        """Start the lease's TTL anew. Raises LeaseLost when it has expired or was revoked."""
        ...

    async def revoke(self, lease: int) -> None:
        """End the lease and delete its keys at once. Raises LeaseLost when it is gone already."""
        ...

    async def compact(self, revision: int) -> None:
        """Forget the history up to `revision`: its state can still be read, and what follows it can be watched.

        Whoever has read a page at that revision, or later, loses nothing. Less than before is no error.
        """
        ...

    async def close(self) -> None:
        """Finish the writes under way, end the watches and let go of everything. Closing again does nothing."""
        ...


@runtime_checkable
class Reporting(Protocol):
    """A store that knows what is wrong with its servers, beyond not answering."""

    def faults(self) -> list[str]:
        """What an operator has to do something about, one sentence each; nothing when all is well."""
        ...
