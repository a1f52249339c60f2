"""The etcd store while members die, stop, lose each other and come back."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import pytest_asyncio

from tests.services.etcd import EtcdCluster
from tests.services.waiting import until
from tests.store.etcd_helpers import access, member_in_use
from xchronos.errors import Compacted, LeaseLost, StoreError, StoreUnavailable
from xchronos.store import Guard, Put, Txn
from xchronos.store.etcd.access import EtcdAccess
from xchronos.store.etcd.store import EtcdStore
from xchronos.testing.store_base import collect, put

pytestmark = [pytest.mark.etcd, pytest.mark.slow]

PATIENCE = 30.0


@pytest.fixture
def cluster(make_etcd) -> EtcdCluster:
    return make_etcd(3)


@pytest_asyncio.fixture
async def store(cluster: EtcdCluster) -> AsyncIterator[EtcdStore]:
    store = await EtcdStore.open(access(cluster))
    yield store
    await store.close()


async def put_at_last(store: EtcdStore, key: str, value: bytes = b"") -> int:
    """Put until it has worked: how often it happens does not matter to these tests."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await put(store, key, value)
            except StoreUnavailable:
                await asyncio.sleep(0.05)


async def test_a_killed_member_is_left(store: EtcdStore, cluster: EtcdCluster) -> None:
    """Reads, renewals and watches go on elsewhere; a write that was under way says so, the next one works."""
    lease = await store.grant(20)
    await put(store, "/k/0")
    async with store.watch("/k/") as batches:
        for turn in range(1, 3):
            member = member_in_use(store, cluster)
            await asyncio.to_thread(member.kill)
            assert await store.get("/k/0") is not None
            await store.renew(lease)
            await put_at_last(store, f"/k/{turn}")
            assert member_in_use(store, cluster) is not member
            assert [event.key for event in await collect(batches, 1)] == [f"/k/{turn}"]
            member.start()
            await asyncio.to_thread(member.wait)


async def test_a_stopped_member_is_left_within_seconds(store: EtcdStore, cluster: EtcdCluster) -> None:
    """Its sockets are open, and nothing answers: whoever waits for it asks whether it is there, and goes."""
    lease = await store.grant(20)
    async with store.watch("/k/") as batches:
        member = member_in_use(store, cluster)
        member.pause()
        try:
            began = time.monotonic()
            answers = await asyncio.gather(
                store.get("/k/0"), store.range("/k/"), store.renew(lease), put(store, "/k/1"), return_exceptions=True
            )
            assert time.monotonic() - began < 4
            # The read and the renewal were answered by another member; what became of the write is not known.
            assert [isinstance(answer, Exception) for answer in answers[:3]] == [False] * 3
            assert isinstance(answers[3], StoreUnavailable)
            assert member_in_use(store, cluster) is not member
            await put_at_last(store, "/k/2")
            assert [event.key for event in await collect(batches, 1)] == ["/k/2"]
        finally:
            member.resume()
        # What was sent to the stopped member may be carried out now, or never.
        await asyncio.to_thread(member.wait)
        await put_at_last(store, "/k/3")
        keys: list[str] = []
        while "/k/3" not in keys:
            keys += [event.key for event in (await anext(batches)).events]
        assert keys in (["/k/3"], ["/k/1", "/k/3"])


async def test_who_gives_up_early_leaves_a_stopped_member_too(store: EtcdStore, cluster: EtcdCluster) -> None:
    """Renewals that never wait for as long as a member may be silent: their waiting adds up, whoever waits."""
    lease = await store.grant(20)
    await store.renew(lease)
    member = member_in_use(store, cluster)
    member.pause()
    try:
        async with asyncio.timeout(4):
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.8):
                        await store.renew(lease)
                        break
                await asyncio.sleep(0.3)
        assert member_in_use(store, cluster) is not member
    finally:
        member.resume()


async def test_an_idle_watch_leaves_a_stopped_member(store: EtcdStore, cluster: EtcdCluster) -> None:
    """Even when nothing else is asked: the connection's own pings find out."""
    other = await EtcdStore.open(access(cluster))
    async with store.watch("/k/") as batches:
        member = member_in_use(store, cluster)
        member.pause()
        try:
            await put_at_last(other, "/k/1")
            async with asyncio.timeout(PATIENCE):
                assert {event.key for event in (await anext(batches)).events} == {"/k/1"}
        finally:
            member.resume()
    await other.close()


