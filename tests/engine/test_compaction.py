"""How much of its past a store is made to forget."""

import pytest

from xchronos.clock import MINUTE, SECOND
from xchronos.engine.leader.compaction import Compaction
from xchronos.errors import Compacted, StoreUnavailable
from xchronos.registry.keys import Keys
from xchronos.store.contract import Guard, Put, Txn
from xchronos.store.memory import MemoryStore
from xchronos.testing.clock import VirtualClock, run_virtual

GUARD = Guard("/leader", 1, "create")


def test_what_is_older_than_the_limit_is_forgotten():
    async def life(clock: VirtualClock) -> None:
        store = MemoryStore(clock)
        duty = Compaction(store, Keys(), clock, 10 * MINUTE).duty
        assert duty.every == 5 * MINUTE
        at: dict[int, int] = {}
        for minute in range(61):
            at[minute] = (await store.commit(Txn((), [Put("/a", b"%d" % minute)]))).revision
            if minute % 5 == 0:
                await duty.work(GUARD)
            oldest = minute - minute % 5 - 10
            for past in range(minute + 1):
                if past >= oldest or minute < 10:
                    assert (await store.range("/", revision=at[past])).items[0].value == b"%d" % past
                else:
                    with pytest.raises(Compacted):
                        await store.range("/", revision=at[past])
            await clock.sleep(MINUTE)
        await store.close()

    run_virtual(life)


def test_a_leader_that_was_away_begins_anew():
    """What it saw before is too old to be exact, and harmless: less is forgotten than could be, never more."""

    async def life(clock: VirtualClock) -> None:
        store = MemoryStore(clock)
        work = Compaction(store, Keys(), clock, 10 * SECOND).duty.work
        first = (await store.commit(Txn((), [Put("/a", b"")]))).revision
        await work(GUARD)
        await clock.sleep(100 * SECOND)
        second = (await store.commit(Txn((), [Put("/a", b"")]))).revision
        await work(GUARD)
        assert (await store.range("/", revision=first)).revision == first
        await clock.sleep(10 * SECOND)
        await work(GUARD)
        with pytest.raises(Compacted):
            await store.range("/", revision=first)
        assert (await store.range("/", revision=second)).revision == second
        await store.close()

    run_virtual(life)


def test_a_store_that_is_away_is_asked_again(monkeypatch):
    async def life(clock: VirtualClock) -> None:
        store = MemoryStore(clock)
        work = Compaction(store, Keys(), clock, 10 * SECOND).duty.work
        revision = (await store.commit(Txn((), [Put("/a", b"")]))).revision
        await work(GUARD)
        await clock.sleep(10 * SECOND)

        async def away(*args, **options):
            raise StoreUnavailable("away")

        with monkeypatch.context() as patch:
            patch.setattr(store, "range", away)
            with pytest.raises(StoreUnavailable):
                await work(GUARD)
        await store.commit(Txn((), [Put("/a", b"")]))
        await work(GUARD)
        await clock.sleep(10 * SECOND)
        await work(GUARD)
        with pytest.raises(Compacted):
            await store.range("/", revision=revision)
        await store.close()

    run_virtual(life)
