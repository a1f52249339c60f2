"""Daemons that have only some of the roles."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

from tests.engine.cut_store import CutStore
from tests.engine.engine_cluster import Cluster
from tests.triggers.other_rules import release, tzif
from xchronos.agent.steps.resolved_unit import HostContext
from xchronos.clock import SECOND
from xchronos.config.settings import Settings
from xchronos.daemon.daemon import engine_expected
from xchronos.daemon.roles import Roles, RolesContext, RolesOptions
from xchronos.errors import ExecutorUnavailable
from xchronos.executors.contract import StepSpec
from xchronos.executors.noop import CallableExecutor
from xchronos.model.records import Reading
from xchronos.registry.keys import Keys
from xchronos.registry.readers import AFTER_THE_LIST
from xchronos.registry.units import UnitReader
from xchronos.store.contract import Put, Txn
from xchronos.store.memory import MemoryStore
from xchronos.testing.clock import VirtualClock, run_virtual
from xchronos.unitfile import HostFacts


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
        expires = (clock.now() - AFTER_THE_LIST + 10 * SECOND) // SECOND
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
        await cluster.sleep(15)
        assert daemon.notes()[-1] == "the time zone rules 2029a are older than a year: upgrade tzdata, and restart"
        assert daemon.health() == []
        assert b'xchronos_zone_rules{release="2029a"} 1.0' in generate_latest(daemon.metrics)
        assert b"xchronos_unreadable_units 22.0" in generate_latest(daemon.metrics)
        await cluster.stop()

    run_virtual(main)


class Engine(CallableExecutor):
    """A Docker engine that answers, or not."""

    away = True

    async def probe(self) -> str:
        if self.away:
            raise ExecutorUnavailable("no such file or directory")
        return "28.5.2"


@pytest.mark.parametrize("expected", [False, True])
def test_an_engine_that_never_answered_is_a_fault_only_where_one_is_expected(expected: bool, tmp_path: Path):
    async def main(clock: VirtualClock) -> None:
        async def step(spec: StepSpec) -> int:
            return 0

        engine = Engine("docker", step)
        place = HostContext("m1", HostFacts(hostname="m1", machine_id="m1"), {}, tmp_path, 1 << 20)
        context = RolesContext(MemoryStore(clock), Keys(), clock, place, {"docker": engine}, tmp_path)
        roles = Roles(context, RolesOptions(instance="m1", roles=frozenset(), engine_expected=expected))

        async def faults_later() -> list[str]:
            await clock.sleep(3600 * SECOND)
            await roles._describe()
            return roles.health()

        fault = "the Docker engine does not answer: no such file or directory"
        assert await faults_later() == [fault] * expected
        engine.away = False
        assert await faults_later() == []
        engine.away = True
        assert await faults_later() == [fault], "one that was there is missed"

    run_virtual(main)


@pytest.mark.parametrize(
    ("told", "environ", "expected"),
    [
        ({"allow_process": True}, {}, False),
        ({"allow_process": True, "docker_host": "unix:///run/x.sock"}, {}, True),
        ({"allow_process": True}, {"DOCKER_HOST": "unix:///run/x.sock"}, True),
        ({}, {}, True),
    ],
)
def test_where_an_engine_is_expected(told: dict[str, Any], environ: dict[str, str], expected: bool):
    assert engine_expected(Settings(state_directory=Path("/s"), **told), environ) is expected
