"""Links to the store by which news and answers come late, or something happens while a write is under way."""

import asyncio
from collections.abc import Awaitable, Callable

from tests.services.links import Link
from xchronos.store.contract import Delete, Put


class Late(Link):
    """While it is not `going`, watches bring nothing; then what has piled up comes at once."""

    def __init__(self, store) -> None:
        super().__init__(store)
        self.going = asyncio.Event()
        self.going.set()

    async def deliver(self, batches):
        async for batch in batches:
            await self.going.wait()
            yield batch


class Meanwhile(Late):
    """Once, `meanwhile` happens before a Txn is carried out that writes (`kind`) a key which contains `what`.

    Every answer comes after `answers_after` seconds.
    """

    answers_after = 0.0
    kind: type[Put] | type[Delete] = Put

    def __init__(self, store, what: str, meanwhile: Callable[[], Awaitable[None]] | None = None) -> None:
        super().__init__(store)
        self.what = what
        self.meanwhile = meanwhile

    async def commit_many(self, txns):
        keys = [operation.key for txn in txns for operation in txn.operations if isinstance(operation, self.kind)]
        if self.meanwhile is not None and any(self.what in key for key in keys):
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        answers = await super().commit_many(txns)
        await asyncio.sleep(self.answers_after)
        return answers

    @property
    def happened(self) -> bool:
        return self.meanwhile is None


class DiesBehind(Link):
    """Of what a daemon writes, the first Txn that writes `key` is the last that is carried out."""

    def __init__(self, store, key: str) -> None:
        super().__init__(store)
        self.key = key
        self.over = False

    async def commit_many(self, txns):
        carried_out = []
        for txn in txns:
            if not self.over:
                carried_out.append(txn)
                self.over = any(
                    isinstance(operation, Put) and operation.key == self.key for operation in txn.operations
                )
        answers = await super().commit_many(carried_out)
        if self.over:
            await asyncio.Event().wait()
        return answers
