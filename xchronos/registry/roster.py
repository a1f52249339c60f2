"""The living schedulers, the shards that each of them holds, and the one that leads."""

from collections.abc import Iterable

import msgspec
import structlog

from xchronos.errors import StoreError
from xchronos.model.records import Reading, SchedulerRecord
from xchronos.registry.codec import decode
from xchronos.registry.keys import SHARDS, Keys
from xchronos.store.contract import Event, KeyValue

log = structlog.get_logger(__name__)


class SchedulerMember(msgspec.Struct, frozen=True):
    """A living scheduler, from its record."""

    lease: int
    """The lease that its record is bound to."""
    revision: int
    """The modification revision of its record."""
    record: SchedulerRecord = SchedulerRecord("")
    """Its record. One that cannot be read says nothing."""

    @property
    def instance(self) -> str:
        """`SchedulerRecord.instance`. Empty if the record is unreadable."""
        return self.record.instance


class Held(msgspec.Struct, frozen=True):
    """The ownership of a shard, or of the election."""

    owner: str
    """The id of the machine that holds it."""
    lease: int
    """The lease that the ownership is bound to."""
    term: int
    """The key's create revision. A new owner has a higher one."""


class Share(msgspec.Struct, frozen=True):
    """A living scheduler with the shards that it owns."""

    machine: str
    """Its machine's id."""
    shards: tuple[int, ...] = ()
    """The numbers of its shards, ascending."""
    leads: bool = False
    """Whether it holds the election."""
    reads: Reading = Reading()
    """What it can read of units."""
    cannot_read: dict[str, str] = {}
    """`SchedulerRecord.cannot_read`."""


class Roster:
    """The keys below `Keys.scheduling`, as they were read and as events have changed them since."""

    def __init__(self, keys: Keys, items: Iterable[KeyValue] = ()) -> None:
        self._keys = keys
        self.members: dict[str, SchedulerMember] = {}
        self.shards: dict[int, Held] = {}
        self.election: Held | None = None
        for item in items:
            self._put(item)

    def apply(self, event: Event) -> None:
        """Apply one change that a watch has shown."""
        if event.kind == "put":
            self._put(KeyValue(event.key, event.value, event.create_revision, event.mod_revision, event.lease))
        elif event.key == self._keys.election:
            self.election = None
        elif event.key.startswith(self._keys.members):
            self.members.pop(event.key[len(self._keys.members) :], None)
        else:
            number = self._number(event.key)
            if number is not None:
                self.shards.pop(number, None)

    def _put(self, item: KeyValue) -> None:
        if item.key.startswith(self._keys.members):
            name = item.key[len(self._keys.members) :]
            if not item.lease and not _is_member(name, item.value):
                log.warning("what is no scheduler's record is left alone", key=item.key)
                return
            self.members[name] = SchedulerMember(item.lease, item.mod_revision, _record(name, item))
            return
        held = Held(item.value.decode(errors="replace"), item.lease, item.create_revision)
        if item.key == self._keys.election:
            self.election = held
            return
        number = self._number(item.key)
        if number is not None:
            self.shards[number] = held

    def _number(self, key: str) -> int | None:
        """The number of the shard that a key is about. None for a key that xchronos does not write."""
        text = key[len(self._keys.shards) :] if key.startswith(self._keys.shards) else ""
        return int(text) if text.isascii() and text.isdecimal() and int(text) < SHARDS else None

    def holders(self) -> dict[int, str]:
        """The living scheduler that holds each shard, by the shard's number.

        A shard that is bound to another lease than its owner's record belongs to a former life of the owner. It counts
        as held by nobody until the owner takes it over (`test_what_a_former_life_has_left_nobody_holds`).
        """
        return {
            number: held.owner
            for number, held in self.shards.items()
            if (member := self.members.get(held.owner)) is not None and member.lease == held.lease
        }

    def shares(self) -> tuple[Share, ...]:
        """The living schedulers, sorted by id, each with its shards."""
        holders = self.holders()
        leader = self.election.owner if self.election is not None else ""
        return tuple(
            Share(
                name,
                tuple(sorted(number for number, owner in holders.items() if owner == name)),
                name == leader,
                member.record.reads,
                member.record.cannot_read,
            )
            for name, member in sorted(self.members.items())
        )


class _Named(msgspec.Struct):
    """Of a scheduler's record only whose it is: a newer version may have written the rest."""

    id: str


_NAMED = msgspec.json.Decoder(_Named)


def _is_member(name: str, value: bytes) -> bool:
    """Whether a scheduler of that name, of whatever version, has written the record."""
    try:
        return _NAMED.decode(value).id == name
    except msgspec.MsgspecError:
        return False


def _record(name: str, item: KeyValue) -> SchedulerRecord:
    try:
        return decode(item, SchedulerRecord)
    except StoreError as error:
        log.warning("an unreadable record is left alone", reason=str(error))
        return SchedulerRecord(name)
