"""Who may use etcd, and over what: users, tokens and certificates."""

import asyncio
from pathlib import Path

import pytest
from etcd_helpers import access, make_authority
from services.etcd import EtcdCluster

from xchronos.errors import ConfigError, StoreError, StoreUnavailable
from xchronos.store.etcd import EtcdStore
from xchronos.store.etcd_access import EtcdAccess
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
    first = store._link.token
    await asyncio.sleep(3)
    await asyncio.gather(*(put(store, f"/xchronos/{number}") for number in range(20)))
    assert store._link.token != first
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
