"""Daemons that have only some of the roles."""

import asyncio

import pytest
from prometheus_client import generate_latest

from tests.engine.cut_store import CutStore
from tests.engine.engine_cluster import Cluster
from tests.triggers.other_rules import release, tzif
from xchronos.clock import DAY, SECOND
from xchronos.model.records import Reading
from xchronos.registry.readers import AFTER_THE_LIST
from xchronos.registry.units import UnitReader
from xchronos.store.contract import Put, Txn
from xchronos.store.memory import MemoryStore
from xchronos.testing.clock import VirtualClock, run_virtual


@pytest.mark.parametrize("roles", [{"api"}, {"intake"}, {"api", "intake"}])
def test_a_daemon_that_neither_schedules_nor_runs_anything_stays_and_notices_that_the_store_is_away(roles: set[str]):
    async def main(clock: VirtualClock) -> None:
        store = CutStore(MemoryStore(clock), clock)
        cluster = Cluster(clock, store)
        daemon = await cluster.start(roles=frozenset(roles))
        ended = asyncio.create_task(daemon.wait())
        await cluster.sleep(30)
        assert not ended.done()
        assert daemon.health() == []
        store.cut = True
        await cluster.sleep(30)
        assert daemon.health() == ["no answer from the job store: the link is cut"]
        store.cut = False
        await cluster.sleep(30)
        assert daemon.health() == []
        assert not ended.done()
        ended.cancel()
        await cluster.stop()

    run_virtual(main)


def test_what_cannot_be_read_and_old_rules_are_notes_and_no_faults(tmp_path):
    async def main(clock: VirtualClock) -> None:
        expires = (clock.now() - AFTER_THE_LIST + DAY) // SECOND
        rules = release(tmp_path / "tzdata", "2029a", {"Made/Up": tzif(0, [])}, expires)
        cluster = Cluster(clock)
        daemon = await cluster.start(reader=UnitReader(rules, Reading(1, "1.0", "2029a")))
        assert daemon.notes() == []
        for number in range(22):
            key = cluster.keys.job(f"u{number:02}.service")
            await cluster.store.commit(Txn((), (Put(key, b'{"text":"[Service]\\nNonsense"}'),)))
        await cluster.sleep(2)
        notes = daemon.notes()
        assert notes[0].startswith("the stored unit u00.service cannot be read here: ")
        assert notes[-1] == "2 more stored units cannot be read here"
        await cluster.sleep(2 * 86_400)
        assert daemon.notes()[-1] == "the time zone rules 2029a are older than a year: upgrade tzdata, and restart"
        assert daemon.health() == []
        assert b'xchronos_zone_rules{release="2029a"} 1.0' in generate_latest(daemon.metrics)
        assert b"xchronos_unreadable_units 22.0" in generate_latest(daemon.metrics)
        await cluster.stop()

    run_virtual(main)
