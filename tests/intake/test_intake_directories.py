"""Real directories, a store in memory: what lies in the directories is what is in force."""

import asyncio
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from intake_helpers import CLOCK, FailingStore, has, old, record, registry_on, running, says, unit_text, until

from xchronos.clock import MILLISECOND, SECOND
from xchronos.errors import StoreError, StoreUnavailable
from xchronos.intake import Intake, source_of
from xchronos.intake.scan import read_units
from xchronos.registry.units import compile_record, text_of
from xchronos.store.contract import Put, Txn


async def test_what_is_there_at_the_start_is_taken_in(tmp_path):
    (tmp_path / "a.service").write_text(unit_text(1))
    (tmp_path / "b.service").write_text(unit_text(2))
    registry = registry_on()
    async with running(registry, tmp_path, machine="m1"):
        assert await has(registry, "a.service", "b.service")
        found = await record(registry, "a.service")
        assert found.source == source_of(str(tmp_path)) == f"directory:{tmp_path}"
        assert found.submitted_by == "intake@m1"
        assert abs((datetime.now(UTC) - found.submitted_at).total_seconds()) < 20
        assert found.text == unit_text(1)


async def test_added_changed_renamed_and_removed_files(tmp_path):
    registry = registry_on()
    async with running(registry, tmp_path):
        file = tmp_path / "a.service"
        file.write_text(unit_text(1))
        await until(lambda: says(registry, "a.service", unit_text(1)))
        file.write_text(unit_text(2))
        await until(lambda: says(registry, "a.service", unit_text(2)))
        file.rename(tmp_path / "b.service")
        await until(lambda: has(registry, "b.service"))
        (tmp_path / "b.service").unlink()
        await until(lambda: has(registry))


async def test_a_file_replaced_by_rename_is_one_change_and_never_a_removal(tmp_path):
    registry = registry_on()
    (tmp_path / "a.service").write_text(unit_text(1))
    async with running(registry, tmp_path):
        before = (await registry.unit("a.service")).revision
        backup = tmp_path / "a.service~"
        (tmp_path / "a.service").rename(backup)
        (tmp_path / "a.service").write_text(unit_text(2))
        await until(lambda: says(registry, "a.service", unit_text(2)))
        item = await registry.store.get(registry.keys.job("a.service"))
        assert item.create_revision == before


async def test_what_is_no_unit_is_passed_over(tmp_path):
    for name in (
        ".a.service", ".#b.service", "c.service~", "d.service.swp", ".e.service.swp", "f.service.tmp", "#g.service#",
        "h.service.dpkg-new", "i.service.dpkg-dist", "readme.md", "x.conf", "j.timer",
    ):  # fmt: skip
        (tmp_path / name).write_text("no unit")
    (tmp_path / "multi-user.target.wants").mkdir()
    (tmp_path / "real.service").write_text(unit_text())
    registry = registry_on()
    async with running(registry, tmp_path) as intake:
        assert await has(registry, "real.service")
        assert intake.problems() == []


async def test_a_file_with_a_name_that_no_unit_can_have_is_a_problem(tmp_path):
    bad = tmp_path / "two words.service"
    bad.write_text(unit_text())
    registry = registry_on()
    async with running(registry, tmp_path) as intake:
        (problem,) = intake.problems()
        assert problem.path == str(bad)
        assert "bad characters" in problem.messages[0]
        bad.unlink()
        await until(lambda: not intake.problems())
        assert await has(registry)


async def test_a_name_that_is_not_even_text_can_be_shown(tmp_path):
    (tmp_path / os.fsdecode(b"\xff.service")).touch()
    async with running(registry_on(), tmp_path) as intake:
        (problem,) = intake.problems()
        assert problem.path == f"{tmp_path}/\\xff.service"


async def test_a_bad_file_leaves_the_last_good_version_in_force(tmp_path):
    registry = registry_on()
    file = tmp_path / "a.service"
    file.write_text(unit_text(1))
    async with running(registry, tmp_path) as intake:
        good = await record(registry, "a.service")
        file.write_text("[Service]\nExecStart=relative/path\n[X-Chronos]\nTriggerCorn=1\n")
        await until(intake.problems)
        (problem,) = intake.problems()
        assert (problem.path, problem.unit, problem.revision) == (str(file), "a.service", good.revision)
        assert len(problem.messages) >= 2
        assert any(f"{file}:4: [X-Chronos] TriggerCorn: unknown key" in message for message in problem.messages)
        assert (await record(registry, "a.service")) == good
        file.write_text(unit_text(3))
        await until(lambda: says(registry, "a.service", unit_text(3)))
        assert intake.problems() == []


