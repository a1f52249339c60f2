"""Which shards this scheduler owns, and the fence that every one of its writes carries.

The owner of a shard is the scheduler that holds the shard's key. The key is bound to the holder's lease, and its create
revision is the *term*. A write guarded by the term is refused as soon as the ownership has ended, however late the
former owner finds out. So the records are right even where this module is late.

Every living scheduler has a record bound to the same lease, and follows one watch of all these keys. Each scheduler
computes from them, by the same rule, who should own what (`scheduler.shards`). A scheduler hands over a shard that it
holds and another one should have: it decides nothing more about the shard, lets its writes be answered, and deletes the
key. It takes a shard that it should have and nobody holds immediately. That a holder has died it learns from the same
watch, when the store ends the holder's lease.
"""

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import msgspec
import structlog

from xchronos.aio import reached, woken
from xchronos.clock import MILLISECOND, SECOND, Micros
from xchronos.engine.metrics import SchedulerMetrics
from xchronos.engine.shards.failure_detector import MAY_STAY_FREE, FailureDetector
from xchronos.engine.shards.lease import Lease
from xchronos.engine.state.context import SchedulerContext
from xchronos.errors import Compacted, Conflict, LeaseLost, StoreUnavailable
from xchronos.model.records import CANNOT_READ_TOLD, SchedulerRecord
from xchronos.registry.codec import encode
from xchronos.registry.keys import SHARDS, shard_of
from xchronos.registry.roster import Roster
from xchronos.scheduler.shards import assign
from xchronos.store.contract import RENEWALS, Delete, Event, Guard, Put, Txn

log = structlog.get_logger(__name__)

QUIET_LIMIT: Micros = SECOND // 2
"""A shard that is handed over waits so long for the answers to writes about it. Later ones are refused."""


WHY_TOLD = 300
"""How many characters of the reason the record has for each unit that cannot be read."""


class ShardListener(Protocol):
    """Has to do with what is owned."""

    def shards_changed(self) -> None:
        """The set of owned shards has changed."""
        ...

    def quiet(self, numbers: Collection[int]) -> bool:
        """Whether no write about any of the shards is under way."""
        ...


