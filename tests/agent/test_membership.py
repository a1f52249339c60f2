"""The machine's record: joined, kept, left; another machine of the same id is told so."""

import asyncio
from pathlib import Path

import pytest

from tests.agent.worlds import KEYS, Cluster
from xchronos.agent.lease.lease_clock import LeaseClock
from xchronos.agent.lease.membership import Membership
from xchronos.clock import SECOND
from xchronos.errors import Conflict
from xchronos.model.records import Machine, MachineWish
from xchronos.registry.codec import decode, encode
from xchronos.registry.machine_desired import DesiredMachines
from xchronos.store.contract import Put, Txn
from xchronos.testing.clock import VirtualClock, run_virtual

TTL = 10 * SECOND


def member(c: Cluster, machine: Machine) -> Membership:
    async def describe() -> Machine:
        return machine

    return Membership(c.store, KEYS, c.clock, LeaseClock(c.clock, TTL), machine, describe)


async def run_member(c: Cluster, machine: Machine) -> None:
    membership = member(c, machine)
    try:
        await membership.run()
    finally:
        await membership.leave()


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
        await membership.leave()
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


def test_what_people_want_outlives_the_record_and_is_heard_at_once(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        c = Cluster(clock, tmp_path)
        wishes = DesiredMachines(c.memory, KEYS)
        machine = Machine("m1", "a", {"disk": "hdd"})

        async def describe() -> Machine:
            return machine

        member = Membership(c.store, KEYS, clock, LeaseClock(clock, TTL), machine, describe)
        task = asyncio.create_task(member.run())
        await clock.sleep(SECOND)
        await wishes.cordon("m1", "disk")
        await wishes.set_metadata("m1", {"zone": "b"})
        await clock.sleep(SECOND // 100)
        assert (member.machine.cordoned, member.machine.metadata) == (True, {"disk": "hdd", "zone": "b"})
        assert await seen(c) == member.machine
        # A change that the registry did not make in the machine's record, and one of the machine itself.
        await c.memory.commit(Txn((), (Put(KEYS.wish("m1"), encode(MachineWish({"disk": None}))),)))
        machine = Machine("m1", "a", {"disk": "hdd", "new": "1"})
        await clock.sleep(SECOND // 100)
        assert await seen(c) == Machine("m1", "a", {"new": "1"}, configured={"disk": "hdd", "new": "1"})
        task.cancel()
        await asyncio.wait({task})
        await member.leave()
        assert await seen(c) is None
        again = asyncio.create_task(run_member(c, machine))
        await clock.sleep(SECOND)
        assert await seen(c) == Machine("m1", "a", {"new": "1"}, configured={"disk": "hdd", "new": "1"})
        again.cancel()
        await asyncio.wait({again})
        await c.memory.close()

    run_virtual(main)


def test_an_unreadable_wish_or_record_is_left_out_of_account(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        c = Cluster(clock, tmp_path)
        await c.memory.commit(Txn((), (Put(KEYS.wish("m1"), b"{"), Put(KEYS.machine("m1"), b"no"))))
        task = asyncio.create_task(run_member(c, Machine("m1", "a")))
        await clock.sleep(SECOND)
        assert await seen(c) == Machine("m1", "a")
        task.cancel()
        await asyncio.wait({task})
        await c.memory.close()

    run_virtual(main)


def test_asking_what_people_want_now(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        c = Cluster(clock, tmp_path)
        one = member(c, Machine("m1", "a"))
        await c.memory.commit(Txn((), (Put(KEYS.wish("m1"), encode(MachineWish({"a": "b"}))),)))
        assert one.machine.metadata == {}
        await one.refresh()
        known = one.machine
        assert known.metadata == {"a": "b"}
        await one.refresh()
        assert one.machine is known
        await c.memory.close()

    run_virtual(main)


def test_nobody_asks_a_store_that_is_away_without_a_pause(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        c = Cluster(clock, tmp_path)
        asked = 0

        async def describe() -> Machine:
            nonlocal asked
            asked += 1
            return Machine("m1", "a")

        machine = Machine("m1", "a")
        task = asyncio.create_task(Membership(c.store, KEYS, clock, LeaseClock(clock, TTL), machine, describe).run())
        await clock.sleep(SECOND)
        c.store.take_down()
        await DesiredMachines(c.memory, KEYS).cordon("m1")
        before = asked
        await clock.sleep(30 * SECOND)
        assert asked - before <= 60
        c.store.bring_up()
        await clock.sleep(TTL)
        found = await seen(c)
        assert found is not None
        assert found.cordoned
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


def test_a_restarted_daemon_takes_its_record_over_and_a_copy_of_it_ends(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        c = Cluster(clock, tmp_path)
        first = asyncio.create_task(run_member(c, Machine("m1", "a", hostname="one")))
        await clock.sleep(SECOND)
        second = asyncio.create_task(run_member(c, Machine("m1", "a", hostname="two")))
        await clock.sleep(SECOND)
        assert await seen(c) == Machine("m1", "a", hostname="two")
        with pytest.raises(Conflict, match=r"another daemon goes by the identity of machine 'm1'.*two"):
            await first
        await clock.sleep(3 * TTL)
        assert await seen(c) == Machine("m1", "a", hostname="two")
        second.cancel()
        await asyncio.wait({second})
        assert await seen(c) is None
        await c.memory.close()

    run_virtual(main)


def test_whoever_only_ends_keeps_the_machine_until_its_lease_ends(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        c = Cluster(clock, tmp_path)
        one = member(c, Machine("m1", "a"))
        task = asyncio.create_task(one.run())
        await clock.sleep(SECOND)
        task.cancel()
        await asyncio.wait({task})
        assert await seen(c) is not None, "something may have been left running"
        await one.leave()
        assert await seen(c) is None
        await c.memory.close()

    run_virtual(main)


def test_a_store_that_hangs_and_an_engine_that_hangs_hold_up_no_heartbeat(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        c = Cluster(clock, tmp_path)
        asked = hang = 0

        async def describe() -> Machine:
            nonlocal asked
            asked += 1
            if asked > 1:
                await clock.sleep(60 * SECOND)
            return Machine("m1", "a", {"asked": str(asked)})

        renew = c.store.renew

        async def renew_late(lease: int) -> None:
            nonlocal hang
            if hang:
                hang -= 1
                await clock.sleep(30 * SECOND)
            await renew(lease)

        c.store.renew = renew_late  # type: ignore[method-assign]
        lease_clock = LeaseClock(clock, TTL)
        membership = Membership(c.store, KEYS, clock, lease_clock, Machine("m1", "a"), describe)
        task = asyncio.create_task(membership.run())
        await clock.sleep(SECOND)
        first = await c.memory.get(KEYS.machine("m1"))
        assert first is not None
        for _ in range(20):
            hang = 2
            await clock.sleep(TTL)
            now = await c.memory.get(KEYS.machine("m1"))
            assert now is not None
            assert now.lease == first.lease
            assert (lease_clock.stage, lease_clock.lapses) == ("good", 0)
        found = await seen(c)
        assert found is not None
        assert found.metadata == {"asked": "4"}
        task.cancel()
        await asyncio.wait({task})
        await c.memory.close()

    run_virtual(main)
