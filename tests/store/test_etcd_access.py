"""Who may use etcd, and over what: users, tokens and certificates."""

import asyncio
from pathlib import Path

import pytest

from tests.services.etcd import EtcdCluster
from tests.store.etcd_helpers import access, make_authority, sign
from xchronos.errors import ConfigError, StoreError, StoreUnavailable
from xchronos.store.etcd.access import EtcdAccess
from xchronos.store.etcd.store import EtcdStore
from xchronos.testing.store_base import collect, put

pytestmark = pytest.mark.etcd

HERE = ("127.0.0.1:2379",)


def turn_on_users(cluster: EtcdCluster) -> None:
    """root, and `runner`, who may use the keys of xchronos and no others."""
    for command in (
        "user add root:secret",
        "user grant-role root root",
        "role add xchronos",
        "role grant-permission xchronos --prefix=true readwrite /xchronos/",
        "user add runner:pass",
        "user grant-role runner xchronos",
        "user add stranger:pass",
        "auth enable",
    ):
        cluster.ctl(*command.split())
    cluster.user = "root:secret"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"endpoints": ()}, "no etcd endpoint"),
        ({"endpoints": HERE, "tls": True, "cert": Path("/c")}, "needs its key"),
        ({"endpoints": HERE, "tls": True, "key": Path("/k")}, "its certificate"),
        ({"endpoints": HERE, "ca": Path("/c")}, "without TLS"),
        ({"endpoints": HERE, "password": "x"}, "no user"),
    ],
)
def test_what_does_not_fit_together(settings, words) -> None:
    with pytest.raises(ConfigError, match=words):
        EtcdAccess(**settings)


def test_the_password_is_not_shown() -> None:
    given = EtcdAccess(endpoints=("a:1", "b:2"), user="runner", password="secret")
    assert str(given) == "etcd://runner@a:1,b:2"
    assert "secret" not in repr(given) + str(given)
    assert str(EtcdAccess(endpoints=("a:1",), tls=True)) == "etcds://a:1"


async def test_users(make_etcd) -> None:
    cluster = make_etcd()
    early = await EtcdStore.open(access(cluster, user="runner", password="pass"))  # nobody asks for a password yet
    await put(early, "/xchronos/a")
    await asyncio.to_thread(turn_on_users, cluster)
    await put(early, "/xchronos/b")  # now somebody does
    async with early.watch("/xchronos/") as batches:
        await put(early, "/xchronos/c")
        assert [event.key for event in await collect(batches, 1)] == ["/xchronos/c"]
    lease = await early.grant(10)
    await early.renew(lease)
    await put(early, "/xchronos/d", b"", lease)
    await early.revoke(lease)
    for call in (early.get("/elsewhere"), put(early, "/elsewhere")):
        with pytest.raises(StoreUnavailable, match=r"grant its role read and write on the prefix /xchronos/"):
            await call
    with pytest.raises(StoreUnavailable, match="grant its role"):
        async with early.watch("/elsewhere"):
            raise AssertionError("that may not be watched")
    await early.close()

    for user, words in (
        ({"user": "runner", "password": "wrong"}, "does not know this user and password"),
        ({"user": "nobody", "password": "pass"}, "does not know this user and password"),
        ({}, r"asks for a user and a password: set etcd\.user"),
        ({"user": "stranger", "password": "pass"}, "grant its role"),
    ):
        with pytest.raises(StoreError, match=words) as caught:
            await EtcdStore.open(access(cluster, **user))
        assert type(caught.value) is StoreError, "waiting does not heal it"
        assert "pass" not in str(caught.value).replace("password", "")


async def test_a_token_that_is_no_good_any_more_is_replaced(make_etcd) -> None:
    """It expires, and a server that restarts does not know it: calls, renewals and watches get a new one."""
    cluster = make_etcd(1, arguments=["--auth-token-ttl", "1"])
    await asyncio.to_thread(turn_on_users, cluster)
    store = await EtcdStore.open(access(cluster, user="runner", password="pass"))
    lease = await store.grant(60)
    first = store._client.token
    await asyncio.sleep(3)
    await asyncio.gather(*(put(store, f"/xchronos/{number}") for number in range(20)))
    assert store._client.token != first
    async with store.watch("/xchronos/") as batches:
        member = cluster.members[0]
        await asyncio.to_thread(member.kill)
        member.start()
        await asyncio.to_thread(member.wait)
        await store.renew(lease)
        await put(store, "/xchronos/after")
        assert [event.key for event in await collect(batches, 1)] == ["/xchronos/after"]
    revision = (await store.range("/xchronos/")).revision
    await asyncio.sleep(3)
    async with store.watch("/xchronos/", revision=revision + 1) as batches:
        await put(store, "/xchronos/again")
        assert [event.key for event in await collect(batches, 1)] == ["/xchronos/again"]
    await store.close()


