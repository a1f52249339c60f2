"""The store contract on etcd v3, from 3.4 on.

The contract is etcd's own semantics, so this is a translation. It adds three things: several endpoints, of which one is
used until it fails (`client`); watches that go on elsewhere (`watch`); and Txns that are under way side by side.

etcd keeps the past of every key until it is compacted. The leader of the schedulers compacts (see
`engine.leader.compaction`). Compaction does not give the disk space back: that is `etcdctl defrag` on one member after
another, which stops each for a moment, so it is left to the operator.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from math import ceil
from typing import Self

from xchronos.clock import SECOND
from xchronos.errors import Compacted, LeaseLost, StoreError, StoreUnavailable
from xchronos.store.contract import Committed, KeyValue, Page, Txn, WatchBatch
from xchronos.store.etcd.access import EtcdAccess
from xchronos.store.etcd.client import EtcdClient, Sent
from xchronos.store.etcd.codec import decode_items, decode_keys, encode_txn, prefix_range, touched
from xchronos.store.etcd.errors import COMPACTS_NOT, LeaseExists, Misconfigured
from xchronos.store.etcd.rpc import messages_pb2 as messages
from xchronos.store.etcd.watch import EtcdWatch
from xchronos.store.leases import parse_ttl
from xchronos.store.transactions import check_key, check_txn

NOWHERE = "\0"
"""A prefix of no key: a watch of it sees no events."""

KEYS_PER_REQUEST = 5_000
"""How many keys a read without a limit asks etcd for in one request."""

IN_FLIGHT = 16
"""The most Txns of one `commit_many` that are under way at the same time."""


class EtcdStore:
    """A `Store` on an etcd cluster. Made by `EtcdStore.open`, and used on the event loop that opened it."""

    name = "etcd"

    def __init__(self, access: EtcdAccess) -> None:
        self.max_operations = access.max_operations
        self._access = access
        self._client = EtcdClient(access)
        self._watches: set[EtcdWatch] = set()
        self._ttls: dict[int, float] = {}

    @classmethod
    async def open(cls, access: EtcdAccess) -> Self:
        """Connect, log in, and check that the keys of xchronos may be read.

        Raises:
            StoreUnavailable: no endpoint answers for now.
            StoreError: an endpoint answers and refuses us: a wrong password, a certificate, no permission.
            ConfigError: a certificate cannot be read.
        """
        store = cls(access)
        try:
            await store._client.login()
            await store.range("/xchronos/", limit=1, keys_only=True)
        except BaseException as error:
            await store.close()
            if isinstance(error, Misconfigured):
                raise StoreError(str(error)) from error
            raise
        return store

    async def get(self, key: str) -> KeyValue | None:
        """See `Store.get`."""
        check_key(key)
        answer = await self._client.call("range", messages.RangeRequest(key=key.encode()), twice=True)
        items = decode_items(answer.kvs)
        return items[0] if items else None

    async def range(
        self, prefix: str, *, start: str = "", limit: int = 0, keys_only: bool = False, revision: int = 0
    ) -> Page:
        """See `Store.range`."""
        begin, end = prefix_range(prefix)
        begin = max(begin, start.encode())
        request = messages.RangeRequest(
            key=begin, range_end=end, limit=limit or KEYS_PER_REQUEST, keys_only=keys_only, revision=revision
        )
        items: list[KeyValue] = []
        decode = decode_keys if keys_only else decode_items
        while True:
            try:
                answer = await self._client.call("range", request, twice=True)
            except Compacted:
                raise Compacted(await self._oldest(request.revision)) from None
            items += decode(answer.kvs)
            read_at = request.revision or answer.header.revision
            # A page that has nothing to tell where the next one begins is no page.
            if (limit and items) or not answer.more:
                return Page(items, read_at, answer.more)
            request.key = answer.kvs[-1].key + b"\0"
            request.revision = read_at

    async def commit(self, txn: Txn) -> Committed:
        """See `Store.commit`."""
        check_txn(txn, self.max_operations)
        answer = await self._client.call("txn", encode_txn(txn), twice=False)
        return Committed(answer.succeeded, answer.header.revision)

    async def commit_many(self, txns: Sequence[Txn]) -> list[Committed]:
        """See `Store.commit_many`. Txns that touch no common key are under way side by side."""
        self._client.check_open()
        for txn in txns:
            check_txn(txn, self.max_operations)
        return await _Flight(self._client).carry_out(txns)

    def watch(self, prefix: str, *, revision: int = 0) -> AbstractAsyncContextManager[AsyncIterator[WatchBatch]]:
        """See `Store.watch`."""
        return EtcdWatch(self._client, prefix, revision, self._watches)

    async def grant(self, ttl_seconds: float) -> int:
        """See `Store.grant`. etcd rounds up to whole seconds, and to at least one and a half election time-outs."""
        ttl = ceil(parse_ttl(ttl_seconds) / SECOND)
        # We choose the lease's number, so asking again is harmless: etcd refuses to grant a number a second time
        # (`test_a_lease_granted_twice_is_one`).
        lease = secrets.randbelow(2**62) + 1
        try:
            answer = await self._client.call("grant", messages.LeaseGrantRequest(ID=lease, TTL=ttl), twice=True)
        except LeaseExists:  # the first of two tries granted it, and its answer was lost
            self._ttls[lease] = ttl
        else:
            self._ttls[lease] = answer.TTL
        return lease

    async def renew(self, lease: int) -> None:
        """See `Store.renew`.

        It waits for an answer for at most half of the TTL. So a holder that renews every third of the TTL hears of a
        failure before the TTL is over.
        """
        patience = min(self._access.timeout, self._ttls.get(lease, self._access.timeout) / 2)
        answer = await self._client.exchange("keep_alive", messages.LeaseKeepAliveRequest(ID=lease), patience)
        if answer.TTL <= 0:
            self._ttls.pop(lease, None)
            raise LeaseLost(f"the lease {lease} has expired or was revoked")

    async def revoke(self, lease: int) -> None:
        """See `Store.revoke`."""
        await self._client.call("revoke", messages.LeaseRevokeRequest(ID=lease), twice=True)
        self._ttls.pop(lease, None)

    async def compact(self, revision: int) -> None:
        """See `Store.compact`."""
        try:
            await self._client.call("compact", messages.CompactionRequest(revision=revision), twice=True)
        except Compacted:
            return
        except Misconfigured as error:  # the store works without it, so the store is not unavailable
            raise StoreError(COMPACTS_NOT) from error

    def faults(self) -> list[str]:
        """See `Reporting.faults`: for example a quota that is reached, or a permission that was taken away."""
        return [self._client.fault] if self._client.fault else []

    async def close(self) -> None:
        """See `Store.close`."""
        self._client.closed = True
        for watch in list(self._watches):
            watch.end(StoreError(f"{self._access}: the store is closed: nothing more can be watched"))
        await self._client.close()

    async def _oldest(self, revision: int) -> int:
        """The oldest revision that can be watched from, after `revision` was compacted.

        etcd tells that only to a watch, so this opens one (`test_compacted_says_where_history_begins_to_a_reader_too`).
        """
        try:
            async with EtcdWatch(self._client, NOWHERE, revision, self._watches) as batches:
                async with asyncio.timeout(self._access.timeout):
                    await anext(batches)
        except Compacted as error:
            return error.revision
        except TimeoutError:
            pass
        raise StoreUnavailable(f"{self._access}: revision {revision} is compacted, but a watch from it is not told so")


class _Flight:
    """The Txns of one `commit_many` that are under way side by side.

    A Txn that touches a key of another one under way is sent only after the other one's answer
    (`test_txns_that_share_keys_keep_their_order`).
    """

    def __init__(self, client: EtcdClient) -> None:
        self._client = client
        self._sent: deque[tuple[int, Sent]] = deque()
        self._results: dict[int, Committed] = {}
        self._lost: LeaseLost | None = None
        self._forget_keys()

    async def carry_out(self, txns: Sequence[Txn]) -> list[Committed]:
        try:
            for number, txn in enumerate(txns):
                read, written, prefixes = touched(txn)
                if self._meets(read, written, prefixes):
                    await self._land(0)
                elif len(self._sent) >= IN_FLIGHT:
                    await self._land(IN_FLIGHT - 1)
                self._read |= read
                self._written |= written
                self._prefixes += prefixes
                self._sent.append((number, self._client.send("txn", encode_txn(txn))))
            await self._land(0)
        finally:
            while self._sent:
                self._client.forget(self._sent.popleft()[1])
        if self._lost is not None:
            raise self._lost
        return [self._results[number] for number in range(len(txns))]

    def _forget_keys(self) -> None:
        self._read: set[str] = set()
        self._written: set[str] = set()
        self._prefixes: list[str] = []

    def _meets(self, read: set[str], written: set[str], prefixes: list[str]) -> bool:
        """Whether a Txn touches a key of another one under way, and one of the two writes it: then order matters."""
        if not self._written.isdisjoint(written) or not self._written.isdisjoint(read):
            return True
        if not self._read.isdisjoint(written):
            return True
        if self._prefixes and any(key.startswith(tuple(self._prefixes)) for key in (*read, *written, *prefixes)):
            return True
        return bool(prefixes) and any(
            key.startswith(tuple(prefixes)) for key in (*self._read, *self._written, *self._prefixes)
        )

    async def _land(self, left: int) -> None:
        """Wait for the answers to the oldest Txns until only `left` are under way."""
        while len(self._sent) > left:
            number, sent = self._sent.popleft()
            try:
                answer = await self._client.finish(sent, twice=False)
            except LeaseLost as error:
                self._lost = self._lost or error
            else:
                self._results[number] = Committed(answer.succeeded, answer.header.revision)
        if not left:
            self._forget_keys()
