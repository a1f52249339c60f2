"""What the tests of the etcd store share."""

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from tests.services.etcd import EtcdCluster, EtcdMember
from tests.services.servers import Tls
from xchronos.store import Guard, Txn, WatchBatch
from xchronos.store.etcd.access import EtcdAccess
from xchronos.store.etcd.store import EtcdStore


def access(cluster: EtcdCluster, **options) -> EtcdAccess:
    """How a cluster of the tests is reached."""
    options.setdefault("endpoints", tuple(url.partition("//")[2] for url in cluster.endpoints))
    return EtcdAccess(**options)


def member_in_use(store: EtcdStore, cluster: EtcdCluster) -> EtcdMember:
    """The member that the store talks to."""
    endpoint = store._client.connection().endpoint
    return next(member for member in cluster.members if member.endpoint.endswith(endpoint))


def make_authority(directory: Path, names: str = "IP:127.0.0.1") -> Tls:
    """A throw-away certificate authority, and a certificate that it has signed for `names`."""
    directory.mkdir(exist_ok=True)
    tls = Tls(ca=directory / "ca.pem", cert=directory / "cert.pem", key=directory / "key.pem")
    made = directory / "ca.key", directory / "request.pem", directory / "extensions"
    made[2].write_text(f"subjectAltName={names}\nextendedKeyUsage=serverAuth,clientAuth\n")

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(
        "req", "-x509", *curve, "-keyout", made[0], "-out", tls.ca, "-days", 2, "-subj", "/CN=a throw-away authority"
    )
    openssl("req", *curve, "-keyout", tls.key, "-out", made[1], "-subj", "/CN=etcd")
    sign(directory)
    return tls


def sign(directory: Path, days: int = 2) -> None:
    """Have the authority sign its certificate (anew); 0 days: it expires at once."""
    openssl("x509", "-req", "-in", directory / "request.pem", "-CA", directory / "ca.pem", "-CAkey",
            directory / "ca.key", "-CAcreateserial", "-out", directory / "cert.pem", "-days", days, "-extfile",
            directory / "extensions")  # fmt: skip


def openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


Told = TypeVar("Told", bound=msgspec.Struct)


class Shifted:
    """A store whose revisions are told as so many fewer: a server that others have used looks like a new one."""

    def __init__(self, store: EtcdStore, by: int) -> None:
        self.by = by
        self.inner = store
        self.grant, self.renew, self.revoke, self.close = store.grant, store.renew, store.revoke, store.close

    def _less(self, thing: Told, *fields: str) -> Told:
        changed = {field: value - self.by for field in fields if (value := getattr(thing, field))}
        return msgspec.structs.replace(thing, **changed)

    def _item(self, item: Told) -> Told:
        return self._less(item, "create_revision", "mod_revision")

    def _txn(self, txn: Txn) -> Txn:
        guards = [Guard(g.key, g.revision and g.revision + self.by, g.target) for g in txn.guards]
        return Txn(guards, txn.operations)

    async def range(self, prefix: str, *, revision: int = 0, **options):
        page = await self.inner.range(prefix, revision=revision and revision + self.by, **options)
        items = [self._item(item) for item in page.items]
        return msgspec.structs.replace(page, items=items, revision=page.revision - self.by)

    async def commit(self, txn: Txn):
        return self._less(await self.inner.commit(self._txn(txn)), "revision")

    async def commit_many(self, txns):
        return [self._less(done, "revision") for done in await self.inner.commit_many(list(map(self._txn, txns)))]

    async def compact(self, revision: int) -> None:
        await self.inner.compact(revision + self.by)

    @asynccontextmanager
    async def watch(self, prefix: str, *, revision: int = 0):
        async with self.inner.watch(prefix, revision=revision and revision + self.by) as batches:
            yield self._batches(batches)

    async def _batches(self, batches: AsyncIterator[WatchBatch]):
        async for batch in batches:
            yield WatchBatch(batch.revision - self.by, [self._item(event) for event in batch.events])
