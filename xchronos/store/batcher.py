"""Many small Txns as few big ones: under load the store sees less than one request per execution.

A `Batcher` commits in rounds. A round takes the Txns that wait, leaves for the next round those that depend on an
earlier one, and puts the others into bundles: one Txn with the guards and operations of many. All bundles of a round
go to the store in one `commit_many`. The store refuses a bundle as a whole, so the batcher then tries its halves.
"""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeAlias

from xchronos.errors import LeaseLost, StoreError, StoreUnavailable
from xchronos.store.contract import Committed, DeleteRange, Guard, Operation, Store, Txn

CommitAnswer: TypeAlias = Committed | StoreError
Then: TypeAlias = Callable[[CommitAnswer], None]
Part: TypeAlias = tuple[Txn, Then]

GATHER = 0.002
"""Seconds that a busy batcher pauses so that Txns come together: a round trip costs the same for one as for many."""


MAX_TXNS_PER_ROUND = 1_000
"""How many Txns one round takes. Sorting them holds up the event loop, and this bounds for how long."""


class _Bundle:
    """Some Txns that are carried out as one."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self._unchanged: dict[str, Guard] = {}
        self._living: dict[str, Guard] = {}
        self._operations: list[Operation] = []

    def takes(self, txn: Txn, limit: int) -> bool:
        """Whether there is room for one more Txn. A guard that it shares with the others counts twice: no harm."""
        guards = len(self._unchanged) + len(self._living) + len(txn.guards)
        return guards <= limit and len(self._operations) + len(txn.operations) <= limit

    def add(self, part: Part) -> None:
        txn = part[0]
        self.parts.append(part)
        for guard in txn.guards:
            (self._living if guard.target == "create" else self._unchanged)[guard.key] = guard
        self._operations += txn.operations

    def txn(self) -> Txn:
        if len(self.parts) == 1:
            return self.parts[0][0]
        return Txn((*self._living.values(), *self._unchanged.values()), self._operations)

    def halves(self) -> "list[_Bundle]":
        """The same Txns in two bundles."""
        middle = len(self.parts) // 2
        found = [_Bundle(), _Bundle()]
        for number, part in enumerate(self.parts):
            found[number >= middle].add(part)
        return found


class _Round:
    """What is asked of the store together: no part writes what another part reads or writes.

    So their order does not matter, whatever becomes of each. A part that depends on an earlier one goes to `later`
    (`test_what_depends_on_an_earlier_txn_waits_for_it`). Two parts with the same guard do not depend on each other
    (`test_a_shared_guard_is_no_reason_to_wait`).
    """

    def __init__(self, limit: int) -> None:
        self.bundles: list[_Bundle] = []
        self.later: list[Part] = []
        self._limit = limit
        self._unchanged: dict[str, int] = {}
        self._living: dict[str, int] = {}
        self._written: set[str] = set()
        self._ranges: _Ranges | None = None

    def add(self, part: Part) -> None:
        """Put a part into a bundle, or off to a later round."""
        txn = part[0]
        if self._depends(txn):
            self.later.append(part)
            return
        if not self.bundles or not self.bundles[-1].takes(txn, self._limit):
            self.bundles.append(_Bundle())
        self.bundles[-1].add(part)

    def _depends(self, txn: Txn) -> bool:
        """Whether a Txn depends on an earlier one. Notes what it reads and writes, for those that come after it."""
        written, unchanged, living = self._written, self._unchanged, self._living
        depends = False
        keys: list[str] = []
        prefixes: list[str] = []
        for operation in txn.operations:
            if isinstance(operation, DeleteRange):
                prefixes.append(operation.prefix)
                continue
            key = operation.key
            keys.append(key)
            if key in written or key in unchanged or key in living:
                depends = True
        if prefixes and self._ranges is None:
            # Few Txns delete ranges: the others of a round pay for them from the first one on.
            self._ranges = _Ranges((*written, *unchanged, *living))
        for guard in txn.guards:
            key, revision = guard.key, guard.revision
            known = (living if guard.target == "create" else unchanged).setdefault(key, revision)
            if known != revision or key in written:
                depends = True
        if self._ranges is not None:
            depends |= self._ranges.meets(prefixes, (*keys, *(guard.key for guard in txn.guards)))
        written.update(keys)
        return depends


class _Ranges:
    """The prefixes whose keys a round deletes, and the prefixes of all keys that it reads or writes.

    A prefix that ends with a slash meets a key if it is one of the key's own prefixes.
    """

    def __init__(self, touched: Iterable[str]) -> None:
        self._deleted: set[str] = set()
        self._above: set[str] = set()
        self._unknown = False
        for key in touched:
            self._above.update(_above(key))

    def meets(self, prefixes: Iterable[str], keys: Iterable[str]) -> bool:
        """Whether a Txn that deletes these prefixes, and reads or writes these keys, meets an earlier one. Notes it."""
        deleted, above = self._deleted, self._above
        over = {prefix for key in keys for prefix in _above(key)}
        around = {prefix for deleting in prefixes for prefix in _above(deleting)}
        meets = self._unknown or not (deleted.isdisjoint(over) and deleted.isdisjoint(around))
        for prefix in prefixes:
            if prefix.endswith("/"):
                meets = meets or prefix in above
            else:
                # Nobody has sorted the keys by such prefixes: it shares its round with nothing.
                self._unknown = True
                meets = meets or bool(above or deleted)
        deleted.update(prefixes)
        above |= over | around
        return meets


def _above(key: str) -> list[str]:
    """The prefixes of a key that end with a slash, the key itself included if it does; and the empty one."""
    found, end = [""], key.find("/")
    while end >= 0:
        found.append(key[: end + 1])
        end = key.find("/", end + 1)
    return found


class Batcher:
    """Takes Txns from anywhere in the process and commits them in bundles, one round trip at a time.

    While one round trip is under way, Txns gather for the next. So bundles grow with the load, and a lone Txn does not
    wait. When the store refuses a bundle, the batcher tries its halves, then theirs: each Txn succeeds or fails by its
    own guards alone (`test_a_bundle_means_what_its_txns_mean_one_by_one`). Puts that name a lease do not belong here:
    when the lease is gone, nobody can say what became of the others (`test_a_lost_lease_leaves_everybody_in_doubt`).
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[Part] = []
        self._futures: dict[asyncio.Future[Committed], None] = {}
        self._wake = asyncio.Event()
        self._closing = False

    @property
    def max_operations(self) -> int:
        """The most guards, and the most operations, that one Txn may have."""
        return self._store.max_operations

    def send(self, txn: Txn, then: Then) -> None:
        """Queue a Txn. `then` is called with its result, or with the StoreError that kept it from being carried out.

        It is never called when `run` is cancelled before.
        """
        self._waiting.append((txn, then))
        self._wake.set()

    def submit(self, txn: Txn) -> asyncio.Future[Committed]:
        """Queue a Txn. The future gets its result or its StoreError, or is cancelled when `run` is cancelled before."""
        future: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
        self._futures[future] = None
        self.send(txn, partial(self._settle, future))
        return future

    async def run(self) -> None:
        """Commit what is submitted. Returns after `close`, once nothing is left to commit."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                taken, self._waiting = self._waiting[:MAX_TXNS_PER_ROUND], self._waiting[MAX_TXNS_PER_ROUND:]
                if self._waiting:
                    self._wake.set()
                busy = len(taken) > 1
                while taken:
                    taken = await self._commit(taken)
                if self._closing and not self._waiting:
                    return
                if busy and not self._closing:
                    await asyncio.sleep(GATHER)
        finally:
            for future in self._futures:
                future.cancel()
            self._futures.clear()

    def close(self) -> None:
        """Let `run` return once everything submitted has been carried out."""
        self._closing = True
        self._wake.set()

    def _settle(self, future: asyncio.Future[Committed], answer: CommitAnswer) -> None:
        self._futures.pop(future, None)
        if future.done():
            return
        if isinstance(answer, StoreError):
            future.set_exception(answer)
        else:
            future.set_result(answer)

    async def _commit(self, taken: list[Part]) -> list[Part]:
        """Carry out one round; returns the parts that had to wait for it."""
        this = _Round(self._store.max_operations)
        for part in taken:
            this.add(part)
        bundles = this.bundles
        while bundles:
            answers = await self._ask([bundle.txn() for bundle in bundles])
            apart: list[_Bundle] = []
            for bundle, answer in zip(bundles, answers, strict=True):
                if len(bundle.parts) > 1 and _apart(answer):
                    apart += bundle.halves()
                else:
                    for _, then in bundle.parts:
                        then(answer)
            bundles = apart
        return this.later

    async def _ask(self, txns: list[Txn]) -> list[CommitAnswer]:
        """The store's answer to each Txn, which may be a StoreError."""
        try:
            return list(await self._store.commit_many(txns))
        except (StoreUnavailable, LeaseLost) as error:
            return [error] * len(txns)
        except StoreError as error:
            if len(txns) == 1:
                return [error]
        # One of them is malformed, so the store carried out none. The others must not fail for that
        # (`test_a_malformed_txn_fails_alone`).
        return [(await self._ask([txn]))[0] for txn in txns]


class CommonCommits:
    """Commits that are asked for at the same time, as bundles: of a crowd each waits for few requests, not for its own.

    Unlike a `Batcher` it needs nobody to run it: a task lives for as long as something is to be committed.
    """

    def __init__(self, store: Store) -> None:
        self._batcher = Batcher(store)
        # It ends as soon as nothing is left, and takes what comes until then.
        self._batcher.close()
        self._running: asyncio.Task[None] | None = None

    async def commit(self, txn: Txn) -> Committed:
        """Commit, with whatever others commit meanwhile. Means and raises what `Store.commit` does."""
        answer = self._batcher.submit(txn)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._batcher.run(), name="commit together")
        return await answer


def _apart(answer: CommitAnswer) -> bool:
    """Whether the answer to a bundle asks for carrying out its Txns apart from one another."""
    if isinstance(answer, Committed):
        return not answer.succeeded
    return not isinstance(answer, (StoreUnavailable, LeaseLost))
