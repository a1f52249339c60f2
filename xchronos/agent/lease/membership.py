"""This machine's record in the store, kept alive by a lease, and what people want of the machine."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

import msgspec
import structlog

from xchronos.agent.lease.lease_clock import LeaseClock
from xchronos.agent.retrying import ClockChance
from xchronos.aio import cancel_and_wait, spread, woken
from xchronos.clock import SECOND, Clock, Micros
from xchronos.errors import Conflict, LeaseLost, StoreError, StoreUnavailable
from xchronos.model.records import Machine, MachineWish
from xchronos.registry.codec import Record, decode
from xchronos.registry.keys import Keys
from xchronos.registry.machine_desired import wished
from xchronos.registry.transitions import machine_record
from xchronos.store.contract import RENEWALS, KeyValue, Store

log = structlog.get_logger(__name__)

SHUTTING_DOWN = "xchronosd is shutting down"
"""Why a machine is drained whose daemon is about to end."""

WATCH_PAUSE: Micros = SECOND
"""The pause before a watch that has ended is begun anew."""


class Membership:
    """Advertises a machine for as long as it runs, and tells the lease clock of every renewal.

    Attributes:
        machine: The machine as it is advertised: as it was described, and as people want it. A new object only when
            something of it has changed.
        joined: Set once the machine's record is written for the first time.
    """

    def __init__(
        self,
        store: Store,
        keys: Keys,
        clock: Clock,
        lease_clock: LeaseClock,
        machine: Machine,
        describe: Callable[[], Awaitable[Machine]],
    ) -> None:
        """`machine` is the machine as it is known yet. `describe` gives it as it is now.

        It is asked again with every heartbeat, which does not wait for the answer. A change is written immediately, and
        so is a change of what people want of the machine.
        """
        self._store = store
        self._keys = keys
        self._clock = clock
        self._lease_clock = lease_clock
        self._ttl = lease_clock.ttl
        self._id = machine.id
        self._describe = describe
        self._describing: asyncio.Task[None] | None = None
        self._latest: Machine | None = None
        self._lease = 0
        self._described = machine
        self.machine = machine
        self._joined = False
        self._closing: datetime | None = None
        self._news = asyncio.Event()
        self.joined = asyncio.Event()

    async def run(self) -> None:
        """Join, and renew until cancelled. After that the lease ends by itself, unless `leave` is called.

        Raises Conflict when another machine has this id.
        """
        pause = self._ttl // RENEWALS
        watches = [
            asyncio.create_task(self._watch(key), name=f"watch {key}")
            for key in (self._keys.wish(self._id), self._keys.machine(self._id))
        ]
        try:
            while True:
                try:
                    await self._look()
                    # A server that does not answer must not use up the time in which another one could be asked.
                    async with asyncio.timeout(max(pause, min(SECOND, self._ttl // 2)) / SECOND):
                        await self._beat()
                    self.joined.set()
                except LeaseLost:
                    log.warning("machine lease lost; joining anew")
                    self._lease, self._joined = 0, False
                    self._lease_clock.lapse()
                except (StoreUnavailable, TimeoutError) as error:
                    log.warning("store unavailable; what runs goes on", reason=str(error) or "no answer in time")
                    await self._clock.sleep(spread(min(pause // 2, SECOND), ClockChance(self._clock)))
                else:
                    await woken(self._clock, self._news, pause)
        finally:
            await cancel_and_wait(*watches, *([] if self._describing is None else [self._describing]))

    def close_down(self, until: datetime) -> None:
        """Advertise from now on that this daemon is about to end, as a drain of its machine until then.

        So nothing new is placed here, and what is kept running begins elsewhere while the rest still ends here.
        """
        self._closing = until
        self._news.set()

    async def leave(self) -> None:
        """Give the machine's place back immediately. Only for a machine on which nothing runs any more."""
        lease, self._lease = self._lease, 0
        if lease:
            self._lease_clock.lapse()
            try:
                await self._store.revoke(lease)
            except StoreError as error:
                log.info("the machine's lease ends by itself", reason=str(error))

    async def refresh(self) -> None:
        """Look up what people want of the machine, without waiting for the watch. Raises StoreError."""
        self._set(self._wanted(self._described, await self._store.get(self._keys.wish(self._id))))

    def _wanted(self, described: Machine, item: KeyValue | None) -> Machine:
        machine = wished(described, _readable(item, MachineWish))
        if self._closing is None:
            return machine
        until = min(self._closing, machine.drain_until or self._closing)
        return msgspec.structs.replace(machine, cordoned=True, cordon_reason=SHUTTING_DOWN, drain_until=until)

    def _set(self, machine: Machine) -> None:
        if machine != self.machine:
            self.machine = machine

    async def _look(self) -> None:
        """Have the machine described. Only the first time, this waits for the description."""
        if self._describing is None:
            self._describing = asyncio.create_task(self._learn(), name="machine's description")
        if self._latest is None:
            await asyncio.wait({self._describing})
        if self._describing.done():
            task, self._describing = self._describing, None
            task.result()

    async def _learn(self) -> None:
        latest = await self._describe()
        if self._latest is not None and latest != self._latest:
            self._news.set()
        self._latest = latest

    async def _beat(self) -> None:
        asked, described = self._clock.monotonic(), self._latest
        assert described is not None
        if self._lease:
            await self._store.renew(self._lease)
        else:
            self._lease = await self._store.grant(self._ttl / SECOND)
        if not self._joined or self._news.is_set() or described != self._described:
            self._news.clear()
            try:
                await self._advertise(described)
            except BaseException:
                # Whatever kept the record from being written: it is still to be written.
                self._news.set()
                raise
        self._lease_clock.renewed(asked)

    async def _advertise(self, described: Machine) -> None:
        """Write the machine's record, unless the store has just this record already."""
        while True:
            held = await self._store.get(self._keys.machine(self._id))
            item = await self._store.get(self._keys.wish(self._id))
            other = _readable(held, Machine)
            if held is not None and other is not None:
                self._refuse_others(held, other, described)
            fresh = self._wanted(described, item)
            if held is None or other != fresh or held.lease != self._lease:
                known, wish_known = (found.mod_revision if found is not None else 0 for found in (held, item))
                txn = machine_record(self._keys, fresh, self._lease, known, wish_known)
                if not (await self._store.commit(txn)).succeeded:
                    continue
            self._described, self._joined = described, True
            self._set(fresh)
            return

    def _refuse_others(self, held: KeyValue, other: Machine, described: Machine) -> None:
        if other.instance != described.instance:
            raise Conflict(
                f"machine id {self._id!r} is in use by another machine ({other.hostname}, {other.address}): "
                "give this one an id of its own (--machine-id)"
            )
        if self._joined and held.lease != self._lease:
            # A restarted daemon takes its own record over. A daemon that finds its record taken over is not alone.
            raise Conflict(
                f"another daemon goes by the identity of machine {self._id!r} since {other.started_at} "
                f"({other.hostname}, {other.address}): was the state directory copied, or is it used twice?"
            )

    async def _watch(self, key: str) -> None:
        while True:
            try:
                async with self._store.watch(key) as batches:
                    # Something may have been written while nobody watched.
                    self._news.set()
                    async for batch in batches:
                        if any(event.key == key for event in batch.events):
                            self._news.set()
            except StoreError as error:
                log.info("membership watches anew", reason=str(error))
            await self._clock.sleep(WATCH_PAUSE)


def _readable(item: KeyValue | None, kind: type[Record]) -> Record | None:
    """A record. None: there is no record, or it cannot be read, which the log says then."""
    if item is None:
        return None
    try:
        return decode(item, kind)
    except StoreError as error:
        log.warning("an unreadable record is left out of account", reason=str(error))
        return None
