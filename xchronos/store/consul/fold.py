"""Folding the log into plain keys, so that the log stays short. Any client may fold, one at a time.

A fold has four steps:

1. It writes into the key `fold` which entry it goes to: its target.
2. It writes every key that changed since the last fold, as of the target.
3. It writes into `fold` that this is done.
4. It deletes entries that are old enough.

Every Txn of a fold compares `fold`. So a client that slept meanwhile, and was overtaken by another one's fold, writes
nothing (`test_a_fold_that_was_overtaken_writes_nothing`). A fold that broke off leaves some keys that are newer than
`fold` says. The log still has every entry since the last whole fold, so readers and the next fold carry out these
entries once more, and that puts the keys right (`test_a_fold_that_is_broken_off_is_gone_over`).
"""

import asyncio
import random

import msgspec
import structlog

from xchronos.errors import StoreError, StoreUnavailable
from xchronos.store.consul.http import MAX_CONSUL_OPERATIONS, Agents, Denied, Op
from xchronos.store.consul.layout import PIECE, Fold, Layout, batches, big_name, decode_fold, encode_row
from xchronos.store.consul.mirror import Mirror
from xchronos.store.contract import KeyValue

log = structlog.get_logger(__name__)

KEPT_ENTRIES = 64
"""How many entries stay after they were folded, for clients that have not read them yet."""

_FOLD_EVERY = 10.0  # seconds
_FOLD_ENTRIES = 1000
_FOLD_BYTES = 8 * 1024 * 1024
_CHECK_EVERY = 0.5
_AFTER_FAILURE = 2.0
_STALLED = 15.0  # seconds after which a fold that does not end is taken over
_BLOCK = 16  # entries that have all but the last digit of their name in common


class Folder:
    """Folds about every ten seconds while there is something to fold, and sooner when the log has grown long."""

    def __init__(self, agents: Agents, layout: Layout, mirror: Mirror) -> None:
        self._agents = agents
        self._layout = layout
        self._mirror = mirror
        self._stalled: tuple[int, float] = (0, 0.0)
        self.fault = ""
        """Why folding fails, when waiting does not help; empty once a fold succeeds again."""

    async def run(self) -> None:
        """Fold when it is time; until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time() + _FOLD_EVERY * random.uniform(0.5, 1.5)  # noqa: S311 - the clients take turns
        while True:
            await asyncio.sleep(_CHECK_EVERY * random.uniform(0.5, 1.5))  # noqa: S311
            mirror = self._mirror
            behind = mirror.head.sequence - mirror.checkpoint
            if behind and (loop.time() >= due or behind > _FOLD_ENTRIES or mirror.log_bytes > _FOLD_BYTES):
                try:
                    await self.fold()
                    self.fault = ""
                except StoreError as error:
                    log.warning("the log in Consul could not be folded; trying again", error=str(error))
                    if isinstance(error, Denied) or not isinstance(error, StoreUnavailable):
                        self.fault = f"the log in Consul cannot be folded, and grows: {error}"
                    await asyncio.sleep(_AFTER_FAILURE)
                due = loop.time() + _FOLD_EVERY * random.uniform(0.5, 1.5)  # noqa: S311

    async def fold(self, *, keep: int = KEPT_ENTRIES) -> None:
        """Fold up to the present, unless another client is folding or has just folded. Raises StoreError."""
        mirror, key = self._mirror, self._layout.fold
        item = await self._agents.get(key)
        if item is None or item.value is None:
            raise StoreError(f"{key} has vanished from Consul: the store was removed")
        fold = decode_fold(item.value)
        mirror.folded(fold.checkpoint)
        target = mirror.head.sequence
        if target <= fold.checkpoint or self._somebody_is_at_it(fold, item.modify_index):
            return
        rows = {name: mirror.rows.get(name) for name in mirror.dirty}
        if fold.target == fold.checkpoint:
            # The last fold is whole: so a key that was created and deleted since is not in Consul.
            rows = {name: row for name, row in rows.items() if row is not None or not mirror.dirty[name][1]}
        revision = mirror.head.revision
        # The Txn also reads the target's entry. If an operator has restored an old state, and this client does not know
        # that yet, there is no such entry and Consul refuses the Txn
        # (`test_a_client_that_has_not_heard_of_a_restored_snapshot_folds_nothing_into_it`).
        there = Op("get", self._layout.entry(target))
        index = await self._swap(Fold(fold.checkpoint, target, fold.trimmed), item.modify_index, there)
        if not index or not await self._write(rows, index):
            return
        done = Fold(target, target, fold.trimmed)
        index = await self._swap(done, index)
        if not index:
            return
        mirror.folded(target)
        await self._trim(done, index, revision, max(0, target - keep))

    def _somebody_is_at_it(self, fold: Fold, index: int) -> bool:
        if fold.target == fold.checkpoint:
            return False
        now = asyncio.get_running_loop().time()
        if self._stalled[0] != index:
            self._stalled = index, now
        return now - self._stalled[1] < _STALLED

    async def _swap(self, fold: Fold, index: int, *others: Op) -> int:
        """Write `fold`, unless it has changed or one of the `others` does not hold. Returns its new index, or 0."""
        answer = await self._agents.txn([Op("cas", self._layout.fold, msgspec.json.encode(fold), index), *others])
        return 0 if answer.failures else answer.items[0].modify_index

    async def _write(self, rows: dict[str, KeyValue | None], index: int) -> bool:
        """Write the keys as of the target. False when another client has taken over."""
        sizes = {name: 0 if row is None else len(name) + len(row.value) for name, row in rows.items()}
        for group in batches(sizes, MAX_CONSUL_OPERATIONS - 1, PIECE):
            operations = [Op("check-index", self._layout.fold, None, index)]
            for name in group:
                row = rows[name]
                if row is None:
                    operations.append(Op("delete", self._layout.key(name)))
                    continue
                data, parts = encode_row(row)
                for number, part in enumerate(parts):
                    await self._agents.put(self._layout.big_part(name, row.mod_revision, number), part)
                operations.append(Op("set", self._layout.key(name), data))
            if (await self._agents.txn(operations)).failures:
                return False
        return True

    async def _trim(self, fold: Fold, index: int, revision: int, until: int) -> None:
        """Delete the entries up to `until`, in whole blocks, and the parts of entries and values that are gone."""
        layout = self._layout
        first, last = (fold.trimmed + 1) // _BLOCK, (until + 1) // _BLOCK
        gone = [layout.entry(block * _BLOCK)[:-1] for block in range(first, last)]
        operations = [Op("delete-tree", name) for name in gone]
        border = layout.entry(last * _BLOCK).removeprefix(layout.log)
        parts = await self._agents.names(layout.parts)
        operations += [Op("delete", name) for name in parts if name.removeprefix(layout.parts) < border]
        living = {big_name(row.key, row.mod_revision) for row in self._mirror.rows.values() if len(row.value) > PIECE}
        for name in await self._agents.names(layout.big):
            value = name.removeprefix(layout.big).partition("/")[0]
            if value not in living and int(value.partition("-")[0], 16) <= revision:
                operations.append(Op("delete", name))
        for at in range(0, len(operations), MAX_CONSUL_OPERATIONS):
            await self._agents.txn(operations[at : at + MAX_CONSUL_OPERATIONS])
        if last > first:
            await self._swap(Fold(fold.checkpoint, fold.target, last * _BLOCK - 1), index)
