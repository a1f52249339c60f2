"""The contract on a real Consul, and what is Consul's own."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.services.consul import ConsulCluster
from tests.services.waiting import until
from tests.store.consul_helpers import access
from xchronos.errors import Compacted, ConfigError, LeaseLost, StoreError
from xchronos.store import Delete, Guard, Put, Store, Txn
from xchronos.store.consul.access import ConsulAccess
from xchronos.store.consul.layout import Layout
from xchronos.store.consul.store import ConsulStore
from xchronos.store.contract import Operation
from xchronos.testing.store import StoreContract
from xchronos.testing.store_base import collect, put, write

pytestmark = pytest.mark.consul

Open = Callable[[], Awaitable[ConsulStore]]


class TestConsulStore(StoreContract):
    ttl = 2.0

    @pytest.fixture(autouse=True)
    def _server(self, consul_server: ConsulCluster) -> None:
        self.server = consul_server

    async def open_store(self, directory: Path) -> Store:
        return await ConsulStore.open(access(self.server))


@pytest.fixture
async def another(consul_server: ConsulCluster) -> AsyncIterator[Open]:
    """Opens one more client of one store."""
    place = access(consul_server)
    clients = []

    async def opening() -> ConsulStore:
        clients.append(await ConsulStore.open(place))
        return clients[-1]

    yield opening
    for client in clients:
        await client.close()


def kept(server: ConsulCluster, store: ConsulStore, kind: str) -> dict[str, bytes]:
    """What Consul holds of one kind: keys, log, parts, big, leases."""
    prefix = f"{store._layout.prefix}{kind}/"
    return {key.removeprefix(prefix): value for key, value in server.members[0].get(prefix).items()}


async def everything(store: Store) -> tuple:
    page = await store.range("")
    return page.items, page.revision


async def test_clients_see_each_other_at_once(another: Open) -> None:
    """A read after another client's commit has it; so has a watch, with the same revisions."""
    one, two = await another(), await another()
    async with two.watch("/w/") as batches:
        for number in range(40):
            writer, reader = (one, two) if number % 2 else (two, one)
            revision = await put(writer, f"/w/{number % 7}", b"%d" % number)
            item = await reader.get(f"/w/{number % 7}")
            assert item is not None
            assert (item.value, item.mod_revision) == (b"%d" % number, revision)
        events = await collect(batches, 40)
    assert [event.value for event in events] == [b"%d" % number for number in range(40)]
    assert await everything(one) == await everything(two)


async def test_a_guard_is_judged_by_what_others_have_written(another: Open) -> None:
    """Even where nothing is written, so that no head is swapped."""
    one, two = await another(), await another()
    for number in range(20):
        revision = await put(one, "/g", b"%d" % number)
        assert (await two.commit(Txn([Guard("/g", revision)], [Delete("/none")]))).succeeded
        assert not (await two.commit(Txn([Guard("/g", 0)], [Put("/x", b"")]))).succeeded


async def test_clients_that_write_at_once_lose_nothing(another: Open) -> None:
    """Counters that all raise by guarded Txns, and watches that all see the same."""
    clients = [await another() for _ in range(3)]
    await write(clients[0], Put("/n/0", b"0"), Put("/n/1", b"0"))
    start = (await clients[0].range("")).revision + 1

    async def add(client: ConsulStore, key: str, times: int) -> None:
        while times:
            item = await client.get(key)
            assert item is not None
            txn = Txn([Guard(key, item.mod_revision)], [Put(key, b"%d" % (int(item.value) + 1))])
            times -= (await client.commit(txn)).succeeded

    seen = []
    async with asyncio.timeout(60):
        await asyncio.gather(*(add(client, f"/n/{n % 2}", 10) for client in clients for n in range(4)))
        for client in clients:
            async with client.watch("/n/", revision=start) as batches:
                seen.append(await collect(batches, 120))
    assert seen[0] == seen[1] == seen[2]
    assert [item.value for item in (await clients[2].range("/n/")).items] == [b"60", b"60"]


async def test_a_busy_client_does_not_shut_the_others_out(another: Open) -> None:
    """Whoever came second must read before it can try again; it gets its turn all the same."""
    busy, other = await another(), await another()
    done = asyncio.Event()

    async def hammer(number: int) -> None:
        while not done.is_set():
            await put(busy, f"/h/{number}", b"x" * 1000)

    async with asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(hammer(number))
        for number in range(30):
            await put(other, f"/o/{number}")  # would raise StoreUnavailable after five seconds
        done.set()