async def test_a_bad_file_that_is_removed_is_no_problem_and_takes_its_unit_away(tmp_path):
    registry = registry_on()
    file = tmp_path / "a.service"
    file.write_text(unit_text(1))
    (tmp_path / "b.service").write_text("[Service\n")
    async with running(registry, tmp_path) as intake:
        file.write_bytes(b"[Service]\nExecStart=/bin/\xff\n")
        await until(lambda: len(intake.problems()) == 2)
        file.unlink()
        (tmp_path / "b.service").unlink()
        await until(lambda: has(registry))
        await until(lambda: not intake.problems())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.mkdir(), "is a directory: expected a file"),
        (os.mkfifo, "is no regular file: expected a file"),
        (lambda path: path.symlink_to("nowhere.txt"), "nowhere.txt, which does not exist"),
        (lambda path: path.symlink_to(path.name), "cannot be read: Too many levels of symbolic links"),
        (lambda path: path.write_bytes(b"#" * (4 * 1024 * 1024 + 1)), "a unit file has at most 4194304"),
        (lambda path: path.write_bytes(bytes(range(256)) * 9), ""),
    ],
)
async def test_what_cannot_be_read_is_reported(tmp_path, make, message):
    path = tmp_path / "a.service"
    make(path)
    (tmp_path / "b.service").write_text(unit_text())
    registry = registry_on()
    async with running(registry, tmp_path) as intake:
        (problem,) = intake.problems()
        assert problem.path == str(path)
        assert problem.unit == "a.service"
        assert message in problem.messages[0]
        assert await has(registry, "b.service")


async def test_an_empty_file_or_a_link_to_dev_null_masks_the_unit(tmp_path):
    registry = registry_on()
    a, b = tmp_path / "a.service", tmp_path / "b.service"
    a.write_text(unit_text())
    b.symlink_to("/dev/null")
    (tmp_path / "b.service.d").mkdir()
    (tmp_path / "b.service.d/x.conf").write_text("[X-Chronos]\nMaxAttempts=3\n")
    async with running(registry, tmp_path):
        masked = await record(registry, "b.service")
        assert compile_record("b.service", masked).masked
        assert masked.drop_ins == ()
        a.write_text("")
        await until(lambda: says(registry, "a.service", ""))
        assert compile_record("a.service", await record(registry, "a.service")).masked


