"""The stores against the memory store, through random lives."""

import tempfile
from pathlib import Path

import pytest
from consul_helpers import access
from hypothesis.stateful import run_state_machine_as_test
from services.consul import ConsulCluster
from store_twins import Twins, lives

from xchronos.store import Store
from xchronos.store.consul import ConsulStore
from xchronos.store.sqlite import SqliteStore


class SqliteTwins(Twins):
    forgets = True

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(prefix="store-twin-")

    async def open_other(self) -> Store:
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
            self.place = access(consul_server)

        async def open_other(self) -> Store:
            return await ConsulStore.open(self.place, clock=self.clock)

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
