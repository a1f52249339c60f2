"""The stores that a cluster of the tests may have: their servers, and what these hold, without asking any daemon."""

import asyncio
import json
import os
import time
from base64 import b64decode
from typing import Any
from urllib.error import HTTPError

import msgspec

from tests.services.consul import ConsulCluster
from tests.services.etcd import EtcdCluster
from tests.services.servers import PATIENCE, ServerError
from xchronos.store.consul.http import Item, Op, TxnAnswer
from xchronos.store.consul.layout import Layout
from xchronos.store.consul.log import ConsulLog
from xchronos.store.consul.mirror import Mirror


class EtcdServers(EtcdCluster):
    """etcd, read with etcdctl."""

    @property
    def url(self) -> str:
        """What daemons are told."""
        return "etcd://" + ",".join(endpoint.partition("//")[2] for endpoint in self.endpoints)

    def keys(self, prefix: str) -> dict[str, str]:
        """The keys that begin with a prefix, and their values; named by what follows it."""
        done = self.ctl("get", "--prefix", prefix, "-w", "json")
        found = json.loads(done.stdout).get("kvs", [])
        return {
            b64decode(item["key"]).decode()[len(prefix) :]: b64decode(item.get("value", "")).decode() for item in found
        }


class ConsulServers(ConsulCluster):
    """Consul, read as the store itself reads it. This reader ends no lease and folds nothing: daemons have to."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.forget()

    @property
    def url(self) -> str:
        """What daemons are told."""
        return "consul://" + ",".join(address.partition("//")[2] for address in self.addresses)

    def forget(self) -> None:
        """Read everything anew the next time: the servers have lost what they had."""
        self._log = ConsulLog(_Reader(self), Layout("xchronos"), Mirror(1, 1))  # type: ignore[arg-type]
        self._known = False

    def keys(self, prefix: str) -> dict[str, str]:
        """The keys that begin with a prefix, and their values; named by what follows it."""
        asyncio.run(self._read())
        mirror = self._log.mirror
        return {key[len(prefix) :]: mirror.rows[key].value.decode() for key in mirror.under(prefix)}

    async def _read(self) -> None:
        if not self._known:
            await self._log.load()
            self._known = True
        await self._log.catch_up(await self._log.agents.get(self._log.layout.head))


class _Reader:
    """As much of `Agents` as reading the log takes, from any server that answers."""

    def __init__(self, servers: ConsulServers) -> None:
        self._servers = servers

    async def get(self, key: str) -> Item:
        return msgspec.json.decode(self._ask("GET", f"/v1/kv/{key}?consistent="), type=list[Item])[0]

    async def all(self, prefix: str, *, bulk: bool) -> list[Item]:
        return msgspec.json.decode(self._ask("GET", f"/v1/kv/{prefix}?recurse=&consistent="), type=list[Item])

    async def txn(self, operations: list[Op], *, consistent: bool) -> TxnAnswer:
        assert consistent, "nothing is written here"
        body = msgspec.json.encode([{"KV": operation} for operation in operations])
        return msgspec.json.decode(self._ask("PUT", "/v1/txn?consistent=", body), type=TxnAnswer)

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for member in self._servers.members:
                try:
                    if member.running:
                        return member.request(method, path, body, timeout=3)
                except HTTPError as error:
                    if error.code == 409:  # a Txn that did not hold
                        return error.read()
                except OSError:
                    continue
            time.sleep(0.05)
        raise ServerError(f"no server of Consul answers {path} after {PATIENCE:g} s")


CHOSEN: type[EtcdServers | ConsulServers] = {"etcd": EtcdServers, "consul": ConsulServers}[
    os.environ.get("XCHRONOS_CLUSTER_STORE", "etcd")
]
"""What a scenario runs on that does not say: `XCHRONOS_CLUSTER_STORE=consul pytest tests/cluster` tries them on Consul."""
