"""Executions that move while somebody asks for them: between any two requests, by any number of moves."""

import itertools
from collections.abc import Awaitable, Callable, Iterator

import msgspec
import pytest

from xchronos.clock import to_datetime
from xchronos.errors import NotFound
from xchronos.model.policies import Outcome
from xchronos.model.records import Attempt, Execution, Machine
from xchronos.registry.codec import decode, encode
from xchronos.registry.keys import Keys
from xchronos.registry.registry import Registry
from xchronos.registry.transitions import move, put
from xchronos.store.contract import Guard, Put, Txn
from xchronos.store.memory import MemoryStore
from xchronos.testing.clock import VirtualClock, run_virtual

KEYS = Keys()
FENCE = Guard(KEYS.shard(3), 0)
WAITING = Execution("a.service", to_datetime(1_900_000_000_000_000))
TEXT = b"[Service]\nType=oneshot\nExecStart=/bin/true\n[X-Chronos]\nExecutor=process\n"


class Restless(MemoryStore):
    """Before its n-th request the execution makes `counts[n]` of its `moves`, as a scheduler has it move."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self.moves: list[str] = []
        self.counts: Iterator[int] = iter(())

    async def get(self, key):
        await self.happen(next(self.counts, 0))
        return await super().get(key)

    async def range(self, prefix, **options):
        await self.happen(next(self.counts, 0))
        return await super().range(prefix, **options)

    async def commit(self, txn):
        await self.happen(next(self.counts, 0))
        return await super().commit(txn)

    async def where(self):
        (item,) = (await super().range(KEYS.root + "var/")).items
        return item

    async def happen(self, count: int) -> None:
        for _ in range(min(count, len(self.moves))):
            await self._move(self.moves.pop(0))

    async def _move(self, to: str) -> None:
        item = await self.where()
        known = decode(item, Execution)
        if known.stop_requested:
            return  # who decides upon it has it end, and not move
        attempts = known.attempts
        if known.current is not None:
            attempts += (msgspec.structs.replace(known.current, outcome=Outcome.LOST),)
        current = Attempt(len(attempts) + 1, to) if to.startswith("m") else None
        state = "placed" if current is not None else to
        target = msgspec.structs.replace(known, state=state, attempts=attempts, current=current)
        done = await super().commit(move(KEYS, FENCE, item.key, item.mod_revision, target))
        assert done.succeeded


class Memory:
    """A scheduler that has every execution in memory at one place, be it there or not."""

    def __init__(self, place: str | None) -> None:
        self.place = place

    async def machine_of(self, execution_id: str) -> str | None:
        return self.place


def tried(
    moves: list[str],
    scenario: Callable[[Registry, Restless], Awaitable[None]],
    requests: int = 8,
    memory: Memory | None = None,
    alive: tuple[str, ...] = (),
) -> None:
    """Try a scenario with each of the `moves` before each of the first `requests`, and after them."""

    async def main(clock: VirtualClock) -> None:
        for marks in itertools.combinations_with_replacement(range(requests + 1), len(moves)):
            store = Restless(clock)
            registry = Registry(store, KEYS, memory)
            await registry.submit(WAITING.unit, TEXT, now=clock.now())
            await store.commit(
                Txn((), tuple(Put(KEYS.machine(machine), encode(Machine(machine))) for machine in alive))
            )
            await store.commit(Txn((), (put(KEYS, WAITING),)))
            store.moves = list(moves)
            store.counts = iter([marks.count(number) for number in range(requests)])
            await scenario(registry, store)
            await store.close()

    run_virtual(main)


ROUNDS = ["m2", "delayed", "m1", "waiting", "m2"]


@pytest.mark.parametrize("target", [WAITING.unit, WAITING.id], ids=["the unit", "the execution"])
def test_what_moves_is_asked_to_stop_all_the_same(target):
    async def scenario(registry: Registry, store: Restless) -> None:
        assert await registry.stop(target, "enough") == [WAITING.id]
        assert decode(await store.where(), Execution).stop_requested == "enough"

    tried(ROUNDS, scenario)


@pytest.mark.parametrize(
    ("memory", "alive"),
    [
        (None, ()),
        (Memory(None), ("m1",)),
        (Memory(""), ("m1", "m2")),
        (Memory("m1"), ("m2",)),
        (Memory("m2"), ("m1", "m2")),
    ],
    ids=["no memory", "it knows nothing", "it waits", "it is on m1", "it is on m2"],
)
def test_what_moves_is_found(memory, alive):
    async def scenario(registry: Registry, store: Restless) -> None:
        assert (await registry.execution(WAITING.id)).id == WAITING.id

    tried([*ROUNDS[:3], "ended"], scenario, 11, memory, alive)


@pytest.mark.parametrize("alive", [("m1",), ("m1", "m2")], ids=["one gone", "all alive"])
def test_what_of_a_unit_moves_is_found_once(alive):
    async def scenario(registry: Registry, store: Restless) -> None:
        assert [execution.id for execution in await registry.open_executions(WAITING.unit)] == [WAITING.id]

    tried(ROUNDS[:3], scenario, 11, None, alive)


def test_what_ends_after_it_was_read_where_it_waited_is_found_ended():
    async def main(clock: VirtualClock) -> None:
        store = Restless(clock)
        await store.commit(Txn((), (put(KEYS, WAITING),)))
        store.moves, store.counts = ["ended"], iter([0, 1])
        assert (await Registry(store, KEYS).execution(WAITING.id)).state == "ended"
        await store.close()

    run_virtual(main)


def test_what_ends_meanwhile_is_not_asked_and_no_mistake():
    async def scenario(registry: Registry, store: Restless) -> None:
        asked = await registry.stop(WAITING.id, "enough")
        assert asked == ([] if decode(await store.where(), Execution).state == "ended" else [WAITING.id])
        with pytest.raises(NotFound):
            await registry.execution("a.service/20300101T000000.000000Z/7")

    tried(["m2", "ended"], scenario)


def test_what_waits_is_asked_where_it_is():
    async def scenario(registry: Registry, store: Restless) -> None:
        assert len(await registry.open_executions(WAITING.unit)) == 1
        assert encode(await registry.execution(WAITING.id)) == (await store.where()).value

    tried([], scenario)
