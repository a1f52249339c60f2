"""A docker command's memory: what the first call noted, the next one finds, after a power cut too."""

import os
from pathlib import Path

import pytest

from xchronos.executors.contract import StepSpec
from xchronos.executors.docker.journal import StepJournal


def spec(directory: Path) -> StepSpec:
    return StepSpec("u", "u/0/0", 1, "start-0", ("a",), "/a", {}, str(directory), f"{directory}/log")


async def test_what_was_first_remembered_stays(tmp_path):
    journal = StepJournal(spec(tmp_path))
    assert not journal.again
    await journal.begin()
    assert await journal.remember("exec", "one") == "one"
    later = StepJournal(spec(tmp_path))
    assert later.again
    await later.begin()
    assert await later.remember("exec", "two") == "one"
    assert [entry.name for entry in tmp_path.iterdir()] == [".start-0.begun"]


async def test_it_is_on_the_disk_with_its_name_before_the_command_begins(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").readlink()))
    await StepJournal(spec(tmp_path)).begin()
    assert len(synced) == 2
    assert (synced[0].parent, synced[1]) == (tmp_path, tmp_path)


async def test_a_command_without_room_for_its_journal_does_not_begin(tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        await StepJournal(spec(tmp_path)).begin()
    assert not StepJournal(spec(tmp_path)).again
