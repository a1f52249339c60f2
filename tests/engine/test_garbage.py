"""Keys and values of somebody else's, anywhere in our part of the store: the roles go on, whenever they came.

A unit of which an execution or the cursor cannot be read is left alone; all others are scheduled.
"""

import asyncio
from pathlib import Path

import pytest

from xchronos.agent.steps.resolved_unit import HostContext
from xchronos.clock import SystemClock
from xchronos.daemon.roles import Roles, RolesContext, RolesOptions
from xchronos.executors.noop import CallableExecutor
from xchronos.registry.keys import Keys
from xchronos.registry.registry import Registry
from xchronos.store.contract import Put, Txn
from xchronos.store.memory import MemoryStore
from xchronos.store.reading import snapshot
from xchronos.unitfile import HostFacts

UNIT = b"""[Service]
Type=oneshot
ExecStart=/bin/true
[X-Chronos]
Executor=python
TriggerRepeatInterval=100ms
HistoryLimit=3
"""
FIRE = "20260101T000000.000000Z/0"
TAILS = (
    "raw",
    "raw.service",
    f"other.service/{FIRE}",
    f"m2/other.service/{FIRE}",
    "other.service/x/y",
    "a/b/c/d/e/f",
    "raw job\u00e9",
)
VALUES = (
    b"TEXT",
    b"\xff\xfe",
    b"[]",
    b"{}",
    b'{"unit":5}',
    b'{"v":99}',
    b"null",
    b"",
    b'{"unit":"other.service","fire_time":"2026-01-01T00:00:00Z","state":"running"}',
    b'{"unit":"other.service","fire_time":"2026-01-01T00:00:00Z","state":"ended"}',
    b'{"unit":"other.service","fire_time":"2026-01-01T00:00:00Z","state":"waiting","stop_requested":"now"}',
)


KEYS = Keys()
PLACES = {
    "the roots": (KEYS.root, f"{KEYS.root}etc/", f"{KEYS.root}var/", KEYS.live),
    "what is wanted": (KEYS.jobs, KEYS.machines, KEYS.wishes),
    "cursors": (KEYS.schedules, KEYS.history("other.service"), KEYS.executions),
    "what runs": (KEYS.pending, KEYS.placements, KEYS.machine_placements("m1")),
    "schedulers": (KEYS.scheduling, KEYS.members, KEYS.shards, KEYS.pulses),
}


async def spoil(store, where):
    for prefix in PLACES[where]:
        for tail in TAILS:
            for number, value in enumerate(VALUES):
                await store.commit(Txn((), (Put(f"{prefix}{tail}{number or ''}", value),)))


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_scheduler_and_an_agent_go_on(tmp_path: Path, when: str, where: str):
    clock, keys = SystemClock(), KEYS
    store = MemoryStore(clock)
    ran: list[object] = []
    place = HostContext("m1", HostFacts(hostname="m1", machine_id="m1"), {}, tmp_path / "secrets", 1 << 20)

    def step(spec: object) -> int:
        ran.append(spec)
        return 0

    executors = {"python": CallableExecutor("python", step)}
    roles = Roles(RolesContext(store, keys, clock, place, executors, tmp_path / "attempts"), RolesOptions(instance="x"))
    registry = Registry(store, keys)
    if when == "before":
        await spoil(store, where)
    await registry.submit("u.service", UNIT, now=clock.now())
    await roles.start()
    ending = asyncio.create_task(roles.wait())
    async with asyncio.timeout(60):
        await more(ran)
        if when == "after":
            await spoil(store, where)
        await more(ran)
        await more(ran)
        while len(await history(store, keys)) > 12:  # noqa: ASYNC110 - a store has no event for it
            await asyncio.sleep(0.05)
    assert not ending.done()
    ending.cancel()
    await asyncio.gather(ending, return_exceptions=True)
    await roles.stop(0)


async def more(ran):
    enough = len(ran) + 5
    while len(ran) < enough:  # noqa: ASYNC110 - nor has a list
        await asyncio.sleep(0.02)


async def history(store, keys):
    found = []
    async for page in snapshot(store, keys.history("u.service"), keys_only=True):
        found += [item.key for item in page.items if item.key.count("/") == 6 and "/2026010" not in item.key]
    return found


async def test_a_cursor_that_cannot_be_read_makes_no_busy_loop(tmp_path: Path):
    clock, keys = SystemClock(), Keys()
    commits = 0

    class Counting(MemoryStore):
        async def commit_many(self, txns):
            nonlocal commits
            commits += sum(keys.schedule("u.service") in {guard.key for guard in txn.guards} for txn in txns)
            return await super().commit_many(txns)

    store = Counting(clock)
    registry = Registry(store, keys)
    await registry.submit("u.service", UNIT, now=clock.now())
    await store.commit(Txn((), (Put(keys.schedule("u.service"), b"TEXT"),)))
    place = HostContext("m1", HostFacts(hostname="m1", machine_id="m1"), {}, tmp_path / "secrets", 1 << 20)
    roles = Roles(RolesContext(store, keys, clock, place, {}, tmp_path / "attempts"), RolesOptions(instance="x"))
    await roles.start()
    await asyncio.sleep(1)
    assert commits <= 3
    await roles.stop(0)
