"""Who schedules, as the keys say it."""

from structlog.testing import capture_logs

from xchronos.model.records import SchedulerRecord
from xchronos.registry.codec import encode
from xchronos.registry.keys import Keys
from xchronos.registry.roster import Held, Roster, SchedulerMember, Share
from xchronos.store.contract import Event, KeyValue

KEYS = Keys()


def member(machine: str, lease: int, revision: int = 1) -> KeyValue:
    return KeyValue(KEYS.member(machine), encode(SchedulerRecord(machine, "i1")), revision, revision, lease)


def shard(number: int, machine: str, lease: int, term: int = 5) -> KeyValue:
    return KeyValue(KEYS.shard(number), machine.encode(), term, term, lease)


def test_a_page_as_values():
    election = KeyValue(KEYS.election, b"m2", 9, 9, 2)
    roster = Roster(KEYS, [election, member("m1", 1), member("m2", 2, 3), shard(3, "m1", 1), shard(12, "m2", 2, 7)])
    assert roster.members == {
        "m1": SchedulerMember(1, 1, SchedulerRecord("m1", "i1")),
        "m2": SchedulerMember(2, 3, SchedulerRecord("m2", "i1")),
    }
    assert roster.shards == {3: Held("m1", 1, 5), 12: Held("m2", 2, 7)}
    assert roster.election == Held("m2", 2, 9)
    assert roster.shares() == (Share("m1", (3,)), Share("m2", (12,), leads=True))


def test_what_a_former_life_has_left_nobody_holds():
    roster = Roster(KEYS, [member("m1", 8), shard(0, "m1", 7), shard(1, "m1", 8), shard(2, "ghost", 9)])
    assert roster.holders() == {1: "m1"}


def test_events():
    roster = Roster(KEYS)
    for item in (member("m1", 1), shard(3, "m1", 1), KeyValue(KEYS.election, b"m1", 6, 6, 1)):
        roster.apply(Event("put", item.key, item.value, item.mod_revision, item.create_revision, item.lease))
    assert roster.shares() == (Share("m1", (3,), leads=True),)
    for key in (KEYS.election, KEYS.shard(3), KEYS.member("m1"), KEYS.member("nobody"), KEYS.shard(9)):
        roster.apply(Event("delete", key, b"", 8))
    assert (roster.members, roster.shards, roster.election) == ({}, {}, None)


def test_what_is_none_of_ours_is_left_alone():
    strange = [
        KeyValue(KEYS.shards + text, b"m1", 1, 1, 1) for text in ("16", "-1", "x", "", "٣", "3/4")
    ]  # the fifth is a digit, but not one of ours
    roster = Roster(KEYS, [*strange, KeyValue(KEYS.scheduling + "else", b"", 1, 1)])
    assert roster.shards == {}
    roster.apply(Event("delete", KEYS.shards + "x", b"", 2))
    with capture_logs() as logs:
        roster = Roster(KEYS, [KeyValue(KEYS.member("m1"), b"{", 1, 1, 4), shard(1, "m1", 4)])
    assert roster.shares() == (Share("m1", (1,)),)
    assert KEYS.member("m1") in logs[0]["reason"]
