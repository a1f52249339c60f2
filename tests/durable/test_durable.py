"""Files that are written as a whole: what is left of them when the disk, or the process, fails in the middle."""

import errno
import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from xchronos import durable
from xchronos.durable import append, sync_directory, write_whole

ROOT = Path(durable.__file__).parents[1]
STRENGTHS = ("none", "file", "directory")


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was forced to the disk, in order, by name."""
    names: list[str] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        names.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    return names


@pytest.mark.parametrize("strength", STRENGTHS)
def test_it_replaces_the_file_and_leaves_nothing_else(tmp_path: Path, strength) -> None:
    path = tmp_path / "notes"
    for data in (b"old and long", b"new", b""):
        write_whole(path, data, strength)
        assert path.read_bytes() == data
        assert [entry.name for entry in tmp_path.iterdir()] == ["notes"]


@pytest.mark.parametrize(("strength", "wanted"), [("none", []), ("file", ["file"]), ("directory", ["file", "home"])])
def test_each_strength_forces_to_the_disk_what_it_promises(tmp_path: Path, synced: list[str], strength, wanted) -> None:
    home = tmp_path / "home"
    home.mkdir()
    write_whole(home / "notes", b"new", strength)
    kinds = ["file" if name.startswith(".notes.") else name for name in synced]
    assert kinds == wanted, "the file before it has its name, the directory after"


def test_the_mode_is_the_new_files_whatever_the_old_ones_was(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"for all")
    path.chmod(0o666)
    before = os.umask(0o022)
    try:
        write_whole(path, b"for one", "none", mode=0o600)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        write_whole(path, b"for all", "none")
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
    finally:
        os.umask(before)


def test_a_link_is_replaced_not_followed(tmp_path: Path) -> None:
    other, path = tmp_path / "other", tmp_path / "notes"
    other.write_bytes(b"somebody's")
    path.symlink_to(other)
    write_whole(path, b"new", "file")
    assert (other.read_bytes(), path.read_bytes(), path.is_symlink()) == (b"somebody's", b"new", False)


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_nothing_of_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "notes"
    path.write_bytes(b"old")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if step == "write":
        # Whatever is written to this file, the kernel has no room for it.
        no_room = os.open("/dev/full", os.O_WRONLY)
        create = durable._create

        def lay_out(temporary: Path, mode: int) -> int:
            os.close(create(temporary, mode))
            return no_room

        monkeypatch.setattr(durable, "_create", lay_out)
    elif step == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_whole(path, b"new", "file")
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes"]


def test_an_interrupt_leaves_nothing_of_the_new_file_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "notes", b"new", "file")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_synced_is_told_although_the_file_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(durable, "sync_directory", broken)
    with pytest.raises(OSError, match="Input/output"):
        write_whole(tmp_path / "notes", b"new", "directory")
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("notes", b"new")]


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "none" / "notes", b"new", "none")
    with pytest.raises(FileNotFoundError):
        sync_directory(tmp_path / "none")


@pytest.mark.parametrize("step", ["fsync", "rename", "synced"])
def test_a_killed_writer_leaves_the_old_file_or_the_new_one(tmp_path: Path, step: str) -> None:
    path = tmp_path / "notes"
    path.write_bytes(b"old")
    code = (
        "import os, signal, sys; from pathlib import Path; from xchronos import durable\n"
        "def die(*_): os.kill(os.getpid(), signal.SIGKILL)\n"
        "patch = {'fsync': (os, 'fsync'), 'rename': (Path, 'replace'), 'synced': (durable, 'sync_directory')}\n"
        "setattr(*patch[sys.argv[2]], die)\n"
        "durable.write_whole(Path(sys.argv[1]), b'new' * 100_000, 'directory')\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, path, step], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_bytes() == (b"new" * 100_000 if step == "synced" else b"old")
    write_whole(path, b"newer", "directory")
    assert path.read_bytes() == b"newer"


def test_what_a_killed_writer_of_the_same_number_left_is_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "_numbers", iter([7]))
    victim = tmp_path / "victim"
    victim.write_bytes(b"somebody's")
    (tmp_path / f".notes.{os.getpid()}-7").symlink_to(victim)
    write_whole(tmp_path / "notes", b"new", "file")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["notes", "victim"]
    assert victim.read_bytes() == b"somebody's"


def test_several_threads_may_write_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    texts = [bytes([number]) * 50_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            list(pool.map(lambda text: write_whole(path, text, "none"), texts))
            assert path.read_bytes() in texts
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes"]


@pytest.mark.parametrize("strength", ["none", "file", "directory"])
def test_what_is_appended_comes_last(
    tmp_path: Path, strength: durable.Strength, monkeypatch: pytest.MonkeyPatch
) -> None:
    forced: list[int] = []
    monkeypatch.setattr(os, "fsync", forced.append)
    append(tmp_path / "notes", b"one", strength)
    append(tmp_path / "notes", b"two", strength)
    assert (tmp_path / "notes").read_bytes() == b"onetwo"
    assert len(forced) == {"none": 0, "file": 2, "directory": 4}[strength]


def test_what_cannot_be_appended_is_an_error() -> None:
    with pytest.raises(OSError, match="No space left"):
        append(Path("/dev/full"), b"x", "none")


def test_it_needs_the_standard_library_only() -> None:
    code = (
        "import sys; sys.path.append(sys.argv[1]); import xchronos.durable;"
        "print(sorted(m for m in sys.modules if m.partition('.')[0] not in sys.stdlib_module_names))"
    )
    found = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(ROOT)], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == str(["__main__", "xchronos", "xchronos.durable"])
