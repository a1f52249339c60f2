"""Files that are wrong, cannot be read, or are still being written."""

import asyncio
import os
import time

import pytest

from tests.intake.intake_helpers import has, record, registry_on, running, says, unit_text, writes
from tests.services.waiting import until
from xchronos.clock import SECOND


async def test_a_file_with_a_name_that_no_unit_can_have_is_a_problem(tmp_path):
    bad = tmp_path / "two words.service"
    bad.write_text(unit_text())
    registry = registry_on()
    async with running(registry, tmp_path) as intake:
        await until(intake.problems)
        (problem,) = intake.problems()
        assert problem.path == str(bad)
        assert "bad characters" in problem.messages[0]
        bad.unlink()
        await until(lambda: not intake.problems())
        assert await has(registry)


async def test_a_name_that_is_not_even_text_can_be_shown(tmp_path):
    (tmp_path / os.fsdecode(b"\xff.service")).touch()
    async with running(registry_on(), tmp_path) as intake:
        await until(intake.problems)
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
        await until(lambda: not intake.problems())


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
        (lambda path: path.write_bytes(b"#" * 65_537), "a unit file has at most 65536"),
        (lambda path: path.write_bytes(bytes(range(256)) * 9), ""),
    ],
)
async def test_what_cannot_be_read_is_reported(tmp_path, make, message):
    path = tmp_path / "a.service"
    make(path)
    (tmp_path / "b.service").write_text(unit_text())
    registry = registry_on()
    async with running(registry, tmp_path) as intake:
        await until(intake.problems)
        (problem,) = intake.problems()
        assert problem.path == str(path)
        assert problem.unit == "a.service"
        assert message in problem.messages[0]
        assert await has(registry, "b.service")


async def test_a_unit_that_is_emptied_for_a_moment_is_not_masked(tmp_path):
    registry = registry_on()
    file = tmp_path / "a.service"
    file.write_text(unit_text(1))
    async with running(registry, tmp_path, settle=SECOND // 5) as intake:
        before = writes(registry)
        file.write_text("")
        await until(lambda: "a.service" in intake._waiting)
        file.write_text(unit_text(2))
        await until(lambda: says(registry, "a.service", unit_text(2)))
        assert writes(registry) == before + 1


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
        assert writes(registry) == 1


async def test_a_fresh_file_that_parses_badly_is_read_once_more_before_it_is_reported(tmp_path):
    registry = registry_on()
    async with running(registry, tmp_path, settle=2 * SECOND) as intake:
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
        await until(intake.problems)
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
