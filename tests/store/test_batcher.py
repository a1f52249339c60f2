"""Bundles of Txns: never another meaning than the Txns one by one, and no Txn suffers for another."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xchronos.errors import LeaseLost, StoreError, StoreUnavailable
from xchronos.store.batcher import Batcher
from xchronos.store.contract import Delete, DeleteRange, Guard, Operation, Put, Txn
from xchronos.store.memory import MemoryStore

KEYS = ["a/1", "a/2", "a/b/3", "b/1", "b/2", "c"]
KEY = st.sampled_from(KEYS)


@st.composite
def txns(draw):
    guards = [
        Guard(key, draw(st.integers(0, 3)), draw(st.sampled_from(("mod", "create"))))
        for key in draw(st.lists(KEY, max_size=3, unique=True))
    ]
    operations: list[Operation] = [
        Delete(key) if draw(st.booleans()) else Put(key, draw(st.binary(max_size=2)))
        for key in draw(st.lists(KEY, max_size=3, unique=True))
    ]
    if draw(st.integers(0, 3)) == 0:
        prefixes = draw(st.sampled_from((("a/",), ("a/b/",), ("b/",), ("a/b/", "b/"), ("d/",), ("a",), ("",))))
        kept = [one for one in operations if not isinstance(one, DeleteRange) and not one.key.startswith(prefixes)]
        operations = [*kept[: 3 - len(prefixes)], *map(DeleteRange, prefixes)]
    return Txn(tuple(guards), tuple(operations))


@given(st.lists(txns(), min_size=1, max_size=12), st.integers(3, 8))
def test_a_bundle_means_what_its_txns_mean_one_by_one(script, limit):
    async def scenario() -> None:
        plain, bundled = MemoryStore(), MemoryStore()
        bundled.max_operations = limit
        for store in (plain, bundled):
            await store.commit(Txn((), (Put("a/1", b"x"), Put("b/1", b"y"))))
        batcher = Batcher(bundled)
        assert batcher.max_operations == limit
        running = asyncio.create_task(batcher.run())
        futures = [batcher.submit(txn) for txn in script]
        expected = [(await plain.commit(txn)).succeeded for txn in script]
        batcher.close()
        await running
        got = [(await future).succeeded for future in futures]
        state = [{item.key: item.value for item in (await store.range("")).items} for store in (plain, bundled)]
        # A guard names revisions, and a bundle has fewer of them than its Txns: only what no later guard could see
        # is compared.
        seen_later = any(guard.revision > 1 for txn in script for guard in txn.guards)
        if not seen_later:
            assert got == expected
            assert state[0] == state[1]

    asyncio.run(scenario())


class Answers(MemoryStore):
    """A store that answers commit_many with an error when it likes."""

    def __init__(self, *errors):
        super().__init__()
        self.errors = list(errors)
        self.calls = 0
        self.txns = 0

    async def commit_many(self, txns):
        self.calls += 1
        self.txns += len(txns)
        if self.errors and (error := self.errors.pop(0)) is not None:
            raise error
        return await super().commit_many(txns)


def drive(store, *script):
    async def main():
        batcher = Batcher(store)
        running = asyncio.create_task(batcher.run())
        results = await asyncio.gather(*(batcher.submit(txn) for txn in script), return_exceptions=True)
        batcher.close()
        await running
        return results

    return asyncio.run(main())


def puts(*keys):
    return [Txn((Guard(key, 0),), (Put(key, b""),)) for key in keys]


def test_many_txns_are_one_round_trip():
    store = Answers()
    results = drive(store, *puts(*(f"k{n}" for n in range(100))))
    assert all(result.succeeded for result in results)
    assert store.calls == 1
    assert {result.revision for result in results} == {results[0].revision}


@pytest.mark.parametrize(
    ("later", "succeeds"),
    [
        (Txn((Guard("k", 0),), (Put("other", b""),)), False),
        (Txn((Guard("k", 0, "create"),), (Put("other", b""),)), False),
        (Txn((), (Put("k", b"2"),)), True),
        (Txn((), (Delete("k"),)), True),
    ],
    ids=["reads it", "reads its life", "writes it", "deletes it"],
)
def test_what_depends_on_an_earlier_txn_waits_for_it(later, succeeds):
    store = Answers()
    first, second = drive(store, Txn((), (Put("k", b"1"),)), later)
    assert (first.succeeded, second.succeeded) == (True, succeeds)
    assert store.calls == 2
    assert not succeeds or second.revision > first.revision


def test_ranges_of_different_prefixes_are_deleted_together():
    store = Answers()
    script = [Txn((Guard(f"u/{n}", 0),), (Delete(f"s/{n}"), DeleteRange(f"h/{n}/"))) for n in range(30)]
    assert all(result.succeeded for result in drive(store, *script, *puts("h/30/x", "h/3")))
    assert store.calls == 1


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (DeleteRange("h/1/"), Put("h/1/x/y", b"")), (Put("h/1/x/y", b""), DeleteRange("h/1/")),
        (DeleteRange("h/1/"), DeleteRange("h/1/")), (DeleteRange("h/"), DeleteRange("h/1/")),
        (DeleteRange("h/1/"), DeleteRange("h/")), (DeleteRange("h"), Put("other", b"")),
        (Put("other", b""), DeleteRange("h")), (Put("other", b""), DeleteRange("")),
    ],
)  # fmt: skip
def test_a_range_and_what_is_in_it_are_not_of_one_round(earlier, later):
    store = Answers()
    assert all(result.succeeded for result in drive(store, Txn((), (earlier,)), Txn((), (later,))))
    assert (store.calls, store.txns) == (2, 2)


def test_a_guard_in_a_range_is_asked_after_the_range_is_deleted():
    store = Answers()
    drive(store, *puts("h/1/x"))
    script = [Txn((), (DeleteRange("h/1/"),)), Txn((Guard("h/1/x", 0),), ())]
    assert [result.succeeded for result in drive(store, *script)] == [True, True]
    assert (store.calls, store.txns) == (3, 3)
    lone = Txn((Guard("h/1/x", 0),), (DeleteRange("h/1/"),))
    assert [result.succeeded for result in drive(Answers(), lone, *puts("c"))] == [True, True]


def test_one_refused_txn_does_not_take_the_others_with_it():
    store = Answers()
    results = drive(store, *puts("a", "b"), Txn((Guard("x", 7),), (Put("x", b""),)), *puts("c"))
    assert [result.succeeded for result in results] == [True, True, False, True]


def test_a_refused_txn_among_many_costs_few_more():
    store = Answers()
    script = puts(*(f"k{n}" for n in range(60)))
    script[41] = Txn((Guard("x", 7),), (Put("x", b""),))
    results = drive(store, *script)
    assert [number for number, result in enumerate(results) if not result.succeeded] == [41]
    assert store.calls == 7
    assert store.txns <= 13


def test_no_answer_is_no_answer_for_everybody():
    results = drive(Answers(StoreUnavailable("gone")), *puts("a", "b"))
    assert [type(result) for result in results] == [StoreUnavailable] * 2


def test_a_malformed_txn_fails_alone():
    store = Answers()
    results = drive(store, *puts("a", "b"), Txn((), (Put("", b""),)), *puts("c"))
    assert [isinstance(result, StoreError) for result in results] == [False, False, True, False]
    results = drive(Answers(), Txn((), tuple(Put(f"k{n}", b"") for n in range(200))))
    assert isinstance(results[0], StoreError)


def test_a_lost_lease_leaves_everybody_in_doubt():
    results = drive(Answers(), Txn((), (Put("a", b"", 99),)), *puts("b"))
    assert [type(result) for result in results] == [LeaseLost] * 2


@pytest.mark.parametrize("taken", [True, False])
def test_a_cancelled_batcher_cancels_what_has_no_answer(taken):
    async def main():
        class Slow(MemoryStore):
            async def commit_many(self, txns):
                await asyncio.sleep(3600)

        batcher = Batcher(Slow())
        running = asyncio.create_task(batcher.run())
        future = batcher.submit(puts("a")[0])
        if taken:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        late = batcher.submit(puts("b")[0])
        running.cancel()
        await asyncio.wait({running})
        if taken:
            assert future.cancelled()
        assert late.cancelled() or not taken

    asyncio.run(main())
