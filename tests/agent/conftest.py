"""Fixtures of the agent's tests."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.agent.guardian_bench import Bench, clean
from tests.agent.worlds import Cluster
from xchronos.agent.lease.partition import Watchman
from xchronos.testing.clock import VirtualClock, run_virtual

Test = Callable[[Cluster], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., None]:
    """Run a test in a cluster of its own, in made-up time."""

    def play(test: Test, plans: object = None, *, recoverable: bool = True, watchman: Watchman | None = None) -> None:
        async def main(clock: VirtualClock) -> None:
            cluster = Cluster(clock, tmp_path, plans, recoverable=recoverable, watchman=watchman)  # type: ignore[arg-type]
            await test(cluster)
            await cluster.crash()
            await cluster.memory.close()

        run_virtual(main)

    return play


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    await clean(bench)