async def test_what_died_with_a_leader_is_not_waited_for(cluster: EtcdCluster) -> None:
    """A write that its member had handed to the leader, and that died there: etcd itself would wait for 7 s."""
    for _ in range(10):
        leader = await asyncio.to_thread(lambda: cluster.leader)
        follower = next(member for member in cluster.members if member is not leader)
        store = await EtcdStore.open(access(cluster, endpoints=(follower.endpoint.partition("//")[2],), timeout=20.0))
        await put(store, "/k/0")
        leader.pause()
        try:
            began = time.monotonic()
            await put(store, "/k/1")  # done if the member knew of the new leader before it was asked
        except StoreUnavailable:
            assert time.monotonic() - began < 6
            await put_at_last(store, "/k/2")
            return
        finally:
            leader.resume()
            await store.close()
    pytest.fail("no write was ever under way when its leader died")


async def test_a_member_alone_knows_no_leader_and_says_so(store: EtcdStore, cluster: EtcdCluster) -> None:
    """The others are dead: nothing can be read or written, which is said in time; afterwards everything goes on."""
    await put(store, "/k/0")
    async with store.watch("/k/") as batches:
        alone = member_in_use(store, cluster)
        others = [member for member in cluster.members if member is not alone]
        for member in others:
            await asyncio.to_thread(member.kill)
        for call in (lambda: store.get("/k/0"), lambda: put(store, "/k/never"), lambda: store.grant(5)):
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await call()
            assert time.monotonic() - began < 7
        await asyncio.to_thread(cluster.start)
        await put_at_last(store, "/k/1")
        keys: list[str] = []
        while "/k/1" not in keys:
            keys += [event.key for event in (await anext(batches)).events]
        assert keys in (["/k/1"], ["/k/never", "/k/1"])


async def test_all_members_die_and_come_back(store: EtcdStore, cluster: EtcdCluster) -> None:
    """Watches wait and miss nothing; a lease that could not be renewed in time says so before its TTL is over."""
    lease = await store.grant(3)
    granted = time.monotonic()
    await put(store, "/k/0")
    other = await EtcdStore.open(access(cluster))
    async with store.watch("/k/") as batches:
        await asyncio.to_thread(cluster.kill)
        with pytest.raises(StoreUnavailable):
            await store.renew(lease)
        assert time.monotonic() - granted < 3
        with pytest.raises(StoreUnavailable):
            async with store.watch("/other/", revision=5):
                raise AssertionError("nobody is there to take it")
        await asyncio.to_thread(cluster.start)
        for number in range(1, 6):
            await put_at_last(other, f"/k/{number}")
        events = await collect(batches, 5)
        assert [event.key for event in events] == [f"/k/{number}" for number in range(1, 6)]
    await other.close()


async def test_a_lost_lease_is_told(store: EtcdStore) -> None:
    lease = await store.grant(2)
    await put(store, "/k/a", b"", lease)
    await asyncio.sleep(6)
    with pytest.raises(LeaseLost):
        await store.renew(lease)
    with pytest.raises(LeaseLost):
        await put(store, "/k/a", b"", lease)
    assert await store.get("/k/a") is None


async def test_compaction_and_defragmentation_under_a_running_watch(store: EtcdStore, cluster: EtcdCluster) -> None:
    """Every event arrives once, or the watch says that it cannot: then listing and watching anew has it all."""
    ended = False

    async def write() -> None:
        for number in range(1500):
            await put_at_last(store, f"/k/{number % 37}", b"%d" % number)
            if number % 5 == 0:
                await asyncio.sleep(0.002)
        await put_at_last(store, "/k/end")

    async def shrink() -> None:
        while not ended:
            await asyncio.to_thread(cluster.compact)
            await asyncio.to_thread(cluster.defrag)
            await asyncio.sleep(0.3)

    async def mirror() -> tuple[dict[str, bytes], int]:
        lists = 0
        while True:
            page = await store.range("/k/")
            state = {item.key: item.value for item in page.items}
            lists += 1
            try:
                async with store.watch("/k/", revision=page.revision + 1) as batches:
                    while "/k/end" not in state:
                        for event in (await anext(batches)).events:
                            state[event.key] = event.value
                    return state, lists
            except Compacted:
                continue

    mirroring, shrinking = asyncio.create_task(mirror()), asyncio.create_task(shrink())
    await write()
    async with asyncio.timeout(PATIENCE):
        state, lists = await mirroring
    ended = True
    await shrinking
    assert state == {item.key: item.value for item in (await store.range("/k/")).items}
    assert lists < 20


async def test_a_watch_that_was_away_during_a_compaction_says_so(
    store: EtcdStore, cluster: EtcdCluster, monkeypatch
) -> None:
    other = await EtcdStore.open(access(cluster))
    compacted, recover = asyncio.Event(), store._client.recover

    async def recover_later(*args, **options) -> None:
        await compacted.wait()
        await recover(*args, **options)

    monkeypatch.setattr(store._client, "recover", recover_later)
    async with store.watch("/k/") as batches:
        await put_at_last(other, "/k/0")
        await collect(batches, 1)
        await asyncio.to_thread(member_in_use(store, cluster).kill)
        for number in range(5):
            last = await put_at_last(other, f"/k/{number}")
        await asyncio.to_thread(cluster.compact, last)
        compacted.set()
        for _ in range(2):
            with pytest.raises(Compacted) as caught:
                async with asyncio.timeout(PATIENCE):
                    await anext(batches)
            assert caught.value.revision == last + 1
    await other.close()


