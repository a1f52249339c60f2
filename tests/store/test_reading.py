"""Reading many keys with few requests."""

import asyncio
from collections import Counter

import pytest

from xchronos.errors import StoreUnavailable
from xchronos.store.contract import Put, Txn
from xchronos.store.memory import MemoryStore
from xchronos.store.reading import MOST, pages, read_some, snapshot


class Counting(MemoryStore):
    asked: Counter

    async def get(self, key):
        self.asked["get"] += 1
        return await super().get(key)

    async def range(self, prefix, **options):
        self.asked["range"] += 1
        return await super().range(prefix, **options)


def run(names, scenario):
    async def main():
        store = Counting()
        for name in names:
            await store.commit(Txn((), (Put(f"/a/{name}", name.encode()),)))
        await store.commit(Txn((), (Put("/b/elsewhere", b""),)))
        store.asked = Counter()
        await scenario(store)
        await store.close()

    asyncio.run(main())


MANY = [f"{n:05d}" for n in range(5_000)]


@pytest.mark.parametrize(
    ("wanted", "ranges", "gets"),
    [
        (MANY, 5_000 // MOST + 4, 8),
        (MANY[::2], 5_000 // MOST + 4, 8),
        (MANY[3:4], 0, 1),
        (MANY[::500], 1, 10),
        (MANY[-100:], 1, 0),
        (["absent", *MANY[:20]], 1, 1),
        ([f"x{n}" for n in range(40)], 2, 40),
        ([], 0, 0),
    ],
)
def test_what_lies_together_is_read_together(wanted, ranges, gets):
    async def scenario(store):
        found = await read_some(store, "/a/", wanted)
        assert {name: item.value for name, item in found.items()} == {
            name: name.encode() for name in wanted if name in MANY
        }
        assert store.asked["range"] <= ranges
        assert store.asked["get"] <= gets

    run(MANY, scenario)


def test_what_lies_apart_does_not_drag_everything_along():
    """A page between two that are wanted is worth its while only if enough of it is wanted."""

    async def scenario(store):
        wanted = MANY[::40]
        assert sorted(await read_some(store, "/a/", wanted)) == wanted
        assert store.asked["range"] <= len(wanted) // 32
        assert store.asked["get"] <= len(wanted)

    run(MANY, scenario)


def test_pages_are_complete_and_each_is_of_its_own_moment():
    async def scenario(store):
        read, revisions = [], set()
        async for page in pages(store, "/a/", size=100):
            read += [item.key for item in page.items]
            revisions.add(page.revision)
            await store.commit(Txn((), (Put("/b/elsewhere", str(len(read)).encode()),)))
        assert read == [f"/a/{name}" for name in MANY[:1000]]
        assert len(revisions) == 10

    run(MANY[:1000], scenario)


def test_a_state_of_the_past_is_refused():
    async def scenario(store):
        with pytest.raises(StoreUnavailable, match="before 1000"):
            async for _ in pages(store, "/a/", least=1000):
                pass

    run(MANY[:3], scenario)


def test_a_snapshot_has_its_pages_of_one_moment_whatever_is_written_between_them():
    async def scenario(store):
        first = (await store.range("/a/", limit=1)).revision
        found = []
        async for page in snapshot(store, "/a/", size=3):
            assert page.revision == first
            found.append([item.key for item in page.items])
            await store.commit(Txn((), (Put("/a/99", b""),)))
        assert found == [["/a/0", "/a/1", "/a/2"], ["/a/3", "/a/4"]]
        (late,) = [page async for page in snapshot(store, "/a/", revision=first)]
        assert len(late.items) == 5
        now = [item.key async for page in snapshot(store, "/a/", start="/a/1", size=2) for item in page.items]
        assert now == ["/a/1", "/a/2", "/a/3", "/a/4", "/a/99"]

    run([str(n) for n in range(5)], scenario)


@pytest.mark.parametrize(
    ("limit", "sizes"), [(0, [2, 2, 1]), (1, [1]), (2, [2]), (3, [2, 1]), (5, [2, 2, 1]), (9, [2, 2, 1])]
)
def test_a_snapshot_has_no_more_than_its_limit(limit, sizes):
    async def scenario(store):
        pages_read = [page async for page in snapshot(store, "/a/", limit=limit, size=2)]
        assert [len(page.items) for page in pages_read] == sizes
        # Of nothing there is one page: it tells as of when there was nothing.
        (empty,) = [page async for page in snapshot(store, "/none/", limit=limit, keys_only=True)]
        assert (empty.items, empty.revision) == ([], pages_read[0].revision)

    run([str(n) for n in range(5)], scenario)
