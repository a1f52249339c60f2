"""What the Consul store makes of lost answers, of what others do to its keys, and of a Consul that does not allow all."""

import asyncio
import os
from pathlib import Path

import pytest

from tests.services.consul import ConsulCluster, ConsulMember
from tests.services.waiting import until
from tests.store.consul_helpers import Make, Open, access
from tests.store.etcd_helpers import make_authority
from xchronos.errors import LeaseLost, StoreError, StoreUnavailable
from xchronos.store import Guard, Put, Txn
from xchronos.store.consul.http import Item
from xchronos.testing.store_base import keys, put

pytestmark = pytest.mark.consul


@pytest.mark.parametrize("fate", ["after", "before"])
async def test_a_lost_answer_is_found_out(
    fate: str, consul_server: ConsulCluster, opening: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write whose answer is lost is neither lost nor done twice, with others writing in between."""
    place = access(consul_server)
    one, two = await opening(place), await opening(place)
    real, lost = one._agents._once, 0

    async def losing(at, method, path, params, body, limit, **options):
        nonlocal lost
        if method != "PUT" or path != "/v1/txn" or b'"cas"' not in body or lost % 2:
            lost += method == "PUT"
            return await real(at, method, path, params, body, limit, **options)
        lost += 1
        if fate == "after":
            await real(at, method, path, params, body, limit, **options)
            if lost % 4 == 1:
                await put(two, f"/other/{lost}")
        raise StoreUnavailable("the answer was lost")

    monkeypatch.setattr(one._agents, "_once", losing)
    for number in range(20):
        item = await two.get("/counter")
        value = int(item.value) if item else 0
        txn = Txn([Guard("/counter", item.mod_revision if item else 0)], [Put("/counter", b"%d" % (value + 1))])
        assert (await one.commit(txn)).succeeded, number
    item = await two.get("/counter")
    assert item is not None
    assert item.value == b"20"
    assert lost >= 20


async def test_a_fate_that_nobody_can_tell_any_more(
    consul_server: ConsulCluster, opening: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer was lost, and the log was folded before the writer came back: it is not written again."""
    place = access(consul_server)
    one, two = await opening(place), await opening(place)
    follower = next(task for task in one._tasks if "follow" in task.get_name())
    follower.cancel()
    await asyncio.wait({follower})
    real, lost = one._agents._once, False

    async def losing(at, method, path, params, body, limit, **options):
        nonlocal lost
        if lost or method != "PUT" or b'"cas"' not in (body or b""):
            return await real(at, method, path, params, body, limit, **options)
        lost = True
        await real(at, method, path, params, body, limit, **options)
        for number in range(40):
            await put(two, f"/other/{number}")
        await two._folder.fold(keep=0)
        raise StoreUnavailable("the answer was lost")

    monkeypatch.setattr(one._agents, "_once", losing)
    with pytest.raises(StoreUnavailable, match="too late to know"):
        await put(one, "/a", b"once")
    item = await one.get("/a")
    assert item is not None
    assert (item.value, item.create_revision) == (b"once", item.mod_revision)


async def test_what_the_token_must_allow(make_consul: Make, opening: Open) -> None:
    """Without the right to write there is no store; who loses it is told so, and goes on when it is back."""
    root = "8a2b5c3d-1111-2222-3333-444455556666"
    server = await asyncio.to_thread(lambda: make_consul(token=root))
    writer = await asyncio.to_thread(server.new_token, 'key_prefix "mine/" { policy = "write" }')
    reader = await asyncio.to_thread(server.new_token, 'key_prefix "mine/" { policy = "read" }')
    for token in ("", reader, "0a2b5c3d-1111-2222-3333-444455556666"):
        with pytest.raises(StoreError, match="ACL token") as caught:
            await opening(access(server, prefix="mine", token=token))
        assert not isinstance(caught.value, StoreUnavailable)
        assert not token or token not in str(caught.value)
    store = await opening(access(server, prefix="mine", token=writer))
    await put(store, "/a")
    with pytest.raises(StoreError, match="ACL token"):
        await opening(access(server, prefix="yours", token=writer))
    onlooker = await opening(access(server, prefix="mine", token=reader))
    assert await keys(onlooker) == ["/a"]
    with pytest.raises(StoreUnavailable, match="ACL token"):
        await put(onlooker, "/b")
    with pytest.raises(StoreUnavailable, match="ACL token"):
        await onlooker.renew(await store.grant(10))


async def test_tls(make_consul: Make, opening: Open, tmp_path: Path) -> None:
    """The agent proves who it is, and so do we; whoever cannot is not spoken to."""
    ours, others = make_authority(tmp_path / "ours"), make_authority(tmp_path / "others")
    server = await asyncio.to_thread(lambda: make_consul(tls=ours))
    store = await opening(access(server, tls=True, ca=ours.ca, cert=ours.cert, key=ours.key))
    await put(store, "/a", b"1")
    for wrong in (
        {"ca": others.ca, "cert": ours.cert, "key": ours.key},
        {"ca": ours.ca},
        {"ca": ours.ca, "cert": others.cert, "key": others.key},
    ):
        with pytest.raises(StoreUnavailable, match=r"(?i)certificate|ssl|disconnected|reset|closed"):
            await opening(access(server, tls=True, timeout=0.5, **wrong))


async def test_an_agent_that_does_not_know_all_yet(
    consul_server: ConsulCluster, opening: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """News are asked of one server, which may have just begun: that the store is gone is believed of a majority."""
    store = await opening(access(consul_server))
    real, asked = store._agents.changed, 0

    async def nothing(key, index, wait):
        nonlocal asked
        asked += 1
        return (None, 0) if asked < 3 else await real(key, index, wait)

    monkeypatch.setattr(store._agents, "changed", nothing)
    await put(store, "/a")
    await until(lambda: asked > 3)
    await put(store, "/b")
    assert await keys(store) == ["/a", "/b"]


async def test_a_snapshot_that_is_put_back_under_a_client(make_consul: Make, opening: Open) -> None:
    """It notices by itself, whatever it does, and says what to do."""
    server = await asyncio.to_thread(make_consul)
    member = server.members[0]
    store = await opening(access(server))
    lease = await store.grant(60)
    snapshot = await asyncio.to_thread(member.request, "GET", "/v1/snapshot")
    await put(store, "/a")
    await asyncio.to_thread(member.request, "PUT", "/v1/snapshot", snapshot)

    told = ""

    async def refused() -> bool:
        nonlocal told
        try:
            await store.renew(lease)
        except StoreUnavailable:
            return False
        except StoreError as error:
            told = str(error)
        return bool(told)

    await until(refused)
    assert "Start every daemon anew" in told


async def test_a_client_that_has_not_heard_of_a_restored_snapshot_folds_nothing_into_it(
    make_consul: Make, opening: Open
) -> None:
    """What it knows of never happened there; one that is ahead of its head is refused."""
    server = await asyncio.to_thread(make_consul)
    member = server.members[0]
    place = access(server)
    store = await opening(place)
    await put(store, "/a")
    snapshot = await asyncio.to_thread(member.request, "GET", "/v1/snapshot")
    for number in range(3):
        await put(store, f"/b/{number}")
    for task in store._tasks:
        task.cancel()
    await asyncio.wait(store._tasks)
    await asyncio.to_thread(member.request, "PUT", "/v1/snapshot", snapshot)
    await until(lambda: _heads(member), "the snapshot is back")
    await store._folder.fold()
    assert await keys(await opening(place)) == ["/a"]
    # News that it was told before the snapshot came back, and can find nothing of.
    news = Item(store._layout.head, 1, b'{"sequence":99,"revision":99}')
    async with asyncio.timeout(10):
        with pytest.raises(StoreError, match="back in time"):
            await store._log.catch_up(news)
    ahead = b'{"checkpoint":9,"target":9,"trimmed":0}'
    await asyncio.to_thread(member.request, "PUT", f"/v1/kv/{place.prefix}/fold", ahead)
    with pytest.raises(StoreError, match="is ahead of"):
        await opening(place)


async def _heads(member: ConsulMember) -> bool:
    """Whether it answers after a restore."""
    return bool(await asyncio.to_thread(member.get))


async def test_a_store_that_fails_writes_nothing_more(
    consul_server: ConsulCluster, opening: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of its roles goes on by a mirror that is not to be trusted, and closing does not wait for them."""
    store = await opening(access(consul_server, timeout=60.0))

    async def broken(item: object) -> None:
        raise StoreError("this does not fit")

    monkeypatch.setattr(store._log, "catch_up", broken)
    await until(lambda: all(task.done() for task in store._tasks))
    with pytest.raises(StoreError, match="does not fit"):
        await put(store, "/a")
    assert store.faults() == ["this does not fit"]
    async with asyncio.timeout(20):
        await store.close()


async def test_a_store_that_is_removed_or_put_back_in_time(consul_server: ConsulCluster, opening: Open) -> None:
    """A client with a mirror of what was cannot go on, and says what to do."""
    member = consul_server.members[0]
    place = access(consul_server)
    store = await opening(place)
    old = await asyncio.to_thread(member.get, place.prefix + "/head")
    for number in range(3):
        await put(store, f"/a/{number}")
    other = await opening(place)
    await asyncio.to_thread(member.request, "PUT", f"/v1/kv/{place.prefix}/head", old[place.prefix + "/head"])
    with pytest.raises(StoreError, match="back in time") as caught:
        await store.get("/a/0")
    assert not isinstance(caught.value, StoreUnavailable)
    await asyncio.to_thread(member.delete, place.prefix + "/")
    with pytest.raises(StoreError, match="removed"):
        await other.get("/a/0")


@pytest.mark.parametrize("kind", ["head", "fold", "keys/a", "log/0000000000000001", "leases/1"])
async def test_what_is_damaged_is_not_opened(kind: str, consul_server: ConsulCluster, opening: Open) -> None:
    """It says which key cannot be read."""
    member = consul_server.members[0]
    place = access(consul_server)
    store = await opening(place)
    await store.grant(60)
    await put(store, "/a", b"1")
    if kind == "keys/a":
        await store._folder.fold(keep=0)
    await store.close()
    await asyncio.to_thread(member.request, "PUT", f"/v1/kv/{place.prefix}/{kind}", b"\xff garbage")
    if kind == "leases/1":  # nobody can tell how long it lives
        await opening(place)
        return
    with pytest.raises(StoreError, match="Consul"):
        await opening(place)
    await asyncio.to_thread(member.delete, f"{place.prefix}/{kind}")
    if kind != "keys/a":
        with pytest.raises(StoreError, match=r"missing|cannot be read"):
            await opening(place)


async def test_a_lease_whose_key_somebody_deletes_or_overwrites(consul_server: ConsulCluster, opening: Open) -> None:
    """It is gone for its holder at once, and its keys go when it would have run out; a wrong record is as good."""
    member = consul_server.members[0]
    place = access(consul_server)
    store = await opening(place)
    for change in ("delete", "overwrite"):
        lease = await store.grant(1)
        await put(store, "/l/a", b"", lease)
        await asyncio.sleep(0.7)  # it is seen
        name = f"{place.prefix}/leases/{lease}"
        if change == "delete":
            await asyncio.to_thread(member.delete, name)
            with pytest.raises(LeaseLost):
                await store.renew(lease)
        else:
            await asyncio.to_thread(member.request, "PUT", f"/v1/kv/{name}", b"garbage")

        async def ended() -> bool:
            return await keys(store, "/l/") == []

        await until(ended)


async def test_servers_that_take_only_small_requests(make_consul: Make, opening: Open) -> None:
    """The operator is told which limits to raise."""
    server = await asyncio.to_thread(
        lambda: make_consul(settings={"limits": {"kv_max_value_size": 4096, "txn_max_req_len": 4096}})
    )
    store = await opening(access(server))
    await put(store, "/a", b"x" * 1000)
    with pytest.raises(StoreError, match="txn_max_req_len") as caught:
        await put(store, "/a", os.urandom(10_000))
    assert not isinstance(caught.value, StoreUnavailable)
    assert (await store.commit(Txn((), [Put("/b", b"")]))).succeeded
    assert store.faults() == []
    for number in range(20):
        await put(store, f"/c/{number}", b"x" * 1000)
    await until(store.faults, "what keeps the log from being folded is told")
    (fault,) = store.faults()
    assert "cannot be folded" in fault
    assert "txn_max_req_len" in fault
