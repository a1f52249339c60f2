"""What the Consul store does when agents or servers of Consul are killed, hang, or are not there."""

import asyncio
import time
from functools import partial

import pytest

from tests.services.waiting import until
from tests.store.consul_helpers import Make, Open, access
from xchronos.errors import LeaseLost, StoreUnavailable
from xchronos.store import Delete, Put, Txn
from xchronos.store.consul.access import ConsulAccess
from xchronos.store.consul.store import ConsulStore
from xchronos.testing.store_base import collect, keys, put, write

pytestmark = pytest.mark.consul


class Writing:
    """Counts up one key for as long as it may, and remembers what it was told."""

    def __init__(self, store: ConsulStore, key: str) -> None:
        self.store = store
        self.key = key
        self.told: list[int] = []
        self.unknown: list[int] = []
        self.next = 0

    async def run(self, done: asyncio.Event) -> None:
        while not done.is_set():
            number, self.next = self.next, self.next + 1
            try:
                await put(self.store, f"{self.key}/{number:06d}")
                self.told.append(number)
            except StoreUnavailable:
                self.unknown.append(number)
            await asyncio.sleep(0.001)


async def answers(store: ConsulStore) -> bool:
    try:
        await put(store, "/probe")
    except StoreUnavailable:
        return False
    return True


async def check(store: ConsulStore, writings: list[Writing], events: list) -> None:
    """What was told to be written is there, and nothing that was not asked for; watches have seen each once."""
    names = [event.key for event in events]
    assert len(names) == len(set(names))
    assert names == [item.key for item in sorted((await store.range("/w/")).items, key=lambda item: item.mod_revision)]
    for writing in writings:
        there = {int(name.rpartition("/")[2]) for name in names if name.startswith(writing.key + "/")}
        assert set(writing.told) <= there <= set(writing.told) | set(writing.unknown)


async def everything_since(store: ConsulStore, revision: int) -> list:
    await put(store, "/w/~end")
    events = []
    async with store.watch("/w/", revision=revision) as batches, asyncio.timeout(20):
        while not events or events[-1].key != "/w/~end":
            events += (await anext(batches)).events
    await write(store, Delete("/w/~end"))
    return events[:-1]


async def test_an_agent_that_is_killed_and_comes_back(make_consul: Make, opening: Open) -> None:
    """Again and again: nothing is lost, nothing is done twice, a watch misses nothing."""
    server = make_consul()
    place = access(server, timeout=2.0)
    stores = [await opening(place) for _ in range(2)]
    writings = [Writing(store, f"/w/{n}") for n, store in enumerate(stores)]
    start = (await stores[0].range("")).revision + 1
    done = asyncio.Event()
    seen = []

    async def watch() -> None:
        async with stores[1].watch("/w/", revision=start) as batches:
            async for batch in batches:
                seen.extend(batch.events)

    watching = asyncio.create_task(watch())
    running = [asyncio.create_task(writing.run(done)) for writing in writings]
    for _ in range(3):
        await asyncio.sleep(0.3)
        await asyncio.to_thread(server.members[0].kill)
        await asyncio.sleep(0.3)
        await asyncio.to_thread(server.start)
        for store in stores:
            await until(partial(answers, store))
    done.set()
    await asyncio.gather(*running)
    events = await everything_since(stores[0], start)
    await check(stores[1], writings, events)
    await check(await opening(place), writings, events)
    assert min(len(writing.told) for writing in writings) > 20

    async def all_seen() -> bool:
        return len([event for event in seen if event.key != "/w/~end"]) >= len(events)

    await until(all_seen)
    assert [event for event in seen if event.key != "/w/~end"] == events
    watching.cancel()


async def test_an_agent_that_hangs(make_consul: Make, opening: Open) -> None:
    """Calls end in time, whatever they were for; leases do not grow older; it all goes on afterwards."""
    server = make_consul()
    store = await opening(access(server, timeout=1.0))
    lease = await store.grant(2)
    await put(store, "/l/a", b"", lease)
    await asyncio.to_thread(server.members[0].pause)
    began = time.monotonic()
    for call in (
        lambda: store.get("/a"),
        lambda: store.range("/a"),
        lambda: put(store, "/unknown"),
        lambda: store.commit_many([Txn((), [Put("/unknown/2", b"")])]),
        lambda: store.renew(lease),
        lambda: store.grant(5),
    ):
        with pytest.raises(StoreUnavailable):
            await call()
    assert time.monotonic() - began < 6 * 2.5
    await asyncio.to_thread(server.members[0].resume)
    await until(lambda: answers(store))
    await store.renew(lease)
    assert await keys(store, "/l/") == ["/l/a"]

    async def ended() -> bool:
        return await keys(store, "/l/") == []

    await until(ended)
    with pytest.raises(LeaseLost):
        await store.renew(lease)


