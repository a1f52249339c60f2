"""Which store a daemon opens, and what it says of one that it cannot open."""

import asyncio
from pathlib import Path

import pytest

from tests.services.consul import ConsulCluster
from tests.services.etcd import EtcdCluster
from xchronos.clock import SystemClock
from xchronos.config import Settings
from xchronos.config.values import STORES
from xchronos.daemon import stores
from xchronos.daemon.daemon import Daemon
from xchronos.daemon.stores import history_kept, open_store, read_secret
from xchronos.errors import ConfigError, StoreError


async def opened(settings: Settings) -> str:
    store = await open_store(settings, SystemClock())
    await store.close()
    return store.name


def test_every_store_that_a_url_may_name_can_be_opened():
    assert set(stores._OPENERS) == set(STORES)
    assert set(STORES) > stores.ON_SERVERS


async def test_the_embedded_stores(tmp_path: Path):
    assert await opened(Settings(state_directory=tmp_path, store="memory:")) == "memory"
    assert await opened(Settings(state_directory=tmp_path)) == "sqlite"
    assert (tmp_path / "xchronos.db").exists()
    for url in (f"sqlite:{tmp_path}/a/x.db", f"sqlite://{tmp_path}/b/x.db"):
        assert await opened(Settings(state_directory=tmp_path, store=url)) == "sqlite"
    assert (tmp_path / "a/x.db").exists()
    assert (tmp_path / "b/x.db").exists()


async def test_an_embedded_store_that_is_in_use_is_not_waited_for(tmp_path: Path):
    settings = Settings(state_directory=tmp_path)
    store = await open_store(settings, SystemClock())
    with pytest.raises(StoreError):
        await open_store(settings, SystemClock())
    await store.close()


@pytest.mark.etcd
async def test_etcd(etcd_server: EtcdCluster, tmp_path: Path):
    url = etcd_server.endpoints[0].replace("http", "etcd")
    assert await opened(Settings(state_directory=tmp_path, store=url)) == "etcd"


@pytest.mark.etcd
async def test_etcd_is_waited_for(make_etcd, tmp_path: Path):
    cluster = make_etcd()
    cluster.kill()
    url = cluster.endpoints[0].replace("http", "etcd")
    opening = asyncio.create_task(opened(Settings(state_directory=tmp_path, store=url, etcd_timeout=200_000)))
    await asyncio.sleep(1.5)
    assert not opening.done()
    await asyncio.to_thread(cluster.start)
    async with asyncio.timeout(20):
        assert await opening == "etcd"


@pytest.mark.consul
async def test_consul(consul_server: ConsulCluster, tmp_path: Path):
    url = consul_server.addresses[0].replace("http", "consul")
    settings = Settings(state_directory=tmp_path, store=url, consul_prefix="test-stores/open")
    assert await opened(settings) == "consul"
    assert b'"revision":1' in consul_server.members[0].get("test-stores/open/")["test-stores/open/head"]


async def test_what_the_settings_say_of_consul_must_fit_together(tmp_path: Path):
    def consul(**settings) -> Settings:
        return Settings(state_directory=tmp_path, store="consuls://127.0.0.1:1", **settings)

    for settings, words in (
        (consul(consul_cert=tmp_path / "c"), "needs its key"),
        (consul(consul_ca=tmp_path / "none"), f"{tmp_path}/none: .* cannot be read: .*No such file"),
        (consul(consul_prefix="a b"), "cannot be the prefix"),
        (consul(consul_token="x", consul_token_file=tmp_path), "consul.token and consul.token_file are both given"),
        (Settings(state_directory=tmp_path, store="consul://127.0.0.1:1", consul_ca=tmp_path), "without TLS"),
    ):
        with pytest.raises(ConfigError, match=words):
            await opened(settings)


async def test_a_daemon_that_waits_for_its_store_can_be_stopped(tmp_path: Path):
    daemon = Daemon(Settings(state_directory=tmp_path, store="etcd://127.0.0.1:1"))
    running = asyncio.create_task(daemon.run())
    await asyncio.sleep(0.5)
    assert not running.done()
    daemon.stopping.set()
    async with asyncio.timeout(5):
        await running


async def test_what_the_settings_say_of_etcd_must_fit_together(tmp_path: Path):
    def etcd(**settings) -> Settings:
        return Settings(state_directory=tmp_path, store="etcds://127.0.0.1:1", **settings)

    for settings, words in (
        (etcd(etcd_cert=tmp_path / "c"), "needs its key"),
        (etcd(etcd_ca=tmp_path / "none"), f"etcd.ca: {tmp_path}/none cannot be read: No such file"),
        (etcd(etcd_password="x"), "no user"),
        (Settings(state_directory=tmp_path, store="etcd://127.0.0.1:1", etcd_ca=tmp_path), "without TLS"),
    ):
        with pytest.raises(ConfigError, match=words):
            await opened(settings)


def test_only_etcd_is_compacted(tmp_path: Path):
    for url, kept in (("sqlite:", 0), ("memory:", 0), ("etcd://a:1", 60), ("etcds://a:1", 60)):
        assert history_kept(Settings(state_directory=tmp_path, store=url, etcd_history=60)) == kept
    assert history_kept(Settings(state_directory=tmp_path, store="etcd://a:1", etcd_history=0)) == 0


def test_a_secret_in_a_file(tmp_path: Path):
    file = tmp_path / "password"
    file.write_text("se cret\n")
    assert read_secret("etcd.password", "", file) == "se cret"
    assert read_secret("etcd.password", "x", None) == "x"
    with pytest.raises(ConfigError, match="both given"):
        read_secret("etcd.password", "x", file)
    with pytest.raises(ConfigError, match=r"etcd.password_file: .*none cannot be read: No such file"):
        read_secret("etcd.password", "", tmp_path / "none")
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="it is no text"):
        read_secret("etcd.password", "", file)
