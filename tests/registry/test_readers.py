"""A unit is accepted when every living scheduler reads it; else it is said who cannot, and what."""

import pytest

from tests.model.compile_helpers import RUN
from xchronos.clock import DAY, Clock
from xchronos.errors import NotReadByAll
from xchronos.model.features import own_reading
from xchronos.model.records import Reading, SchedulerRecord
from xchronos.registry.codec import encode
from xchronos.registry.keys import Keys, shard_of
from xchronos.registry.readers import AFTER_THE_LIST, differences, is_left_alone, is_old, told_unread
from xchronos.registry.registry import Registry
from xchronos.registry.roster import Share
from xchronos.store.contract import Delete, Put, Txn
from xchronos.store.memory import MemoryStore
from xchronos.testing.clock import START, run_virtual

KEYS = Keys()
PLAIN = RUN + "[X-Chronos]\nTriggerCron=0 9 * * *\nTimeZone=Europe/Berlin\n"
NEW_KEY = RUN + "RestartSteps=3\n"
NEW_ZONE = RUN + "[X-Chronos]\nTriggerCron=0 9 * * *\nTimeZone=America/Coyhaique\n"
SILENT, SAME_VERSION = Reading(), Reading(2, "1.5", "2024b")


async def lives(store, machine: str, reading: Reading) -> None:
    """Another scheduler is there."""
    await store.commit(Txn((), (Put(KEYS.member(machine), encode(SchedulerRecord(machine, "i", reading))),)))


def run(scenario) -> None:
    async def body(clock: Clock) -> None:
        store = MemoryStore(clock)
        await lives(store, "able", own_reading())
        await scenario(Registry(store, KEYS), store)

    run_virtual(body)


@pytest.mark.parametrize(
    ("text", "reading", "said"),
    [
        (PLAIN, SILENT, ""),
        (NEW_KEY, own_reading(), ""),
        (NEW_ZONE, own_reading(), ""),
        (NEW_KEY, SAME_VERSION, ""),
        (
            NEW_KEY,
            SILENT,
            "needs RestartSteps=, which the scheduler on old (an older one) cannot read: upgrade that first",
        ),
        (
            NEW_ZONE,
            SILENT,
            (
                "needs the time zone America/Coyhaique, which the scheduler on old (an older one) cannot read: upgrade "
                "that first"
            ),
        ),
        (
            NEW_ZONE,
            SAME_VERSION,
            (
                "needs the time zone America/Coyhaique, which the scheduler on old (xchronos 1.5, level 2, zone rules "
                "2024b) cannot read: upgrade that first"
            ),
        ),
    ],
)
def test_a_unit_is_accepted_when_every_scheduler_reads_it(text, reading, said):
    async def scenario(registry, store):
        await lives(store, "old", reading)
        if not said:
            assert (await registry.submit("a.service", text.encode(), now=START)).result == "created"
            return
        with pytest.raises(NotReadByAll) as refused:
            await registry.submit("a.service", text.encode(), now=START)
        assert [problem.message for problem in refused.value.problems] == [said]
        assert await store.get(KEYS.job("a.service")) is None
        # When the last old one has gone, it is taken in.
        await store.commit(Txn((), (Delete(KEYS.member("old")),)))
        assert (await registry.submit("a.service", text.encode(), now=START)).result == "created"

    run(scenario)


def test_what_is_stored_stays_and_the_same_text_again_is_no_news():
    async def scenario(registry, store):
        await registry.submit("a.service", NEW_KEY.encode(), now=START)
        await lives(store, "old", SILENT)
        assert (await registry.submit("a.service", NEW_KEY.encode(), now=START)).result == "unchanged"
        with pytest.raises(NotReadByAll):
            await registry.submit("a.service", (NEW_KEY + "RestartMaxDelaySec=9\n").encode(), now=START)

    run(scenario)


def test_who_cannot_read_a_stored_unit_is_told():
    able, unable = Share("able"), Share("old", cannot_read={"a.service": "unknown key"})
    owner = Share("old", (shard_of("a.service"),), cannot_read={"a.service": "unknown key"})
    assert told_unread("a.service", [able]) == ""
    assert told_unread("b.service", [able, unable]) == ""
    assert told_unread("a.service", [able, unable]) == "the scheduler on old cannot read it: unknown key"
    assert told_unread("a.service", [owner]) == (
        "the scheduler on old cannot read it, and has its shard, so nothing of it is decided: unknown key"
    )
    assert [is_left_alone("a.service", [share]) for share in (able, unable, owner)] == [False, False, True]


def test_what_differs_in_a_cluster_is_told():
    assert differences({}) == []
    assert differences({"a": SAME_VERSION, "b": SAME_VERSION}) == []
    assert differences({"a": SAME_VERSION, "b": Reading(2, "1.5", "2026f"), "c": SAME_VERSION}) == [
        "the time zone rules differ: 2024b on a c, 2026f on b"
    ]
    assert differences({"a": SAME_VERSION, "b": SILENT}) == [
        "the time zone rules differ: 2024b on a, not told on b",
        "the feature level differs: 1 on b, 2 on a",
    ]


def test_rules_are_old_a_while_after_their_list_of_leap_seconds_has_ended():
    assert not is_old(START, START + AFTER_THE_LIST)
    assert is_old(START, START + AFTER_THE_LIST + DAY)
