"""What an agent cannot read it hands back, or leaves alone with all that runs of it: another version may know."""

import asyncio
import json
from collections.abc import Callable

import pytest

from tests.agent.worlds import KEYS, LONG, Cluster
from xchronos.clock import MINUTE, SECOND
from xchronos.model.policies import Outcome
from xchronos.model.records import UnitRecord
from xchronos.registry.codec import FORMAT, encode
from xchronos.store.contract import Delete, Put, Txn

NEWER = "[Service]\nExecStart=/bin/a\n[X-Chronos]\nInventedLater=1\n"
"""A unit that this version cannot read."""


def test_a_unit_that_cannot_be_read_is_handed_back_and_not_charged(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit("ExecStart=/bin/a")
        execution = await c.place()
        await c.memory.commit(Txn((), (Put(KEYS.job("job.service"), encode(UnitRecord(NEWER, "r"))),)))
        c.boot()
        attempt = await c.ended(execution)
        assert attempt.outcome is Outcome.LOST
        assert attempt.reason.startswith("m1 cannot read the unit: ")
        assert "InventedLater" in attempt.reason
        assert c.world.starts == []

    play(test)


def test_a_running_attempt_of_a_newer_agent_is_left_alone_until_one_can_read_it(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        execution = await c.begin()
        await c.crash()
        (journal,) = c.directory.glob("attempts/*/*/unit.json")
        kept = journal.read_bytes()
        journal.write_bytes(encode(UnitRecord(NEWER, "r")))
        c.boot()
        await c.clock.sleep(10 * MINUTE)
        before = await c.placed(execution)
        assert before is not None
        assert before.state == "running"
        assert list(c.directory.glob("attempts/*/*/scratch")), "what runs needs its files"
        # It is not waited for at the end either.
        await asyncio.wait_for(c.agent.drain(SECOND), 60)
        await c.crash()
        journal.write_bytes(kept)
        c.boot()
        assert (await c.ended(execution)).outcome is Outcome.SUCCEEDED
        assert c.world.starts == c.world.starts[:1]

    play(test, LONG)


@pytest.mark.parametrize("name", ["unit.json", "journal.json"])
def test_so_is_one_whose_journal_has_a_newer_format(play: Callable[..., None], name: str) -> None:
    """What it says may mean something else by then: read as ours, a step that was begun could be begun again."""

    async def test(c: Cluster) -> None:
        execution = await c.begin()
        await c.crash()
        (journal,) = c.directory.glob(f"attempts/*/*/{name}")
        kept = journal.read_bytes()
        # Not even its shape is known.
        newer = json.dumps({**json.loads(kept.split()[0]), "v": 2, "begun": 1, "text": 1}).encode()
        journal.write_bytes(newer)
        c.boot()
        await c.clock.sleep(10 * MINUTE)
        before = await c.placed(execution)
        assert before is not None
        assert before.state == "running"
        assert journal.read_bytes() == newer
        await c.crash()
        journal.write_bytes(kept)
        c.boot()
        assert (await c.ended(execution)).outcome is Outcome.SUCCEEDED
        assert len(c.world.starts) == 1

    play(test, LONG)


def test_such_an_attempt_makes_room_when_it_is_taken_away(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        execution = await c.begin()
        await c.crash()
        (journal,) = c.directory.glob("attempts/*/*/unit.json")
        journal.write_bytes(encode(UnitRecord(NEWER, "r")))
        c.boot()
        await c.clock.sleep(5 * SECOND)
        await c.memory.commit(Txn((), (Delete(KEYS.placement("m1", execution.id)),)))
        await c.clock.sleep(5 * SECOND)
        assert await c.agent.progress(execution.id) is None

    play(test, LONG)


def test_a_placement_of_a_newer_format_is_left_alone_with_what_runs_of_it(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        execution = await c.begin()
        await c.crash()
        key = KEYS.placement("m1", execution.id)
        item = await c.memory.get(key)
        assert item is not None
        newer = json.dumps({**json.loads(item.value), "v": FORMAT + 1}).encode()
        await c.memory.commit(Txn((), (Put(key, newer),)))
        c.boot()
        await c.clock.sleep(30 * MINUTE)
        still = await c.memory.get(key)
        assert still is not None
        assert still.value == newer
        assert list(c.directory.glob("attempts/*/*/scratch"))
        assert c.world.signals == []
        # Once it can be read, it goes on.
        await c.memory.commit(Txn((), (Put(key, item.value),)))
        assert (await c.ended(execution)).outcome is Outcome.SUCCEEDED

    play(test, LONG)
