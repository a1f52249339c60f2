"""The SQLite store against the memory store, its perfect twin, through random lives with restarts."""

import asyncio
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from store_helpers import ManualClock

from xchronos.errors import Compacted, LeaseLost, StoreError
from xchronos.store import Delete, DeleteRange, Guard, Put, Txn
from xchronos.store.memory import MemoryStore
from xchronos.store.sqlite import SqliteStore

KEYS = ["/a", "/a/", "/a/b", "/a/c", "/b", "/é", "/\uffff", "/\U00010000"]
PREFIXES = ["", "/", "/a", "/a/", "/b", "/\uffff", "/none"]
keys, prefixes = st.sampled_from(KEYS), st.sampled_from(PREFIXES)
# Leases and revisions are named by how far they lie back, and made real when a rule runs.
backs = st.integers(0, 3)
guards = st.builds(lambda *parts: parts, keys, st.one_of(st.none(), backs), st.sampled_from(["mod", "create"]))
operations = st.one_of(
    st.builds(Put, keys, st.binary(max_size=3), st.sampled_from([0, 0, 0, 1, 2])),
    st.builds(Put, keys, st.binary(max_size=3)),
    st.builds(Delete, keys),
    st.builds(DeleteRange, prefixes),
)
txns = st.tuples(st.lists(guards, max_size=2), st.lists(operations, min_size=1, max_size=4))