async def test_a_unit_that_is_emptied_for_a_moment_is_not_masked(tmp_path):
    registry = registry_on()
    file = tmp_path / "a.service"
    file.write_text(unit_text(1))
    async with running(registry, tmp_path, settle=SECOND // 5) as intake:
        writes = registry.store.writes
        file.write_text("")
        await until(lambda: "a.service" in intake._waiting)
        file.write_text(unit_text(2))
        await until(lambda: says(registry, "a.service", unit_text(2)))
        assert registry.store.writes == writes + 1


async def test_a_file_is_not_read_while_it_is_being_written(tmp_path):
    registry = registry_on()
    async with running(registry, tmp_path, settle=SECOND) as intake:
        with (tmp_path / "a.service").open("w") as file:
            for line in unit_text("slowly").splitlines(keepends=True):
                file.write(line)
                file.flush()
                await asyncio.sleep(0.06)
            assert await has(registry)
            assert intake.problems() == []
        await until(lambda: says(registry, "a.service", unit_text("slowly")))
        assert registry.store.writes == 1


async def test_a_fresh_file_that_parses_badly_is_read_once_more_before_it_is_reported(tmp_path):
    registry = registry_on()
    async with running(registry, tmp_path) as intake:
        (tmp_path / "a.service").write_text("[Service")
        await until(lambda: intake._suspects)
        assert intake.problems() == []
        await until(intake.problems)
        assert not intake._suspects


async def test_a_file_that_an_editor_dated_into_the_future_is_read_all_the_same(tmp_path):
    file = tmp_path / "a.service"
    file.write_text(unit_text())
    os.utime(file, (time.time() + 86_400,) * 2)
    registry = registry_on()
    async with running(registry, tmp_path):
        assert await has(registry, "a.service")


async def test_drop_ins_are_part_of_the_unit(tmp_path):
    registry = registry_on()
    (tmp_path / "a-b.service").write_text(unit_text())
    async with running(registry, tmp_path) as intake:
        assert (await record(registry, "a-b.service")).drop_ins == ()
        for directory, file, attempts in (
            ("service.d", "10-all.conf", 2), ("a-.service.d", "20-dash.conf", 3), ("a-b.service.d", "30-own.conf", 4)
        ):  # fmt: skip
            (tmp_path / directory).mkdir()
            (tmp_path / directory / file).write_text(f"[X-Chronos]\nMaxAttempts={attempts}\n")
            (tmp_path / directory / "ignored.txt").write_text("x")

        async def names():
            return [Path(part.name).name for part in (await record(registry, "a-b.service")).drop_ins]

        async def all_there():
            return await names() == ["10-all.conf", "20-dash.conf", "30-own.conf"]

        await until(all_there)
        found = await record(registry, "a-b.service")
        assert compile_record("a-b.service", found).retry.max_attempts == 4
        assert found.drop_ins[0].name == str(tmp_path / "service.d/10-all.conf")
        (tmp_path / "a-b.service.d/30-own.conf").write_text("[X-Chronos]\nMaxAttempts=many\n")
        await until(intake.problems)
        assert "30-own.conf:2: [X-Chronos] MaxAttempts" in intake.problems()[0].messages[0]
        (tmp_path / "a-b.service.d/30-own.conf").write_bytes(b"# \xff\n")
        await until(lambda: "not valid UTF-8 at byte 2" in str(intake.problems()))
        (tmp_path / "a-b.service.d/30-own.conf").unlink()

        async def one_less():
            return await names() == ["10-all.conf", "20-dash.conf"]

        await until(one_less)
        assert intake.problems() == []


async def test_instances_by_link_and_by_file_and_second_names(tmp_path):
    (tmp_path / "r@.service").write_text(unit_text("%i"))
    (tmp_path / "r@eu.service").symlink_to("r@.service")
    (tmp_path / "r@us.service").write_text(unit_text("own"))
    (tmp_path / "plain.service").write_text(unit_text("plain"))
    (tmp_path / "alias.service").symlink_to("plain.service")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "linked.service").write_text(unit_text("linked"))
    (tmp_path / "linked.service").symlink_to(elsewhere / "linked.service")
    registry = registry_on()
    async with running(registry, tmp_path) as intake:
        assert await has(registry, "r@.service", "r@eu.service", "r@us.service", "plain.service", "linked.service")
        assert compile_record("r@.service", await record(registry, "r@.service")).template
        eu = compile_record("r@eu.service", await record(registry, "r@eu.service"))
        assert (eu.name, eu.template) == ("r@eu.service", False)
        assert intake.problems() == []
        (tmp_path / "r@.service").write_text(unit_text("new-%i"))
        await until(lambda: says(registry, "r@eu.service", unit_text("new-%i")))
        (tmp_path / "r@eu.service").unlink()
        await until(lambda: has(registry, "r@.service", "r@us.service", "plain.service", "linked.service"))


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
        assert intake.problems() == []


async def test_a_directory_may_come_later(tmp_path):
    units = tmp_path / "units"
    registry = registry_on()
    async with running(registry, units) as intake:
        assert "No such file" in intake.problems()[0].messages[0]
        units.mkdir()
        (units / "a.service").write_text(unit_text(1))
        await until(lambda: has(registry, "a.service"))
        assert intake.problems() == []


