"""`StoreContract`: the tests that every `xchronos.store.Store` must pass. Needs pytest and pytest-asyncio.

Derive a class whose name begins with `Test` and say how a store is opened::

    class TestMyStore(StoreContract):
        async def open_store(self, directory: Path) -> Store:
            return await MyStore.open(directory / "store")

A store on a server gets an empty namespace of its own for each test. `pass_time` and `ttl` can be overridden too.
"""

import asyncio
from typing import Literal

import pytest

from xchronos.errors import StoreError
from xchronos.store.contract import (
    Committed,
    Delete,
    DeleteRange,
    Guard,
    KeyValue,
    Operation,
    Put,
    Store,
    Txn,
)
from xchronos.testing.store_base import MUST_COME_WITHIN, collect, keys, put, write
from xchronos.testing.store_leases import LeaseClauses
from xchronos.testing.store_watches import WatchClauses

# Keys in the order of their UTF-8 bytes. UTF-16 and locales would order them differently. Some of them are wildcards of
# SQL and of shells.
ORDERED = ["%", "*", "/", "/a", "/a\0", "/a/", "/a/b", "/ab", "B", "[", "_", "a", "aa", "\x7f", "é", "\ud7ff", "\ue000"]
ORDERED += ["\uffff", "\U00010000", "\U0001f600", "\U0010ffff", "\U0010ffffx", "\U0010ffff\U0010ffff"]