class Ownership:
    """Holds a lease and, bound to it, the keys of the shards that this scheduler owns.

    The owner is the context's machine; `instance` tells its lives and its namesakes apart.
    """

    def __init__(
        self, context: SchedulerContext, instance: str, listener: ShardListener, metrics: SchedulerMetrics
    ) -> None:
        store, clock, owner, ttl = context.store, context.clock, context.machine, context.ttl
        self._store = store
        self._keys = context.keys
        self._clock = clock
        self._owner = owner
        self._instance = instance
        self._ttl = ttl
        self._listener = listener
        self._metrics = metrics
        self._roster: Roster | None = None
        self._fences: dict[int, Guard] = {}
        self._given_up: set[tuple[int, int]] = set()
        self._seen = 0
        self._written: dict[str, int] = {}
        self._joined_with = 0
        self._rival_since: Micros | None = None
        self._leaving = False
        self._news = asyncio.Event()
        self._failure_detector = FailureDetector(clock, owner)
        self._record = SchedulerRecord(owner, instance, context.reader.reading)
        self.lease = Lease(store, clock, owner, ttl, self._lease_changed)
        self.answered = asyncio.Event()
        """Set once this scheduler has the shards that it can have without waiting for others."""

    @property
    def fences(self) -> Mapping[int, Guard]:
        """The shards owned now, as far as this scheduler knows, each with the guard of its term.

        As long as a term lasts the guard is the same object.
        """
        return self._fences

    @property
    def leader(self) -> Guard | None:
        """The guard of a write that only the cluster's leader may make; None for everybody else."""
        election = self._roster.election if self._roster is not None else None
        if election is None or not self.lease.sure or election.lease != self.lease.id:
            return None
        return Guard(self._keys.election, election.term, "create")

    def doubt(self, fence: Guard) -> None:
        """A write with this fence has no answer: take the shard anew.

        The write is in the store before the new term begins, or never will be.
        """
        self._given_up.add((int(fence.key[len(self._keys.shards) :]), fence.revision))
        self._refresh()
        self._news.set()

    def doubt_all(self) -> None:
        """Take all shards anew: writes may be on their way whose answers nobody waits for."""
        for fence in tuple(self._fences.values()):
            self.doubt(fence)

    def tell(self, cannot_read: Mapping[str, str]) -> None:
        """Say which stored units this scheduler cannot read, and why. Their shards go to those who can read more."""
        lacks = Counter(shard_of(unit) for unit in cannot_read)
        told = dict(list(cannot_read.items())[:CANNOT_READ_TOLD])
        record = msgspec.structs.replace(
            self._record,
            cannot_read={unit: why[:WHY_TOLD] for unit, why in told.items()},
            lacks={str(number): count for number, count in sorted(lacks.items())},
        )
        self._metrics.unreadable = len(cannot_read)
        if record != self._record:
            self._record = record
            self._news.set()

    def leave(self) -> None:
        """Hand everything over to the other schedulers, if there are any; what they cannot have stays here."""
        self._leaving = True
        self._news.set()

    @property
    def may_go(self) -> bool:
        """Whether no other scheduler is still to get a shard from this one."""
        return not self._fences or self._roster is None or not self._others(self._roster)

    async def run(self) -> None:
        """Own what this scheduler should, until cancelled; then give everything back.

        Raises Conflict (in a group) when another daemon has this id.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.lease.keep(), name="scheduler lease")
                group.create_task(self._follow(), name="watch schedulers")
                group.create_task(self._balance(), name="balance shards")
        finally:
            await asyncio.shield(self.lease.give_back())

    # -- what is known ------------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        while True:
            try:
                page = await self._store.range(self._keys.scheduling)
                self._roster = Roster(self._keys, page.items)
                self._notice(page.revision)
                async with self._store.watch(self._keys.scheduling, revision=page.revision + 1) as batches:
                    async for batch in batches:
                        for event in batch.events:
                            self._roster.apply(event)
                            self._listen(event)
                        self._notice(batch.revision)
            except (Compacted, StoreUnavailable) as error:
                log.info("who schedules is read again", reason=str(error))
            await self._clock.sleep(self.lease.backoff())

    def _listen(self, event: Event) -> None:
        """A scheduler that writes is alive."""
        if event.kind == "put":
            members = self._keys.members
            member = event.key.startswith(members)
            self._failure_detector.heard(event.key[len(members) :] if member else event.value.decode(errors="replace"))

    def _notice(self, revision: int) -> None:
        """Everything up to a revision is known."""
        self._seen = revision
        self._written = {key: written for key, written in self._written.items() if written > revision}
        self._refresh()
        self._news.set()

    def _lease_changed(self) -> None:
        self._refresh()
        self._news.set()

    def _refresh(self) -> None:
        """Derive what is owned from what is known."""
        if self._roster is None:
            return
        terms = {
            number: held.term
            for number, held in self._roster.shards.items()
            if self.lease.id and held.lease == self.lease.id
        }
        self._given_up.intersection_update(terms.items())
        owned = {number: term for number, term in terms.items() if (number, term) not in self._given_up}
        before = {number: fence.revision for number, fence in self._fences.items()}
        if owned == before:
            return
        self._fences = {
            number: self._fences[number]
            if before.get(number) == term
            else Guard(self._keys.shard(number), term, "create")
            for number, term in owned.items()
        }
        self._metrics.shards = len(owned)
        self._metrics.terms += len(owned.items() - before.items())
        log.info("scheduling", shards=len(owned), of=SHARDS)
        self._listener.shards_changed()

    # -- what is done about it ----------------------------------------------------------------------------------------

    async def _balance(self) -> None:
        while True:
            await woken(
                self._clock, self._news, MAY_STAY_FREE if self._failure_detector.waiting else self._ttl // RENEWALS
            )
            self._news.clear()
            lease = self.lease.id
            try:
                await self._act()
            except LeaseLost:
                self.lease.lose(lease)
            except StoreUnavailable as error:
                log.info("shards are balanced later", reason=str(error))
                await self._clock.sleep(self.lease.backoff())
                self._news.set()

    async def _act(self) -> None:
        """Take one step towards what should be. The watch brings back what it changes, and with that the next step."""
        lease, roster = self.lease.id, self._roster
        self._metrics.leader = self.leader is not None
        if not lease or roster is None:
            return
        if self._leaving:
            await self._leave(lease, roster)
        elif not await self._join(lease, roster):
            return
        owners = self._owners(roster)
        if self._failure_detector.look(roster, owners):
            log.warning(
                "a scheduler does not take what is its own; others do", living=self._failure_detector.trusted(roster)
            )
            owners = self._owners(roster)
        free = [number for number, owner in owners.items() if owner == self._owner and number not in roster.shards]
        takes = [self._take(self._keys.shard(number), lease) for number in sorted(free)]
        if roster.election is None and not self._leaving:
            takes.append(self._take(self._keys.election, lease))
        known = roster.members.get(self._owner)
        if (
            not self._leaving
            and known is not None
            and (self._failure_detector.is_overlooked(roster, owners) or known.record != self._record)
        ):
            takes.append(self._membership(known.revision, lease))
        if takes:
            await self._commit(takes)
        elif not self._leaving:
            self.answered.set()
        await self._release_what_is_due(lease, roster, owners)

    def _owners(self, roster: Roster) -> Mapping[int, str]:
        """Who should own what."""
        trusted = self._failure_detector.trusted(roster)
        if self._leaving:
            trusted = [member for member in trusted if member != self._owner] or trusted
        return assign(SHARDS, trusted, roster.holders(), _lacks(roster, trusted))

    def _take(self, key: str, lease: int) -> Txn:
        return Txn((Guard(key, 0),), (Put(key, self._owner.encode(), lease),))

    async def _release_what_is_due(self, lease: int, roster: Roster, owners: Mapping[int, str]) -> None:
        """Delete the keys of what is another scheduler's, of what is in doubt, and of this daemon's former life."""
        handed: dict[int, int] = {}
        dropped: list[tuple[str, int]] = []
        for number, held in roster.shards.items():
            if held.lease == lease and owners.get(number, self._owner) != self._owner:
                handed[number] = held.term
            elif held.owner == self._owner and (held.lease != lease or (number, held.term) in self._given_up):
                dropped.append((self._keys.shard(number), held.term))
        if roster.election is not None and roster.election.owner == self._owner and roster.election.lease != lease:
            dropped.append((self._keys.election, roster.election.term))
        await self._delete(dropped)
        if handed:
            log.info("handing over shards", shards=sorted(handed))
            self._given_up.update(handed.items())
            self._refresh()
            await reached(self._clock, lambda: self._listener.quiet(handed), 5 * MILLISECOND, QUIET_LIMIT)
            await self._delete([(self._keys.shard(number), term) for number, term in handed.items()])

    async def _delete(self, held: Sequence[tuple[str, int]]) -> None:
        await self._commit([Txn((Guard(key, term, "create"),), (Delete(key),)) for key, term in held])

    async def _commit(self, txns: Sequence[Txn]) -> None:
        """Write Txns of one key each. A key waits until the watch has brought what was last written to it."""
        wanted = [(txn, key) for txn in txns for key in (_key_of(txn),) if key not in self._written]
        if not wanted:
            return
        answers = await self._store.commit_many([txn for txn, _ in wanted])
        for (_, key), answer in zip(wanted, answers, strict=True):
            if answer.succeeded and answer.revision > self._seen:
                self._written[key] = answer.revision

    # -- membership ---------------------------------------------------------------------------------------------------

    def _others(self, roster: Roster) -> list[str]:
        return [member for member in roster.members if member != self._owner]

    async def _join(self, lease: int, roster: Roster) -> bool:
        """Whether the others know that this scheduler is alive; until then it writes its record."""
        known = roster.members.get(self._owner)
        if known is not None and known.lease == lease:
            self._joined_with, self._rival_since = lease, None
            return True
        if known is not None and (self._joined_with == lease or known.instance != self._instance):
            self._face_rival(lease)
            return False
        await self._commit([self._membership(known.revision if known is not None else 0, lease)])
        return False

    def _membership(self, known: int, lease: int) -> Txn:
        key = self._keys.member(self._owner)
        return Txn((Guard(key, known),), (Put(key, encode(self._record), lease),))

    def _face_rival(self, lease: int) -> None:
        """Another record has this daemon's id. That of a dead daemon is gone soon; that of a living one stays."""
        now = self._clock.monotonic()
        if self._rival_since is None:
            self._rival_since = now
        if self._joined_with == lease or now - self._rival_since > 2 * self._ttl:
            raise Conflict(
                f"another scheduler has the machine id {self._owner!r}: give this one an id of its own (--machine-id)"
            )

    async def _leave(self, lease: int, roster: Roster) -> None:
        """Delete this scheduler's record, and its lead: the others take over."""
        own = roster.members.get(self._owner)
        if own is None or own.lease != lease or not self._others(roster):
            return
        gone = [Txn((Guard(self._keys.member(self._owner), own.revision),), (Delete(self._keys.member(self._owner)),))]
        if roster.election is not None and roster.election.lease == lease:
            key = self._keys.election
            gone.append(Txn((Guard(key, roster.election.term, "create"),), (Delete(key),)))
        await self._commit(gone)


def _lacks(roster: Roster, members: Collection[str]) -> Mapping[str, Mapping[int, int]]:
    """How many units of each shard a member cannot read, as far as anybody has said.

    One that does not take part in this (level 1) does not expect to get a shard for it: it counts as one who lacks as
    much as anybody.
    """
    said = {
        name: {int(number): count for number, count in roster.members[name].record.lacks.items()} for name in members
    }
    worst: dict[int, int] = {}
    for lacks in said.values():
        for number, count in lacks.items():
            worst[number] = max(worst.get(number, 0), count)
    return {name: said[name] if roster.members[name].record.reads.level > 1 else worst for name in members}


def _key_of(txn: Txn) -> str:
    operation = txn.operations[0]
    assert isinstance(operation, Put | Delete)
    return operation.key
