"""The contract on a real etcd, and what is the etcd store's own while all is well."""

import asyncio
from pathlib import Path

import pytest
import pytest_asyncio

from tests.services.etcd import EtcdCluster
from tests.services.waiting import until
from tests.store.etcd_helpers import access
from xchronos.errors import Compacted, StoreError
from xchronos.store import Delete, DeleteRange, Guard, Put, Store, Txn
from xchronos.store.etcd import store as etcd_module
from xchronos.store.etcd import watch
from xchronos.store.etcd.codec import decode_events, decode_items
from xchronos.store.etcd.rpc import messages_pb2 as messages
from xchronos.store.etcd.store import EtcdStore
from xchronos.testing.store import StoreContract
from xchronos.testing.store_base import collect, put, write

pytestmark = pytest.mark.etcd


class TestEtcdStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _server(self, etcd_server: EtcdCluster) -> None:
        etcd_server.ctl("del", "", "--prefix")
        self.server = etcd_server

    async def open_store(self, directory: Path) -> Store:
        return await EtcdStore.open(access(self.server))


@pytest_asyncio.fixture
async def store(etcd_server: EtcdCluster):
    etcd_server.ctl("del", "", "--prefix")
    store = await EtcdStore.open(access(etcd_server))
    yield store
    await store.close()


def watchers(server: EtcdCluster) -> float:
    return sum(member.metrics()["etcd_debugging_mvcc_watcher_total"] for member in server.members)


async def test_one_endpoint_that_answers_is_enough(etcd_server: EtcdCluster) -> None:
    (good,) = access(etcd_server).endpoints
    for _ in range(8):  # which one is tried first is drawn at random
        store = await EtcdStore.open(access(etcd_server, endpoints=("127.0.0.1:1", "127.0.0.1:2", good)))
        assert store._client.connection().endpoint == good
        await store.close()


async def test_a_watch_leaves_nothing_behind(store: EtcdStore, etcd_server: EtcdCluster) -> None:
    tasks = asyncio.all_tasks()

    async def follow() -> None:
        async with store.watch("/w/") as batches:
            await anext(batches)

    following = [asyncio.create_task(follow()) for _ in range(5)]
    await until(lambda: watchers(etcd_server) == 5)
    for task in following:
        task.cancel()
    await asyncio.wait(following)
    await until(lambda: watchers(etcd_server) == 0)
    await until(lambda: asyncio.all_tasks() <= tasks | {asyncio.current_task()})


async def test_an_entry_that_is_cancelled_leaves_nothing_behind(store: EtcdStore, etcd_server: EtcdCluster) -> None:
    for turn in range(20):
        watching = store.watch("/w/", revision=1 + turn % 2)
        entering = asyncio.create_task(watching.__aenter__())
        for _ in range(turn):
            await asyncio.sleep(0)
        entering.cancel()
        await asyncio.gather(entering, return_exceptions=True)
        if entering.done() and not entering.cancelled() and not entering.exception():
            await watching.__aexit__(None, None, None)
    await until(lambda: watchers(etcd_server) == 0)
    assert not store._watches


async def test_a_watch_that_fails_says_so(store: EtcdStore, monkeypatch) -> None:
    """A mistake of ours must not leave anybody waiting for ever."""
    async with store.watch("/w/") as batches:
        monkeypatch.setattr(batches, "_take", None)
        await put(store, "/w/a")
        with pytest.raises(StoreError, match=r"the watch of '/w/' has failed: TypeError"):
            await anext(batches)


async def test_revisions_too_big_for_one_message_are_not_torn(store: EtcdStore) -> None:
    """etcd sends a watch that is behind up to 1,000 revisions at once, in pieces that fit; `collect` checks each batch."""
    value = bytes(500_000)
    first = await write(store, Put("/w/0/a", value), Put("/w/0/b", value))
    for number in range(1, 8):
        await write(store, Put(f"/w/{number}/a", value), Put(f"/w/{number}/b", value))
    async with store.watch("/w/", revision=first) as batches:
        events = await collect(batches, 16)
    assert [event.key for event in events] == [f"/w/{number}/{part}" for number in range(8) for part in "ab"]


