"""Several directories, ones that vanish or come later, and what a restart makes of them."""

import asyncio
import time

from tests.intake.intake_helpers import has, old, record, registry_on, running, says, unit_text, writes
from tests.services.waiting import until
from xchronos.clock import SECOND
from xchronos.intake import source_of
from xchronos.intake.scan import read_units


async def test_the_first_directory_counts_and_the_second_takes_over(tmp_path):
    etc, lib = tmp_path / "etc", tmp_path / "lib"
    for place in (etc, lib):
        place.mkdir()
        (place / "a.service").write_text(unit_text(place.name))
    registry = registry_on()
    async with running(registry, etc, lib, etc):
        assert (await record(registry, "a.service")).source == source_of(str(etc))
        (etc / "a.service").unlink()
        await until(lambda: says(registry, "a.service", unit_text("lib")))
        assert (await record(registry, "a.service")).source == source_of(str(lib))
        (lib / "a.service").unlink()
        await until(lambda: has(registry))


async def test_a_directory_that_vanishes_takes_nothing_away(tmp_path):
    units = tmp_path / "units"
    units.mkdir()
    (units / "a.service").write_text(unit_text(1))
    (units / "b.service").write_text(unit_text(1))
    registry = registry_on()
    async with running(registry, units, rescan=SECOND // 20) as intake:
        units.rename(tmp_path / "away")
        await until(intake.problems)
        (problem,) = intake.problems()
        assert problem.path == str(units)
        assert "cannot be read: No such file or directory" in problem.messages[0]
        await asyncio.sleep(0.2)
        assert await has(registry, "a.service", "b.service")
        units.mkdir()
        await until(lambda: "is empty although units came from it" in str(intake.problems()))
        await asyncio.sleep(0.2)
        assert await has(registry, "a.service", "b.service")
        (units / "a.service").write_text(unit_text(2))
        await until(lambda: has(registry, "a.service"))
        assert await says(registry, "a.service", unit_text(2))
        await until(lambda: not intake.problems())


async def test_a_directory_may_come_later(tmp_path):
    units = tmp_path / "units"
    registry = registry_on()
    async with running(registry, units) as intake:
        await until(intake.problems)
        assert "No such file" in intake.problems()[0].messages[0]
        units.mkdir()
        (units / "a.service").write_text(unit_text(1))
        await until(lambda: has(registry, "a.service"))
        await until(lambda: not intake.problems())


async def test_a_restart_reads_and_writes_nothing_that_is_unchanged(tmp_path, monkeypatch):
    units, notes = tmp_path / "units", tmp_path / "notes.json"
    units.mkdir()
    for number in range(60):
        (units / f"u{number}.service").write_text(unit_text(number))
        old(units / f"u{number}.service")
    registry = registry_on()
    async with running(registry, units, notes=notes):
        taken = writes(registry)
        assert 0 < taken <= 60 / 4  # those that are submitted together are one Txn
    async with running(registry, units):
        assert writes(registry) == taken
    read = []

    def reading(found):
        read.extend(found)
        return read_units(found)

    monkeypatch.setattr("xchronos.intake.reader.read_units", reading)
    (units / "u7.service").unlink()
    (units / "u8.service").write_text(unit_text("new"))
    async with running(registry, units, notes=notes):
        assert [found.name for found in read] == ["u8.service"]
        assert writes(registry) == taken + 2
        assert await record(registry, "u7.service") is None


async def test_what_vanished_while_nobody_looked_is_only_taken_away_by_who_brought_it(tmp_path):
    registry = registry_on()
    for name in ("a.service", "b.service"):
        (tmp_path / name).write_text(unit_text(name))
    async with running(registry, tmp_path, machine="m1"):
        pass
    (tmp_path / "a.service").unlink()
    async with running(registry, tmp_path, machine="m2"):
        assert await has(registry, "a.service", "b.service")
    async with running(registry, tmp_path, machine="m1"):
        assert await has(registry, "b.service")


async def test_an_empty_directory_at_the_start_takes_nothing_away(tmp_path):
    registry = registry_on()
    (tmp_path / "a.service").write_text(unit_text())
    async with running(registry, tmp_path):
        pass
    (tmp_path / "a.service").unlink()
    async with running(registry, tmp_path) as intake:
        await until(intake.problems)
        assert "is empty although units came from it" in intake.problems()[0].messages[0]
        assert await has(registry, "a.service")


async def test_a_directory_that_is_not_configured_any_more_takes_nothing_away_but_its_names_can_move(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for place in (first, second):
        place.mkdir()
    (first / "a.service").write_text(unit_text(1))
    (first / "b.service").write_text(unit_text(1))
    registry = registry_on()
    async with running(registry, first):
        pass
    (second / "a.service").write_text(unit_text(2))
    async with running(registry, second) as intake:
        assert intake.problems() == []
        assert await has(registry, "a.service", "b.service")
        assert (await record(registry, "a.service")).source == source_of(str(second))


async def test_a_thousand_new_files_leave_room_for_others_and_a_restart_is_quick(tmp_path):
    for number in range(1000):
        (tmp_path / f"u{number}.service").write_text(unit_text(number))
    registry = registry_on()
    turns = 0

    async def other_work():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    probe = asyncio.create_task(other_work())
    async with running(registry, tmp_path):
        # Files that were written a moment ago are still settling when the intake is ready.
        async with asyncio.timeout(20):
            while len(await registry.unit_names()) < 1000:  # noqa: ASYNC110 - a store has no Event for a count
                await asyncio.sleep(0.01)
    assert turns > 100
    probe.cancel()
    taken = writes(registry)
    assert taken <= 1000 / 4
    started = time.monotonic()
    async with running(registry, tmp_path):
        assert time.monotonic() - started < 2
        assert writes(registry) == taken


async def test_notes_that_cannot_be_kept_are_no_reason_to_stop(tmp_path):
    units = tmp_path / "units"
    units.mkdir()
    (units / "a.service").write_text(unit_text())
    (tmp_path / "file").write_text("no directory")
    registry = registry_on()
    async with running(registry, units, notes=tmp_path / "file/notes.json"):
        assert await has(registry, "a.service")