async def test_a_lease_is_not_ended_for_consuls_silence(make_consul: Make, opening: Open) -> None:
    """Its holder could not renew it, so its time begins anew, for everybody who looks."""
    server = make_consul()
    place = access(server, timeout=1.0)
    holder, other = await opening(place), await opening(place)
    lease = await holder.grant(3)
    await put(holder, "/l/a", b"", lease)
    await asyncio.sleep(1)  # it is seen
    await asyncio.to_thread(server.members[0].pause)
    await asyncio.sleep(4)
    await asyncio.to_thread(server.members[0].resume)
    await until(lambda: answers(other))
    await asyncio.sleep(1)
    assert await keys(other, "/l/") == ["/l/a"]
    await holder.renew(lease)


async def test_the_servers_change_their_leader(make_consul: Make, opening: Open) -> None:
    """The leader is killed under load, with all three agents known; and once more when it is back."""
    cluster = await asyncio.to_thread(make_consul, 3)
    place = access(cluster, timeout=5.0)
    stores = [await opening(place) for _ in range(2)]
    writings = [Writing(store, f"/w/{n}") for n, store in enumerate(stores)]
    start = (await stores[0].range("")).revision + 1
    done = asyncio.Event()
    running = [asyncio.create_task(writing.run(done)) for writing in writings]
    for _ in range(2):
        await asyncio.sleep(0.5)
        leader = await asyncio.to_thread(lambda: cluster.leader)
        await asyncio.to_thread(leader.kill)
        told = [len(writing.told) for writing in writings]

        async def going_on(told: list[int] = told) -> bool:
            return all(len(writing.told) > before + 10 for writing, before in zip(writings, told, strict=True))

        await until(going_on)
        await asyncio.to_thread(cluster.start)
    done.set()
    await asyncio.gather(*running)
    events = await everything_since(stores[0], start)
    await check(stores[1], writings, events)


async def test_without_a_majority_it_says_so_and_heals(make_consul: Make, opening: Open) -> None:
    """No leader is no answer."""
    cluster = await asyncio.to_thread(make_consul, 3)
    last = cluster.members[0]
    store = await opening(access(cluster, agents=(last.address.partition("//")[2],), timeout=2.0))
    await put(store, "/a", b"1")
    for member in cluster.members[1:]:
        await asyncio.to_thread(member.kill)
    await asyncio.sleep(3)
    with pytest.raises(StoreUnavailable, match=r"(?i)leader|not answered"):
        await put(store, "/a", b"2")
    with pytest.raises(StoreUnavailable):
        await store.get("/a")
    await asyncio.to_thread(cluster.start)
    await until(lambda: answers(store))
    item = await store.get("/a")
    assert item is not None
    assert item.value in (b"1", b"2")


async def test_another_agent_is_asked_when_one_hangs(make_consul: Make, opening: Open) -> None:
    """Within a call; and that call does not fail."""
    cluster = await asyncio.to_thread(make_consul, 3)
    leader = await asyncio.to_thread(lambda: cluster.leader)
    hanging = next(member for member in cluster.members if member is not leader)
    others = [member for member in cluster.members if member is not hanging]
    order = [hanging, *others]
    place = access(cluster, agents=tuple(member.address.partition("//")[2] for member in order))
    store = await opening(place)
    await put(store, "/a", b"1")
    async with store.watch("/a") as batches:
        await asyncio.to_thread(hanging.pause)
        await put(store, "/a", b"2")
        item = await store.get("/a")
        assert item is not None
        assert item.value == b"2"
        assert [event.value for event in await collect(batches, 1)] == [b"2"]
    await asyncio.to_thread(hanging.resume)


async def test_who_only_listens_hears_by_another_agent_when_one_hangs(
    make_consul: Make, opening: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question for news stays open for long; that others are not answered ends it."""
    monkeypatch.setattr("xchronos.store.consul.store._WAIT", 300.0)
    cluster = await asyncio.to_thread(make_consul, 3)
    leader = await asyncio.to_thread(lambda: cluster.leader)
    hanging = next(member for member in cluster.members if member is not leader)
    others = [member.address.partition("//")[2] for member in cluster.members if member is not hanging]
    listener = await opening(access(cluster, agents=(hanging.address.partition("//")[2], *others), prefix="same"))
    writer = await opening(access(cluster, agents=tuple(others), prefix="same"))
    async with listener.watch("/a") as batches:
        await asyncio.to_thread(hanging.pause)
        await put(writer, "/a", b"1")
        assert [event.value for event in await collect(batches, 1)] == [b"1"]
    await asyncio.to_thread(hanging.resume)


async def test_closing_while_consul_is_away(make_consul: Make, opening: Open) -> None:
    """It takes no longer than a call, and whoever waits is told."""
    server = make_consul()
    store = await opening(access(server, timeout=1.0))
    await asyncio.to_thread(server.members[0].pause)
    waiting = [asyncio.create_task(put(store, f"/a/{number}", b"x" * 200_000)) for number in range(10)]
    await asyncio.sleep(0.1)
    async with asyncio.timeout(5):
        await store.close()
    for result in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(result, StoreUnavailable)


async def test_nobody_is_there(opening: Open) -> None:
    """No agent listens: that passes, perhaps."""
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="does not answer"):
        await opening(ConsulAccess(agents=("127.0.0.1:1", "127.0.0.1:2"), timeout=0.5))
    assert time.monotonic() - began < 3
