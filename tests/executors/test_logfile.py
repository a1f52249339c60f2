"""The bounded log: what is kept, what is said about what is not."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xchronos.executors.logfile import BoundedLog, kept_files, trim


def kept(log):
    return b"".join(path.read_bytes() for path in kept_files(log))


@given(chunks=st.lists(st.binary(max_size=400), max_size=30), limit=st.integers(1, 2000))
def test_the_end_is_kept_whatever_the_pieces(tmp_path_factory, chunks, limit):
    log = tmp_path_factory.mktemp("log") / "step.log"
    whole = b"".join(chunks)
    with BoundedLog(log, limit) as writer:
        for chunk in chunks:
            writer.write(chunk)
        assert writer.written == len(whole)
    text = kept(log)
    if len(whole) > 2 * ((limit + 1) // 2):
        note, _, text = text.partition(b" bytes]\n")
        assert int(note.rpartition(b": ")[2]) + len(text) == len(whole)
    assert whole.endswith(text)
    assert min(len(whole), (limit + 1) // 2) <= len(text) <= limit + 1
    if len(whole) <= limit:
        assert text == whole, "what fits is whole"


def test_resuming_and_starting_anew(tmp_path):
    log = tmp_path / "step.log"
    with BoundedLog(log, 1000) as writer:
        writer.write(b"first")
    with BoundedLog(log, 1000, resume=True) as writer:
        assert writer.written == 5
        writer.write(b" second")
        assert writer.tail(6) == b"second"
    assert kept(log) == b"first second"
    with BoundedLog(log, 1000) as writer:
        assert writer.written == 0
    assert kept(log) == b""


@given(chunks=st.lists(st.binary(min_size=1, max_size=40), max_size=20), limit=st.integers(1, 100), data=st.data())
def test_who_resumes_knows_what_was_written_since_the_mark(tmp_path_factory, chunks, limit, data):
    log = tmp_path_factory.mktemp("log") / "step.log"
    marked = data.draw(st.integers(0, len(chunks)))
    with BoundedLog(log, limit) as writer:
        writer.note("ours")
        for chunk in chunks[:marked]:
            writer.write(chunk)
        writer.mark(["here", marked])
        for chunk in chunks[marked:]:
            writer.write(chunk)
    with BoundedLog(log, limit, resume=True) as writer:
        position, count, recent = writer.marked
        since = b"".join(chunks[marked:])
        assert (position, count) == (["here", marked], len(since))
        assert since.endswith(recent)
        assert len(recent) >= min(len(since), limit // 2)
        writer.write(b"more")
        assert writer.written == len(b"".join(chunks)) + 4


def test_a_crash_in_the_middle_of_a_rotation_is_made_good(tmp_path, monkeypatch):
    log = tmp_path / "step.log"
    with BoundedLog(log, 20) as writer:
        writer.write(b"0123456789abcdefghij")
        monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            writer.write(b"klm")
    monkeypatch.undo()
    with BoundedLog(log, 20, resume=True) as writer:
        assert writer.written == 20
        writer.write(b"klm")
        assert writer.written == 23
    assert kept(log).endswith(b"abcdefghijklm")


def test_what_was_lost_before_it_came_is_not_counted_and_said(tmp_path):
    log = tmp_path / "step.log"
    with BoundedLog(log, 20) as writer:
        writer.write(b"one")
        writer.gap("lost")
    with BoundedLog(log, 20, resume=True) as writer:
        writer.write(b"two" * 10)
    assert b"its beginning was dropped: at least 20 bytes]" in kept(log)


def test_what_another_process_has_written_meanwhile(tmp_path):
    log = tmp_path / "step.log"
    with BoundedLog(log, 20) as writer:
        writer.write(b"one")
        with BoundedLog(log, 20, resume=True) as other:
            other.write(b"two" * 10)
        writer.reopen()
        assert writer.written == 33
        writer.write(b"three")
    assert kept(log).endswith(b"twotwothree")


def test_a_note_stands_on_its_own_line(tmp_path):
    log = tmp_path / "step.log"
    with BoundedLog(log, 1000) as writer:
        writer.note("one")
        writer.write(b"half a line")
        writer.note("two")
        writer.close()
        writer.close()
    assert kept(log) == b"[xchronos: one]\nhalf a line\n[xchronos: two]\n"


@pytest.mark.parametrize(("size", "done"), [(0, False), (1000, False), (1008, True), (5000, True)])
def test_trimming_what_another_process_writes(tmp_path, size, done):
    log = tmp_path / "step.log"
    text = b"".join(b"%07d\n" % i for i in range(size // 8))
    log.write_bytes(text)
    assert trim(log, 1000) is done
    if done:
        note, _, rest = kept(log).partition(b"\n")
        assert b"its beginning was dropped: %d bytes" % (size - 500) in note
        assert (text[-500:], log.read_bytes()) == (rest, b"")
        with log.open("ab") as file:
            file.write(b"y" * 400)
        assert trim(log, 1000) is False, "both parts together are within the limit"
        with log.open("ab") as file:
            file.write(b"z" * 200)
        assert trim(log, 1000)
        assert kept(log).partition(b"\n")[2] == b"y" * 300 + b"z" * 200
        assert b"dropped: %d bytes" % (size + 100) in kept(log)
    else:
        assert kept(log) == text


@pytest.fixture
def disk(monkeypatch):
    """How many more bytes fit on the disk, for ever more."""
    left = {"bytes": 0}
    write = os.write

    def bounded(descriptor, data):
        if not left["bytes"]:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = write(descriptor, data[: left["bytes"]])
        left["bytes"] -= count
        return count

    monkeypatch.setattr("xchronos.executors.logfile.os.write", bounded)
    return left


@pytest.mark.parametrize("limit", [1 << 20, 60])
def test_a_full_disk_leaves_out_and_counts_only_what_is_kept(tmp_path, disk, limit):
    log = tmp_path / "step.log"
    disk["bytes"] = 10
    with BoundedLog(log, limit) as writer:
        writer.write(b"0123456789abc")
        writer.write(b"def" * 20)
        writer.note("nothing of this either")
        assert (kept(log), writer.written) == (b"0123456789", 10)
        disk["bytes"] = 200
        writer.write(b"later")
        note = b"\n[xchronos: 63 bytes of output are missing here: the disk was full]\n"
        assert (kept(log), writer.written) == (b"0123456789" + note + b"later", 15)


def test_another_error_than_a_full_disk_is_told():
    with BoundedLog(Path("/dev/null"), 100) as writer:
        os.close(writer._descriptor)
        with pytest.raises(OSError, match="Bad file descriptor"):
            writer.write(b"x")
        writer._descriptor = -1