async def test_a_slow_consumer_stops_the_stream_not_the_memory(store: EtcdStore, monkeypatch) -> None:
    monkeypatch.setattr(watch, "MAX_PENDING", 1000)
    async with store.watch("/w/") as batches:
        assert isinstance(batches, watch.EtcdWatch)
        for turn in range(0, 600, 50):
            await store.commit_many(
                [Txn((), [Put(f"/w/{n}/{part}", bytes(200)) for part in range(100)]) for n in range(turn, turn + 50)]
            )
        # It takes one message more than it may, and then no other one before the consumer has come.
        await until(lambda: len(batches._pending) > 1000, "the stream is full")
        assert len(batches._pending) < 20_000
        events = await collect(batches, 60_000)
    assert {event.key for event in events} == {f"/w/{n}/{part}" for n in range(600) for part in range(100)}


async def test_an_idle_watch_is_told_of_progress(store: EtcdStore) -> None:
    """By a message without events, which moves the revision from which it would resume."""
    async with store.watch("/quiet/") as batches:
        assert isinstance(batches, watch.EtcdWatch)
        await put(store, "/elsewhere")
        now = (await store.range("")).revision
        told = type("", (), {"events": (), "header": type("", (), {"revision": now})})
        batches._take(told)
        assert batches._next == now + 1
        revision = await put(store, "/quiet/a")
        batch = await anext(batches)
        assert (batch.revision, batch.events[0].mod_revision) == (revision, revision)


async def test_reads_without_a_limit_are_made_of_pages_of_one_revision(store: EtcdStore, monkeypatch) -> None:
    monkeypatch.setattr(etcd_module, "KEYS_PER_REQUEST", 7)
    await store.commit_many([Txn((), [Put(f"/p/{n:03d}", b"%d" % n) for n in range(at, at + 50)]) for at in (0, 50)])
    call, seen = store._client.call, []

    async def meddle(method, request, **options):
        if method == "range":
            seen.append(request.revision)
            if len(seen) == 3:
                await write(store, Delete("/p/099"), Put("/p/0000", b""))
        return await call(method, request, **options)

    monkeypatch.setattr(store._client, "call", meddle)
    page = await store.range("/p/")
    assert [item.key for item in page.items] == [f"/p/{n:03d}" for n in range(100)]
    assert not page.more
    assert seen == [0] + [page.revision] * 14


async def test_txns_that_share_keys_keep_their_order(store: EtcdStore) -> None:
    """Whatever they share: a key written twice, a guard on a written key, a range that is deleted."""
    await write(store, Put("/g", b""))
    for _ in range(5):
        txns = []
        for number in range(40):
            txns.append(Txn((), [Put("/order", b"%d" % number), Put(f"/p/{number}", b"")]))
            txns.append(Txn([Guard(f"/p/{number}", 0)], [Put("/never", b"")]))
            txns.append(Txn([Guard("/absent", 0)], [Put(f"/q/{number}", b"")]))
        txns.append(Txn((), [DeleteRange("/p/")]))
        txns.append(Txn([Guard("/p/39", 0)], [Put("/p/after", b"")]))
        results = await store.commit_many(txns)
        assert [result.succeeded for result in results] == [True, False, True] * 40 + [True, True]
        assert (await store.get("/order")).value == b"39"
        assert await store.get("/never") is None
        assert [item.key for item in (await store.range("/p/")).items] == ["/p/after"]


async def test_a_shared_guard_is_no_reason_to_wait(store: EtcdStore, monkeypatch) -> None:
    """Every Txn of a shard is fenced by the same key; they go side by side all the same."""
    term = await put(store, "/term")
    most = 0
    send = store._client.send

    def count(*args):
        nonlocal most
        most = max(most, store._client._under_way + 1)
        return send(*args)

    monkeypatch.setattr(store._client, "send", count)
    results = await store.commit_many([Txn([Guard("/term", term)], [Put(f"/k/{n}", b"")]) for n in range(50)])
    assert all(result.succeeded for result in results)
    assert most == etcd_module.IN_FLIGHT


