"""The bare protocol: what a cluster on etcd comes down to when everything is left out that makes it one.

Guarded Txns of claims, a watch, guarded Txns of starts, Txns of results, on the generated stubs: no retries, no checks,
no leases, no decisions, records that are never decoded. It is what `bench_cluster` and `bench_store` compare themselves with.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import grpc

from xchronos.store import Delete, Guard, Put, Txn
from xchronos.store.etcd.rpc import messages_pb2 as messages
from xchronos.store.etcd.rpc import services_pb2_grpc as stubs

CLAIMS, RESULTS = 40, 60
"""How many claims, and how many starts or results, share a Txn."""

LANES = 8
"""How many Txns each side has under way."""

OUTSTANDING = 2_000
"""So many executions are claimed ahead of their results."""

VALUE = b'{"v":1,"unit":"backup@db1.service","state":"placed","machine":"9f0c","attempt":1}'.ljust(400, b" ")
SCHEDULES, PLACEMENTS, HISTORY = (f"/xchronos/var/{part}/" for part in ("schedules", "placements", "executions"))


class Bare:
    """As little as can stand between Txns and etcd: one member, no retries, no checks, nothing decoded."""

    def __init__(self, endpoint: str) -> None:
        self._channel = grpc.aio.insecure_channel(endpoint, options=[("grpc.enable_retries", 0)])
        self._kv, self._watches = stubs.KVStub(self._channel), stubs.WatchStub(self._channel)

    async def commit_many(self, txns: Sequence[Txn]) -> list[messages.TxnResponse]:
        calls = []
        for txn in txns:
            request = messages.TxnRequest()
            for guard in txn.guards:
                compare = request.compare.add()
                compare.target, compare.key = messages.Compare.MOD, guard.key.encode()
                compare.mod_revision = guard.revision
            for operation in txn.operations:
                if isinstance(operation, Put):
                    put = request.success.add().request_put
                    put.key, put.value = operation.key.encode(), operation.value
                elif isinstance(operation, Delete):
                    request.success.add().request_delete_range.key = operation.key.encode()
            calls.append(self._kv.Txn(request))
        return [await call for call in calls]

    @asynccontextmanager
    async def watch(self, prefix: str, revision: int = 0) -> AsyncIterator[AsyncIterator[messages.WatchResponse]]:
        stream = self._watches.Watch()
        request = messages.WatchRequest()
        request.create_request.key, request.create_request.start_revision = prefix.encode(), revision
        request.create_request.range_end = prefix[:-1].encode() + bytes((ord(prefix[-1]) + 1,))
        await stream.write(request)
        await stream.read()

        async def responses() -> AsyncIterator[messages.WatchResponse]:
            while True:
                yield await stream.read()

        yield responses()
        stream.cancel()

    async def close(self) -> None:
        await self._channel.close()


class Counts:
    """What a side has done."""

    def __init__(self) -> None:
        self.claims = self.ended = 0

    async def tell(self, pause: float) -> None:
        """Print the counters again and again, a line of JSON each."""
        while True:
            sample = {"units": 0, "claims": self.claims, "ended": self.ended}
            print(json.dumps(sample | {"at": time.time(), "cpu": time.process_time()}), flush=True)
            await asyncio.sleep(pause)


async def _seen(store: Bare, take: Callable[[list[tuple[int, str]]], None]) -> None:
    """Tell of every placement that comes, with its revision, or goes (0); the record of a start is no news."""
    # From the beginning: what was claimed before the agent looked would wait for ever.
    async with store.watch(PLACEMENTS, revision=1) as responses:
        async for response in responses:
            take(
                [
                    (event.kv.mod_revision if event.type == event.PUT else 0, event.kv.key.decode())
                    for event in response.events
                    if event.type != event.PUT or event.kv.create_revision == event.kv.mod_revision
                ]
            )


async def claim(store: Bare, counts: Counts) -> None:
    """Be the scheduler: each lane has units of its own, and claims the next fire time of all of them in one Txn."""
    open_, room = set[str](), asyncio.Event()

    def take(events: list[tuple[int, str]]) -> None:
        for came, key in events:
            (open_.add if came else open_.discard)(key)
        if len(open_) < OUTSTANDING:
            room.set()

    async def lane(number: int) -> None:
        known, fire = 0, 0
        while True:
            if len(open_) >= OUTSTANDING:
                room.clear()
                await room.wait()
            names = [f"u{number}-{unit}.service" for unit in range(CLAIMS)]
            placed = [f"{PLACEMENTS}m1/{name}/{fire}/0" for name in names]
            guards = [Guard(SCHEDULES + name, known) for name in names]
            puts = [Put(SCHEDULES + name, VALUE) for name in names] + [Put(key, VALUE) for key in placed]
            (answer,) = await store.commit_many([Txn(guards, puts)])
            if not answer.succeeded:
                raise RuntimeError("a claim was refused")
            known, fire = answer.header.revision, fire + 1
            counts.claims += CLAIMS

    await _together(_seen(store, take), *map(lane, range(LANES)))


async def end(store: Bare, counts: Counts) -> None:
    """Be the agent: whatever is placed is recorded as started, and then has succeeded."""
    placed: asyncio.Queue[tuple[int, str]] = asyncio.Queue()

    def take(events: list[tuple[int, str]]) -> None:
        for event in events:
            if event[0]:
                placed.put_nowait(event)

    async def lane(number: int) -> None:
        while True:
            found = [await placed.get()]
            while len(found) < RESULTS and not placed.empty():
                found.append(placed.get_nowait())
            keys = [key for _, key in found]
            guards = [Guard(key, revision) for revision, key in found]
            (answer,) = await store.commit_many([Txn(guards, [Put(key, VALUE) for key in keys])])
            if not answer.succeeded:
                raise RuntimeError("a start was refused")
            puts = [Put(HISTORY + key.removeprefix(f"{PLACEMENTS}m1/"), VALUE) for key in keys]
            await store.commit_many([Txn((), [*puts, *map(Delete, keys)])])
            counts.ended += len(keys)

    await _together(_seen(store, take), *map(lane, range(LANES)))


async def _together(*parts: Awaitable[None]) -> None:
    await asyncio.gather(*parts)


SIDES = {"bare-scheduler": claim, "bare-agent": end}


async def serve(side: str, endpoint: str, pause: float) -> None:
    """Be one of the sides, and tell the counters."""
    store, counts = Bare(endpoint), Counts()
    await _together(SIDES[side](store, counts), counts.tell(pause))
