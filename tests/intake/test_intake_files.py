"""Real files, a store in memory: what lies in the directory is what is in force, drop-ins, instances and links included."""

from datetime import UTC, datetime
from pathlib import Path

from tests.intake.intake_helpers import has, record, registry_on, running, says, unit_text
from tests.services.waiting import until
from xchronos.clock import SECOND
from xchronos.intake import source_of
from xchronos.registry.units import compile_record, text_of


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
