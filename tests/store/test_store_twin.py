"""The stores against the memory store, through random lives."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from tests.services.consul import ConsulCluster
from tests.services.etcd import EtcdCluster
from tests.store import consul_helpers, etcd_helpers
from tests.store.store_twins import Twins, lives
from xchronos.store.consul.store import ConsulStore
from xchronos.store.etcd import store as etcd_store
from xchronos.store.sqlite.store import SqliteStore

# Many lives take long on a slow machine: what hangs is found by the patience of each step, which shows the life.
pytestmark = pytest.mark.timeout(3600)


class SqliteTwins(Twins):
    forgets = True

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(prefix="store-twin-")

    async def open_other(self) -> Any:
        file = Path(self.directory.name) / "store.db"
        return await SqliteStore.open(file, clock=self.clock, synchronous="normal", history_events=10_000)

    def living(self) -> set[int]:
        return self.other._writer._leases

    def teardown(self) -> None:
        super().teardown()
        self.directory.cleanup()


def test_sqlite() -> None:
    run_state_machine_as_test(SqliteTwins, settings=lives(100))


@pytest.mark.consul
def test_consul(consul_server: ConsulCluster) -> None:
    class ConsulTwins(Twins):
        def __init__(self) -> None:
            super().__init__()
            self.place = consul_helpers.access(consul_server)

        async def open_other(self) -> Any:
            store = await ConsulStore.open(self.place, clock=self.clock)
            # Made-up time must not pass while it looks by itself: `leases_seen` does that.
            next(task for task in store._tasks if "leases" in task.get_name()).cancel()
            return store

        def living(self) -> set[int]:
            return self.other._mirror.leases

        async def pass_time(self, seconds: float) -> None:
            for _ in range(round(seconds / 0.2)):
                await self.clock.advance(0.2)
                await self.leases_seen()

        async def leases_seen(self) -> None:
            await self.other._reaper.look()

        async def tidy(self) -> None:
            await self.other._folder.fold(keep=0)

    run_state_machine_as_test(ConsulTwins, settings=lives(100))


@pytest.mark.etcd
def test_etcd(etcd_server: EtcdCluster, monkeypatch) -> None:
    # The stores are compared revision by revision, and Txns under way side by side have no order.
    monkeypatch.setattr(etcd_store, "IN_FLIGHT", 1)

    class EtcdTwins(Twins):
        commit_at_once = None  # as above
        let_time_pass = None  # the server's clock is nobody's to move
        by = None

        async def open_other(self) -> Any:
            if self.by is None:
                etcd_server.ctl("put", "/x", "")  # so that there is something to compact
                etcd_server.ctl("del", "", "--prefix")
                self.by = etcd_server.compact() - 1
            return etcd_helpers.Shifted(await etcd_store.EtcdStore.open(etcd_helpers.access(etcd_server)), self.by)

        @rule(ttl=st.sampled_from([600, 1200]))
        def grant(self, ttl: int) -> None:
            self.leases.append(tuple(self.runner.run(self.both(lambda store, at: store.grant(ttl)))))

    run_state_machine_as_test(EtcdTwins, settings=lives(30))
