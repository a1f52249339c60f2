"""The clauses of the store contract about leases."""

import math

import pytest

from xchronos.errors import LeaseLost, StoreError
from xchronos.store.contract import Delete, Guard, Put, Store, Txn
from xchronos.testing.store_base import StoreClauses, collect, keys, put, write


class LeaseClauses(StoreClauses):
    """A lease that is not renewed ends, and its keys are deleted by one revision that watches see."""

    async def test_leases_are_positive_and_distinct(self, store: Store) -> None:
        """0 means "no lease", so no lease is 0."""
        leases = [await store.grant(self.ttl) for _ in range(3)]
        assert min(leases) > 0
        assert len(set(leases)) == 3

    @pytest.mark.parametrize("ttl", [0, -1, math.inf, math.nan])
    async def test_a_ttl_is_a_positive_number(self, store: Store, ttl: float) -> None:
        """Neither 0 seconds nor for ever."""
        with pytest.raises(StoreError):
            await store.grant(ttl)

    async def test_an_expired_lease_deletes_its_keys(self, store: Store) -> None:
        """In one revision, in the order of the keys, by delete events; other keys stay."""
        lease, other = await store.grant(self.ttl), await store.grant(60 * self.ttl)
        async with store.watch("/l/") as batches:
            await put(store, "/l/b", b"1", lease)
            await put(store, "/l/a", b"2", lease)
            await put(store, "/l/c", b"3", other)
            await put(store, "/l/d", b"4")
            before = await put(store, "/x/elsewhere", b"", lease)
            await collect(batches, 4)
            await self.pass_time(2 * self.ttl)
            events = await collect(batches, 2)
            assert [(event.kind, event.key) for event in events] == [("delete", "/l/a"), ("delete", "/l/b")]
            assert {event.mod_revision for event in events} == {before + 1}
        assert await keys(store) == ["/l/c", "/l/d"]
        with pytest.raises(LeaseLost):
            await store.renew(lease)
        with pytest.raises(LeaseLost):
            await store.revoke(lease)

    async def test_a_lease_lives_for_its_ttl(self, store: Store) -> None:
        """It does not end early."""
        lease = await store.grant(self.ttl)
        await put(store, "/l/a", b"", lease)
        await self.pass_time(self.ttl * 0.5)
        assert await keys(store, "/l/") == ["/l/a"]

    async def test_renewing_starts_the_ttl_anew(self, store: Store) -> None:
        """As often as one likes."""
        lease = await store.grant(self.ttl)
        await put(store, "/l/a", b"", lease)
        for _ in range(4):
            await self.pass_time(self.ttl * 0.6)
            await store.renew(lease)
        assert await keys(store, "/l/") == ["/l/a"]
        async with store.watch("/l/") as batches:
            await self.pass_time(2 * self.ttl)
            assert [event.kind for event in await collect(batches, 1)] == ["delete"]

    async def test_revoking_deletes_at_once(self, store: Store) -> None:
        """When `revoke` returns, the keys are gone."""
        lease = await store.grant(60 * self.ttl)
        last = await write(store, Put("/l/b", b"", lease), Put("/l/a", b"", lease), Put("/l/c", b""))
        async with store.watch("/l/") as batches:
            await store.revoke(lease)
            assert await keys(store, "/l/") == ["/l/c"]
            events = await collect(batches, 2)
        assert [(event.kind, event.key, event.mod_revision) for event in events] == [
            ("delete", "/l/a", last + 1),
            ("delete", "/l/b", last + 1),
        ]
        with pytest.raises(LeaseLost):
            await store.renew(lease)
        with pytest.raises(LeaseLost):
            await store.revoke(lease)

    async def test_a_lease_without_keys_ends_without_a_revision(self, store: Store) -> None:
        """Nothing changes, so nothing is told."""
        before = await put(store, "/l/a")
        await store.revoke(await store.grant(self.ttl))
        assert (await store.range("")).revision == before

    async def test_a_put_binds_the_key_anew(self, store: Store) -> None:
        """To the lease that the Put names, or to none. The earlier lease does not delete the key any more."""
        first, second = await store.grant(60 * self.ttl), await store.grant(60 * self.ttl)
        for key in ("/l/freed", "/l/moved", "/l/kept", "/l/again"):
            await put(store, key, b"", first)
        await put(store, "/l/freed")
        await put(store, "/l/moved", b"", second)
        await write(store, Delete("/l/again"))
        await put(store, "/l/again")
        await store.revoke(first)
        assert await keys(store, "/l/") == ["/l/again", "/l/freed", "/l/moved"]
        moved = await store.get("/l/moved")
        assert moved is not None
        assert moved.lease == second
        await store.revoke(second)
        assert await keys(store, "/l/") == ["/l/again", "/l/freed"]

    async def test_a_put_under_a_lost_lease_writes_nothing(self, store: Store) -> None:
        """Nothing of its Txn, and the revision stays."""
        lease = await store.grant(60 * self.ttl)
        await store.revoke(lease)
        before = await put(store, "/l/x")
        with pytest.raises(LeaseLost):
            await write(store, Put("/l/a", b""), Put("/l/b", b"", lease))
        with pytest.raises(LeaseLost):
            await put(store, "/l/a", b"", 987_654_321)
        page = await store.range("/l/")
        assert ([item.key for item in page.items], page.revision) == (["/l/x"], before)

    async def test_a_failed_guard_comes_before_a_lost_lease(self, store: Store) -> None:
        """A Txn that would not have written asks nothing of the lease."""
        committed = await store.commit(Txn([Guard("/l/none", 5)], [Put("/l/a", b"", 987_654_321)]))
        assert not committed.succeeded

    async def test_a_lost_lease_in_commit_many_tears_no_txn(self, store: Store) -> None:
        """The call raises LeaseLost. Each Txn happened as a whole or not at all; that with the lease did not."""
        good = Txn((), [Put("/l/a", b""), Put("/l/b", b"")])
        bad = Txn((), [Put("/l/c", b""), Put("/l/d", b"", 987_654_321)])
        with pytest.raises(LeaseLost):
            await store.commit_many([good, bad])
        assert await keys(store, "/l/") in ([], ["/l/a", "/l/b"])

    async def test_a_key_of_a_lease_guards_its_holder(self, store: Store) -> None:
        """The create revision is a fencing token: a former holder cannot write, though the key is there again."""
        mine = await store.grant(self.ttl)
        term = await put(store, "/l/owner", b"me", mine)
        fenced = Txn([Guard("/l/owner", term, "create")], [Put("/l/work", b"done")])
        assert (await store.commit(fenced)).succeeded
        await store.revoke(mine)
        assert not (await store.commit(fenced)).succeeded
        await put(store, "/l/owner", b"another", await store.grant(self.ttl))
        assert not (await store.commit(fenced)).succeeded
