"""A real daemon in this process that takes in a unit whose one fire time fails first and succeeds then."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from xchronos.config import Settings
from xchronos.daemon.daemon import Daemon
from xchronos.executors.contract import Executor
from xchronos.executors.process.executor import ProcessExecutor
from xchronos.registry.keys import Keys
from xchronos.store.contract import Store

LIMIT = 60.0
"""For how many seconds something is waited for that is to come."""

UNIT = "report.service"
TEXT = """\
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'test ${{XCHRONOS_ATTEMPT}} -ge 2'

[X-Chronos]
TriggerAt={at}
MaxAttempts=2
TimeBetweenAttempts=10ms
"""


class PlayedDaemon(Daemon):
    """A daemon whose steps are processes, and whose store can be looked at."""

    store: Store

    async def make_store(self) -> Store:
        self.store = await super().make_store()
        return self.store

    def make_executors(self) -> dict[str, Executor]:
        return {"process": ProcessExecutor(self.settings.state_directory / "processes")}

    def drop_in(self) -> None:
        """Save the unit's file into the directory of units. It fires a second later."""
        at = datetime.now(UTC) + timedelta(seconds=1)
        (self.settings.units[0] / UNIT).write_text(TEXT.format(at=at.isoformat()), encoding="utf-8")

    async def has_ended(self) -> bool:
        """Whether the unit's execution is in the history."""
        return bool((await self.store.range(Keys().history(UNIT))).items)


@asynccontextmanager
async def played(directory: Path, store: str = "sqlite:") -> AsyncIterator[PlayedDaemon]:
    """A daemon that takes in the files of an empty directory."""
    units = directory / "units"
    units.mkdir()
    settings = Settings(
        state_directory=directory / "state",
        units=(units,),
        store=store,
        machine_id="m1",
        allow_process=True,
        api_listen=f"unix://{directory}/api.sock",
    )
    daemon = PlayedDaemon(settings)
    running = asyncio.create_task(daemon.run())
    try:
        await until(lambda: running.done() or (directory / "api.sock").exists())
        if running.done():
            await running
        yield daemon
    finally:
        daemon.stopping.set()
        await running


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so; fail when it does not become so."""
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


async def until_ended(daemon: PlayedDaemon) -> None:
    """Wait until the unit's execution is in the history."""
    end = time.monotonic() + LIMIT
    while not await daemon.has_ended():
        assert time.monotonic() < end
        await asyncio.sleep(0.05)
