"""The bounded memory of the embedded stores, and what a watch does when it falls behind it."""

import asyncio

import pytest

from xchronos.errors import Compacted
from xchronos.store import Event, KeyValue, Put, Txn
from xchronos.store import watching as watching_module
from xchronos.store.history import History
from xchronos.store.memory import MemoryStore
from xchronos.store.transactions import prefix_end


async def fill(store: MemoryStore, first: int, last: int, size: int = 0) -> None:
    for number in range(first, last):
        await store.commit(Txn((), [Put(f"/w/{number}", bytes(size)), Put(f"/x/{number}", b"")]))


@pytest.mark.parametrize(("events", "size", "limit"), [(20, 0, 10**9), (10**9, 10_000, 100_000)])
async def test_history_is_bounded_by_events_and_by_bytes(events: int, size: int, limit: int) -> None:
    store = MemoryStore(history_events=events, history_bytes=limit)
    await fill(store, 0, 50, size)
    with pytest.raises(Compacted) as caught:
        async with store.watch("/w/", revision=2):
            raise AssertionError("that is long gone")
    oldest = caught.value.revision
    assert 52 - 10 <= oldest <= 52 - 5
    async with store.watch("/w/", revision=oldest) as batches:
        assert len((await anext(batches)).events) == 52 - oldest
    await store.range("", revision=oldest - 1)
    with pytest.raises(Compacted):
        await store.range("", revision=oldest - 2)
    assert len((await store.range("")).items) == 100
    await store.close()


async def test_one_txn_bigger_than_the_history_is_compacted_at_once() -> None:
    store = MemoryStore(history_bytes=1000)
    async with store.watch("/w/") as batches:
        await fill(store, 0, 1, 5000)
        assert len((await anext(batches)).events) == 1, "a watch that is there gets it all the same"
    with pytest.raises(Compacted):
        async with store.watch("/w/", revision=2):
            raise AssertionError("too big to be remembered")
    await store.close()


async def test_a_slow_consumer_catches_up_from_the_history(monkeypatch) -> None:
    monkeypatch.setattr(watching_module, "MAX_PENDING", 10)
    store = MemoryStore()
    async with store.watch("/w/") as batches:
        assert isinstance(batches, watching_module.Watch)
        await fill(store, 0, 100)
        assert len(batches.pending) <= 10
        batch = await anext(batches)
        assert [event.key for event in batch.events] == [f"/w/{number}" for number in range(100)]
        assert batch.revision == 101
        await fill(store, 100, 103)
        assert [event.key for event in (await anext(batches)).events] == ["/w/100", "/w/101", "/w/102"]
    await store.close()


async def test_a_consumer_that_is_too_slow_is_told(monkeypatch) -> None:
    monkeypatch.setattr(watching_module, "MAX_PENDING", 10)
    store = MemoryStore(history_events=40)
    async with store.watch("/w/") as batches:
        await fill(store, 0, 100)
        with pytest.raises(Compacted) as caught:
            await anext(batches)
        with pytest.raises(Compacted):
            async with asyncio.timeout(1):
                await anext(batches)
    assert caught.value.revision > 2
    await store.close()


def test_rewinding_leaves_alone_what_the_reader_had_not_seen() -> None:
    """A page read at revision 3 goes back to 2 although the history has reached 5 meanwhile."""
    history = History(1)
    rows: list[KeyValue] = []
    previous = None
    for revision in range(2, 6):
        row = KeyValue("/a", b"%d" % revision, 2, revision)
        history.append([(Event("put", "/a", row.value, revision, 2), previous)], revision)
        rows.append(row)
        previous = row
    assert history.rewind([rows[1]], 2, "", None) == [rows[0]]
    assert history.rewind([rows[1]], 3, "", None) == [rows[1]]
    assert history.rewind([rows[3]], 3, "", None) == [rows[1]]
    assert history.rewind([], 3, "/b", None) == []
    assert history.rewind([], 3, "", "/a") == []


async def test_ended_watches_leave_nothing_behind() -> None:
    store = MemoryStore()
    for _ in range(3):
        async with store.watch("/w/"), store.watch("/w/"), store.watch("/x"), store.watch(""):
            assert store._hub.watches == 4
            await fill(store, 0, 2)
    assert store._hub.watches == 0
    assert store._hub._by_length == {}
    await store.close()


async def test_a_waiting_reader_is_let_go_when_its_revision_is_published() -> None:
    store = MemoryStore()
    early, late, cancelled = (asyncio.create_task(store._hub.reached(revision)) for revision in (3, 5, 3))
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.sleep(0)
    await fill(store, 0, 2)
    await asyncio.wait_for(early, 1)
    assert not late.done()
    await fill(store, 2, 4)
    await asyncio.wait_for(late, 1)
    await store.close()


async def test_work_per_event_does_not_grow_with_the_watches() -> None:
    store = MemoryStore()
    lookups = 0

    class Counted(dict):
        def get(self, key, default=None):
            nonlocal lookups
            lookups += 1
            return super().get(key, default)

    watches = [store.watch(f"/machine/{number:03d}/") for number in range(100)]
    entered = [await watch.__aenter__() for watch in watches]
    store._hub._by_length = {length: Counted(prefixes) for length, prefixes in store._hub._by_length.items()}
    await store.commit(Txn((), [Put(f"/machine/{number:03d}/x", b"") for number in range(100)]))
    assert lookups == 100
    for watch, batches in zip(watches, entered, strict=True):
        assert len((await anext(batches)).events) == 1
        await watch.__aexit__(None, None, None)
    await store.close()


@pytest.mark.parametrize(
    ("prefix", "end"),
    [
        ("", None),
        ("a", "b"),
        ("/a/", "/a0"),
        ("\U0010ffff", None),
        ("a\U0010ffff\U0010ffff", "b"),
        ("\ud7ff", "\ue000"),
        ("\x7f", "\x80"),
    ],
)
def test_the_end_of_a_prefix(prefix: str, end: str | None) -> None:
    assert prefix_end(prefix) == end
