"""Many small Txns as few big ones: the store sees less than one request per execution under load."""

import asyncio
from collections.abc import Iterable

from xchronos.errors import LeaseLost, StoreError, StoreUnavailable
from xchronos.store.contract import Committed, DeleteRange, Guard, Operation, Store, Txn


class _Bundle:
    """Txns that can be carried out as one: none writes what another one reads or writes."""

    def __init__(self) -> None:
        self.parts: list[tuple[Txn, asyncio.Future[Committed]]] = []
        self.guards: dict[tuple[str, str], Guard] = {}
        self.operations: list[Operation] = []
        self.written: set[str] = set()
        self.guarded: set[str] = set()
        self.closed = False

    def takes(self, txn: Txn, limit: int) -> bool:
        """Whether `txn` fits in without changing what any of them means."""
        if self.closed or len(self.operations) + len(txn.operations) > limit:
            return False
        new_guards = 0
        for guard in txn.guards:
            if guard.key in self.written:
                return False
            known = self.guards.get((guard.key, guard.target))
            if known is None:
                new_guards += 1
            elif known.revision != guard.revision:
                return False
        if len(self.guards) + new_guards > limit:
            return False
        for operation in txn.operations:
            if isinstance(operation, DeleteRange):
                return not self.parts
            if operation.key in self.written or operation.key in self.guarded:
                return False
        return True

    def add(self, txn: Txn, future: asyncio.Future[Committed]) -> None:
        self.parts.append((txn, future))
        for guard in txn.guards:
            self.guards[guard.key, guard.target] = guard
            self.guarded.add(guard.key)
        for operation in txn.operations:
            if isinstance(operation, DeleteRange):
                self.closed = True
            else:
                self.written.add(operation.key)
        self.operations.extend(txn.operations)

    def txn(self) -> Txn:
        if len(self.parts) == 1:
            return self.parts[0][0]
        return Txn(tuple(self.guards.values()), tuple(self.operations))


class Batcher:
    """Takes Txns from anywhere in the process and commits them in bundles, one round trip at a time.

    While one round trip is under way the next bundles fill up, so bundles grow with the load and a lone Txn does not
    wait. When a bundle is refused, its Txns are committed one by one: each fails or succeeds by its own guards alone.
    Puts that name a lease do not belong here: when it is gone, nobody can say what became of the others.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[tuple[Txn, asyncio.Future[Committed]]] = []
        self._wake = asyncio.Event()
        self._closing = False

    @property
    def max_operations(self) -> int:
        """The most guards, and the most operations, that one Txn may have."""
        return self._store.max_operations

    def submit(self, txn: Txn) -> asyncio.Future[Committed]:
        """Queue a Txn. The future is its result, or the StoreError that kept it from being carried out."""
        future: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
        self._waiting.append((txn, future))
        self._wake.set()
        return future

    async def run(self) -> None:
        """Commit what is submitted until `close`; then return when nothing is left.

        A cancellation cancels the futures of everything that has no answer yet.
        """
        taken: list[tuple[Txn, asyncio.Future[Committed]]] = []
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                taken, self._waiting = self._waiting, []
                if taken:
                    await self._commit(taken)
                if self._closing and not self._waiting:
                    return
        finally:
            for _, future in (*taken, *self._waiting):
                future.cancel()

    def close(self) -> None:
        """Let `run` return once everything submitted has been carried out."""
        self._closing = True
        self._wake.set()

    async def _commit(self, taken: Iterable[tuple[Txn, asyncio.Future[Committed]]]) -> None:
        limit = self._store.max_operations
        bundles = [_Bundle()]
        for txn, future in taken:
            bundle = bundles[-1]
            if not bundle.takes(txn, limit):
                bundle = _Bundle()
                bundles.append(bundle)
            bundle.add(txn, future)
        bundles = [bundle for bundle in bundles if bundle.parts]
        answers = await self._ask([bundle.txn() for bundle in bundles])
        again: list[tuple[Txn, asyncio.Future[Committed]]] = []
        for bundle, answer in zip(bundles, answers, strict=True):
            if len(bundle.parts) > 1 and _apart(answer):
                again.extend(bundle.parts)
            else:
                for _, future in bundle.parts:
                    _settle(future, answer)
        if again:
            answers = await self._ask([txn for txn, _ in again])
            for (_, future), answer in zip(again, answers, strict=True):
                _settle(future, answer)

    async def _ask(self, txns: list[Txn]) -> list[Committed | StoreError]:
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


def _apart(answer: Committed | StoreError) -> bool:
    """Whether the Txns of a bundle have to be carried out one by one."""
    if isinstance(answer, Committed):
        return not answer.succeeded
    return not isinstance(answer, (StoreUnavailable, LeaseLost))


def _settle(future: asyncio.Future[Committed], answer: Committed | StoreError) -> None:
    if future.done():
        return
    if isinstance(answer, Committed):
        future.set_result(answer)
    else:
        future.set_exception(answer)
