"""What the tests of the intake share: a registry in memory, and waiting for a condition."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from xchronos.clock import MILLISECOND, SECOND, SystemClock
from xchronos.intake import Intake, IntakeOptions
from xchronos.model.records import UnitRecord
from xchronos.registry.keys import Keys
from xchronos.registry.registry import Registry
from xchronos.store.contract import Committed, KeyValue, Store, Txn
from xchronos.store.memory import MemoryStore

CLOCK = SystemClock()


def unit_text(argument: object = "") -> str:
    return f"[Service]\nExecStart=/bin/echo {argument}\n[X-Chronos]\nExecutor=process\nTriggerCron=0 10 * * *\n"


class FailingStore(MemoryStore):
    """A memory store that raises `error` while it is set, or on writes only."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None
        self.write_error: Exception | None = None
        self.writes = 0

    async def get(self, key: str) -> KeyValue | None:
        if self.error is not None:
            raise self.error
        return await super().get(key)

    async def range(self, prefix: str, **options):
        if self.error is not None:
            raise self.error
        return await super().range(prefix, **options)

    async def commit(self, txn: Txn) -> Committed:
        self._fail()
        self.writes += 1
        return await super().commit(txn)

    async def commit_many(self, txns: Sequence[Txn]) -> list[Committed]:
        self._fail()
        self.writes += len(txns)
        return await super().commit_many(txns)

    def _fail(self) -> None:
        for error in (self.error, self.write_error):
            if error is not None:
                raise error


def registry_on(store: Store | None = None) -> Registry:
    return Registry(store or FailingStore(), Keys())


def writes(registry: Registry) -> int:
    """How many transactions the store of `registry_on` has carried out."""
    assert isinstance(registry.store, FailingStore)
    return registry.store.writes


@asynccontextmanager
async def running(registry: Registry, *directories: Path, **options) -> AsyncIterator[Intake]:
    """An intake that has dealt with what was there at its start."""
    options = {"settle": 20 * MILLISECOND, "rescan": SECOND // 2, **options}
    intake = Intake(registry, CLOCK, directories, IntakeOptions(**options))
    task = asyncio.create_task(intake.run())
    try:
        ready = asyncio.create_task(intake.ready.wait())
        await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED, timeout=20)
        assert ready.done() or task.done()
        ready.cancel()
        yield intake
    finally:
        if task.done():
            task.result()
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled() or task.result() is None


async def record(registry: Registry, name: str) -> UnitRecord | None:
    names = await registry.unit_names()
    return (await registry.unit(name)).record if name in names else None


async def has(registry: Registry, *names: str) -> bool:
    return set(names) == set(await registry.unit_names())


async def says(registry: Registry, name: str, text: str) -> bool:
    found = await record(registry, name)
    return found is not None and found.text == text


def old(path: Path) -> Path:
    """Make a file look as if it was written an hour ago."""
    os.utime(path, (path.stat().st_mtime - 3600,) * 2)
    return path
