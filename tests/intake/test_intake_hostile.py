"""What may be in a directory without holding anything else up: odd names, odd files, masses, silence."""

import os
import threading

import pytest

from tests.intake.intake_helpers import has, record, registry_on, running, says, unit_text
from tests.services.waiting import until
from xchronos import limits
from xchronos.clock import SECOND
from xchronos.intake import plan as plans
from xchronos.intake.scan import list_directory, read_units

BYTES = b"\xff\xfe"
ODD = os.fsdecode(BYTES)


async def test_names_that_are_not_text_are_problems_wherever_they_are(tmp_path):
    units, notes = tmp_path / "u", tmp_path / "notes.json"
    units.mkdir()
    (units / "good.service").write_text(unit_text(1))
    registry = registry_on()
    async with running(registry, units, notes=notes) as intake:
        await until(lambda: has(registry, "good.service"))
        (units / f"{ODD}.service").write_text(unit_text(2))
        (units / "good.service.d").mkdir()
        (units / "good.service.d" / f"{ODD}.conf").write_text("[Service]\nEnvironment=A=1\n")
        (units / f"{ODD}.service.d" / ODD).mkdir(parents=True)
        (units / f"{ODD}.timer").touch()
        (units / "linked.service").symlink_to(f"{ODD}.elsewhere")
        paths = {
            f"{units}/{name}" for name in (r"\xff\xfe.service", r"\xff\xfe.service.d", "good.service", "linked.service")
        }
        await until(lambda: {problem.path for problem in intake.problems()} == paths)
        told = {problem.path: problem.messages[0] for problem in intake.problems()}
        assert told[f"{units}/good.service"] == (
            rf"{units}/good.service.d/\xff\xfe.conf: its name is not UTF-8: give it another name"
        )
        assert rf"a link to {units}/\xff\xfe.elsewhere" in told[f"{units}/linked.service"]
        assert await says(registry, "good.service", unit_text(1))
        # Removed again, nested ones too: the notices of that fail as well.
        (units / f"{ODD}.service.d" / ODD).rmdir()
        (units / f"{ODD}.service.d").rmdir()
        (units / "good.service.d" / f"{ODD}.conf").unlink()
        for name in (f"{ODD}.service", f"{ODD}.timer", "linked.service"):
            (units / name).unlink()
        await until(lambda: not intake.problems())
        (units / "good.service").write_text(unit_text(3))
        await until(lambda: says(registry, "good.service", unit_text(3)))
    assert notes.exists()


async def test_a_directory_whose_name_is_not_text_is_a_problem(tmp_path):
    odd, even = tmp_path / ODD, tmp_path / "even"
    for directory in (odd, even):
        directory.mkdir()
        (directory / f"{len(directory.name)}.service").write_text(unit_text())
    registry = registry_on()
    async with running(registry, odd, even) as intake:
        await until(lambda: has(registry, "4.service"))
        (problem,) = intake.problems()
        assert problem.path == rf"{tmp_path}/\xff\xfe"
        assert "its name is not UTF-8" in problem.messages[0]


