"""This machine's record in the store, kept alive by a lease."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import structlog

from xchronos.clock import SECOND, Clock, Micros
from xchronos.errors import Conflict, LeaseLost, StoreError, StoreUnavailable
from xchronos.model.records import Machine
from xchronos.registry.codec import decode
from xchronos.registry.keys import Keys
from xchronos.registry.transitions import machine_record
from xchronos.store.contract import Store

log = structlog.get_logger(__name__)


class Membership:
    """Advertises a machine for as long as it runs.

    `describe` gives the machine as it is now; it is asked before every heartbeat, and a change is written at once.
    """

    def __init__(
        self, store: Store, keys: Keys, clock: Clock, ttl: Micros, describe: Callable[[], Awaitable[Machine]]
    ) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._ttl = ttl
        self._describe = describe
        self._lease = 0
        self._written: Machine | None = None
        self.joined = asyncio.Event()

    async def run(self) -> None:
        """Join, and renew until cancelled; then leave at once.

        Raises Conflict when another machine has this id.
        """
        try:
            while True:
                try:
                    await self._beat()
                    self.joined.set()
                except LeaseLost:
                    log.warning("machine lease lost; joining anew")
                    self._lease = 0
                    continue
                except StoreUnavailable as error:
                    log.warning("store unavailable; what runs goes on", reason=str(error))
                await self._clock.sleep(self._ttl // 3 if self._written is not None else SECOND)
        finally:
            await asyncio.shield(self._leave())

    async def _beat(self) -> None:
        machine = await self._describe()
        if self._lease:
            await self._store.renew(self._lease)
        else:
            self._lease = await self._store.grant(self._ttl / SECOND)
            self._written = None
        if machine != self._written:
            await self._write(machine)

    async def _write(self, machine: Machine) -> None:
        held = await self._store.get(self._keys.machine(machine.id))
        known, record = 0, machine
        if held is not None:
            other = decode(held, Machine)
            if other.instance != machine.instance:
                raise Conflict(
                    f"machine id {machine.id!r} is in use by another machine ({other.hostname}, {other.address}): "
                    "give this one an id of its own (--machine-id)"
                )
            # People cordon a machine in the record itself; that stays.
            known, record = held.mod_revision, msgspec.structs.replace(machine, cordoned=other.cordoned)
        done = await self._store.commit(machine_record(self._keys, record, self._lease, known))
        if done.succeeded:
            self._written = machine

    async def _leave(self) -> None:
        lease, self._lease = self._lease, 0
        if lease:
            try:
                await self._store.revoke(lease)
            except StoreError as error:
                log.info("the machine's lease ends by itself", reason=str(error))