async def test_units_of_others_are_never_overwritten_nor_destroyed(tmp_path):
    registry = registry_on()
    await registry.submit("a.service", unit_text("by hand").encode(), by="anna", now=CLOCK.now())
    file = tmp_path / "a.service"
    file.write_text(unit_text("file"))
    async with running(registry, tmp_path, rescan=SECOND // 10) as intake:
        (problem,) = intake.problems()
        assert "was submitted by other means (by anna) and stays in force" in problem.messages[0]
        assert await says(registry, "a.service", unit_text("by hand"))
        await registry.destroy("a.service")
        await until(lambda: says(registry, "a.service", unit_text("file")))
        assert intake.problems() == []
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


async def test_a_restart_reads_and_writes_nothing_that_is_unchanged(tmp_path, monkeypatch):
    units, notes = tmp_path / "units", tmp_path / "notes.json"
    units.mkdir()
    for number in range(60):
        (units / f"u{number}.service").write_text(unit_text(number))
        old(units / f"u{number}.service")
    registry = registry_on()
    async with running(registry, units, notes=notes):
        assert registry.store.writes == 60
    async with running(registry, units):
        assert registry.store.writes == 60
    read = []

    def reading(found):
        read.extend(found)
        return read_units(found)

    monkeypatch.setattr("xchronos.intake.intake.read_units", reading)
    (units / "u7.service").unlink()
    (units / "u8.service").write_text(unit_text("new"))
    async with running(registry, units, notes=notes):
        assert [found.name for found in read] == ["u8.service"]
        assert registry.store.writes == 62
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


async def test_nothing_is_lost_while_the_store_is_away(tmp_path):
    store = FailingStore()
    registry = registry_on(store)
    (tmp_path / "a.service").write_text(unit_text(1))
    store.error = StoreUnavailable("gone fishing")
    intake = Intake(registry, CLOCK, [tmp_path], settle=20 * MILLISECOND)
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
        assert intake.problems() == []
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_what_the_store_refuses_is_the_problem_of_that_unit_alone_and_tried_again(tmp_path):
    store = FailingStore()
    registry = registry_on(store)
    (tmp_path / "a.service").write_text(unit_text(1))
    store.write_error = StoreError("the value is too big")
    async with running(registry, tmp_path, rescan=SECOND // 20) as intake:
        (problem,) = intake.problems()
        assert problem.messages == ("the store refused it: the value is too big",)
        store.write_error = None
        await until(lambda: has(registry, "a.service"))
        assert intake.problems() == []


async def test_a_record_that_cannot_be_read_does_not_stop_the_others(tmp_path):
    registry = registry_on()
    await registry.store.commit(Txn((), (Put(registry.keys.job("a.service"), b"{broken"),)))
    for number in range(60):
        (tmp_path / f"b{number}.service").write_text(unit_text(number))
    (tmp_path / "a.service").write_text(unit_text(1))
    async with running(registry, tmp_path) as intake:
        (problem,) = intake.problems()
        assert "not a readable UnitRecord" in problem.messages[0]
        assert len(await registry.unit_names()) == 61


async def test_bytes_that_are_not_text_come_back_as_they_were(tmp_path):
    data = b"# caf\xe9\n" + unit_text().encode()
    (tmp_path / "a.service").write_bytes(data)
    registry = registry_on()
    async with running(registry, tmp_path):
        assert text_of(await record(registry, "a.service")) == data


async def test_without_notice_from_the_system_changes_are_still_found(tmp_path, monkeypatch):
    def refuse(*_args, **_options):
        raise OSError("inotify limit reached")

    monkeypatch.setattr("xchronos.intake.watch.awatch", refuse)
    monkeypatch.setattr("xchronos.intake.watch.BLIND", SECOND // 20)
    registry = registry_on()
    async with running(registry, tmp_path, rescan=60 * SECOND):
        (tmp_path / "a.service").write_text(unit_text(1))
        await until(lambda: has(registry, "a.service"))


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
    started = time.monotonic()
    async with running(registry, tmp_path):
        assert time.monotonic() - started < 2
        assert registry.store.writes == 1000


async def test_notes_that_cannot_be_kept_are_no_reason_to_stop(tmp_path):
    units = tmp_path / "units"
    units.mkdir()
    (units / "a.service").write_text(unit_text())
    (tmp_path / "file").write_text("no directory")
    registry = registry_on()
    async with running(registry, units, notes=tmp_path / "file/notes.json"):
        assert await has(registry, "a.service")


async def test_a_unit_destroyed_at_the_same_moment_is_no_problem(tmp_path, monkeypatch):
    file = tmp_path / "a.service"
    file.write_text(unit_text())
    registry = registry_on()
    async with running(registry, tmp_path) as intake:
        destroy = registry.destroy

        async def twice(name, *, source=None):
            await destroy(name)
            await destroy(name, source=source)

        monkeypatch.setattr(registry, "destroy", twice)
        file.unlink()
        await until(lambda: not intake._taken)
        assert await has(registry)


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


async def test_a_fault_of_ours_is_the_problem_of_that_file_alone(tmp_path, monkeypatch):
    registry = registry_on()
    submit = registry.submit

    async def failing(name, text, **options):
        if name == "a.service":
            raise RecursionError("too deep")
        return await submit(name, text, **options)

    monkeypatch.setattr(registry, "submit", failing)
    for name in ("a.service", "b.service"):
        (tmp_path / name).write_text(unit_text())
    async with running(registry, tmp_path) as intake:
        assert await has(registry, "b.service")
        (problem,) = intake.problems()
        assert "a fault of xchronos: RecursionError('too deep')" in problem.messages[0]


async def test_a_file_that_never_settles_does_not_keep_the_intake_from_being_ready(tmp_path):
    restless, quiet = tmp_path / "a.service", tmp_path / "b.service"
    quiet.write_text(unit_text())

    async def write():
        while True:
            restless.write_text(unit_text(time.monotonic()))
            await asyncio.sleep(0.005)

    writer = asyncio.create_task(write())
    registry = registry_on()
    async with running(registry, tmp_path, settle=SECOND // 5):
        assert await has(registry, "b.service")
        writer.cancel()
        await until(lambda: has(registry, "a.service", "b.service"))
