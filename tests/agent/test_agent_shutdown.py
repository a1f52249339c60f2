"""An agent that is asked to end: what it waits for, what it stops, and what it does not begin any more."""

import asyncio
from collections.abc import Callable

import pytest

from tests.agent.worlds import LONG, Cluster
from xchronos.clock import SECOND
from xchronos.model.policies import Outcome
from xchronos.store.contract import Committed, Put, Txn


def spied(c: Cluster) -> list[Put]:
    """What the agent sends to be written from now on."""
    sent: list[Put] = []
    batcher = c.agent._context.batcher
    submit = batcher.submit

    def submit_seen(txn: Txn) -> asyncio.Future[Committed]:
        sent.extend(operation for operation in txn.operations if isinstance(operation, Put))
        return submit(txn)

    batcher.submit = submit_seen  # type: ignore[method-assign]
    return sent


def test_drain_waits_then_stops_then_records(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        execution = await c.begin()
        began = c.clock.monotonic()
        await c.agent.drain(10 * SECOND)
        assert 10 * SECOND <= c.clock.monotonic() - began < 11 * SECOND
        attempt = await c.ended(execution, 1)
        assert (attempt.outcome, attempt.reason) == (Outcome.LOST, "xchronosd is shutting down")
        later = await c.place(copy=1)
        await c.clock.sleep(SECOND)
        now = await c.placed(later)
        assert now is not None
        assert now.state == "placed"

    play(test, LONG)


def test_drain_lets_the_quick_ones_end(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        execution = await c.begin()
        await c.agent.drain(100 * SECOND)
        assert (await c.ended(execution, 1)).outcome is Outcome.SUCCEEDED
        assert c.world.signals == []
        await c.agent.drain(0)

    play(test, LONG)


@pytest.mark.parametrize("grace", [0, 2 * SECOND])
@pytest.mark.parametrize("ticks", range(0, 30, 2))
def test_drain_starts_nothing_that_is_on_its_way(play: Callable[..., None], ticks: int, grace: int) -> None:
    async def test(c: Cluster) -> None:
        execution = await c.begin_for(ticks)
        sent = spied(c)
        await c.agent.drain(grace)
        await c.clock.sleep(SECOND)
        assert not [put for put in sent if b'"running"' in put.value], "nothing is recorded as begun from then on"
        now = await c.placed(execution)
        assert now is not None
        assert now.state in ("placed", "reported")
        if now.state == "placed":
            assert c.world.starts == []

    play(test, LONG)


def test_drain_does_not_wait_for_a_store_that_is_away(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        execution = await c.begin()
        c.store.take_down()
        await c.agent.drain(SECOND)
        await c.crash()
        c.store.bring_up()
        c.boot()
        attempt = await c.ended(execution)
        assert (attempt.outcome, attempt.reason) == (Outcome.LOST, "xchronosd is shutting down")
        assert c.world.starts == ["start-0"]

    play(test, LONG)


@pytest.mark.parametrize("ticks", range(0, 30, 2))
def test_drain_does_not_wait_for_what_cannot_begin(play: Callable[..., None], ticks: int) -> None:
    """The store went away while a placement was on its way: nothing runs that could be waited for."""

    async def test(c: Cluster) -> None:
        execution = await c.begin_for(ticks)
        c.store.take_down()
        began = c.clock.monotonic()
        await c.agent.drain(SECOND)
        assert c.clock.monotonic() - began < 60 * SECOND
        await c.crash()
        c.store.bring_up()
        c.boot()
        await c.ended(execution)
        assert c.world.starts in ([], ["start-0"])

    play(test, LONG)
