"""Many small Txns as few big ones: the store sees less than one request per execution under load."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from xchronos.errors import LeaseLost, StoreError, StoreUnavailable
from xchronos.store.contract import Committed, DeleteRange, Guard, Operation, Store, Txn

Answer: TypeAlias = Committed | StoreError
Then: TypeAlias = Callable[[Answer], None]
Part: TypeAlias = tuple[Txn, Then]

GATHER = 0.002
"""Seconds for which a busy batcher lets Txns come together: a round trip costs the same for one as for a hundred."""


class _Bundle:
    """Txns that are carried out as one."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self._unchanged: dict[str, Guard] = {}
        self._living: dict[str, Guard] = {}
        self._operations: list[Operation] = []

    def add(self, part: Part, limit: int) -> bool:
        """Take a part in, unless its guards cannot hold together with those of the others, or there is no room."""
        txn = part[0]
        unchanged, living = self._unchanged, self._living
        if self.parts and len(self._operations) + len(txn.operations) > limit:
            return False
        fresh: list[Guard] = []
        for guard in txn.guards:
            known = (living if guard.target == "create" else unchanged).get(guard.key)
            if known is None:
                fresh.append(guard)
            elif known.revision != guard.revision:
                return False
        if self.parts and len(unchanged) + len(living) + len(fresh) > limit:
            return False
        for guard in fresh:
            (living if guard.target == "create" else unchanged)[guard.key] = guard
        self._operations.extend(txn.operations)
        self.parts.append(part)
        return True

    def txn(self) -> Txn:
        if len(self.parts) == 1:
            return self.parts[0][0]
        return Txn((*self._living.values(), *self._unchanged.values()), tuple(self._operations))


class _Round:
    """What is asked of the store at once: none of it writes what another part reads or writes.

    So their order does not matter, whatever becomes of each. What does depend on an earlier part has to wait.
    """

    def __init__(self, limit: int) -> None:
        self.bundles: list[_Bundle] = []
        self.later: list[Part] = []
        self._limit = limit
        self._read: set[str] = set()
        self._written: set[str] = set()
        self._closed = False

    def add(self, part: Part) -> None:
        """Put a part into a bundle, or off."""
        read, written = self._read, self._written
        reads = [guard.key for guard in part[0].guards]
        writes = [operation.key for operation in part[0].operations if not isinstance(operation, DeleteRange)]
        ranges = len(writes) < len(part[0].operations)
        depends = (
            self._closed
            or not written.isdisjoint(reads)
            or not written.isdisjoint(writes)
            or not read.isdisjoint(writes)
            or (ranges and bool(self.bundles))
        )
        # Nothing goes ahead of a part that has to wait, nor of a range, whose keys nobody knows.
        self._closed |= ranges
        read.update(reads)
        written.update(writes)
        if depends:
            self.later.append(part)
        elif not self.bundles or not self.bundles[-1].add(part, self._limit):
            bundle = _Bundle()
            bundle.add(part, self._limit)
            self.bundles.append(bundle)


class Batcher:
    """Takes Txns from anywhere in the process and commits them in bundles, one round trip at a time.

    While one round trip is under way the next bundles fill up, so bundles grow with the load and a lone Txn does not
    wait. When a bundle is refused, its Txns are committed one by one: each fails or succeeds by its own guards alone.
    Puts that name a lease do not belong here: when it is gone, nobody can say what became of the others.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[Part] = []
        self._futures: set[asyncio.Future[Committed]] = set()
        self._wake = asyncio.Event()
        self._closing = False

    @property
    def max_operations(self) -> int:
        """The most guards, and the most operations, that one Txn may have."""
        return self._store.max_operations

    def send(self, txn: Txn, then: Then) -> None:
        """Queue a Txn. `then` is told its result, or the StoreError that kept it from being carried out.

        It is not told anything any more when `run` is cancelled before.
        """
        self._waiting.append((txn, then))
        self._wake.set()

    def submit(self, txn: Txn) -> asyncio.Future[Committed]:
        """Queue a Txn. The future is its result, or raises the StoreError; it is cancelled when `run` is before."""
        future: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
        self._futures.add(future)
        self.send(txn, partial(self._settle, future))
        return future

    async def run(self) -> None:
        """Commit what is submitted until `close`; then return when nothing is left."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                taken, self._waiting = self._waiting, []
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

    def _settle(self, future: asyncio.Future[Committed], answer: Answer) -> None:
        self._futures.discard(future)
        if future.done():
            return
        if isinstance(answer, StoreError):
            future.set_exception(answer)
        else:
            future.set_result(answer)

    async def _commit(self, taken: list[Part]) -> list[Part]:
        """One round; returns what had to wait for it."""
        this = _Round(self._store.max_operations)
        for part in taken:
            this.add(part)
        bundles = this.bundles
        answers = await self._ask([bundle.txn() for bundle in bundles])
        again: list[Part] = []
        for bundle, answer in zip(bundles, answers, strict=True):
            if len(bundle.parts) > 1 and _apart(answer):
                again.extend(bundle.parts)
            else:
                for _, then in bundle.parts:
                    then(answer)
        if again:
            answers = await self._ask([txn for txn, _ in again])
            for (_, then), answer in zip(again, answers, strict=True):
                then(answer)
        return this.later

    async def _ask(self, txns: list[Txn]) -> list[Answer]:
        """The store's answer to each Txn, which may be a StoreError."""
        try:
            return list(await self._store.commit_many(txns))
        except (StoreUnavailable, LeaseLost) as error:
            return [error] * len(txns)
        except StoreError as error:
            if len(txns) == 1:
                return [error]
        # One of them is malformed, so none was carried out: the others must not suffer for it.
        return [(await self._ask([txn]))[0] for txn in txns]


def _apart(answer: Answer) -> bool:
    """Whether the Txns of a bundle have to be carried out one by one."""
    if isinstance(answer, Committed):
        return not answer.succeeded
    return not isinstance(answer, (StoreUnavailable, LeaseLost))
