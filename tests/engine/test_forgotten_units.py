"""What destroyed units leave is removed with few commits, and holds up nothing that is due."""

import asyncio

from tests.engine.engine_cluster import Cluster, lasting, run, unit_text
from xchronos.engine.reconcile import units as unit_changes
from xchronos.model.compile.unit import compile_unit
from xchronos.registry.codec import encode
from xchronos.registry.units import record_of
from xchronos.store.contract import Delete, DeleteRange, Put, Txn


def test_very_many_destroyed_units_are_forgotten_with_few_commits(monkeypatch):
    monkeypatch.setattr(unit_changes, "FORGOTTEN_TOGETHER", 100)

    async def scenario(cluster: Cluster) -> None:
        text = unit_text("TriggerStartDelay=1h")
        names = [f"u{number:04}.service" for number in range(1_000)]
        unit = compile_unit(names[0], text)
        for first in range(0, 1_000, 100):
            puts = [Put(cluster.keys.job(name), encode(record_of(text, unit))) for name in names[first : first + 100]]
            await cluster.store.commit(Txn((), puts))
        await cluster.start()
        await cluster.submit("often.service", "TriggerRepeatInterval=100ms")
        await cluster.sleep(10)
        assert len((await cluster.store.range(cluster.keys.schedules)).items) == 1_001
        forgetting: list[int] = []
        write = cluster.store.commit_many

        async def commit_many(txns):
            await asyncio.sleep(0.01)
            forgetting.extend(
                count for txn in txns if (count := sum(isinstance(each, DeleteRange) for each in txn.operations))
            )
            return await write(txns)

        monkeypatch.setattr(cluster.store, "commit_many", commit_many)
        fired = len(cluster.started("often.service"))
        for first in range(0, 1_000, 100):
            gone = [Delete(cluster.keys.job(name)) for name in names[first : first + 100]]
            await cluster.store.commit(Txn((), gone))
        await cluster.sleep(5)
        assert [item.key for item in (await cluster.store.range(cluster.keys.schedules)).items] == [
            cluster.keys.schedule("often.service")
        ]
        assert sum(forgetting) == 2_000
        assert len(forgetting) <= 40
        assert len(cluster.started("often.service")) - fired >= 45

    run(scenario, lasting(0))
