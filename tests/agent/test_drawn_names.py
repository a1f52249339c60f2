"""A machine's drawn names: the same for ever, whatever happened as they were drawn."""

import os
from pathlib import Path

import pytest

from xchronos.agent.steps.host_facts import drawn


def test_a_name_is_drawn_once(tmp_path):
    path = tmp_path / "state" / "instance"
    name = drawn(path)
    assert len(name) == 32
    assert drawn(path) == name
    assert drawn(tmp_path / "other") != name


def test_a_name_that_is_given_away_outlives_a_power_cut(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").readlink()))
    drawn(tmp_path / "instance")
    assert len(synced) == 2, "the file, and the directory that has its name"
    assert synced[1] == tmp_path


def test_a_disk_without_room_leaves_no_half_of_a_name(tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            drawn(tmp_path / "instance")
    assert list(tmp_path.iterdir()) == []
    assert len(drawn(tmp_path / "instance")) == 32
