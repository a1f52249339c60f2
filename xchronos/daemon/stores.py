"""Opening the job store that the settings name. Only what that store needs is imported: gRPC alone takes 15 MB."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from xchronos.aio import Backoff, retry
from xchronos.clock import SECOND, Clock, Micros
from xchronos.config import Settings
from xchronos.daemon.api_calls import StoreAccess
from xchronos.errors import ConfigError, StoreUnavailable
from xchronos.store.contract import Store

log = structlog.get_logger(__name__)

PAUSE = SECOND
"""The pause between two tries to reach a store that does not answer yet, in microseconds."""


async def open_store(settings: Settings, clock: Clock) -> Store:
    """Open the job store.

    A store on servers is waited for: after a power cut, they may come up later than this daemon
    (`test_etcd_is_waited_for` in tests/daemon/test_stores.py).

    Raises:
        StoreError: the store is there, and cannot be used.
        ConfigError: the settings contradict each other, or name a file that cannot be read.
    """
    kind = settings.store.partition(":")[0]

    def not_yet(error: Exception) -> None:
        if kind not in ON_SERVERS:
            raise error
        log.warning("the job store does not answer yet", reason=str(error))

    return await retry(lambda: _OPENERS[kind](settings, clock), StoreUnavailable, Backoff(clock, PAUSE, PAUSE), not_yet)


def on_servers(settings: Settings) -> bool:
    """Whether the job store is one that other machines can use."""
    return settings.store.partition(":")[0] in ON_SERVERS


async def _open_memory(_settings: Settings, clock: Clock) -> Store:
    from xchronos.store.memory import MemoryStore  # noqa: PLC0415 - see above

    return MemoryStore(clock)


async def _open_sqlite(settings: Settings, clock: Clock) -> Store:
    from xchronos.store.sqlite.store import SqliteStore  # noqa: PLC0415 - see above

    file = settings.store.partition(":")[2]
    path = Path(file.removeprefix("//")) if file else settings.state_directory / "xchronos.db"
    path.parent.mkdir(parents=True, exist_ok=True)
    store = await SqliteStore.open(path, clock=clock, synchronous=settings.sqlite_synchronous)
    # Only one daemon can have the file open. So whoever held these leases is gone, and nobody has to wait for the TTL.
    await store.end_leases()
    return store


async def _open_etcd(settings: Settings, _clock: Clock) -> Store:
    from xchronos.store.etcd.access import EtcdAccess  # noqa: PLC0415 - see above
    from xchronos.store.etcd.store import EtcdStore  # noqa: PLC0415

    scheme, _, members = settings.store.partition("://")
    password = await asyncio.to_thread(
        read_secret, "etcd.password", settings.etcd_password, settings.etcd_password_file
    )
    access = EtcdAccess(
        endpoints=tuple(members.split(",")),
        tls=scheme == "etcds",
        ca=settings.etcd_ca,
        cert=settings.etcd_cert,
        key=settings.etcd_key,
        server_name=settings.etcd_server_name,
        user=settings.etcd_user,
        password=password,
        timeout=settings.etcd_timeout / SECOND,
        max_operations=settings.etcd_max_operations,
    )
    return await EtcdStore.open(access)


async def _open_consul(settings: Settings, clock: Clock) -> Store:
    from xchronos.store.consul.access import ConsulAccess  # noqa: PLC0415 - see above
    from xchronos.store.consul.store import ConsulStore  # noqa: PLC0415

    scheme, _, agents = settings.store.partition("://")
    token = await asyncio.to_thread(read_secret, "consul.token", settings.consul_token, settings.consul_token_file)
    access = ConsulAccess(
        agents=tuple(agents.split(",")),
        tls=scheme == "consuls",
        ca=settings.consul_ca,
        cert=settings.consul_cert,
        key=settings.consul_key,
        token=token,
        prefix=settings.consul_prefix,
        timeout=settings.consul_timeout / SECOND,
    )
    return await ConsulStore.open(access, clock=clock)


_OPENERS: dict[str, Callable[[Settings, Clock], Awaitable[Store]]] = {
    "memory": _open_memory,
    "sqlite": _open_sqlite,
    "etcd": _open_etcd,
    "etcds": _open_etcd,
    "consul": _open_consul,
    "consuls": _open_consul,
}
ON_SERVERS = frozenset(("etcd", "etcds", "consul", "consuls"))
"""The kinds of store that several daemons can share, and that may be away for a while."""


def access_to(store: Store, settings: Settings) -> StoreAccess:
    """How another process of this daemon comes to its store. One that an embedder has made is asked for everything."""
    from xchronos.store.sqlite.store import SqliteStore  # noqa: PLC0415 - see above

    if on_servers(settings):
        from xchronos.store.consul.store import ConsulStore  # noqa: PLC0415 - see above
        from xchronos.store.etcd.store import EtcdStore  # noqa: PLC0415

        if isinstance(store, EtcdStore | ConsulStore):
            return StoreAccess(store.name, store.max_operations, servers=True)
    file = str(store.path) if isinstance(store, SqliteStore) else ""
    return StoreAccess(store.name, store.max_operations, file=file)


def history_kept(settings: Settings) -> Micros:
    """How much of its past the leader lets the store keep, in microseconds; 0: the store sees to that itself."""
    return settings.etcd_history if settings.store.startswith(("etcd:", "etcds:")) else 0


def read_secret(name: str, value: str, file: Path | None) -> str:
    """A secret that is given as a value, or in a file. Raises ConfigError.

    Args:
        name: The setting that has the value; the one that has the file is called the same and `_file`.
        value: The secret; empty: it is not given so.
        file: The file; None: it is not given so.
    """
    if file is None:
        return value
    if value:
        raise ConfigError(f"{name} and {name}_file are both given: expected one of them")
    try:
        return file.read_text(encoding="utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(f"{name}_file: {file} cannot be read: {reason}") from error