async def test_no_write_is_made_twice_and_no_event_is_lost(store: EtcdStore, cluster: EtcdCluster) -> None:
    """A counter and a log of its steps, while members die and stop at random; then the history is held against both.

    Each step is one Txn: the counter, guarded by its revision, and a record that says who did it. A step whose answer
    never came may have happened, once.
    """
    luck = random.Random(20260101)
    acknowledged: set[int] = set()
    unknown: set[int] = set()
    ended = False

    async def count(writer: int) -> None:
        step = 0
        while not ended:
            step += 1
            me = writer * 1_000_000 + step
            try:
                item = await store.get("/counter")
                known, value = (item.mod_revision, int(item.value)) if item else (0, 0)
                operations = [Put("/counter", b"%d" % (value + 1)), Put(f"/log/{value + 1:06d}", b"%d" % me)]
                done = await store.commit(Txn([Guard("/counter", known)], operations))
                if done.succeeded:
                    acknowledged.add(me)
            except StoreUnavailable:
                unknown.add(me)
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.002)

    async def hurt() -> None:
        for turn in range(8):
            await asyncio.sleep(luck.uniform(0.3, 1.0))
            member = member_in_use(store, cluster) if turn % 2 else luck.choice(cluster.members)
            if luck.random() < 0.5:
                await asyncio.to_thread(member.kill)
                await asyncio.sleep(luck.uniform(0, 1.0))
                member.start()
            else:
                member.pause()
                await asyncio.sleep(luck.uniform(0.5, 3.5))
                member.resume()
            await asyncio.to_thread(member.wait)

    logged: list[tuple[str, int, int]] = []

    async def follow(batches) -> None:
        async for batch in batches:
            logged.extend((event.key, int(event.value), event.mod_revision) for event in batch.events)

    async with store.watch("/log/") as batches:
        following = asyncio.create_task(follow(batches))
        counting = [asyncio.create_task(count(writer)) for writer in range(1, 5)]
        await hurt()
        ended = True
        await asyncio.gather(*counting)
        await put_at_last(store, "/log/end", b"0")
        await until(lambda: logged and logged[-1][0] == "/log/end")
        following.cancel()
        await asyncio.wait({following})

    kept = [(item.key, int(item.value), item.mod_revision) for item in (await store.range("/log/")).items]
    assert logged == sorted(kept, key=lambda entry: entry[2]), "the watch saw exactly what is there, once and in order"
    steps = [entry for entry in kept if entry[0] != "/log/end"]
    assert [key for key, _, _ in steps] == [f"/log/{number:06d}" for number in range(1, len(steps) + 1)]
    assert int((await store.get("/counter")).value) == len(steps)
    makers = [maker for _, maker, _ in steps]
    assert len(makers) == len(set(makers)), "no step was made twice"
    assert acknowledged <= set(makers) <= acknowledged | unknown
    assert len(acknowledged) > 200


async def test_no_space(make_etcd) -> None:
    """The quota is reached: writes say what the operator has to do, reads go on, and afterwards all is well."""
    cluster = make_etcd(1, arguments=["--quota-backend-bytes", str(16 * 1024 * 1024)])
    store = await EtcdStore.open(access(cluster))
    lease = await store.grant(60)

    async def fill() -> None:
        for number in range(100):
            await put(store, "/fat", bytes([number]) * 1_000_000)

    with pytest.raises(StoreUnavailable, match=r"NOSPACE.*etcdctl alarm disarm"):
        await fill()
    assert await store.get("/fat") is not None
    await store.renew(lease)
    (fault,) = store.faults()
    assert "NOSPACE" in fault
    await asyncio.to_thread(cluster.compact)
    await asyncio.to_thread(cluster.defrag)
    await asyncio.to_thread(cluster.ctl, "alarm", "disarm")
    await put(store, "/fat")
    assert store.faults() == []
    await store.close()


async def test_nobody_there() -> None:
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match=r"^etcd at 127.0.0.1:\d cannot be reached: Connection refused$"):
        await EtcdStore.open(access_to("127.0.0.1:1", "127.0.0.1:2"))
    assert time.monotonic() - began < 2
    with pytest.raises(StoreError, match=r"^etcd at none\.invalid:2379 cannot be reached: \S"):
        await EtcdStore.open(access_to("none.invalid:2379"))


def access_to(*endpoints: str):
    return EtcdAccess(endpoints=endpoints, timeout=1.0)
