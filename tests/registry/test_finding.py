"""Executions are found by key: what a search reads depends on the machines that there are, and not on what runs."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xchronos.clock import to_datetime
from xchronos.errors import NotFound
from xchronos.model.records import Attempt, Execution, Machine, Schedule
from xchronos.registry import finding
from xchronos.registry.codec import decode, encode
from xchronos.registry.finding import ExecutionFinder
from xchronos.registry.keys import Keys
from xchronos.registry.registry import Registry
from xchronos.registry.transitions import put
from xchronos.store.contract import Delete, Put, Txn
from xchronos.store.memory import MemoryStore

KEYS = Keys()
NOW = 1_900_000_000_000_000
MOMENT = to_datetime(NOW)
TEXT = b"[Service]\nType=oneshot\nExecStart=/bin/true\n[X-Chronos]\nExecutor=process\n"
KEPT = b"[Service]\nExecStart=/bin/true\nRestart=always\n[X-Chronos]\nExecutor=process\nAvailability=2\n"
ALIVE = [f"m{number:02}" for number in range(20)]
GONE = ["A", "m00-b", "m00.x", "m07a", "zz"]
"""What the crowd runs on: machines with a record, and some that have none any more."""


class Counting(MemoryStore):
    """Counts the keys that reads have brought, and the reads."""

    keys_read = reads = 0

    async def get(self, key):
        item = await super().get(key)
        self.count(item is not None)
        return item

    async def range(self, prefix, **options):
        page = await super().range(prefix, **options)
        self.count(len(page.items))
        return page

    def count(self, keys):
        self.reads += 1
        self.keys_read += keys


class Memory:
    """What a scheduler has in memory, right or wrong."""

    def __init__(self, places: dict[str, str | None]) -> None:
        self.places = places

    async def machine_of(self, execution_id: str) -> str | None:
        return self.places.get(execution_id)


def placed(unit: str, machine: str, copy: int = 0) -> Execution:
    return Execution(unit, MOMENT, copy=copy, state="running", current=Attempt(1, machine))


FOUND = {
    "waiting": Execution("waits.service", MOMENT),
    "alive": placed("alive.service", "m19", copy=1),
    "gone": placed("gone.service", "m07a"),
    "ended": Execution("ended.service", MOMENT, state="ended"),
}
COPIES = [
    Execution("many.service", MOMENT),
    *(placed("many.service", machine, copy) for copy, machine in enumerate(("m03", "m03", *GONE), 1)),
]
NEIGHBOURS = [placed("alive.service", "m19", copy=10), placed("alive.service", "m18", copy=11)]
ABSENT = FOUND["alive"].id.replace("/1", "/9")


async def write(store, puts):
    for first in range(0, len(puts), 100):
        await store.commit(Txn((), tuple(puts[first : first + 100])))


async def crowded(size: int) -> Counting:
    """A store with `size` executions that run, as many that wait, as many that have ended; and those named above."""
    store = Counting()
    places = [*ALIVE, *GONE]
    puts = [Put(KEYS.machine(machine), encode(Machine(machine))) for machine in ALIVE]
    for number in range(size):
        unit = f"n{number}.service"
        puts.append(put(KEYS, placed(unit, places[number % len(places)])))
        puts.append(put(KEYS, Execution(unit, MOMENT, copy=1)))
        puts.append(put(KEYS, Execution(unit, MOMENT, copy=2, state="ended")))
    puts += [put(KEYS, execution) for execution in (*FOUND.values(), *COPIES, *NEIGHBOURS)]
    await write(store, puts)
    registry = Registry(store, KEYS)
    for unit in ("alive.service", "many.service"):
        await registry.submit(unit, TEXT, now=NOW)
    await registry.submit("kept.service", KEPT, now=NOW)
    revision = (await store.get(KEYS.job("kept.service"))).mod_revision
    cursor = Schedule("kept.service", revision, "", MOMENT, MOMENT, fired=1)
    await store.commit(Txn((), (Put(KEYS.schedule("kept.service"), encode(cursor)),)))
    return store


async def costs(size: int, whereabouts: Memory | None) -> dict[str, tuple[int, int]]:
    """(keys, reads) that each operation takes."""
    store = await crowded(size)
    taken = {}

    async def count(name, operation):
        # A registry of its own: none profits from what another has found.
        registry = Registry(store, KEYS, whereabouts)
        store.keys_read = store.reads = 0
        await operation(registry)
        taken[name] = (store.keys_read, store.reads)

    async def absent(registry):
        with pytest.raises(NotFound):
            await registry.execution(ABSENT)

    for name, execution in FOUND.items():
        await count(name, lambda registry, execution=execution: registry.execution(execution.id))
    await count("absent", absent)
    await count("open", lambda registry: registry.open_executions("many.service"))
    await count("stop one", lambda registry: registry.stop(FOUND["alive"].id, "enough"))
    await count("stop what has ended", lambda registry: registry.stop(FOUND["ended"].id, "late"))
    await count("stop the unit", lambda registry: registry.stop("many.service", "enough"))
    await count("start", lambda registry: registry.start("alive.service", now=NOW + 1))
    await count("start what is kept", lambda registry: registry.start("kept.service", now=NOW + 1))
    await store.close()
    return taken


def true_memory():
    return Memory(
        {execution.id: execution.current.machine if execution.current else "" for execution in FOUND.values()}
    )


@pytest.mark.parametrize(
    "whereabouts",
    [None, Memory({}), true_memory(), Memory({execution.id: "m01" for execution in FOUND.values()})],
    ids=["no memory", "it knows nothing", "it knows all", "it is wrong"],
)
def test_how_much_runs_costs_no_operation_anything(whereabouts):
    few, many = (asyncio.run(costs(size, whereabouts)) for size in (200, 2_000))
    assert few == many
    machines = len(ALIVE) + len(GONE)
    # The machines' names, the first keys in the gaps between them, what is found, and the unit with its cursor.
    assert all(keys <= 3 * machines and reads <= 4 * machines for keys, reads in many.values()), many
    assert many["waiting"][0] == many["ended"][0] == 1


def test_an_execution_costs_one_key_among_ten_thousand_where_memory_knows_it():
    taken = asyncio.run(costs(10_000, true_memory()))
    assert [taken[name] for name in ("alive", "gone")] == [(1, 3)] * 2
    assert taken["stop one"] == (1, 3)
    assert taken == asyncio.run(costs(200, true_memory()))


@pytest.mark.parametrize("name", FOUND)
@pytest.mark.parametrize("told", [None, "", "m01", "m19", "m07a", "nowhere"])
def test_what_memory_says_is_believed_only_if_the_record_is_there(name, told):
    async def main():
        store = await crowded(50)
        execution = FOUND[name]
        registry = Registry(store, KEYS, Memory({execution.id: told, ABSENT: told}))
        for _ in range(2):
            assert await registry.execution(execution.id) == execution
        with pytest.raises(NotFound):
            await registry.execution(ABSENT)
        assert await registry.stop(execution.id, "enough") == ([] if name == "ended" else [execution.id])
        await store.close()

    asyncio.run(main())


def test_what_is_open_of_a_unit_is_found_on_every_machine():
    async def main():
        store = await crowded(50)
        registry = Registry(store, KEYS)
        assert {e.id for e in await registry.open_executions("many.service")} == {e.id for e in COPIES}
        assert set(await registry.stop("many.service", "enough")) == {e.id for e in COPIES}
        assert await registry.open_executions("ended.service") == []
        # A unit whose name begins another's has none of the other's.
        assert await registry.open_executions("n1") == []
        await store.close()

    asyncio.run(main())


def test_where_it_was_found_is_looked_at_first_next_time(monkeypatch):
    monkeypatch.setattr(finding, "REMEMBERED", 2)

    async def main():
        store = await crowded(50)
        finder = ExecutionFinder(store, KEYS)

        async def reads(name):
            before = store.reads
            assert decode(await finder.find(FOUND[name].id), Execution) == FOUND[name]
            return store.reads - before

        assert await reads("alive") > 10
        assert await reads("alive") == await reads("alive") == 3
        # It is kept of so many executions: of those that were asked for last.
        assert await reads("gone") > 10
        assert await reads("alive") == await reads("gone") == await reads("alive") == 3
        assert decode(await finder.find(COPIES[1].id), Execution) == COPIES[1]
        assert await reads("alive") == 3
        assert await reads("gone") > 10
        # What has moved is found as if nothing was known of it.
        moved = placed("alive.service", "m02", copy=1)
        await store.commit(Txn((), (Delete(KEYS.placement("m19", moved.id)), put(KEYS, moved))))
        assert decode(await finder.find(moved.id), Execution) == moved
        await store.close()

    asyncio.run(main())


class Forgetful(Counting):
    """Before its n-th read at a revision, it is written to and forgets what was before."""

    forget_at = 0

    async def range(self, prefix, *, revision=0, **options):
        self.forget_at -= revision > 0
        if revision and not self.forget_at:
            committed = await self.commit(Txn((), (Put("/elsewhere", b""),)))
            await self.compact(committed.revision)
        return await super().range(prefix, revision=revision, **options)


@pytest.mark.parametrize("forget_at", [1, 2, 3, 4, 5, 6, 7, 8])
def test_a_moment_that_the_store_forgets_is_left_for_another_one(forget_at):
    async def main():
        store = Forgetful()
        machines = ("a", "b", "c")
        gone = placed("job.service", "d")
        await write(store, [Put(KEYS.machine(name), encode(Machine(name))) for name in machines])
        await write(store, [put(KEYS, gone)])
        for target in (gone.id, "job.service"):
            store.forget_at = forget_at
            assert [item.key for item in await ExecutionFinder(store, KEYS).open_items(target)] == [
                KEYS.placement("d", gone.id)
            ]
            assert store.forget_at <= 0
        await store.close()

    asyncio.run(main())


NAMES = st.text("a0-._Z", min_size=1, max_size=3).filter(lambda name: name[0] not in "-._")


@given(st.sets(NAMES, max_size=6), st.sets(NAMES, max_size=6))
def test_machines_that_are_gone_are_found_whatever_their_names(alive, having):
    async def main():
        store = Counting()
        await write(store, [Put(KEYS.machine(name), encode(Machine(name))) for name in alive])
        executions = [placed("job.service", name, copy) for copy, name in enumerate(sorted(having))]
        others = [placed("other.service", name, copy) for copy, name in enumerate(sorted(having))]
        await write(store, [put(KEYS, execution) for execution in (*executions, *others)])
        finder = ExecutionFinder(store, KEYS)
        assert {item.key for item in await finder.of_unit("job.service")} == {put(KEYS, e).key for e in executions}
        for execution in executions:
            assert decode(await finder.find(execution.id), Execution) == execution
        await store.close()

    asyncio.run(main())