class Twins(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.directory = tempfile.TemporaryDirectory(prefix="store-twin-")
        self.runner = asyncio.Runner()
        self.clock = ManualClock()
        self.leases: list[tuple[int, int]] = []
        self.opened_at = 1
        self.model: dict[int, list] = {}
        self.runner.run(self._open())

    async def _open(self) -> None:
        self.memory = MemoryStore(self.clock)
        self.sqlite = await self._reopened()

    async def _reopened(self) -> SqliteStore:
        return await SqliteStore.open(
            Path(self.directory.name) / "store.db", clock=self.clock, synchronous="normal", history_events=10_000
        )

    def teardown(self) -> None:
        self.runner.run(self.sqlite.close())
        self.runner.run(self.memory.close())
        self.runner.close()
        self.directory.cleanup()

    async def both(self, call):
        """The same call on each; the two results, exceptions being results too. Arguments may differ by store."""
        answers = []
        for at, store in enumerate((self.memory, self.sqlite)):
            try:
                answers.append(await call(store, at))
            except (LeaseLost, Compacted, StoreError) as error:
                answers.append(type(error))
        return answers

    def same(self, call) -> object:
        mine, other = self.runner.run(self.both(call))
        assert mine == other
        return mine

    def _txn(self, parts, at: int) -> Txn:
        wanted, operations = parts
        revision = self.revision()
        real = [Guard(key, 0 if back is None else max(revision - back, 1), target) for key, back, target in wanted]
        named = []
        for operation in operations:
            if isinstance(operation, Put) and operation.lease:
                lease = self.leases[-operation.lease][at] if len(self.leases) >= operation.lease else 999
                named.append(Put(operation.key, operation.value, lease))
            else:
                named.append(operation)
        return Txn(real, named)

    def revision(self) -> int:
        return self.memory._history.revision

    @rule(parts=txns)
    def commit(self, parts) -> None:
        chosen = [self._txn(parts, at) for at in range(2)]
        self.same(lambda store, at: store.commit(chosen[at]))

    @rule(many=st.lists(txns, max_size=5))
    def commit_many(self, many) -> None:
        chosen = [[self._txn(parts, at) for parts in many] for at in range(2)]
        self.same(lambda store, at: store.commit_many(chosen[at]))

    @rule(many=st.lists(txns, min_size=2, max_size=5))
    def commit_at_once(self, many) -> None:
        """Callers at the same time share a group in SQLite; each gets its own answer or error."""
        chosen = [[self._txn(parts, at) for parts in many] for at in range(2)]

        async def together(store, at):
            answers = await asyncio.gather(*map(store.commit, chosen[at]), return_exceptions=True)
            return [type(answer) if isinstance(answer, Exception) else answer for answer in answers]

        self.same(together)

    @rule(ttl=st.sampled_from([1, 5]))
    def grant(self, ttl: int) -> None:
        self.leases.append(tuple(self.runner.run(self.both(lambda store, at: store.grant(ttl)))))

    @precondition(lambda self: self.leases)
    @rule(back=backs, revoke=st.booleans())
    def end_or_renew(self, back: int, revoke: bool) -> None:
        pair = self.leases[-min(back + 1, len(self.leases))]
        self.same(lambda store, at: store.revoke(pair[at]) if revoke else store.renew(pair[at]))

    @rule(seconds=st.sampled_from([0.4, 2, 7]))
    def pass_time(self, seconds: float) -> None:
        async def passing() -> None:
            await self.clock.advance(seconds)
            # Both have decided; let the file catch up before others write, as the order of expiries is not promised.
            while self.memory._leases != {self._twin(lease) for lease in self.sqlite._writer._leases}:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            await self.sqlite.commit(Txn())

        before = set(self.memory._leases)
        self.runner.run(passing())
        if len(before - self.memory._leases) > 1:
            self._forget()

    def _twin(self, lease: int) -> int:
        return next(mine for mine, other in self.leases if other == lease)

    def _forget(self) -> None:
        """Several leases may end in another order: compare what follows."""
        self.opened_at = self.revision() + 1

    @rule(revision_back=backs)
    def compact(self, revision_back: int) -> None:
        revision = self.revision() - revision_back
        if revision >= self.opened_at:
            self.same(lambda store, at: store.compact(revision))

    @rule()
    def restart(self) -> None:
        async def restarting() -> None:
            await self.sqlite.close()
            self.sqlite = await self._reopened()
            # A lease's TTL starts anew with the store.
            for lease in self.memory._leases:
                await self.memory.renew(lease)

        self.runner.run(restarting())
        self.opened_at = self.revision() + 1
        compacted = self.runner.run(self.both(lambda store, at: self._first(store, "", self.revision())))
        if self.revision() > 1:
            assert compacted[1] is Compacted

    async def _first(self, store, prefix: str, revision: int):
        async with store.watch(prefix, revision=revision) as batches, asyncio.timeout(5):
            return await anext(batches)

    @rule(prefix=prefixes, start=st.one_of(st.just(""), keys), limit=st.integers(0, 4), only=st.booleans(), back=backs)
    def read(self, prefix: str, start: str, limit: int, only: bool, back: int) -> None:
        self.same(lambda store, at: self._page(store, prefix, start, limit, only, 0))
        revision = self.revision() - back
        if revision >= self.opened_at:
            self.same(lambda store, at: self._page(store, prefix, start, limit, only, revision))

    async def _page(self, store, prefix, start, limit, only, revision):
        page = await store.range(prefix, start=start, limit=limit, keys_only=only, revision=revision)
        return [self._plain(item) for item in page.items], page.revision, page.more

    @rule(prefix=prefixes, back=backs)
    def watch(self, prefix: str, back: int) -> None:
        revision = self.revision() - back
        if revision < self.opened_at:
            return

        async def seen(store, at):
            async with store.watch(prefix, revision=revision) as batches:
                if not batches.pending:
                    return []
                batch = await anext(batches)
                return batch.revision, [
                    (e.kind, e.key, e.value, e.mod_revision, e.create_revision) for e in batch.events
                ]

        self.same(seen)

    @staticmethod
    def _plain(item):
        return item.key, item.value, item.create_revision, item.mod_revision, bool(item.lease)

    @invariant()
    def equal(self) -> None:
        if hasattr(self, "memory"):
            self.same(lambda store, at: self._page(store, "", "", 0, False, 0))


Twins.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
TestTwins = Twins.TestCase
