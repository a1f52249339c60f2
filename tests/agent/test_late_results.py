"""Late results while the execution that they belong to goes on elsewhere: told for good, wherever it is by then."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec
import pytest

from tests.agent.worlds import FIRE, KEYS, OK, ONE, Cluster
from tests.services.links import Link
from xchronos.agent.late_results import LateResults, with_late_result
from xchronos.agent.outcomes import concluded
from xchronos.clock import SECOND
from xchronos.model.policies import Outcome
from xchronos.model.records import Attempt, Execution
from xchronos.registry.codec import decode, encode
from xchronos.registry.transitions import begin, destination, finish, move, report
from xchronos.store.contract import Delete, Guard, KeyValue, Put, Store, Txn
from xchronos.store.memory import MemoryStore
from xchronos.testing.clock import VirtualClock, run_virtual

LOST = Attempt(1, "m1", started_at=FIRE, outcome=Outcome.LOST, reason="was lost with m1")
ENDED = msgspec.structs.replace(LOST, outcome=Outcome.SUCCEEDED, reason="", ended_at=FIRE)
WAITING = Execution("job.service", FIRE, state="waiting", attempts=(LOST,))
FENCE = Guard(KEYS.shard(3), 0)


class Elsewhere:
    """Everybody else: a scheduler whose writes are fenced, and an agent that goes by what it has in memory."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.held: tuple[str, Execution, int, int] | None = None

    async def where(self) -> KeyValue | None:
        page = await self.store.range(KEYS.root + "var/")
        assert len(page.items) <= 1, "an execution is in one place"
        return page.items[0] if page.items else None

    async def _moved(self, state: str, machine: str = "", outcome: Outcome | None = None) -> None:
        item = await self.where()
        assert item is not None
        execution = decode(item, Execution)
        if execution.current is not None:
            ended = msgspec.structs.replace(execution.current, outcome=outcome)
            execution = msgspec.structs.replace(execution, attempts=(*execution.attempts, ended), current=None)
        current = Attempt(execution.attempts[-1].number + 1, machine) if machine else None
        target = msgspec.structs.replace(execution, state=state, current=current, outcome=outcome)
        assert (await self.store.commit(move(KEYS, FENCE, item.key, item.mod_revision, target))).succeeded

    async def place(self) -> None:
        await self._moved("placed", "m2")

    async def lose(self) -> None:
        await self._moved("waiting", outcome=Outcome.LOST)

    async def delay(self) -> None:
        await self._moved("delayed", outcome=Outcome.FAILED)

    async def end(self) -> None:
        await self._moved("ended", outcome=Outcome.FAILED)

    async def trim(self) -> None:
        item = await self.where()
        assert item is not None
        await self.store.commit(Txn((), (Delete(item.key),)))

    async def read(self) -> None:
        """The agent takes in its placement, and hears of nothing any more until a write of its own is refused."""
        item = await self.where()
        assert item is not None
        self.held = item.key, decode(item, Execution), item.create_revision, item.mod_revision

    async def _insist(self, write: Callable[[str, Execution, int, int], Txn]) -> None:
        assert self.held is not None
        while not (done := await self.store.commit(write(*self.held))).succeeded:
            await self.read()
        self.held = (*self.held[:3], done.revision)

    async def begin(self) -> None:
        def write(key: str, execution: Execution, life: int, known: int) -> Txn:
            running = msgspec.structs.replace(execution, state="running")
            self.held = key, running, life, known
            return begin(key, encode(running), known)

        await self._insist(write)

    async def report(self) -> None:
        def write(key: str, execution: Execution, life: int, known: int) -> Txn:
            return report(key, encode(msgspec.structs.replace(execution, state="reported")), known)

        await self._insist(write)

    async def finish(self) -> None:
        def write(key: str, execution: Execution, life: int, known: int) -> Txn:
            assert execution.current is not None
            attempt = msgspec.structs.replace(execution.current, outcome=Outcome.SUCCEEDED)
            return finish(KEYS, key, concluded(execution, attempt), known)

        await self._insist(write)


