"""The clauses of the store contract about watches and compaction."""

import asyncio

import pytest

from xchronos.errors import Compacted, StoreError
from xchronos.store.contract import Delete, Event, Guard, Put, Store, Txn
from xchronos.testing.store_base import MUST_COME_WITHIN, StoreClauses, collect, keys, put, write


class WatchClauses(StoreClauses):
    """Watches deliver every event once, in order, in whole revisions, or say that they cannot."""

    async def test_watch_tells_puts_and_deletes(self, store: Store) -> None:
        """An event carries what a reader would have seen; a delete carries only the key and the revision."""
        lease = await store.grant(60)
        async with store.watch("/w/") as batches:
            first = await put(store, "/w/a", b"1", lease)
            second = await put(store, "/w/a", b"2")
            third = await write(store, Delete("/w/a"))
            assert await collect(batches, 3) == [
                Event("put", "/w/a", b"1", first, first, lease),
                Event("put", "/w/a", b"2", second, first),
                Event("delete", "/w/a", b"", third),
            ]

    async def test_watch_sees_its_prefix_only(self, store: Store) -> None:
        """Neighbours, and the prefix cut short, are not seen; the prefix itself is a key like others."""
        async with store.watch("/w/a") as batches:
            for key in ("/w/", "/w", "/w/b", "/w/A", "/w/a", "/w/a/x", "/w/ab", "/v/w/a"):
                await put(store, key)
            assert [event.key for event in await collect(batches, 3)] == ["/w/a", "/w/a/x", "/w/ab"]

    async def test_empty_prefix_watches_everything(self, store: Store) -> None:
        """As everywhere, every key begins with the empty prefix."""
        async with store.watch("") as batches:
            await write(store, Put("x", b""), Put("/y", b""))
            assert [event.key for event in await collect(batches, 2)] == ["x", "/y"]

    async def test_events_of_a_revision_keep_the_order_of_the_operations(self, store: Store) -> None:
        """All events of one revision come in one batch, however many they are."""
        size = store.max_operations
        names = [f"/w/{number * 7919 % size:04d}" for number in range(size)]
        async with store.watch("/w/") as batches:
            revision = await write(store, *[Put(name, b"v") for name in names])
            async with asyncio.timeout(MUST_COME_WITHIN):
                batch = await anext(batches)
            assert [event.key for event in batch.events] == names
            assert {event.mod_revision for event in batch.events} == {revision}

    async def test_watch_from_a_revision_includes_it(self, store: Store) -> None:
        """The start revision's own events come first, then all that follow, without a gap."""
        await put(store, "/w/1")
        second = await put(store, "/w/2")
        await put(store, "/w/3")
        async with store.watch("/w/", revision=second) as batches:
            assert [event.key for event in await collect(batches, 2)] == ["/w/2", "/w/3"]
            await put(store, "/w/4")
            assert [event.key for event in await collect(batches, 1)] == ["/w/4"]

    async def test_watch_from_a_revision_to_come(self, store: Store) -> None:
        """What happens before the start revision is not told."""
        now = await put(store, "/w/0")
        async with store.watch("/w/", revision=now + 3) as batches:
            waiting = asyncio.ensure_future(collect(batches, 1))
            for number in range(1, 4):
                await put(store, f"/w/{number}")
                await asyncio.sleep(0.001)
            assert [event.key for event in await waiting] == ["/w/3"]
            await put(store, "/w/4")
            assert [event.key for event in await collect(batches, 1)] == ["/w/4"]

    async def test_a_page_and_a_watch_leave_no_gap(self, store: Store) -> None:
        """A page and then the events from its revision + 1 give the present state, while others write all the time."""

        async def writer() -> None:
            for number in range(120):
                await write(store, Put(f"/w/{number % 17}", b"%d" % number), Delete(f"/w/{(number + 5) % 17}"))

        task = asyncio.create_task(writer())
        await asyncio.sleep(0.005)
        page = await store.range("/w/")
        state = {item.key: item.value for item in page.items}
        async with store.watch("/w/", revision=page.revision + 1) as batches:
            await task
            await put(store, "/w/end")
            async with asyncio.timeout(MUST_COME_WITHIN):
                while "/w/end" not in state:
                    for event in (await anext(batches)).events:
                        if event.kind == "put":
                            state[event.key] = event.value
                        else:
                            del state[event.key]
        assert state == {item.key: item.value for item in (await store.range("/w/")).items}

    async def test_resuming_after_a_batch_misses_and_repeats_nothing(self, store: Store) -> None:
        """A watcher that leaves after every batch and resumes from its revision + 1 misses nothing, repeats nothing."""
        start = (await store.range("")).revision + 1
        total = 60

        async def writer() -> None:
            for number in range(total // 2):
                await write(store, Put(f"/w/{number}", b""), Put(f"/other/{number}", b""), Put(f"/w/+{number}", b""))

        async def hopper() -> list[str]:
            resumed: list[str] = []
            revision = start
            while len(resumed) < total:
                async with store.watch("/w/", revision=revision) as batches:
                    batch = await anext(batches)
                resumed += [event.key for event in batch.events]
                revision = batch.revision + 1
            return resumed

        async with asyncio.timeout(MUST_COME_WITHIN), store.watch("/w/", revision=start) as batches:
            hopping = asyncio.create_task(hopper())
            await writer()
            assert await hopping == [event.key for event in await collect(batches, total)]

    async def test_many_watchers_see_the_same(self, store: Store) -> None:
        """Watches do not take events from one another, whether their prefixes are equal, nested or apart."""
        start = (await store.range("")).revision + 1
        for number in range(30):
            await put(store, f"/w/{number % 3}/{number}")
        for prefix in ["/w/0/", "/w/1/", "/w/2/", "/w/", "/", "/w/0/"]:
            expected = [f"/w/{n % 3}/{n}" for n in range(30) if f"/w/{n % 3}/{n}".startswith(prefix)]
            async with store.watch(prefix, revision=start) as batches:
                assert [event.key for event in await collect(batches, len(expected))] == expected

    async def test_a_cancelled_consumer_ends_its_watch_only(self, store: Store) -> None:
        """Another watch on the same prefix goes on."""
        ready = asyncio.Event()

        async def consumer() -> None:
            async with store.watch("/w/") as batches:
                ready.set()
                async for _ in batches:
                    raise AssertionError("nothing has happened yet")

        async with store.watch("/w/") as batches:
            task = asyncio.create_task(consumer())
            await ready.wait()
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await put(store, "/w/a")
            assert [event.key for event in await collect(batches, 1)] == ["/w/a"]

    async def test_a_cancelled_wait_loses_nothing(self, store: Store) -> None:
        """Giving up on one batch, then asking again in the same watch, gives what came meanwhile."""
        async with store.watch("/w/") as batches:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await anext(batches)
            await put(store, "/w/a")
            assert [event.key for event in await collect(batches, 1)] == ["/w/a"]

    async def test_failed_guards_and_idle_deletes_are_no_events(self, store: Store) -> None:
        """Only changes are told."""
        async with store.watch("/w/") as batches:
            await store.commit(Txn([Guard("/w/no", 77)], [Put("/w/a", b"")]))
            await write(store, Delete("/w/b"))
            await put(store, "/w/c")
            assert [event.key for event in await collect(batches, 1)] == ["/w/c"]

    async def test_compacted_history_cannot_be_watched_or_read(self, store: Store) -> None:
        """Compacted names the oldest revision that can still be watched from; the present is not touched."""
        revisions = [await put(store, f"/w/{number}") for number in range(5)]
        await store.compact(revisions[2])
        for revision in revisions[:3]:
            with pytest.raises(Compacted) as caught:
                async with store.watch("/w/", revision=revision) as batches, asyncio.timeout(MUST_COME_WITHIN):
                    await anext(batches)
            assert caught.value.revision == revisions[3]
        with pytest.raises(Compacted) as caught:
            await store.range("/w/", revision=revisions[1])
        assert caught.value.revision == revisions[3]
        assert await keys(store, "/w/", revisions[2]) == ["/w/0", "/w/1", "/w/2"]
        async with store.watch("/w/", revision=revisions[3]) as batches:
            assert [event.key for event in await collect(batches, 2)] == ["/w/3", "/w/4"]
        assert len(await keys(store, "/w/")) == 5

    async def test_compaction_at_a_deletion_hides_nothing(self, store: Store) -> None:
        """The deletion is gone with its revision: a watch from it raises Compacted; a read at it has no such key."""
        await put(store, "/w/a")
        deleted = await write(store, Delete("/w/a"))
        later = await put(store, "/w/b")
        await store.compact(deleted)
        assert await keys(store, "/w/", deleted) == []
        with pytest.raises(Compacted):
            async with store.watch("/w/", revision=deleted) as batches, asyncio.timeout(MUST_COME_WITHIN):
                await anext(batches)
        async with store.watch("/w/", revision=deleted + 1) as batches:
            assert [event.mod_revision for event in await collect(batches, 1)] == [later]

    async def test_compaction_knows_its_bounds(self, store: Store) -> None:
        """What is compacted already may be compacted again; a revision of the future may not."""
        revisions = [await put(store, f"/w/{number}") for number in range(3)]
        await store.compact(revisions[1])
        await store.compact(revisions[1])
        await store.compact(revisions[0])
        with pytest.raises(StoreError):
            await store.compact(revisions[2] + 1)
        async with store.watch("/w/", revision=revisions[2]) as batches:
            assert len(await collect(batches, 1)) == 1

    async def test_compaction_does_not_end_a_watch_that_keeps_up(self, store: Store) -> None:
        """Even if it goes up to the newest revision, again and again, while events come."""
        async with store.watch("/w/") as batches:
            for number in range(20):
                await store.compact(await write(store, Put(f"/w/{number}", b""), Delete(f"/w/{number - 1}")))
                events = await collect(batches, 1 + bool(number))
                assert events[0].key == f"/w/{number}"

    async def test_closing_the_store_ends_its_watches(self, store: Store) -> None:
        """A watch that waits raises StoreError, since it never ends by itself."""
        async with store.watch("/w/") as batches:
            waiting = asyncio.ensure_future(anext(batches))
            await asyncio.sleep(0)
            await store.close()
            with pytest.raises(StoreError):
                async with asyncio.timeout(MUST_COME_WITHIN):
                    await waiting
