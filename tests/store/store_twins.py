"""A store against the memory store, its perfect twin, through random lives with restarts.

Derive a machine from `Twins`, say how the other store is opened and how time passes for it, and run it::

    run_state_machine_as_test(MyTwins, settings=lives(100))
"""

import asyncio
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.store.store_helpers import ManualClock
from xchronos.errors import Compacted, LeaseLost, StoreError, StoreUnavailable
from xchronos.store import Delete, DeleteRange, Guard, Put, Txn
from xchronos.store.memory import MemoryStore

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


PATIENCE = 60.0
"""Real seconds after which a step of a life hangs: the life is then shown as an example that fails."""

END = "~end"
"""Ends the key by which a watch knows that it has seen everything."""


class Twins(RuleBasedStateMachine):
    """The same calls on both stores, and the same answers from both."""

    forgets = False
    """Whether the other store has no history from before it was opened."""

    async def open_other(self) -> Any:
        """Open the other store, or open it anew: it is then as it was, but for the leases, whose TTL starts anew."""
        raise NotImplementedError

    def living(self) -> set[int]:
        """The living leases of the other store, by its own numbers."""
        raise NotImplementedError

    async def pass_time(self, seconds: float) -> None:
        """Let time pass for both stores."""
        await self.clock.advance(seconds)

    async def leases_seen(self) -> None:
        """Called after each grant and renewal, for a store that has to look at its leases for their time to begin."""

    async def tidy(self) -> None:
        """What the other store does by itself now and then, and must not be seen."""

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.clock = ManualClock()
        self.leases: list[tuple[int, int]] = []
        self.opened_at = 1
        self.runner.run(self._open())

    async def _open(self) -> None:
        self.memory = MemoryStore(self.clock)
        self.other: Any = await self.open_other()  # each kind of twins looks into its own

    def teardown(self) -> None:
        if hasattr(self, "other"):
            self.runner.run(self.other.close())
        if hasattr(self, "memory"):
            self.runner.run(self.memory.close())
            self.runner.close()

    async def both(self, call):
        """The same call on each; the two results, exceptions being results too. Arguments may differ by store."""
        answers = []
        for at, store in enumerate((self.memory, self.other)):
            try:
                answers.append(await call(store, at))
            except StoreUnavailable:  # a server that is too slow is no difference
                raise
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
        """Callers at the same time may share what is written; each gets its own answer or error."""
        chosen = [[self._txn(parts, at) for parts in many] for at in range(2)]

        async def together(store, at):
            answers = await asyncio.gather(*map(store.commit, chosen[at]), return_exceptions=True)
            return [type(answer) if isinstance(answer, Exception) else answer for answer in answers]

        self.same(together)

    @rule(ttl=st.sampled_from([1, 5]))
    def grant(self, ttl: int) -> None:
        async def granting(store, at):
            lease = await store.grant(ttl)
            await self.leases_seen()
            return lease

        self.leases.append(tuple(self.runner.run(self.both(granting))))

    @precondition(lambda self: self.leases)
    @rule(back=backs, revoke=st.booleans())
    def end_or_renew(self, back: int, revoke: bool) -> None:
        pair = self.leases[-min(back + 1, len(self.leases))]

        async def ending(store, at):
            await (store.revoke(pair[at]) if revoke else store.renew(pair[at]))
            await self.leases_seen()

        self.same(ending)

    @rule(seconds=st.sampled_from([0.4, 2, 7]))
    def let_time_pass(self, seconds: float) -> None:
        async def passing() -> None:
            await self.pass_time(seconds)
            # Both have decided; let the other one catch up before others write, as the order of expiries is not promised.
            async with asyncio.timeout(PATIENCE):
                while self.memory._leases != {self._twin(lease) for lease in self.living()}:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            await self.other.commit(Txn())

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
    def tidied(self) -> None:
        self.runner.run(self.tidy())

    @rule()
    def restart(self) -> None:
        async def restarting() -> None:
            await self.other.close()
            self.other = await self.open_other()
            await self.leases_seen()
            for lease in self.memory._leases:
                await self.memory.renew(lease)

        self.runner.run(restarting())
        self.opened_at = self.revision() + 1
        if self.forgets and self.revision() > 1:
            assert self.runner.run(self.both(lambda store, at: self._first(store, self.revision())))[1] is Compacted

    async def _first(self, store, revision: int):
        async with store.watch("", revision=revision) as batches, asyncio.timeout(PATIENCE):
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
            end = (await store.commit(Txn((), [Put(prefix + END, b"")]))).revision
            found = []
            async with store.watch(prefix, revision=revision) as batches, asyncio.timeout(PATIENCE):
                while not found or found[-1].mod_revision < end:
                    batch = await anext(batches)
                    found += batch.events
            return batch.revision, [(e.kind, e.key, e.value, e.mod_revision, e.create_revision) for e in found]

        self.same(seen)

    @staticmethod
    def _plain(item):
        return item.key, item.value, item.create_revision, item.mod_revision, bool(item.lease)

    @invariant()
    def equal(self) -> None:
        if hasattr(self, "memory"):
            self.same(lambda store, at: self._page(store, "", "", 0, False, 0))


def lives(count: int) -> settings:
    """So many random lives."""
    return settings(
        max_examples=count,
        stateful_step_count=25,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