async def test_users_that_are_turned_off_again(make_etcd) -> None:
    """The token of before is no good then, and there is no new one to be had."""
    cluster = make_etcd()
    await asyncio.to_thread(turn_on_users, cluster)
    store = await EtcdStore.open(access(cluster, user="runner", password="pass"))
    lease = await store.grant(60)
    await asyncio.to_thread(cluster.ctl, "auth", "disable")
    cluster.user = ""
    await put(store, "/xchronos/a")
    async with store.watch("/xchronos/") as batches:
        await put(store, "/xchronos/b")
        assert [event.key for event in await collect(batches, 1)] == ["/xchronos/b"]
    await asyncio.to_thread(cluster.ctl, "auth", "enable")
    await put(store, "/xchronos/c")
    await store.renew(lease)
    await store.close()


async def test_a_user_who_may_not_compact_is_told_so_and_nothing_else_is_wrong(make_etcd) -> None:
    """Newer servers let only root compact; on others this is done."""
    cluster = make_etcd()
    await asyncio.to_thread(turn_on_users, cluster)
    store = await EtcdStore.open(access(cluster, user="runner", password="pass"))
    await put(store, "/xchronos/a")
    revision = (await store.range("/xchronos/")).revision
    refusal: StoreError | None = None
    try:
        await store.compact(revision)
    except StoreError as error:
        refusal = error
    if refusal is not None:
        assert type(refusal) is StoreError, "asking again changes nothing"
        assert "--auto-compaction-mode" in str(refusal)
    assert store.faults() == []
    await store.close()
    root = await EtcdStore.open(access(cluster, user="root", password="secret"))
    await put(root, "/xchronos/b")
    await root.compact(revision + 1)
    assert store.faults() == []
    await root.close()


@pytest.mark.slow
async def test_three_members_with_tls_users_and_tokens_that_expire(make_etcd, tmp_path: Path) -> None:
    """Nothing that is written is lost or told twice, and the lease is kept, whatever becomes of members and users."""
    tls = make_authority(tmp_path / "tls")
    mutual = type(tls)(tls.ca, tls.cert, tls.key, clients=True)
    cluster = make_etcd(3, tls=mutual, arguments=["--auth-token-ttl", "2"])
    await asyncio.to_thread(turn_on_users, cluster)
    store = await EtcdStore.open(
        access(cluster, tls=True, ca=tls.ca, cert=tls.cert, key=tls.key, user="runner", password="pass")
    )
    lease = await store.grant(30)
    written: list[str] = []
    told: list[str] = []
    over = asyncio.Event()

    async def write() -> None:
        number = 0
        while not over.is_set():
            key = f"/xchronos/{number:06}"
            try:
                await put(store, key)
            except StoreUnavailable:
                if await store.get(key) is None:  # its fate was unknown; now it is known
                    continue
            written.append(key)
            number += 1
            await asyncio.sleep(0.02)

    async def renew() -> None:
        while not over.is_set():
            await store.renew(lease)
            await asyncio.sleep(1)

    async with store.watch("/xchronos/") as batches:

        async def follow() -> None:
            async for batch in batches:
                told.extend(event.key for event in batch.events)

        following = asyncio.create_task(follow())
        async with asyncio.TaskGroup() as group:
            group.create_task(write())
            group.create_task(renew())
            for member in cluster.members:
                await asyncio.to_thread(member.kill)
                await asyncio.sleep(2.5)
                member.start()
                await asyncio.to_thread(member.wait)
                await asyncio.to_thread(cluster.ctl, "user", "add", f"somebody-{member.name}:pass")
            for change in ("auth disable", "auth enable"):
                await asyncio.to_thread(cluster.ctl, *change.split())
                cluster.user = "" if change == "auth disable" else "root:secret"
                before = len(written)
                while len(written) == before:  # noqa: ASYNC110 - written by another task
                    await asyncio.sleep(0.05)
            over.set()
        async with asyncio.timeout(10):
            while len(told) < len(written):  # noqa: ASYNC110 - the events come by themselves
                await asyncio.sleep(0.05)
        following.cancel()
    assert told == written
    await store.close()


