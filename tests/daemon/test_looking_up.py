"""A daemon's API asks its own scheduler where an execution is."""

import asyncio
from pathlib import Path

from xchronos.client import Client
from xchronos.clock import SystemClock
from xchronos.config import Settings
from xchronos.daemon.daemon import Daemon
from xchronos.executors.noop import CallableExecutor
from xchronos.registry.keys import Keys
from xchronos.store.memory import MemoryStore

UNIT = b"[Service]\nType=oneshot\nExecStart=/bin/true\n[X-Chronos]\nExecutor=python\n"


class Recording(MemoryStore):
    """Writes down which keys of executions are read."""

    def __init__(self) -> None:
        super().__init__(SystemClock())
        self.read: list[str] = []

    async def get(self, key):
        self.note(key)
        return await super().get(key)

    async def range(self, prefix, **options):
        self.note(prefix)
        return await super().range(prefix, **options)

    def note(self, key):
        if key.startswith((Keys().pending, Keys().placements, Keys().executions)):
            self.read.append(key)


class Embedded(Daemon):
    """A daemon whose steps wait for `over`."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.store = Recording()
        self.begun, self.over = asyncio.Event(), asyncio.Event()

    async def make_store(self):
        return self.store

    def make_executors(self):
        async def step(_):
            self.begun.set()
            await self.over.wait()
            return 0

        return {"python": CallableExecutor("python", step)}


async def until(holds) -> None:
    async with asyncio.timeout(30):
        while not await holds():  # noqa: ASYNC110 - no Event tells it
            await asyncio.sleep(0.01)


async def test_an_execution_that_runs_is_read_where_the_scheduler_has_placed_it(tmp_path: Path):
    path = tmp_path / "api"
    settings = Settings(
        state_directory=tmp_path / "state",
        machine_id="m1",
        api_listen=f"unix://{path}",
        roles=("scheduler", "agent", "api"),
    )
    daemon = Embedded(settings)
    running = asyncio.create_task(daemon.run())
    client = Client(f"unix://{path}")
    await until(lambda: asyncio.to_thread(path.exists))
    await asyncio.to_thread(client.submit, "job.service", UNIT)
    (execution_id,) = (await asyncio.to_thread(client.start, "job.service")).executions
    await daemon.begun.wait()
    key = Keys().placement("m1", execution_id)

    async def runs() -> bool:
        return b'"state":"running"' in (await daemon.store.get(key)).value

    async def ended() -> bool:
        return (await asyncio.to_thread(client.execution, execution_id)).state == "ended"

    await until(runs)
    daemon.store.read.clear()
    assert not await ended()
    assert daemon.store.read == [key, Keys().pending_execution(execution_id), Keys().execution(execution_id)]
    daemon.over.set()
    await until(ended)
    daemon.stopping.set()
    await running
