"""What an attempt remembers on its machine: the lines of its journal, and the text that it began with."""

import asyncio
import shutil
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from xchronos.agent.attempt import journal
from xchronos.agent.attempt.journal import AttemptFiles, AttemptJournal
from xchronos.clock import SECOND
from xchronos.durable import Strength, append
from xchronos.executors.hostfacts import boot_id
from xchronos.model.records import StepResult, UnitRecord
from xchronos.testing.clock import VirtualClock

BEGAN = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def make(tmp_path: Path, clock: VirtualClock, name: str = "20260101T000000.000000Z-0-1") -> AttemptJournal:
    return AttemptJournal(tmp_path / "u.service" / name, clock)


def again(before: AttemptJournal, clock: VirtualClock) -> AttemptJournal:
    """The journal as the next daemon finds it."""
    after = AttemptJournal(before.directory, clock)
    after.open()
    return after


def record(notes: AttemptJournal, name: str, outcome: str = "succeeded", strength: Strength = "none") -> bool:
    return asyncio.run(notes.record(StepResult(name, "", outcome), strength))  # type: ignore[arg-type]


@pytest.mark.parametrize("strength", ["none", "file", "directory"])
def test_the_next_daemon_finds_what_was_begun_and_how_it_ended(tmp_path, clock, strength):
    before = make(tmp_path, clock)
    before.create(UnitRecord(text="x"))
    assert before.elapsed("start-0") == 0
    clock.advance(3 * SECOND)
    assert record(before, "start-0", "failed", strength)
    assert before.elapsed("start-1") == 0
    after = again(before, clock)
    assert (after.begun("start-0"), after.begun("start-1"), after.begun("start-2")) == (True, True, False)
    assert after.elapsed("start-0") == 3 * SECOND
    assert after.began() == before.began()
    found = after.result("start-0")
    assert found is not None
    assert found.outcome == "failed"
    assert after.result("start-1") is None
    record(after, "start-0")
    changed = again(after, clock).result("start-0")
    assert changed is not None
    assert changed.outcome == "succeeded", "the last line counts"


def test_the_one_object_of_an_earlier_version_is_read_and_gone_on_with(tmp_path, clock):
    before = make(tmp_path, clock)
    before.create(UnitRecord(text="x"))
    notes = {
        "begun": {"start-pre-0": BEGAN.isoformat(), "start-0": BEGAN.isoformat()},
        "ended": {"start-pre-0": {"name": "start-pre-0", "command": "", "outcome": "succeeded"}},
        "clocked": {"start-0": 5}, "boot": boot_id(), "v": 1,
    }  # fmt: skip
    (before.directory / "journal.json").write_bytes(msgspec.json.encode(notes))
    after = again(before, clock)
    record(after, "start-0")
    last = again(after, clock)
    assert last.result("start-pre-0") is not None
    assert last.result("start-0") is not None
    assert last.began() == 5


def test_the_clock_of_another_boot_is_no_clock(tmp_path, clock, monkeypatch):
    before = make(tmp_path, clock)
    before.create(UnitRecord(text="x"))
    before.elapsed("start-pre-0")
    monkeypatch.setattr(journal, "boot_id", lambda: "another-boot")
    assert again(before, clock).began() is None
    before.elapsed("start-0")
    after = again(before, clock)
    assert after.began() == clock.monotonic()
    assert after._notes.clocked.keys() == {"start-0"}


def test_a_line_that_a_power_cut_has_torn_says_nothing(tmp_path, clock):
    before = make(tmp_path, clock)
    before.create(UnitRecord(text="x"))
    record(before, "start-pre-0")
    file = before.directory / "journal.json"
    whole = len(file.read_bytes())
    record(before, "start-0")
    for length in range(whole, len(file.read_bytes())):
        cut = file.read_bytes()[:length]
        file.write_bytes(cut)
        after = again(before, clock)
        assert after.result("start-pre-0") is not None
        assert after.result("start-0") is None
        record(after, "start-1")
        assert again(before, clock).result("start-1") is not None, "what follows is a line of its own"
        file.write_bytes(cut)
        record(before, "start-0")


def test_what_had_no_room_is_written_when_there_is_room(tmp_path, clock, monkeypatch):
    before = make(tmp_path, clock)
    before.create(UnitRecord(text="x"))
    with monkeypatch.context() as patch:
        patch.setattr(journal, "append", lambda path, data, strength: append(Path("/dev/full"), data, strength))
        before.elapsed("start-0")
        assert not record(before, "start-0", strength="none")
    assert record(before, "start-1")
    after = again(before, clock)
    assert after.begun("start-0")
    assert after.result("start-0") is not None


def test_attempts_of_one_text_share_a_file_of_it_and_each_keeps_its_own(tmp_path, clock):
    files, text, other = AttemptFiles(), UnitRecord(text="x"), UnitRecord(text="y")
    journals = [make(tmp_path, clock, str(number)) for number in range(5)]
    for made, record_ in zip(journals, (text, text, other, other, text), strict=True):
        made.create(record_, files)
    paths = [made.directory / "unit.json" for made in journals]
    assert [path.stat().st_nlink for path in paths] == [2, 2, 2, 2, 1]
    assert [again(made, clock).open() for made in journals] == [text, text, other, other, text]
    files.forget(tmp_path, "u.service", 0)  # of none: all of them run
    for made in journals:
        made.close()
    files.forget(tmp_path, "u.service", 0)
    assert not (tmp_path / "u.service").exists()
    last = make(tmp_path, clock, "9")
    last.create(text, files)
    assert again(last, clock).open() == text, "the file that was known is gone"


def test_an_attempt_that_is_just_made_is_not_taken_for_one_that_has_ended(tmp_path, clock, monkeypatch):
    files, made, scratch = AttemptFiles(), make(tmp_path, clock), threading.Event()
    forgetting = threading.Thread(target=files.forget, args=(tmp_path, "u.service", 0))
    mkdir, rmtree = Path.mkdir, shutil.rmtree

    def slowly(path: Path, *args: Any, **more: Any) -> None:
        if path.name == "scratch" and not path.parent.exists():
            mkdir(path.parent, parents=True)
            forgetting.start()
            forgetting.join(0.1)
            mkdir(path)
            scratch.set()
        else:
            mkdir(path, *args, **more)

    def late(path: str, **more: Any) -> None:
        scratch.wait(10)
        rmtree(path, **more)

    monkeypatch.setattr(Path, "mkdir", slowly)
    monkeypatch.setattr(shutil, "rmtree", late)
    made.create(UnitRecord(text="x"), files)
    forgetting.join()
    assert made.exists
    assert made.scratch.is_dir()


def test_when_it_is_over_its_output_stays_and_all_else_goes(tmp_path, clock):
    files = AttemptFiles()
    journals = [make(tmp_path, clock, str(number)) for number in range(4)]
    for number, made in enumerate(journals):
        made.create(UnitRecord(text="x"))
        made.elapsed("start-0")
        (made.directory / "start-0.log").write_text("said")
        if number:
            (made.scratch / "left").mkdir()
            made.close()
    assert sorted(path.name for path in journals[3].directory.iterdir()) == ["start-0.log", "unit.json"]
    files.forget(tmp_path, "u.service", 2)
    names = sorted(path.name for path in (tmp_path / "u.service").iterdir())
    assert names == ["0", "2", "3"], "one runs; of those that have ended the newest stay"
    files.forget(tmp_path, "none.service", 2)