class PanicException(BaseException):
    """What watchfiles' part in Rust raises of a defect: no Exception."""


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("inotify"),
        ExceptionGroup("unhandled", [ValueError("one"), TypeError("two")]),
        PanicException("three"),
        BaseExceptionGroup("unhandled", [PanicException("four")]),
    ],
)
async def test_the_notice_may_fail_of_anything(tmp_path, monkeypatch, error):
    tried, told = 0, []

    async def fail(*_args, **_options):
        nonlocal tried
        tried += 1
        raise error
        yield

    monkeypatch.setattr("xchronos.intake.watch.awatch", fail)
    monkeypatch.setattr("xchronos.intake.watch.TRY_AGAIN", SECOND // 50)
    monkeypatch.setattr("xchronos.intake.watch.BLIND", SECOND // 50)
    monkeypatch.setattr("xchronos.intake.watch.log.warning", lambda _, reason: told.append(reason), raising=False)
    registry = registry_on()
    async with running(registry, tmp_path, rescan=60 * SECOND):
        (tmp_path / "a.service").write_text(unit_text(1))
        await until(lambda: has(registry, "a.service"))
        await until(lambda: tried > 3)
    assert len(told) == 1
    assert told[0] in ("inotify", "one; two", "three", "four")


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/full", "/dev/tty"])
async def test_a_device_masks_no_unit(tmp_path, device):
    (tmp_path / "a.service").symlink_to(device)
    async with running(registry_on(), tmp_path) as intake:
        await until(intake.problems)
        assert "is no regular file: expected a file" in intake.problems()[0].messages[0]


async def test_a_drop_in_directory_that_is_a_loop_concerns_its_unit_alone(tmp_path):
    (tmp_path / "a.service").write_text(unit_text(1))
    (tmp_path / "b.service").write_text(unit_text(1))
    (tmp_path / "a.service.d").symlink_to("a.service.d")
    registry = registry_on()
    async with running(registry, tmp_path) as intake:
        await until(lambda: has(registry, "b.service"))
        await until(lambda: len(intake.problems()) == 2)
        assert [problem.path for problem in intake.problems()] == [f"{tmp_path}/a.service", f"{tmp_path}/a.service.d"]


async def test_many_removals_are_looked_at_again_and_nothing_waits_for_them(tmp_path, monkeypatch):
    monkeypatch.setattr(plans, "REMOVED_TOGETHER", 5)
    monkeypatch.setattr("xchronos.intake.intake.WORKERS", 1)
    monkeypatch.setattr("xchronos.intake.intake.TAKEN_AWAY_TOGETHER", 3)
    names = [f"u{number}.service" for number in range(40)]
    for name in names:
        (tmp_path / name).write_text(unit_text(name))
    registry = registry_on()
    destroyed, destroy = [], registry.destroy_many

    async def noted(units, **more):
        if not destroyed:
            # While the first ones are worked off, the others come back, and something else comes.
            for back in names[10:]:
                (tmp_path / back).write_text(unit_text(back))
            (tmp_path / "new.service").write_text(unit_text())
        destroyed.extend(units)
        return await destroy(units, **more)

    monkeypatch.setattr(registry, "destroy_many", noted)
    async with running(registry, tmp_path) as intake:
        await until(lambda: has(registry, *names))
        for name in names:
            (tmp_path / name).unlink()
        await until(lambda: has(registry, *names[10:], "new.service"))
        await until(lambda: not intake.problems())
    assert set(destroyed[3:]) <= set(names[:10])


async def test_what_has_become_a_second_name_is_taken_away(tmp_path):
    for name in ("a.service", "b.service"):
        (tmp_path / name).write_text(unit_text(name))
    registry = registry_on()
    async with running(registry, tmp_path):
        await until(lambda: has(registry, "a.service", "b.service"))
        (tmp_path / "b.service").unlink()
        (tmp_path / "b.service").symlink_to("a.service")
        await until(lambda: has(registry, "a.service"))


async def test_a_directory_that_does_not_answer_holds_up_only_itself(tmp_path, monkeypatch):
    far, near, gate = tmp_path / "far", tmp_path / "near", threading.Event()
    for directory in (far, near):
        directory.mkdir()
        (directory / f"{directory.name}.service").write_text(unit_text(1))
    registry = registry_on()

    def look(directory):
        if directory == str(far):
            gate.wait()
        return list_directory(directory)

    async with running(registry, far, near):
        await until(lambda: has(registry, "far.service", "near.service"))
    monkeypatch.setattr(limits, "UNIT_DIRECTORY_SECONDS", 0.2)
    monkeypatch.setattr("xchronos.intake.reader.list_directory", look)
    async with running(registry, far, near) as intake:
        await until(intake.problems)
        (problem,) = intake.problems()
        assert problem.path == str(far)
        assert "no answer within 0.2 s" in problem.messages[0]
        assert "its units stay in force" in problem.messages[0]
        (near / "near.service").write_text(unit_text(2))
        await until(lambda: says(registry, "near.service", unit_text(2)))
        assert await record(registry, "far.service") is not None
        gate.set()
        await until(lambda: not intake.problems())


async def test_a_directory_that_answers_late_is_taken_in_then(tmp_path, monkeypatch):
    far, near, gate = tmp_path / "far", tmp_path / "near", threading.Event()
    for directory in (far, near):
        directory.mkdir()
        (directory / f"{directory.name}.service").write_text(unit_text(1))

    def look(directory):
        if directory == str(far):
            gate.wait()
        return list_directory(directory)

    monkeypatch.setattr(limits, "UNIT_DIRECTORY_PATIENCE", 0.05)
    monkeypatch.setattr("xchronos.intake.reader.list_directory", look)
    registry = registry_on()
    async with running(registry, far, near) as intake:
        await until(lambda: has(registry, "near.service"))
        await until(intake.problems)
        assert "no answer within 0.05 s" in intake.problems()[0].messages[0]
        gate.set()
        await until(lambda: has(registry, "near.service", "far.service"))
        await until(lambda: not intake.problems())


async def test_a_file_that_does_not_answer_holds_up_only_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "UNIT_DIRECTORY_SECONDS", 0.2)
    gate = threading.Event()

    def read(units):
        if any(found.name == "far.service" for found in units):
            gate.wait()
        return read_units(units)

    monkeypatch.setattr("xchronos.intake.reader.read_units", read)
    for name in ("far", "near"):
        (tmp_path / f"{name}.service").write_text(unit_text(1))
    registry = registry_on()
    async with running(registry, tmp_path) as intake:
        await until(lambda: has(registry, "near.service"))
        await until(intake.problems)
        assert "no answer within 0.2 s" in intake.problems()[0].messages[0]
        gate.set()
        await until(lambda: has(registry, "near.service", "far.service"))