async def test_folding_keeps_the_log_short_and_the_state(another: Open, consul_server: ConsulCluster) -> None:
    """Whatever was created, changed and deleted; a client that opens later sees what the others do."""
    one = await another()
    for turn in range(6):
        for number in range(20):
            operations: list[Operation] = [Put(f"/k/{number}", b"%d" % turn), Put(f"/t/{turn}/{number}", b"passing")]
            if turn:
                operations.append(Delete(f"/t/{turn - 1}/{number}"))
            await write(one, *operations)
        await one._folder.fold(keep=0)
    assert len(kept(consul_server, one, "log")) < 16
    assert sorted(kept(consul_server, one, "keys")) == sorted(
        [*(f"k/{number}" for number in range(20)), *(f"t/5/{number}" for number in range(20))]
    )
    header, _, value = kept(consul_server, one, "keys")["k/3"].partition(b"\n")
    assert value == b"5"
    assert b'"/k/3"' in header
    await write(one, Put("/k/3", b"after"), Delete("/k/4"))
    assert await everything(await another()) == await everything(one)


async def test_the_log_is_folded_by_itself(
    another: Open, consul_server: ConsulCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much is written and deleted, by several clients, what Consul holds is bounded."""
    monkeypatch.setattr("xchronos.store.consul.fold._FOLD_ENTRIES", 50)
    monkeypatch.setattr("xchronos.store.consul.fold._CHECK_EVERY", 0.02)
    clients = [await another() for _ in range(3)]

    async def churn(client: ConsulStore, name: int) -> None:
        for number in range(150):
            await write(client, Put(f"/c/{name}/{number}", b"x" * 500), Delete(f"/c/{name}/{number - 3}"))

    await asyncio.gather(*(churn(client, name) for name, client in enumerate(clients)))

    async def short() -> bool:
        return len(await asyncio.to_thread(kept, consul_server, clients[0], "log")) < 50 + 2 * 64 + 16

    await until(short)
    states = [await everything(client) for client in [*clients, await another()]]
    assert all(state == states[0] for state in states)
    assert len(states[0][0]) == 9


async def test_a_fold_that_is_broken_off_is_gone_over(another: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some keys are too new then; a client that opens, and the next fold, are right nevertheless."""
    one = await another()
    for number in range(200):
        await put(one, f"/k/{number}", b"old")
    await one._folder.fold(keep=0)
    for number in range(200):
        await write(one, Delete(f"/k/{number}") if number % 3 else Put(f"/k/{number}", b"new"))

    real, left = one._agents.txn, 2

    async def breaking(operations, **options):
        nonlocal left
        if operations[0].verb == "check-index":
            left -= 1
            if left < 0:
                raise StoreError("broken off")
        return await real(operations, **options)

    monkeypatch.setattr(one._agents, "txn", breaking)
    with pytest.raises(StoreError, match="broken off"):
        await one._folder.fold(keep=0)
    left = 100
    for number in range(0, 200, 5):
        await put(one, f"/k/{number}", b"newest")
    two = await another()
    assert await everything(two) == await everything(one)
    await two._folder.fold(keep=0)  # somebody may still be at it
    checkpoint = two._mirror.checkpoint
    monkeypatch.setattr("xchronos.store.consul.fold._STALLED", 0)
    await two._folder.fold(keep=0)
    assert two._mirror.checkpoint > checkpoint
    assert await everything(await another()) == await everything(one)


async def test_a_fold_that_was_overtaken_writes_nothing(another: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """It slept while another client folded what is newer."""
    one, two = await another(), await another()
    monkeypatch.setattr("xchronos.store.consul.fold._STALLED", 0)
    for number in range(10):
        await put(one, f"/k/{number}", b"old")
    real, asleep, go_on = one._agents.txn, asyncio.Event(), asyncio.Event()

    async def sleeping(operations, **options):
        if operations[0].verb == "check-index":
            asleep.set()
            await go_on.wait()
        return await real(operations, **options)

    monkeypatch.setattr(one._agents, "txn", sleeping)
    folding = asyncio.create_task(one._folder.fold())
    await asleep.wait()
    for number in range(5):
        await put(two, f"/k/{number}", b"new")
    await two._folder.fold(keep=0)
    go_on.set()
    await folding
    assert await everything(await another()) == await everything(two)


async def test_a_long_queue_that_moves_is_no_silence(
    consul_server: ConsulCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call may take longer than the time-out, as long as Consul answers what comes before it."""
    monkeypatch.setattr("xchronos.store.consul.writer._GROUP", 1000)
    store = await ConsulStore.open(access(consul_server, timeout=0.5))
    real = store._agents.txn

    async def slow(operations, **options):
        await asyncio.sleep(0.1)
        return await real(operations, **options)

    monkeypatch.setattr(store._agents, "txn", slow)
    results = await store.commit_many([Txn((), [Put(f"/a/{number}", b"x" * 900)]) for number in range(20)])
    assert all(result.succeeded for result in results)
    await store.close()


async def test_what_is_too_long_for_consul(another: Open, consul_server: ConsulCluster) -> None:
    """Long values and long Txns are kept in parts, which go away with them."""
    one, two = await another(), await another()
    long = bytes(range(256)) * 4096 * 2
    async with two.watch("/v/") as batches:
        await write(one, Put("/v/a", long), Put("/v/b", b"short"))
        await write(one, *[Put(f"/v/{number:03d}", b"x" * 8000) for number in range(128)])
        events = await collect(batches, 130)
    assert events[0].value == long
    await one._folder.fold(keep=0)
    await put(one, "/v/a", long + b"!")
    await one._folder.fold(keep=0)
    three = await another()
    assert await everything(three) == await everything(one)
    await write(three, Delete("/v/a"))
    for number in range(20):
        await put(three, f"/n/{number}")
    await three._folder.fold(keep=0)
    assert kept(consul_server, one, "parts") == kept(consul_server, one, "big") == {}
    assert await everything(await another()) == await everything(two)


async def test_who_is_too_far_behind_reads_everything(another: Open) -> None:
    """The log was trimmed under a watch: it says Compacted, and a new one goes on."""
    one, two = await another(), await another()
    await put(one, "/w/0")
    seen = await two.range("/w/")
    follower = next(task for task in two._tasks if "follow" in task.get_name())
    follower.cancel()
    await asyncio.wait({follower})
    async with two.watch("/w/", revision=seen.revision + 1) as batches:
        for number in range(1, 40):
            await put(one, f"/w/{number}")
        await one._folder.fold(keep=0)
        last = await put(one, "/w/last")
        assert await everything(two) == await everything(one)
        with pytest.raises(Compacted) as caught:
            await anext(batches)
    assert seen.revision < caught.value.revision <= last
    async with two.watch("/w/", revision=last) as batches:
        assert [event.key for event in await collect(batches, 1)] == ["/w/last"]
    assert (await two.commit(Txn([Guard("/w/last", last)], [Delete("/w/0")]))).succeeded


async def test_leases_are_everybodys(another: Open) -> None:
    """One client grants, another renews, a third sees the end; none is ended twice."""
    one, two, three = await another(), await another(), await another()
    lease = await one.grant(1.5)
    await put(two, "/l/a", b"", lease)
    for _ in range(5):
        await asyncio.sleep(0.6)
        await two.renew(lease)
    assert await three.get("/l/a") is not None
    async with three.watch("/l/") as batches:
        assert [event.kind for event in await collect(batches, 1)] == ["delete"]
    for client in (one, two, three):
        with pytest.raises(LeaseLost):
            await client.renew(lease)


async def test_the_client_that_granted_may_be_gone(another: Open) -> None:
    """The others end its leases; a lease does not depend on whoever is there to see it granted."""
    one = await another()
    lease = await one.grant(1)
    await put(one, "/l/a", b"", lease)
    await one.close()
    two = await another()
    assert await two.get("/l/a") is not None
    async with two.watch("/l/") as batches:
        assert [event.kind for event in await collect(batches, 1)] == ["delete"]
    with pytest.raises(LeaseLost):
        await put(two, "/l/b", b"", lease)


async def test_nothing_is_left_of_what_is_deleted(another: Open, consul_server: ConsulCluster) -> None:
    """No ghosts among the keys, leases, parts and values."""
    one = await another()
    lease = await one.grant(60)
    await write(one, Put("/a/b", b"x" * 600_000), Put("/c", b"", lease))
    await one._folder.fold(keep=0)
    await write(one, Delete("/a/b"))
    await one.revoke(lease)
    for _ in range(20):
        await write(one, Put("/d", b""), Delete("/d/e"))
    await write(one, Delete("/d"))
    await one._folder.fold(keep=0)
    for kind in ("keys", "leases", "parts", "big"):
        assert kept(consul_server, one, kind) == {}


@settings(deadline=None)
@given(st.lists(st.text(st.sampled_from("/.ab=%é \0\n"), min_size=1, max_size=5), min_size=2, max_size=2, unique=True))
def test_names_in_consul_are_plain_and_distinct(names: list[str]) -> None:
    """Of the characters that every version takes, without `..`, `//` and a slash at the end."""
    layout = Layout("x")
    encoded = [layout.key(name) for name in names]
    assert encoded[0] != encoded[1]
    for name in encoded:
        assert re.fullmatch(r"x/keys/[A-Za-z0-9_./=-]+", name)
        assert not re.search(r"\.\.|//|/\Z|/\.", name)


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"agents": ()}, "at least one"),
        ({"tls": True, "cert": Path("c")}, "needs its key"),
        ({"ca": Path("c")}, "without TLS"),
        *[({"prefix": prefix}, "cannot be the prefix") for prefix in ("", "/x", "x/", "a//b", "a b", "../x")],
    ],
)
def test_access_is_checked(wrong: dict, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        ConsulAccess(**{"agents": ("a:8500",), **wrong})


def test_the_token_is_never_shown() -> None:
    place = ConsulAccess(agents=("a:8500", "b:8500"), token="t0ps3cret")
    assert str(place) == "consul://a:8500,b:8500"
    assert "t0ps3cret" not in f"{place!r} {place} {[place]}"
