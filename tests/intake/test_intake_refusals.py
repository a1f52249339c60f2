"""What an intake has refused is in the store for as long as it is refused, and its daemon lives."""

import asyncio
from datetime import UTC, datetime

from xchronos.clock import SECOND
from xchronos.errors import StoreUnavailable
from xchronos.intake.problems import IntakeProblem
from xchronos.intake.publishing import TTL, RefusedFiles, records
from xchronos.limits import PROBLEM_CHARACTERS, PROBLEMS_TOLD, REFUSED_FILES
from xchronos.model.records import RefusedFile
from xchronos.registry.keys import Keys
from xchronos.registry.refused import refusals
from xchronos.store.memory import MemoryStore
from xchronos.testing.clock import run_virtual

NOW = datetime(2030, 1, 1, tzinfo=UTC)
KEYS = Keys()


class Away(MemoryStore):
    """A store that fails as often as it is told to."""

    failures: list[StoreUnavailable]

    async def grant(self, ttl_seconds):
        if self.failures:
            raise self.failures.pop()
        return await super().grant(ttl_seconds)


def problem(unit, *messages):
    return IntakeProblem(f"/u/{unit or 'x'}", messages, NOW, unit)


def test_the_store_follows_the_problems():
    async def main(clock):
        store = MemoryStore(clock)
        known = [problem("a.service", "a.service:1: what"), problem("", "a directory"), problem("b.service", "b")]
        told = RefusedFiles(store, KEYS, clock, "m1", lambda: known)
        task = asyncio.create_task(told.run())
        await clock.sleep(2 * SECOND)
        found = await refusals(store, KEYS)
        assert [(one.unit, one.machine, one.file) for one in found] == [
            ("a.service", "m1", RefusedFile("/u/a.service", ("a.service:1: what",), NOW)),
            ("b.service", "m1", RefusedFile("/u/b.service", ("b",), NOW)),
        ]
        # It stays for as long as it is so, whatever becomes of the lease.
        await clock.sleep(3 * TTL)
        assert len(await refusals(store, KEYS)) == 2
        await store.revoke(told._lease)
        await clock.sleep(TTL)
        assert len(await refusals(store, KEYS)) == 2
        del known[0]
        known[1] = problem("b.service", "something else")
        await clock.sleep(2 * SECOND)
        (left,) = await refusals(store, KEYS, "b.service")
        assert left.file.problems == ("something else",)
        assert await refusals(store, KEYS, "a.service") == []
        # Of a machine that is gone nothing is told.
        task.cancel()
        await asyncio.wait([task])
        await clock.sleep(2 * TTL)
        assert await refusals(store, KEYS) == []

    run_virtual(main)


def test_a_store_that_is_away_is_tried_again():
    async def main(clock):
        store, failures = Away(clock), [StoreUnavailable("away")] * 3
        store.failures = failures
        told = RefusedFiles(store, KEYS, clock, "m1", lambda: [problem("a.service", "x")])
        task = asyncio.create_task(told.run())
        await clock.sleep(2 * SECOND)
        assert await refusals(store, KEYS) == []
        await clock.sleep(5 * SECOND)
        assert len(await refusals(store, KEYS)) == 1
        task.cancel()
        await asyncio.wait([task])

    run_virtual(main)


def test_how_much_is_told():
    many = [problem(f"u{number}.service", *["x" * 9_999] * 99) for number in range(REFUSED_FILES + 5)]
    found = records(many)
    assert len(found) == REFUSED_FILES
    first = next(iter(found.values()))
    assert (len(first.problems), len(first.problems[0])) == (PROBLEMS_TOLD, PROBLEM_CHARACTERS)
