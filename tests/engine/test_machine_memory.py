"""The machines that the cluster has had: noted while they are alive, told of when they are down, forgotten at last."""

from datetime import timedelta

from xchronos.clock import DAY, SECOND, to_datetime
from xchronos.engine.leader.machine_memory import MachineMemory, forgotten
from xchronos.limits import DOWN_DAYS, DOWN_MACHINES
from xchronos.model.records import KnownMachine, Machine
from xchronos.registry.codec import encode
from xchronos.registry.keys import Keys
from xchronos.registry.registry import Registry
from xchronos.store.contract import Delete, Guard, Put, Txn
from xchronos.store.memory import MemoryStore
from xchronos.testing.clock import VirtualClock, run_virtual

KEYS = Keys()


async def leader(store) -> Guard:
    """A guard that holds for as long as the key is there."""
    return Guard("/leader", (await store.commit(Txn((), [Put("/leader", b"me")]))).revision)


async def join(store, *names, **fields):
    records = [Machine(name, hostname=f"host-{name}", docker="27", **fields) for name in names]
    await store.commit(Txn((), [Put(KEYS.machines + one.id, encode(one)) for one in records]))


async def end(store, *names):
    await store.commit(Txn((), [Delete(KEYS.machines + name) for name in names]))


def test_a_machine_that_is_down_is_told_of_until_it_is_back():
    async def life(clock: VirtualClock) -> None:
        store = MemoryStore(clock)
        guard, registry, memory = await leader(store), Registry(store, KEYS), MachineMemory(store, KEYS, clock)
        await join(store, "m1", "m2", cordoned=True)
        await memory.duty.work(guard)
        known = await registry.known_machines()
        assert {name: (one.machine.hostname, one.machine.cordoned, one.down_since) for name, one in known.items()} == {
            "m1": ("host-m1", False, None),
            "m2": ("host-m2", False, None),
        }
        # Nothing is written while nothing changes, whatever its engine and people do.
        revision = (await store.range(KEYS.root)).revision
        await memory.run(guard)
        assert (await store.range(KEYS.root)).revision == revision
        await end(store, "m2")
        await clock.sleep(5 * SECOND)
        down = to_datetime(clock.now())
        await memory.run(guard)
        assert (await registry.known_machines("m2"))["m2"].down_since == down
        await clock.sleep(60 * SECOND)
        await memory.run(guard)
        assert (await registry.known_machines("m2"))["m2"].down_since == down
        await join(store, "m2", metadata={"a": "b"})
        await memory.run(guard)
        back = (await registry.known_machines())["m2"]
        assert (back.down_since, back.machine.metadata) == (None, {"a": "b"})
        # Who leads no more writes nothing, and one unreadable record hinders nobody.
        await store.commit(
            Txn((), [Delete("/leader"), Put(KEYS.machines + "m3", b"?"), Put(KEYS.machines + "m4", b"{}")])
        )
        await end(store, "m1")
        await memory.run(guard)
        assert (await registry.known_machines("m1"))["m1"].down_since is None

    run_virtual(life)


def test_what_is_forgotten():
    async def life(clock: VirtualClock) -> None:
        store = MemoryStore(clock)
        guard, registry, memory = await leader(store), Registry(store, KEYS), MachineMemory(store, KEYS, clock)
        long_ago = to_datetime(clock.now()) - timedelta(days=DOWN_DAYS, seconds=1)
        for name, since in (("old", long_ago), ("new", to_datetime(clock.now()))):
            record = KnownMachine(Machine(name), since)
            await store.commit(Txn((), [Put(KEYS.known_machines + name, encode(record))]))
        await memory.run(guard)
        assert sorted(await registry.known_machines()) == ["new"]
        await registry.wishes.forget("new")
        assert await registry.known_machines() == {}

    run_virtual(life)


def test_the_first_of_too_many_go():
    now = 10 * DAY
    down = {f"m{number}": now - number for number in range(DOWN_MACHINES + 2)}
    assert forgotten(down, now) == [f"m{DOWN_MACHINES + 1}", f"m{DOWN_MACHINES}"]
    assert forgotten({"a": now - DOWN_DAYS * DAY}, now) == []
