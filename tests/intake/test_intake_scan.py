"""Looking and reading, where the file system does not play along."""

import os

import pytest

from tests.intake.intake_helpers import old, unit_text
from xchronos.intake.files import Found
from xchronos.intake.scan import list_directory, read_units
from xchronos.intake.selection import select
from xchronos.limits import UNIT_BYTES


def units_in(directory) -> dict[str, Found]:
    return select([list_directory(str(directory))]).units


def refusing(path, error):
    """A system call that fails for one path and works for all others."""

    def wrap(call):
        def refuse(given, *args, **options):
            if os.fspath(given) == str(path):
                raise error
            return call(given, *args, **options)

        return refuse

    return wrap


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    file = tmp_path / "a.service"
    file.write_text(unit_text())
    units = units_in(tmp_path)
    monkeypatch.setattr(os, "open", refusing(file, PermissionError(13, "Permission denied"))(os.open))
    (content,) = read_units(units.values())
    assert content.error == f"{file}: cannot be read: Permission denied"


@pytest.mark.parametrize("change", ["removed", "longer", "touched", "replaced"])
def test_a_file_that_changes_between_the_look_and_the_reading(tmp_path, change):
    file = old_file = tmp_path / "a.service"
    file.write_text(unit_text())
    old(file)
    units = units_in(tmp_path)
    if change == "removed":
        file.unlink()
    elif change == "longer":
        file.write_text(unit_text("longer"))
    elif change == "touched":
        file.touch()
    else:
        copy = tmp_path / "copy"
        copy.write_text(unit_text())
        copy.replace(old_file)
    (content,) = read_units(units.values())
    assert content.moved
    assert not content.error


def test_a_pipe_in_the_place_of_a_file_does_not_block_the_reader(tmp_path):
    file = tmp_path / "a.service"
    file.write_text(unit_text())
    units = units_in(tmp_path)
    file.unlink()
    os.mkfifo(file)
    (content,) = read_units(units.values())
    assert content.moved


def test_a_drop_in_directory_that_may_not_be_read_makes_its_unit_unreadable(tmp_path, monkeypatch):
    (tmp_path / "a.service").write_text(unit_text())
    (tmp_path / "b.service").write_text(unit_text())
    drop_ins = tmp_path / "a.service.d"
    drop_ins.mkdir()
    monkeypatch.setattr(os, "scandir", refusing(drop_ins, PermissionError(13, "Permission denied"))(os.scandir))
    units = units_in(tmp_path)
    assert "the directory cannot be read: Permission denied" in units["a.service"].problem
    assert units["b.service"].problem == ""


def test_a_drop_in_directory_that_vanishes_meanwhile_is_none(tmp_path, monkeypatch):
    (tmp_path / "a.service").write_text(unit_text())
    drop_ins = tmp_path / "a.service.d"
    drop_ins.mkdir()
    monkeypatch.setattr(os, "scandir", refusing(drop_ins, FileNotFoundError(2, "gone"))(os.scandir))
    assert len(units_in(tmp_path)["a.service"].stamps) == 1


def test_a_directory_that_may_not_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "scandir", refusing(tmp_path, PermissionError(13, "Permission denied"))(os.scandir))
    assert list_directory(str(tmp_path)).error == "cannot be read: Permission denied"


def test_what_looks_like_a_drop_in_directory_and_is_none(tmp_path):
    (tmp_path / "a.service").write_text(unit_text())
    (tmp_path / "a.service.d").write_text("a file")
    (tmp_path / "service.d").mkdir()
    for name in (".hidden.conf", "readme", "x.conf~"):
        (tmp_path / "service.d" / name).write_text("x")
    listing = list_directory(str(tmp_path))
    assert listing.drop_ins == {"service.d": {}}


def test_an_empty_drop_in_and_one_that_is_masked_say_nothing(tmp_path):
    (tmp_path / "a.service").write_text(unit_text())
    (tmp_path / "service.d").mkdir()
    (tmp_path / "service.d/1.conf").touch()
    (tmp_path / "service.d/2.conf").symlink_to("/dev/null")
    (content,) = read_units(units_in(tmp_path).values())
    assert [part.text for part in content.drop_ins] == ["", ""]


def test_the_biggest_file_that_is_read(tmp_path):
    (tmp_path / "a.service").write_bytes(b"#" * UNIT_BYTES)
    (content,) = read_units(units_in(tmp_path).values())
    assert len(content.text) == UNIT_BYTES
    (tmp_path / "a.service").write_bytes(b"#" * (UNIT_BYTES + 1))
    (content,) = read_units(units_in(tmp_path).values())
    assert f"{UNIT_BYTES + 1} bytes" in content.error
