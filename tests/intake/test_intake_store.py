"""What else is in the store: units of others, units that were destroyed, refusals, outages."""

import asyncio

from tests.intake.intake_helpers import CLOCK, FailingStore, has, registry_on, running, says, unit_text, writes
from tests.services.waiting import until
from xchronos.clock import MILLISECOND, SECOND
from xchronos.errors import StoreError, StoreUnavailable
from xchronos.intake import Intake, IntakeOptions
from xchronos.registry.units import text_of
from xchronos.store.contract import Put, Txn


async def test_units_of_others_are_never_overwritten_nor_destroyed(tmp_path):
    registry = registry_on()
    await registry.submit("a.service", unit_text("by hand").encode(), by="anna", now=CLOCK.now())
    file = tmp_path / "a.service"
    file.write_text(unit_text("file"))
    async with running(registry, tmp_path, rescan=SECOND // 10) as intake:
        await until(intake.problems)
        (problem,) = intake.problems()
        assert "was submitted by other means (by anna) and stays in force" in problem.messages[0]
        assert await says(registry, "a.service", unit_text("by hand"))
        await registry.destroy("a.service")
        await until(lambda: says(registry, "a.service", unit_text("file")))
        await until(lambda: not intake.problems())
        await registry.submit("a.service", unit_text("taken over").encode(), by="anna", now=CLOCK.now())
        file.unlink()
        await until(lambda: not intake._taken)
        assert await says(registry, "a.service", unit_text("taken over"))


async def test_a_unit_that_was_destroyed_stays_away_until_its_file_changes_even_over_a_restart(tmp_path):
    units = tmp_path / "units"
    units.mkdir()
    notes = tmp_path / "state/intake.json"
    registry = registry_on()
    file = units / "a.service"
    file.write_text(unit_text(1))
    async with running(registry, units, notes=notes, rescan=SECOND // 20) as intake:
        await registry.destroy("a.service")
        await until(lambda: intake._taken["a.service"].destroyed)
    async with running(registry, units, notes=notes):
        assert await has(registry)
        file.write_text(unit_text(2))
        await until(lambda: has(registry, "a.service"))
    notes.write_text("{")
    await registry.destroy("a.service")
    async with running(registry, units, notes=notes):
        assert await has(registry, "a.service")


async def test_nothing_is_lost_while_the_store_is_away(tmp_path):
    store = FailingStore()
    registry = registry_on(store)
    (tmp_path / "a.service").write_text(unit_text(1))
    store.error = StoreUnavailable("gone fishing")
    intake = Intake(registry, CLOCK, [tmp_path], IntakeOptions(settle=20 * MILLISECOND))
    task = asyncio.create_task(intake.run())
    try:
        await asyncio.sleep(0.1)
        assert not intake.ready.is_set()
        store.error = None
        await until(lambda: has(registry, "a.service"))
        store.write_error = StoreUnavailable("read only")
        (tmp_path / "a.service").write_text(unit_text(2))
        for number in range(60):
            (tmp_path / f"b{number}.service").write_text(unit_text(number))
        await asyncio.sleep(0.2)
        store.write_error = None
        await until(lambda: says(registry, "a.service", unit_text(2)))
        store.write_error = StoreUnavailable("read only")
        for number in range(60):
            (tmp_path / f"b{number}.service").unlink()
        await asyncio.sleep(0.3)
        store.write_error = None
        await until(lambda: has(registry, "a.service"))
        await until(lambda: not intake.problems())
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_what_the_store_refuses_is_the_problem_of_that_unit_alone_and_tried_again(tmp_path):
    store = FailingStore()
    registry = registry_on(store)
    (tmp_path / "a.service").write_text(unit_text(1))
    store.write_error = StoreError("the value is too big")
    async with running(registry, tmp_path, rescan=SECOND // 20) as intake:
        await until(intake.problems)
        (problem,) = intake.problems()
        assert problem.messages == ("the store refused it: the value is too big",)
        store.write_error = None
        await until(lambda: has(registry, "a.service"))
        await until(lambda: not intake.problems())


async def test_a_record_that_cannot_be_read_does_not_stop_the_others(tmp_path):
    registry = registry_on()
    await registry.store.commit(Txn((), (Put(registry.keys.job("a.service"), b"{broken"),)))
    for number in range(60):
        (tmp_path / f"b{number}.service").write_text(unit_text(number))
    (tmp_path / "a.service").write_text(unit_text(1))
    names = {"a.service", *(f"b{number}.service" for number in range(60))}
    async with running(registry, tmp_path) as intake:
        # On a busy machine a file may seem to be written still when it is looked at first.
        await until(lambda: has(registry, *names))
        await until(intake.problems)
        (problem,) = intake.problems()
        assert "not a readable UnitRecord" in problem.messages[0]


async def test_a_unit_destroyed_at_the_same_moment_is_no_problem(tmp_path, monkeypatch):
    file = tmp_path / "a.service"
    file.write_text(unit_text())
    registry = registry_on()
    async with running(registry, tmp_path) as intake:
        destroy = registry.destroy_many

        async def twice(names, *, source=None):
            await destroy(names)
            return await destroy(names, source=source)

        monkeypatch.setattr(registry, "destroy_many", twice)
        file.unlink()
        await until(lambda: not intake._taken)
        assert await has(registry)


async def test_the_units_of_many_files_go_with_few_writes(tmp_path):
    directory = tmp_path / "units"
    directory.mkdir()
    for number in range(80):
        (directory / f"b{number}.service").write_text(unit_text(number))
    registry = registry_on()
    async with running(registry, directory) as intake:
        await until(lambda: has(registry, *(f"b{number}.service" for number in range(80))))
        await registry.submit("b0.service", unit_text("theirs").encode(), source="api", now=CLOCK.now())
        before = writes(registry)
        for number in range(79):
            (directory / f"b{number}.service").unlink()
        await until(lambda: len(intake._taken) == 1)
        assert await has(registry, "b0.service", "b79.service")
        assert await registry.unit_names() == ["b0.service", "b79.service"]
        assert writes(registry) - before <= 8


async def test_a_person_who_submits_at_the_same_moment_is_not_overwritten(tmp_path, monkeypatch):
    registry = registry_on()
    submit, theirs = registry.submit, unit_text("theirs").encode()

    async def after_a_person(name, text, **options):
        if options["source"] != "api":
            monkeypatch.setattr(registry, "submit", submit)
            await submit(name, theirs, by="anna", source="api", now=CLOCK.now())
        return await submit(name, text, **options)

    monkeypatch.setattr(registry, "submit", after_a_person)
    (tmp_path / "a.service").write_text(unit_text("ours"))
    async with running(registry, tmp_path) as intake:
        await until(intake.problems, "it is told")
        assert "(by anna) and stays in force" in intake.problems()[0].messages[0]
    assert text_of((await registry.unit("a.service")).record) == theirs
