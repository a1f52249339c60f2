"""Histories are cut with few requests: they are read once, remembered, and cut together."""

from collections import Counter

import pytest

from tests.engine.engine_cluster import Cluster, run
from xchronos.engine import history_gc
from xchronos.errors import StoreUnavailable
from xchronos.registry.codec import encode
from xchronos.store.contract import Delete, Put, Txn


class Asked:
    """Counts what is asked of a cluster's store about histories."""

    def __init__(self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ranges: Counter[str] = Counter()
        self.cuts: list[int] = []
        self.failing = False
        store, history = cluster.store, cluster.keys.executions
        read, write = store.range, store.commit_many

        async def range_(prefix, **options):
            if prefix.startswith(history) and options.get("keys_only"):  # a reader wants values
                self.ranges[prefix.removeprefix(history).rstrip("/")] += 1
            return await read(prefix, **options)

        async def commit_many(txns):
            deleted = [
                sum(isinstance(operation, Delete) and operation.key.startswith(history) for operation in txn.operations)
                for txn in txns
            ]
            if any(deleted) and self.failing:
                self.failing = False
                raise StoreUnavailable("away for a moment")
            self.cuts += filter(None, deleted)
            return await write(txns)

        monkeypatch.setattr(store, "range", range_)
        monkeypatch.setattr(store, "commit_many", commit_many)


async def often(cluster: Cluster, count: int, chronos: str = "HistoryLimit=4") -> list[str]:
    names = [f"u{number}.service" for number in range(count)]
    for name in names:
        await cluster.submit(name, f"TriggerRepeatInterval=1s\n{chronos}")
    return names


async def lengths(cluster: Cluster, names: list[str]) -> set[int]:
    return {len(await cluster.registry.history(name)) for name in names}


def test_a_history_is_read_once_and_those_of_many_units_are_cut_together(monkeypatch):
    async def scenario(cluster: Cluster) -> None:
        asked = Asked(cluster, monkeypatch)
        await cluster.start()
        names = await often(cluster, 20)
        await cluster.sleep(30.5)
        assert await lengths(cluster, names) <= {4, 5}
        assert asked.ranges == dict.fromkeys(names, 1)
        assert sum(asked.cuts) >= 20 * 24
        assert len(asked.cuts) <= 60
        # The newest ones are those that are left.
        for name in names:
            history = await cluster.registry.history(name)
            assert history[-1].fire_time.timestamp() > cluster.clock.now() / 1e6 - 2

    run(scenario)


def test_what_nobody_told_of_is_found_by_another_look(monkeypatch):
    monkeypatch.setattr(history_gc, "LOOK_AGAIN", 5)

    async def scenario(cluster: Cluster) -> None:
        asked = Asked(cluster, monkeypatch)
        await cluster.start()
        (name,) = await often(cluster, 1)
        await cluster.sleep(12)
        (oldest, *_) = await cluster.registry.history(name)
        key = cluster.keys.execution(oldest.id.replace("/2", "/1"))
        await cluster.store.commit(Txn((), (Put(key, encode(oldest)),)))
        await cluster.sleep(20)
        assert await cluster.store.get(key) is None
        assert 3 <= asked.ranges[name] <= 8

    run(scenario)


def test_there_is_room_for_so_many_keys_only(monkeypatch):
    monkeypatch.setattr(history_gc, "HISTORY_KEYS", 12)

    async def scenario(cluster: Cluster) -> None:
        asked = Asked(cluster, monkeypatch)
        roles = await cluster.start()
        names = await often(cluster, 6)
        await cluster.sleep(20)
        assert await lengths(cluster, names) <= {4, 5}
        gc = roles.engine._session._history_gc
        assert sum(len(each.keys) for each in gc._remembered.values()) == gc._count <= 12 + 6
        assert max(asked.ranges.values()) > 5

    run(scenario)


def test_a_cut_without_an_answer_is_made_after_another_look(monkeypatch):
    async def scenario(cluster: Cluster) -> None:
        asked = Asked(cluster, monkeypatch)
        await cluster.start()
        (name,) = await often(cluster, 1)
        await cluster.sleep(10)
        assert asked.ranges[name] == 1
        asked.failing = True
        await cluster.sleep(10)
        assert not asked.failing
        assert asked.ranges[name] == 2
        assert await lengths(cluster, [name]) <= {4, 5}

    run(scenario)


def test_another_life_and_another_limit(monkeypatch):
    async def scenario(cluster: Cluster) -> None:
        asked = Asked(cluster, monkeypatch)
        await cluster.start()
        (name,) = await often(cluster, 1, "HistoryLimit=8")
        await cluster.sleep(30)
        before = asked.ranges[name]
        await cluster.submit(name, "TriggerRepeatInterval=1s\nHistoryLimit=2")
        await cluster.sleep(15)
        assert await lengths(cluster, [name]) <= {2, 3}
        assert asked.ranges[name] == before
        await cluster.registry.destroy(name)
        await cluster.sleep(2)
        await often(cluster, 1, "HistoryLimit=3")
        await cluster.sleep(2)
        assert await lengths(cluster, [name]) <= {1, 2, 3}
        await cluster.sleep(15)
        assert await lengths(cluster, [name]) <= {3, 4}
        assert asked.ranges[name] > before

    run(scenario)


def test_what_leaves_a_machine_for_another_attempt_has_not_ended():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start()
        retries = "HistoryLimit=6\nMaxAttempts=3\nTimeBetweenAttempts=4s"
        (name,) = await often(cluster, 1, retries)
        await cluster.sleep(25)
        for _ in range(20):
            assert len(await cluster.registry.history(name)) >= 6
            await cluster.sleep(1)

    async def third_time(spec, machine):
        return 0 if spec.attempt == 3 else 1

    run(scenario, third_time)
