"""The bounded log: what is kept, what is said about what is not."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xchronos.executors.logfile import BoundedLog, kept_files, older, trim


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
    assert len(text) <= max(limit, 2)
    if b"its beginning was dropped]\n" in text:
        text = text.partition(b"dropped]\n")[2]
    assert whole.endswith(text)
    assert len(text) >= min(len(whole), limit // 2 - 80)


def test_what_fits_is_whole(tmp_path):
    log = tmp_path / "step.log"
    with BoundedLog(log, 100_000) as writer:
        writer.write(b"a" * 30_000)
        writer.write(b"b" * 30_000)
        assert not writer.rotated or kept(log) == b"a" * 30_000 + b"b" * 30_000
    assert kept(log) == b"a" * 30_000 + b"b" * 30_000


def test_resuming_and_starting_anew(tmp_path):
    log = tmp_path / "step.log"
    with BoundedLog(log, 1000) as writer:
        writer.write(b"first")
    with BoundedLog(log, 1000, resume=True) as writer:
        assert writer.written == 5
        assert writer.agrees(1, memoryview(b"irs"))
        assert not writer.agrees(1, memoryview(b"irx"))
        writer.write(b" second")
        assert writer.tail(6) == b"second"
    assert kept(log) == b"first second"
    older(log).write_bytes(b"0")
    with BoundedLog(log, 1000, resume=True) as writer:
        assert writer.written == 0
    assert kept(log) == b""


def test_what_is_compared_once_the_beginning_is_gone(tmp_path):
    with BoundedLog(tmp_path / "step.log", 20) as writer:
        writer.write(b"0123456789abcdef")
        assert (writer.rotated, writer.begins) == (True, 10)
        assert writer.agrees(8, memoryview(b"??abc"))
        assert writer.agrees(3, memoryview(b"gone"))
        assert not writer.agrees(8, memoryview(b"89abX"))
        assert not writer.agrees(14, memoryview(b"efg"))


def test_a_note_stands_on_its_own_line(tmp_path):
    log = tmp_path / "step.log"
    with BoundedLog(log, 1000) as writer:
        writer.note("one")
        writer.write(b"half a line")
        writer.note("two")
        writer.close()
        writer.close()
    assert kept(log) == b"[xchronos: one]\nhalf a line\n[xchronos: two]\n"


@pytest.mark.parametrize(("size", "done"), [(0, False), (400, False), (600, True), (5000, True)])
def test_trimming_what_another_process_writes(tmp_path, size, done):
    log = tmp_path / "step.log"
    text = b"".join(b"%07d\n" % i for i in range(size // 8))
    log.write_bytes(text)
    assert trim(log, 1000) is done
    assert len(kept(log)) <= 1000
    if done:
        note, _, rest = kept(log).partition(b"\n")
        assert b"1000 bytes" in note
        assert text.endswith(rest)
        assert log.read_bytes() == b""
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
        # What was left out is seen by whoever compares, and read again.
        assert writer.agrees(0, memoryview(b"0123456789"))
        disk["bytes"] = 100
        writer.write(b"later")
        assert (kept(log), writer.written) == (b"0123456789later", 15)
        assert not writer.agrees(0, memoryview(b"0123456789abcde"))


def test_another_error_than_a_full_disk_is_told():
    with BoundedLog(Path("/dev/null"), 100) as writer:
        os.close(writer._descriptor)
        with pytest.raises(OSError, match="Bad file descriptor"):
            writer.write(b"x")
        writer._descriptor = -1