class Stepped(Link):
    """A store before whose n-th request so many others' moves happen as `counts[n]` says."""

    def __init__(self, store: MemoryStore, counts: tuple[int, ...], moves: Iterator[Callable[[], Awaitable[None]]]):
        super().__init__(store)
        self._counts = iter(counts)
        self._moves = moves

    async def ask(self, what: str, call: Callable[[], Awaitable[Any]]) -> Any:
        for one in itertools.islice(self._moves, next(self._counts, 0)):
            await one()
        return await call()


def spread(moves: int, requests: int) -> Iterator[tuple[int, ...]]:
    """Every way in which so many moves can come before the first requests; what is left of them comes behind."""
    for marks in itertools.combinations_with_replacement(range(requests + 1), moves):
        yield tuple(marks.count(number) for number in range(requests))


WAYS = {
    "another attempt succeeds": ["place", "read", "begin", "finish"],
    "another attempt fails and is tried again": ["place", "read", "begin", "report", "delay", "place", "end"],
    "another attempt is lost": ["place", "read", "lose", "place", "read", "begin", "finish"],
    "its record is trimmed": ["place", "read", "begin", "finish", "trim"],
    "it is destroyed while it waits": ["place", "lose", "trim"],
}


@pytest.mark.parametrize("way", WAYS)
def test_a_late_result_is_told_for_good_whatever_moves_between_any_two_requests(way: str) -> None:
    names = WAYS[way]

    async def play(clock: VirtualClock, counts: tuple[int, ...]) -> None:
        store = MemoryStore(clock)
        await store.commit(Txn((), (Put(destination(KEYS, WAITING), encode(WAITING)),)))
        others = Elsewhere(store)
        moves: Iterator[Callable[[], Awaitable[None]]] = iter([getattr(others, name) for name in names])
        stepped: Store = Stepped(store, counts, moves)  # as much of one as is asked
        late_results = LateResults(stepped, KEYS, clock)
        work = asyncio.create_task(late_results.run())
        late_results.put(WAITING.id, ENDED)
        began = clock.monotonic()
        while late_results.busy:
            await clock.sleep(SECOND // 100)
        assert clock.monotonic() - began < SECOND, "a refusal is news: there is nothing to wait for"
        work.cancel()
        await asyncio.wait({work})
        for one in moves:
            await one()
        item = await others.where()
        if "trim" in names:
            assert item is None
        else:
            assert item is not None
            told = decode(item, Execution)
            assert (told.state, told.attempts[0].late) == ("ended", Outcome.SUCCEEDED), counts
            assert told.outcome is not None
            assert [attempt.number for attempt in told.attempts] == list(range(1, len(told.attempts) + 1))
            assert all(attempt.late is None for attempt in told.attempts[1:])
        await store.close()

    async def main(clock: VirtualClock) -> None:
        for counts in spread(len(names), 7):
            await play(clock, counts)

    run_virtual(main)


def test_a_record_that_cannot_be_read_holds_up_no_other() -> None:
    async def main(clock: VirtualClock) -> None:
        store = MemoryStore(clock)
        other = msgspec.structs.replace(WAITING, unit="other.service")
        await store.commit(
            Txn((), (Put(destination(KEYS, WAITING), b"{"), Put(destination(KEYS, other), encode(other))))
        )
        late_results = LateResults(store, KEYS, clock)
        work = asyncio.create_task(late_results.run())
        late_results.put(WAITING.id, ENDED)
        late_results.put(other.id, ENDED)
        await clock.sleep(SECOND)
        assert not late_results.busy
        work.cancel()
        await asyncio.wait({work})
        item = await store.get(destination(KEYS, other))
        assert item is not None
        assert decode(item, Execution).attempts[0].late is Outcome.SUCCEEDED
        await store.close()

    run_virtual(main)


async def give_up(c: Cluster, execution: Execution) -> None:
    """The machine is given up, as a scheduler does that has seen its lease end."""
    now = await c.placed(execution)
    assert now is not None
    assert now.current is not None
    lost = msgspec.structs.replace(now.current, outcome=Outcome.LOST, reason="was lost with m1")
    waiting = msgspec.structs.replace(now, state="waiting", attempts=(*now.attempts, lost), current=None)
    await c.memory.commit(
        Txn(
            (),
            (
                Delete(KEYS.placement("m1", execution.id)),
                Put(KEYS.pending_execution(execution.id), encode(waiting)),
            ),
        )
    )


async def told(c: Cluster, execution: Execution) -> Outcome | None:
    item = await c.memory.get(KEYS.pending_execution(execution.id))
    assert item is not None
    return decode(item, Execution).attempts[0].late


def shared(c: Cluster) -> None:
    """Other machines use the store as well."""
    c.lease_clock.alone = False
    c.lease_clock.renewed(c.clock.monotonic())


def test_an_end_that_waits_for_the_store_while_the_machine_is_given_up_is_a_late_result(
    play: Callable[..., None],
) -> None:
    async def test(c: Cluster) -> None:
        shared(c)
        execution = await c.begin()
        c.store.hold.clear()  # what is written from now on stays on its way
        await c.clock.sleep(2 * SECOND)
        c.lease_clock.lapse()
        await give_up(c, execution)
        await c.clock.sleep(SECOND)
        c.store.hold.set()
        await c.clock.sleep(5 * SECOND)
        assert await told(c, execution) is Outcome.SUCCEEDED

    play(test, {"start-0": (2.0, OK)})


def test_a_success_that_is_in_its_last_steps_when_it_is_taken_away_is_a_late_result(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        shared(c)
        execution = await c.begin(f"{ONE}\nExecStop=/bin/tidy", 3)
        assert c.world.starts == ["start-0", "stop-0"]
        await give_up(c, execution)
        await c.clock.sleep(20 * SECOND)
        assert await told(c, execution) is Outcome.SUCCEEDED

    play(test, {"start-0": (2.0, OK), "stop-0": (4.0, OK)})


def test_a_shutdown_waits_for_late_results(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        shared(c)
        execution = await c.begin()
        c.lease_clock.lapse()
        await give_up(c, execution)
        await c.clock.sleep(SECOND)
        c.store.take_down()
        drained = asyncio.create_task(c.agent.drain(0))
        await c.clock.sleep(2 * SECOND)
        assert not drained.done()
        c.store.bring_up()
        await drained
        assert await told(c, execution) is Outcome.CANCELLED

    play(test, {"start-0": (60.0, OK)})


def test_a_late_result_is_told_once_and_changes_the_attempt_that_was_given_up_only() -> None:
    tried = Attempt(1, "m1", outcome=Outcome.FAILED)
    lost = Attempt(2, "m1", outcome=Outcome.LOST, reason="the machine was lost")
    again = Attempt(3, "m2", outcome=Outcome.SUCCEEDED)
    execution = Execution("job.service", FIRE, state="ended", attempts=(tried, lost, again))
    ended = Attempt(2, "m1", started_at=FIRE, ended_at=FIRE, outcome=Outcome.SUCCEEDED)
    told = with_late_result(execution, ended)
    assert told is not None
    assert (told.attempts[0], told.attempts[2]) == (tried, again)
    late = told.attempts[1]
    assert (late.number, late.outcome, late.late, late.started_at) == (2, Outcome.LOST, Outcome.SUCCEEDED, FIRE)
    assert with_late_result(told, ended) is None, "it was told before"
    for other in (Attempt(1, "m1", outcome=Outcome.SUCCEEDED), Attempt(2, "m2", outcome=Outcome.SUCCEEDED)):
        assert with_late_result(execution, other) is None, "that one was not given up"
