"""What the API reads to answer about one execution or one unit, however much runs."""

import pytest
from litestar.testing import TestClient

from tests.api.api_helpers import HOURLY, Cluster, FakeSteps, at, running
from xchronos.api.app import create_app
from xchronos.api.ports import Services
from xchronos.model.records import Execution
from xchronos.registry.keys import Keys
from xchronos.registry.registry import Registry
from xchronos.registry.transitions import put
from xchronos.store.contract import Txn
from xchronos.store.memory import MemoryStore

MACHINES = ("m1", "m2", "m3", "gone")


class Counting(MemoryStore):
    """Counts the keys that reads have brought."""

    brought = 0

    async def get(self, key):
        item = await super().get(key)
        self.brought += item is not None
        return item

    async def range(self, prefix, **options):
        page = await super().range(prefix, **options)
        self.brought += len(page.items)
        return page


class Memory:
    """A scheduler that has in memory what runs."""

    async def machine_of(self, execution_id):
        return "m2" if execution_id == RUNS.id else None


RUNS = running("a.service", 0, machine="m2")
WAITS = Execution("b.service", at(0), state="delayed")


async def crowded(store: Counting, size: int, tmp_path) -> Cluster:
    """Three machines, and a fourth that is gone, with `size` executions on each."""
    cluster = Cluster()
    cluster.registry = Registry(store, Keys())
    for name in ("a.service", "b.service"):
        await cluster.submit(name, HOURLY)
    for name in MACHINES[:-1]:
        await cluster.machine(name)
    keys = cluster.registry.keys
    for name in MACHINES:
        puts = [put(keys, running(f"n{number}.service", 0, machine=name)) for number in range(size)]
        puts += [put(keys, Execution(f"w{number}.service", at(0))) for number in range(size) if name == "gone"]
        for first in range(0, len(puts), 100):
            await store.commit(Txn((), tuple(puts[first : first + 100])))
    await cluster.execution(RUNS)
    await cluster.execution(WAITS)
    (tmp_path / "log").write_bytes(b"printed\n")
    cluster.steps = FakeSteps(files={("a.service", 1): [("start-0", tmp_path / "log")]})
    return cluster


@pytest.mark.parametrize("memory", [None, Memory()], ids=["no memory", "a scheduler's memory"])
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", f"/v1/executions/{RUNS.id}", 200),
        ("GET", f"/v1/executions/{WAITS.id}", 200),
        ("GET", f"/v1/executions/{RUNS.id}9", 404),
        ("GET", f"/v1/executions/{RUNS.id}/logs", 200),
        ("POST", f"/v1/executions/{RUNS.id}/stop", 202),
        ("GET", "/v1/executions?unit=a.service", 200),
        ("GET", "/v1/units/a.service", 200),
        ("GET", "/v1/units/a.service/executions", 200),
        ("GET", "/v1/units/a.service/explain", 200),
        ("GET", "/v1/units/b.service/explain", 200),
        ("POST", "/v1/units/a.service/start", 202),
        ("POST", "/v1/units/a.service/stop", 202),
        ("POST", "/v1/units/b.service/stop", 202),
    ],
)
async def test_an_answer_costs_the_same_however_much_runs(method, path, status, memory, tmp_path):
    costs = []
    for size in (25, 500):
        store = Counting()
        cluster = await crowded(store, size, tmp_path)
        registry = Registry(store, cluster.registry.keys, memory)
        services = Services(registry, cluster.clock, "m2", cluster.steps, cluster.daemon)
        with TestClient(create_app(services), base_url="http://127.0.0.1") as api:
            store.brought = 0
            answer = api.request(method, path)
            costs.append(store.brought)
        assert answer.status_code == status, answer.text
    assert costs[0] == costs[1] <= 20
    assert costs[0] > 0 or status == 404