async def test_certificates_that_are_replaced(make_etcd, tmp_path: Path) -> None:
    """A connection that is made from then on is made with the new ones; nobody has to be started again."""
    tls = make_authority(tmp_path / "tls")
    mutual = type(tls)(tls.ca, tls.cert, tls.key, clients=True)
    cluster = make_etcd(1, tls=mutual)
    store = await EtcdStore.open(access(cluster, tls=True, ca=tls.ca, cert=tls.cert, key=tls.key, timeout=3.0))
    await put(store, "/k")
    (member,) = cluster.members
    await asyncio.to_thread(member.kill)
    tls.cert.unlink()  # half-way through
    with pytest.raises(StoreUnavailable):
        await store.get("/k")
    make_authority(tmp_path / "tls")  # all of it anew, under the same names
    member.start()
    await asyncio.to_thread(member.wait)
    item = await store.get("/k")
    assert item is not None
    await put(store, "/k")
    await store.close()


async def test_certificates_that_are_no_good(make_etcd, tmp_path: Path) -> None:
    tls, other = make_authority(tmp_path / "tls"), make_authority(tmp_path / "other")
    cluster = make_etcd(1, tls=type(tls)(tls.ca, tls.cert, tls.key, clients=True))
    refused = r"refuses? our certificate \(etcd\.cert, etcd\.key\)"
    for cert, key, words in (
        (None, None, refused),
        (other.cert, other.key, refused),
        (tls.cert, other.key, "do not belong together"),
    ):
        with pytest.raises(StoreError, match=words):
            await EtcdStore.open(access(cluster, tls=True, ca=tls.ca, cert=cert, key=key, timeout=2.0))
    sign(tmp_path / "tls", days=0)  # read by the server for each connection
    await asyncio.sleep(1.1)
    with pytest.raises(StoreError, match="its certificate has expired"):
        await EtcdStore.open(access(cluster, tls=True, ca=tls.ca, cert=tls.cert, key=tls.key, timeout=2.0))


async def test_tls(make_etcd, tmp_path: Path) -> None:
    tls = make_authority(tmp_path / "tls")
    cluster = make_etcd(1, tls=tls)
    store = await EtcdStore.open(access(cluster, tls=True, ca=tls.ca))
    async with store.watch("/k") as batches:
        await put(store, "/k")
        await collect(batches, 1)
    await store.close()

    other = make_authority(tmp_path / "other")
    for settings, words in (
        ({"tls": True, "ca": other.ca}, r"not signed by an authority that is trusted here \(etcd\.ca\)"),
        ({"tls": True}, "not signed by an authority"),
        ({"tls": True, "ca": tls.ca, "server_name": "etcd.example.org"}, r"for another name \(etcd\.server_name\)"),
    ):
        with pytest.raises(StoreError, match=words) as caught:
            await EtcdStore.open(access(cluster, timeout=1.0, **settings))
        assert type(caught.value) is StoreError
    with pytest.raises(StoreUnavailable):
        await EtcdStore.open(access(cluster, timeout=1.0))
    with pytest.raises(ConfigError, match=r"etcd\.ca: .* cannot be read"):
        await EtcdStore.open(access(cluster, tls=True, ca=tmp_path / "none"))


async def test_tls_by_another_name_and_with_our_own_certificate(make_etcd, tmp_path: Path) -> None:
    tls = make_authority(tmp_path / "tls", "DNS:etcd.example.org,IP:127.0.0.1")
    cluster = make_etcd(1, tls=type(tls)(tls.ca, tls.cert, tls.key, clients=True))
    ours = {"tls": True, "ca": tls.ca, "server_name": "etcd.example.org"}
    store = await EtcdStore.open(access(cluster, cert=tls.cert, key=tls.key, **ours))
    await put(store, "/k")
    await store.close()
    with pytest.raises(StoreError):
        await EtcdStore.open(access(cluster, timeout=1.0, **ours))


async def test_tls_to_a_server_that_speaks_plainly(etcd_server: EtcdCluster) -> None:
    with pytest.raises(StoreError, match=r"it does not seem to speak TLS: write etcd:// instead of etcds://"):
        await EtcdStore.open(access(etcd_server, tls=True, timeout=1.0))