async def test_what_is_too_large_is_refused_with_the_limit(store: EtcdStore) -> None:
    for size in (1_700_000, 3_000_000):
        with pytest.raises(StoreError, match="max-request-bytes"):
            await put(store, "/big", bytes(size))
    assert await store.get("/big") is None


async def test_more_operations_than_the_server_takes(etcd_server: EtcdCluster) -> None:
    store = await EtcdStore.open(access(etcd_server, max_operations=1000))
    with pytest.raises(StoreError, match=r"etcd\.max_operations"):
        await write(store, *[Put(f"/{n}", b"") for n in range(200)])
    await store.close()


async def test_a_lease_granted_twice_is_one(store: EtcdStore, monkeypatch) -> None:
    """As after a first try whose answer was lost."""
    monkeypatch.setattr("secrets.randbelow", lambda limit: 4711)
    lease = await store.grant(30)
    assert await store.grant(30) == lease
    await store.renew(lease)
    await store.revoke(lease)


async def test_a_short_ttl_is_what_the_server_makes_of_it(store: EtcdStore) -> None:
    lease = await store.grant(0.3)
    assert store._ttls[lease] >= 1
    await store.revoke(lease)


async def test_compacted_says_where_history_begins_to_a_reader_too(store: EtcdStore) -> None:
    revisions = [await put(store, f"/{number}") for number in range(4)]
    await store.compact(revisions[2])
    with pytest.raises(Compacted) as caught:
        await store.range("/", revision=revisions[0], limit=1)
    assert caught.value.revision == revisions[3]


async def test_closing_lets_writes_come_to_their_end(etcd_server: EtcdCluster) -> None:
    store = await EtcdStore.open(access(etcd_server))
    writing = [asyncio.create_task(put(store, f"/c/{number}")) for number in range(50)]
    await asyncio.sleep(0)
    await asyncio.gather(store.close(), store.close())
    assert len({await task for task in writing}) == 50


async def test_a_cancelled_commit_many_leaves_nothing_under_way(etcd_server: EtcdCluster) -> None:
    """Each Txn is there as a whole or not at all, and closing waits for none of them."""
    store = await EtcdStore.open(access(etcd_server))
    for turns in (0, 1, 5, 50):
        await write(store, DeleteRange("/c/"))
        txns = [Txn((), [Put(f"/c/{n}/a", b""), Put(f"/c/{n}/b", b"")]) for n in range(100)]
        task = asyncio.create_task(store.commit_many(txns))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert store._client._under_way == 0
        parts = [item.key[:-1] for item in (await store.range("/c/")).items]
        assert all(parts.count(part) == 2 for part in parts)
    async with asyncio.timeout(5):
        await store.close()


def test_keys_that_are_no_text_are_left_out_of_what_etcd_tells():
    kvs = [messages.KeyValue(key=key, value=b"v", mod_revision=5) for key in (b"/a", b"/\xff", b"/b")]
    assert [item.key for item in decode_items(kvs)] == ["/a", "/b"]
    events = [messages.Event(type=kind, kv=kv) for kind in ("PUT", "DELETE") for kv in kvs]
    assert [(event.kind, event.key) for event in decode_events(events, 5)] == [
        ("put", "/a"), ("put", "/b"), ("delete", "/a"), ("delete", "/b"),
    ]  # fmt: skip


async def test_pages_go_on_over_keys_that_are_no_text(store: EtcdStore, etcd_server: EtcdCluster) -> None:
    for key in ("/p/a", "/p/\udcf0", "/p/\udcf1", "/p/\udcf2", "/q"):
        etcd_server.ctl("put", key, "v")
    first = await store.range("/p/", limit=1)
    assert ([item.key for item in first.items], first.more) == (["/p/a"], True)
    rest = await store.range("/p/", start="/p/a\0", limit=1)
    assert (rest.items, rest.more) == ([], False)
    assert [item.key for item in (await store.range("/p/")).items] == ["/p/a"]
