"""The machine's record: joined, kept, left; another machine of the same id is told so."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from worlds import KEYS, Cluster

from xchronos.agent.membership import Membership
from xchronos.clock import SECOND
from xchronos.errors import Conflict
from xchronos.model.records import Machine
from xchronos.registry.codec import decode, encode
from xchronos.store.contract import Put, Txn
from xchronos.testing.clock import VirtualClock, run_virtual

TTL = 10 * SECOND


def member(c: Cluster, machine: Machine) -> Membership:
    async def describe() -> Machine:
        return machine

    return Membership(c.store, KEYS, c.clock, TTL, describe)  # type: ignore[arg-type]


async def seen(c: Cluster) -> Machine | None:
    item = await c.memory.get(KEYS.machine("m1"))
    return None if item is None else decode(item, Machine)


def test_it_joins_stays_and_leaves(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        c = Cluster(clock, tmp_path)
        membership = member(c, Machine("m1", "a"))
        task = asyncio.create_task(membership.run())
        await membership.joined.wait()
        await clock.sleep(100 * TTL)
        assert await seen(c) == Machine("m1", "a")
        task.cancel()
        await asyncio.wait({task})
        assert await seen(c) is None
        await c.memory.close()

    run_virtual(main)


def test_it_joins_anew_when_its_lease_is_lost(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        c = Cluster(clock, tmp_path)
        task = asyncio.create_task(member(c, Machine("m1", "a")).run())
        await clock.sleep(SECOND)
        c.store.take_down()
        await clock.sleep(3 * TTL)
        assert await seen(c) is None
        c.store.bring_up()
        await clock.sleep(TTL)
        assert await seen(c) == Machine("m1", "a")
        c.store.take_down()
        task.cancel()
        await asyncio.wait({task})
        await clock.sleep(2 * TTL)
        assert await seen(c) is None
        await c.memory.close()

    run_virtual(main)


def test_a_cordon_by_hand_stays(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        c = Cluster(clock, tmp_path)
        machine = Machine("m1", "a")

        async def describe() -> Machine:
            return machine

        task = asyncio.create_task(Membership(c.store, KEYS, clock, TTL, describe).run())  # type: ignore[arg-type]
        await clock.sleep(SECOND)
        item = await c.memory.get(KEYS.machine("m1"))
        assert item is not None
        cordoned = msgspec.structs.replace(machine, cordoned=True)
        await c.memory.commit(Txn((), (Put(KEYS.machine("m1"), encode(cordoned), item.lease),)))
        machine = Machine("m1", "a", {"disk": "ssd"})
        await clock.sleep(TTL)
        assert await seen(c) == Machine("m1", "a", {"disk": "ssd"}, cordoned=True)
        task.cancel()
        await asyncio.wait({task})
        await c.memory.close()

    run_virtual(main)


def test_two_machines_of_one_id(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        c = Cluster(clock, tmp_path)
        task = asyncio.create_task(member(c, Machine("m1", "a", hostname="one")).run())
        await clock.sleep(SECOND)
        with pytest.raises(Conflict, match="'m1' is in use by another machine \\(one"):
            await member(c, Machine("m1", "b")).run()
        assert await seen(c) == Machine("m1", "a", hostname="one")
        task.cancel()
        await asyncio.wait({task})
        await c.memory.close()

    run_virtual(main)
