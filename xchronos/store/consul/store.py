"""The store contract on Consul's KV, from 1.8 on, over HTTP.

Consul has no history, and no revisions that suit the contract. Its watches skip what happens in between, and its Txns
take 64 operations. Its sessions may live for twice their TTL, and delete their keys one by one. So Consul's keys are
not the store's keys. What Consul does well is to agree on one small thing at a time, and that is enough for a log:

- Every write is an *entry*: all that it changed. One of Consul's Txns adds the entry and compares and swaps the *head*.
  So entries are in one order, and the writer of each knew all entries before it. Requests that wait while an entry is
  under way become the next one together: any number of the contract's Txns, each with its own revision.
- Every client follows the log into a *mirror* in memory, by a blocking query on the head. Guards, ranges, watches and
  reads of the past are served from it, as the embedded stores do it. A read first asks a majority of the servers for
  the head, so it is never older than what anybody was told before.
- A writer whose head is stale reads the newer entries and decides again. A writer that had no answer looks into the
  log, where an entry names its writer. So no write is lost, and none is done twice. What became of a write is unknown
  only while Consul stays away.
- The log is folded into plain keys, one for each of the store's keys, every ten seconds or after a thousand entries, by
  any client. `consul kv get xchronos/keys/xchronos/etc/jobs/a.service` shows one; its first line is about the key. So
  Consul holds every living key at most twice, and a short log, for as long as the store is in use. A client whose next
  entries are deleted already reads the whole store again, and its watches raise Compacted
  (`test_who_is_too_far_behind_reads_everything`).
- A lease is a key that each renewal rewrites. Any client that has seen it unchanged for its TTL ends it by an entry,
  unless it was renewed in the last moment. That happens within a second after its TTL, and never before. While Consul
  does not answer, no lease grows older.
- What is too long for one of Consul's keys (512 KiB, base64 included) is written in parts, before the entry that names
  them. So this store has the same limits as the others.

What it costs: every client has the whole store in memory (1.7 KB for a key of 1 KB), and reads it when it starts
(50,000 keys in 2 s). Daemons that write at the same time wait for each other. Each daemon asks for the leases twice a
second, even when nothing happens. Measured beside etcd, one server of either on the same two busy cores:

===================================================  ========  ========
what                                                   Consul      etcd
===================================================  ========  ========
Txns of one Put, one after another                      600/s   1,700/s
the same by fifty tasks                              11,700/s   4,200/s
the same by fifty tasks of each of two clients       12,700/s   2,700/s
operations of Txns of a hundred, as executions need  44,600/s  43,200/s
consistent gets, one after another                    3,900/s   1,400/s
from a commit to another client's watch                1.8 ms    1.7 ms
executions, scheduler and agent apart, 2,000/s due    1,900/s   1,890/s
===================================================  ========  ========

A lone write is slower here; many together share an entry. Consul's servers keep everything in memory. So this is the
store for those who run Consul anyway and have some ten thousand units, not for hundreds of thousands.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Self

import msgspec
import structlog

from xchronos.aio import Backoff, cancel_and_wait
from xchronos.clock import MILLISECOND, SECOND, Clock, Micros, SystemClock, to_datetime
from xchronos.errors import LeaseLost, StoreError, StoreUnavailable
from xchronos.store.consul.access import ConsulAccess
from xchronos.store.consul.fold import Folder
from xchronos.store.consul.http import Agents, Denied, Op
from xchronos.store.consul.layout import Layout, LeaseRecord, decode_ttl
from xchronos.store.consul.leases import Reaper
from xchronos.store.consul.log import ConsulLog
from xchronos.store.consul.mirror import Mirror
from xchronos.store.consul.writer import ConsulWriter
from xchronos.store.contract import MAX_OPERATIONS, Committed, KeyValue, Page, Put, Txn, WatchBatch
from xchronos.store.history import MAX_BYTES, MAX_EVENTS
from xchronos.store.leases import parse_ttl
from xchronos.store.transactions import check_key, check_txn

log = structlog.get_logger(__name__)

_WAIT = 5.0  # seconds that a blocking query on the head stays open
_LONGEST_FOLLOW_PAUSE: Micros = 2 * SECOND
_BREATH: Micros = 10 * MILLISECOND  # the pause between two such queries while only this client writes


class ConsulStore:
    """A `Store` in a Consul cluster. Made by `ConsulStore.open`, and used on the event loop that opened it."""

    name = "consul"
    max_operations = MAX_OPERATIONS

    def __init__(self, agents: Agents, layout: Layout, clock: Clock, timeout: float, mirror: Mirror) -> None:
        self._agents = agents
        self._layout = layout
        self._clock = clock
        self._timeout = timeout
        self._mirror = mirror
        self._log = ConsulLog(agents, layout, mirror)
        self._ttls: dict[int, float] = {}
        self._writer = ConsulWriter(self._log, timeout, self._stamp)
        self._reaper = Reaper(agents, layout.leases, clock, mirror.leases, self._expire)
        self._folder = Folder(agents, layout, mirror)
        self._tasks: list[asyncio.Task[None]] = []
        self._broken: StoreError | None = None
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        access: ConsulAccess,
        *,
        clock: Clock | None = None,
        history_events: int = MAX_EVENTS,
        history_bytes: int = MAX_BYTES,
    ) -> Self:
        """Read the whole store from Consul, or begin one.

        Args:
            access: how Consul is reached.
            clock: tells when leases run out.
            history_events: how many events a watch can go back, at most.
            history_bytes: how many bytes of memory these events may take.

        Raises:
            StoreError: the token is refused, or the store is damaged or from another release.
            StoreUnavailable: no agent answers, or Consul has no leader.
            ConfigError: a certificate cannot be read.
        """
        layout = Layout(access.prefix)
        agents = Agents(access, await asyncio.to_thread(access.context))
        store = cls(agents, layout, clock or SystemClock(), access.timeout, Mirror(history_events, history_bytes))
        try:
            await store._log.load()
        except BaseException as error:
            await agents.close()
            if isinstance(error, Denied):
                raise StoreError(str(error)) from error
            raise
        store._start()
        return store

    async def get(self, key: str) -> KeyValue | None:
        """See `Store.get`."""
        self._check_open()
        check_key(key)
        await self._log.current()
        return self._mirror.rows.get(key)

    async def range(
        self, prefix: str, *, start: str = "", limit: int = 0, keys_only: bool = False, revision: int = 0
    ) -> Page:
        """See `Store.range`."""
        self._check_open()
        if not revision or revision > self._mirror.head.revision:
            await self._log.current()
        return self._mirror.page(prefix, start, limit, revision, keys_only=keys_only)

    async def commit(self, txn: Txn) -> Committed:
        """See `Store.commit`."""
        self._check_open()
        check_txn(txn, self.max_operations)
        committed: Committed = await self._writer.answer(self._submit(txn))
        return committed

    async def commit_many(self, txns: Sequence[Txn]) -> list[Committed]:
        """See `Store.commit_many`."""
        self._check_open()
        for txn in txns:
            check_txn(txn, self.max_operations)
        if not txns:
            return []
        futures = [self._submit(txn) for txn in txns]
        results: list[Committed] = []
        problem: StoreError | None = None
        for future in futures:
            try:
                results.append(await self._writer.answer(future))
            except StoreError as error:
                # The caller gets one error for all Txns, and LeaseLost only if nothing else went wrong.
                if problem is None or not isinstance(error, LeaseLost):
                    problem = error
        if problem is not None:
            raise problem
        return results

    @asynccontextmanager
    async def _watch(self, prefix: str, revision: int) -> AsyncIterator[AsyncIterator[WatchBatch]]:
        self._check_open()
        if not revision:
            await self._log.current()
        async with self._mirror.hub.watch(prefix, revision) as batches:
            yield batches

    def watch(self, prefix: str, *, revision: int = 0) -> AbstractAsyncContextManager[AsyncIterator[WatchBatch]]:
        """See `Store.watch`."""
        return self._watch(prefix, revision)

    async def grant(self, ttl_seconds: float) -> int:
        """See `Store.grant`."""
        self._check_open()
        ttl = parse_ttl(ttl_seconds) / SECOND
        lease: int = await self._writer.answer(self._writer.submit(lambda draft: draft.grant(ttl)))
        self._ttls[lease] = ttl
        return lease

    async def renew(self, lease: int) -> None:
        """See `Store.renew`."""
        self._check_open()
        key = self._layout.lease(lease)
        ttl = self._ttls.get(lease)
        if ttl is None:
            item = await self._agents.get(key)
            if item is None:
                raise _lost(lease)
            ttl = decode_ttl(item.value or b"")
            if ttl is None:
                raise StoreError(f"{key} in Consul is no record of a lease: it cannot be renewed")
            self._ttls[lease] = ttl
        record = msgspec.json.encode(LeaseRecord(ttl, self._stamp()))
        # Consul refuses the whole Txn, and so the write, when there is no such key to read any more.
        answer = await self._agents.txn([Op("get", key), Op("set", key, record)])
        if answer.failures:
            self._ttls.pop(lease, None)
            raise _lost(lease)

    async def revoke(self, lease: int) -> None:
        """See `Store.revoke`."""
        self._check_open()
        await self._writer.answer(self._writer.submit(lambda draft: draft.end(lease)))
        self._ttls.pop(lease, None)

    async def compact(self, revision: int) -> None:
        """See `Store.compact`."""
        self._check_open()
        await self._writer.answer(self._writer.submit(lambda draft: draft.compact(revision)))

    def faults(self) -> list[str]:
        """See `Reporting.faults`: a right that was taken away, servers with small limits, a store that was removed."""
        return [fault for fault in (str(self._broken or ""), self._folder.fault) if fault]

    async def close(self) -> None:
        """See `Store.close`."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="close the store")
        await asyncio.shield(self._closing)

    def _submit(self, txn: Txn) -> asyncio.Future[Any]:
        size = sum([len(operation.value) for operation in txn.operations if isinstance(operation, Put)])
        return self._writer.submit(lambda draft: draft.commit(txn), size)

    def _start(self) -> None:
        for name, role in (
            ("follow", self._follow),
            ("write", self._writer.run),
            ("end leases", self._reaper.run),
            ("fold", self._folder.run),
        ):
            self._tasks.append(asyncio.create_task(self._guard(role), name=f"Consul store: {name}"))

    async def _guard(self, role: Callable[[], Awaitable[None]]) -> None:
        """Run one of the store's tasks. None ends by itself: an error means that the store cannot go on.

        Then the store stops for good, since its mirror may be wrong (`test_a_store_that_fails_writes_nothing_more`).
        """
        try:
            await role()
        except Exception as error:
            self._broken = error if isinstance(error, StoreError) else StoreError(f"the store failed: {error!r}")
            log.error("the store on Consul cannot go on", reason=str(error), exc_info=self._broken is not error)  # noqa: TRY400
            # The other tasks would go on to write what follows from a mirror that may be wrong.
            for task in self._tasks:
                if task is not asyncio.current_task():
                    task.cancel()
            self._writer.abandon(self._broken)
            self._mirror.hub.close()

    async def _follow(self) -> None:
        """Follow what other clients append, as it happens; until cancelled."""
        index, backoff = 0, Backoff(SystemClock(), _BREATH, _LONGEST_FOLLOW_PAUSE)
        while True:
            known = self._mirror.head.sequence
            try:
                item, index = await self._agents.changed(self._layout.head, index, _WAIT)
                if item is None or not index:
                    # A server that has just started may not know the key yet; one that was restored never will. Only a
                    # majority of the servers can tell (`test_an_agent_that_does_not_know_all_yet`).
                    await self._log.current()
                else:
                    await self._log.catch_up(item)
            except StoreUnavailable:  # callers of the store are told that Consul is away; this task just waits
                await backoff.pause()
                continue
            backoff.reset()
            if self._writer.alone and self._mirror.head.sequence == known:
                await asyncio.sleep(_BREATH / SECOND)

    async def _expire(self, lease: int, index: int) -> None:
        await self._writer.answer(self._writer.submit(lambda draft: draft.end(lease, index), expiry=True))

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await self._writer.drain()
        except TimeoutError:
            log.warning("the store on Consul was closed before its writes were answered")
        # Before the tasks are cancelled: a cancelled request would leave its connection open until TLS has closed it.
        await self._agents.close()
        await cancel_and_wait(*self._tasks)
        self._writer.abandon(StoreUnavailable("the store was closed before Consul had answered"))
        self._mirror.hub.close()

    def _check_open(self) -> None:
        if self._closing is not None:
            raise StoreError("the store is closed")
        if self._broken is not None:
            raise StoreError(str(self._broken))

    def _stamp(self) -> str:
        """The time, for people to read, and a unique number, so that no two stamps are equal."""
        return f"{to_datetime(self._clock.now()).isoformat()} {self._log.new_writer()}"


def _lost(lease: int) -> LeaseLost:
    return LeaseLost(f"the lease {lease} has expired or was revoked")