class StoreContract(WatchClauses, LeaseClauses):
    """Every clause of `xchronos.store.contract`."""

    async def test_says_what_it_is(self, store: Store) -> None:
        """A name for people, and room for at least a useful Txn."""
        assert store.name
        assert store.max_operations >= 64

    async def test_a_key_and_its_revisions(self, store: Store) -> None:
        """Created once, modified by each Put, and born again after a deletion."""
        assert await store.get("/k") is None
        first = await put(store, "/k", b"1")
        assert await store.get("/k") == KeyValue("/k", b"1", first, first)
        second = await put(store, "/k", b"2")
        assert await store.get("/k") == KeyValue("/k", b"2", first, second)
        third = await write(store, Delete("/k"))
        assert await store.get("/k") is None
        fourth = await put(store, "/k", b"2")
        assert await store.get("/k") == KeyValue("/k", b"2", fourth, fourth)
        assert [first, second, third, fourth] == list(range(first, first + 4))

    async def test_one_revision_for_all_of_a_txn(self, store: Store) -> None:
        """All that a Txn does has the same revision."""
        before = await write(store, Put("/a", b""), Put("/b", b""), Put("/p/1", b""), Put("/p/2", b""))
        after = await write(store, Put("/c", b""), Delete("/a"), Put("/b", b"2"), DeleteRange("/p/"))
        assert after == before + 1
        page = await store.range("")
        assert [(item.key, item.create_revision, item.mod_revision) for item in page.items] == [
            ("/b", before, after),
            ("/c", after, after),
        ]
        assert page.revision == after

    async def test_what_changes_nothing_takes_no_revision(self, store: Store) -> None:
        """Deleting nothing succeeds; so does an empty Txn. A Put of the same value is a change."""
        before = await put(store, "/a", b"1")
        for operations in ([Delete("/none")], [DeleteRange("/none/")], []):
            assert await store.commit(Txn((), operations)) == Committed(True, before)
        assert await store.commit(Txn([Guard("/none", 1)], [Put("/a", b"2")])) == Committed(False, before)
        assert await put(store, "/a", b"1") == before + 1

    @pytest.mark.parametrize(
        ("key", "revision", "target", "holds"),
        [
            ("/g", "changed", "mod", True),
            ("/g", "created", "mod", False),
            ("/g", "later", "mod", False),
            ("/g", "absent", "mod", False),
            ("/g", "created", "create", True),
            ("/g", "changed", "create", False),
            ("/g", "absent", "create", False),
            ("/none", "absent", "mod", True),
            ("/none", "absent", "create", True),
            ("/none", "changed", "mod", False),
            ("/none", "created", "create", False),
        ],
    )
    async def test_guards(
        self, store: Store, key: str, revision: str, target: Literal["mod", "create"], holds: bool
    ) -> None:
        """Each kind of guard, holding and failing. One that fails among others that hold is enough."""
        created = await put(store, "/g", b"1")
        changed = await put(store, "/g", b"2")
        revisions = {"created": created, "changed": changed, "later": changed + 1, "absent": 0}
        guard, sure = Guard(key, revisions[revision], target), Guard("/g", changed)
        for guards in ([guard], [sure, guard, sure]):
            now = (await store.range("")).revision
            committed = await store.commit(Txn(guards, [Put("/done", b""), Delete("/done/not")]))
            assert committed == Committed(holds, now + 1 if holds else now)
            assert (await store.get("/done") is not None) == holds

    async def test_guards_look_at_the_store_before_the_txn(self, store: Store) -> None:
        """A Txn may create the key that its guard says is absent. It succeeds only once."""
        txn = Txn([Guard("/once", 0)], [Put("/once", b"")])
        assert (await store.commit(txn)).succeeded
        assert not (await store.commit(txn)).succeeded

    @pytest.mark.parametrize(
        "operations",
        [
            [Put("/d", b"1"), Put("/d", b"2")],
            [Put("/d", b"1"), Delete("/d")],
            [Delete("/d"), Delete("/d")],
            [Put("/d/x", b""), DeleteRange("/d/")],
            [DeleteRange("/d/"), Put("/d/x", b"")],
            [DeleteRange("/d/"), Delete("/d/x")],
            [DeleteRange("/d/"), DeleteRange("/d/x")],
            [DeleteRange("/d/"), Put("/e", b""), DeleteRange("/d/")],
            [Put("", b"")],
            [Delete("")],
            [Put("/\ud800", b"")],
        ],
        ids=str,
    )
    async def test_a_malformed_txn_is_refused(self, store: Store, operations: list[Operation]) -> None:
        """Two operations on one key, or no valid key: then nothing is written, not even by the call's other Txns."""
        before = await put(store, "/d/y")
        with pytest.raises(StoreError):
            await store.commit(Txn((), [Put("/other", b""), *operations]))
        with pytest.raises(StoreError):
            await store.commit_many([Txn((), [Put("/fine", b"")]), Txn((), operations)])
        page = await store.range("")
        assert ([item.key for item in page.items], page.revision) == (["/d/y"], before)

    async def test_the_biggest_txn(self, store: Store) -> None:
        """As many guards and operations as the store says, and not one more."""
        size = store.max_operations
        guards = [Guard(f"/m/{number:04d}", 0) for number in range(size)]
        puts = [Put(f"/m/{number:04d}", b"%d" % number) for number in range(size)]
        assert (await store.commit(Txn(guards, puts))).succeeded
        page = await store.range("/m/")
        assert [item.value for item in page.items] == [b"%d" % number for number in range(size)]
        with pytest.raises(StoreError):
            await store.commit(Txn([*guards, Guard("/more", 0)], ()))
        with pytest.raises(StoreError):
            await store.commit(Txn((), [*puts, Put("/more", b"")]))

    @pytest.mark.parametrize(
        "value", [b"", b"\0", bytes(range(256)), b"\xff\xfe", b"x" * (1024 * 1024 - 1024)], ids=len
    )
    async def test_values_are_any_bytes(self, store: Store, value: bytes) -> None:
        """Read, listed and watched as written."""
        async with store.watch("/v") as batches:
            await put(store, "/v", value)
            assert (await collect(batches, 1))[0].value == value
        item = await store.get("/v")
        assert item is not None
        assert item.value == value
        assert (await store.range("/v")).items == [item]

    async def test_keys_are_ordered_by_their_bytes(self, store: Store) -> None:
        """Whatever the order of writing. Keys that look alike are different keys."""
        for key in reversed(ORDERED):
            await put(store, key, key.encode())
        items = (await store.range("")).items
        assert [item.key for item in items] == ORDERED
        assert [item.value for item in items] == [key.encode() for key in ORDERED]
        for key in ORDERED:
            item = await store.get(key)
            assert item is not None
            assert item.key == key
            assert await keys(store, key) == [other for other in ORDERED if other.startswith(key)]

    @pytest.mark.parametrize("prefix", ["/a", "/a/", "", "\U0010ffff", "\ud7ff", "%", "_", "none"])
    async def test_deleting_a_range(self, store: Store, prefix: str) -> None:
        """Exactly the keys of the prefix, in their order, in one revision."""
        for at in range(0, len(ORDERED), 8):
            last = await write(store, *[Put(key, b"") for key in ORDERED[at : at + 8]])
        gone = [key for key in ORDERED if key.startswith(prefix)]
        async with store.watch("") as batches:
            revision = await write(store, DeleteRange(prefix))
            events = await collect(batches, len(gone))
        assert [(event.kind, event.key, event.mod_revision) for event in events] == [
            ("delete", key, last + 1) for key in gone
        ]
        assert revision == last + bool(gone)
        assert await keys(store) == [key for key in ORDERED if not key.startswith(prefix)]

    async def test_pages(self, store: Store) -> None:
        """`start` is included, `more` is exact, `limit` counts keys."""
        names = [f"/p/{number}" for number in range(6)]
        revision = await write(store, Put("/o", b"x"), *[Put(name, b"v") for name in names], Put("/q", b"x"))

        async def page(start: str = "", limit: int = 0) -> tuple[list[str], bool]:
            answer = await store.range("/p/", start=start, limit=limit)
            assert answer.revision == revision
            return [item.key for item in answer.items], answer.more

        assert await page() == (names, False)
        assert await page(limit=6) == (names, False)
        assert await page(limit=5) == (names[:5], True)
        assert await page("/p/4", 2) == (names[4:], False)
        assert await page("/p/3", 2) == (names[3:5], True)
        assert await page("/p/3\0", 2) == (names[4:], False)
        assert await page("/a", 2) == (names[:2], True)
        assert await page("/q") == ([], False)
        assert await page("/z", 1) == ([], False)
        only = await store.range("/p/", keys_only=True, limit=1)
        assert only.items == [KeyValue("/p/0", b"", revision, revision)]
        lease = await store.grant(60)
        revision = await write(store, Put("/l/0", b"bound", lease))
        assert (await store.range("/l/")).items == [KeyValue("/l/0", b"bound", revision, revision, lease)]
        assert (await store.range("/l/", keys_only=True)).items == [KeyValue("/l/0", b"", revision, revision)]

    async def test_reading_the_past(self, store: Store) -> None:
        """Every revision that is not compacted can be read, page by page, as it was."""
        states: dict[int, list[KeyValue]] = {}
        for number in range(40):
            operations: list[Operation] = [Put(f"/p/{number * 7 % 13:02d}", b"%d" % number)]
            if number % 3 == 0:
                operations.append(Delete(f"/p/{number * 7 % 13 - 1:02d}"))
            if number == 25:
                operations = [DeleteRange("/p/0")]
            revision = await write(store, *operations)
            states[revision] = (await store.range("/p/")).items
        for revision, state in states.items():
            for limit in (0, 1, 3):
                for start in ("", "/p/05"):
                    assert await self._pages(store, limit, revision, start) == [i for i in state if i.key >= start]
            only = (await store.range("/p/", revision=revision, keys_only=True)).items
            assert [(item.key, item.value, item.mod_revision) for item in only] == [
                (item.key, b"", item.mod_revision) for item in state
            ]
        with pytest.raises(StoreError):
            await store.range("/p/", revision=max(states) + 1)

    async def _pages(self, store: Store, limit: int, revision: int, start: str = "") -> list[KeyValue]:
        items: list[KeyValue] = []
        more = True
        while more:
            page = await store.range("/p/", start=start, limit=limit, revision=revision)
            assert page.revision == revision
            items += page.items
            more = page.more
            assert not more or len(page.items) == limit
            start = items[-1].key + "\0" if items else start
        return items

    async def test_paging_is_one_consistent_read(self, store: Store) -> None:
        """Pages at the first page's revision show one state, while another task moves every key."""
        size = 40
        await write(store, *[Put(f"/p/{number:02d}", b"0") for number in range(size)])

        async def shuffle() -> None:
            for turn in range(1, 200):
                gone, come = f"/p/{turn % size:02d}", f"/p/{turn % size:02d}x"
                if turn // size % 2:
                    gone, come = come, gone
                await write(store, Delete(gone), Put(come, b"%d" % turn))

        task = asyncio.create_task(shuffle())
        rounds = 0
        while not task.done() or not rounds:
            first = await store.range("/p/", limit=3)
            items = first.items
            items += await self._pages(store, 3, first.revision, items[-1].key + "\0")
            assert len(items) == size
            assert max(item.mod_revision for item in items) <= first.revision
            rounds += 1
            await asyncio.sleep(0)
        await task

    async def test_commit_many_is_many_commits(self, store: Store) -> None:
        """Each Txn has its own guards and revision. One that fails does not touch the others. The order is kept."""
        before = await put(store, "/a", b"")
        results = await store.commit_many(
            [
                Txn([Guard("/a", before)], [Put("/b", b"1"), Put("/c", b"1")]),
                Txn([Guard("/a", before + 99)], [Put("/never", b"")]),
                Txn((), [Put("/b", b"2")]),
                Txn((), [Delete("/none")]),
                Txn([Guard("/b", 0)], [Put("/never", b"")]),
                Txn((), [Delete("/c")]),
            ]
        )
        assert [result.succeeded for result in results] == [True, False, True, True, False, True]
        revisions = [result.revision for result in results]
        assert revisions[0] > before
        assert revisions[0] < revisions[2] < revisions[5]
        items = (await store.range("")).items
        assert [(item.key, item.value) for item in items] == [("/a", b""), ("/b", b"2")]
        assert items[1].mod_revision == revisions[2]
        assert await store.commit_many([]) == []

    async def test_the_past_between_the_txns_of_one_call(self, store: Store) -> None:
        """Txns that are carried out together have revisions of their own, for readers of the past and for watches."""
        txns = [Txn((), [Put("/a", b"%d" % number), Put(f"/b/{number}", b"")]) for number in range(6)]
        revisions = [result.revision for result in await store.commit_many(txns)]
        for number, revision in enumerate(revisions):
            page = await store.range("/", revision=revision)
            assert [item.key for item in page.items] == ["/a", *(f"/b/{n}" for n in range(number + 1))]
            assert (page.items[0].value, page.items[0].mod_revision) == (b"%d" % number, revision)
            async with store.watch("/a", revision=revision) as batches:
                values = [event.value for event in await collect(batches, 6 - number)]
            assert values == [b"%d" % n for n in range(number, 6)]

    async def test_commit_many_of_many(self, store: Store) -> None:
        """Hundreds of Txns, watched: every event once, in the order of the revisions."""
        txns = [Txn([Guard(f"/m/{n}", 0)], [Put(f"/m/{n}", b""), Put(f"/n/{n}", b"")]) for n in range(300)]
        async with store.watch("/m/") as batches:
            results = await store.commit_many(txns)
            events = await collect(batches, 300)
        assert all(result.succeeded for result in results)
        assert sorted(event.key for event in events) == sorted(f"/m/{n}" for n in range(300))
        by_key = {event.key: event.mod_revision for event in events}
        assert [by_key[f"/m/{n}"] for n in range(300)] == [result.revision for result in results]

    async def test_guarded_increments_lose_nothing(self, store: Store) -> None:
        """Tasks read a counter, add one, and commit if it is unchanged: no addition is lost."""
        await put(store, "/counter", b"0")

        async def add(times: int) -> None:
            while times:
                item = await store.get("/counter")
                assert item is not None
                value = b"%d" % (int(item.value) + 1)
                txn = Txn([Guard("/counter", item.mod_revision)], [Put("/counter", value)])
                times -= (await store.commit(txn)).succeeded
                await asyncio.sleep(0)

        async with asyncio.timeout(3 * MUST_COME_WITHIN):
            await asyncio.gather(*(add(10) for _ in range(8)))
        item = await store.get("/counter")
        assert item is not None
        assert item.value == b"80"

    async def test_a_cancelled_commit_is_whole_or_nothing(self, store: Store) -> None:
        """The caller is gone, but the Txn happens as a whole or not at all, and the store goes on."""
        for number in range(20):
            names = [f"/c/{number}/{part}" for part in range(5)]
            task = asyncio.create_task(write(store, *[Put(name, b"") for name in names]))
            for _ in range(number % 4):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await put(store, "/end")
        for number in range(20):
            assert len(await keys(store, f"/c/{number}/")) in (0, 5)
        assert (await store.get("/end")) is not None

    async def test_a_writer_reads_what_it_wrote(self, store: Store) -> None:
        """As soon as a commit returns, every read sees it, and a watch from its revision + 1 does not."""
        for number in range(30):
            revision = await put(store, "/r", b"%d" % number)
            item = await store.get("/r")
            assert item is not None
            assert item.value == b"%d" % number
            assert (await store.range("/r")).revision >= revision

    async def test_a_closed_store_says_so(self, store: Store) -> None:
        """Every call raises StoreError. Closing again does nothing."""
        await store.close()
        await store.close()
        for call in (
            lambda: store.get("/a"),
            lambda: store.range("/a"),
            lambda: store.commit(Txn((), [Put("/a", b"")])),
            lambda: store.commit_many([Txn((), [Put("/a", b"")])]),
            lambda: store.grant(10),
            lambda: store.renew(1),
            lambda: store.revoke(1),
            lambda: store.compact(1),
        ):
            with pytest.raises(StoreError):
                await call()
        with pytest.raises(StoreError):
            async with store.watch("/a") as batches:
                await anext(batches)
