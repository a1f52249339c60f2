"""Reading what others name: whatever is there, the loop goes on, and a reading that hangs holds one thread."""

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from xchronos import limits, threads
from xchronos.hostfiles import HostFileRefused, HostFiles, ReadPaths
from xchronos.threads import DaemonThreads


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_link_to_a_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def a_loop(path: Path) -> None:
    path.symlink_to(path)


def a_sparse_file(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (a_pipe, "is a named pipe (FIFO): expected a regular file"),
        (a_link_to_a_pipe, "is a named pipe (FIFO): expected a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "is a device: expected a regular file"),
        (lambda path: path.symlink_to("/dev/tty"), "is a device: expected a regular file"),
        (lambda path: path.symlink_to("/proc/self/environ"), "says what a process was given"),
        (
            lambda path: path.symlink_to(f"/proc/{os.getpid()}/task/{os.getpid()}/environ"),
            "says what a process was given",
        ),
        (Path.mkdir, "is a directory: expected a regular file"),
        (a_socket, "is a socket: expected a regular file"),
        (a_loop, "Too many levels of symbolic links"),
        (a_sparse_file, f"has more than {limits.HOST_FILE_BYTES} bytes: expected a smaller file"),
        (lambda path: path.with_name("nothing"), "No such file or directory"),
    ],
)
async def test_what_is_not_read(tmp_path: Path, make: Callable[[Path], object], words: str) -> None:
    path = tmp_path / "x"
    make(path)
    with pytest.raises(HostFileRefused) as caught:
        await HostFiles().read(path, f"EnvironmentFile={path}")
    assert str(caught.value).startswith(f"EnvironmentFile={path}: ")
    assert words in str(caught.value)


async def test_what_is_read_in_pieces_is_judged_too_and_may_be_long(tmp_path: Path) -> None:
    files = HostFiles()
    a_pipe(tmp_path / "pipe")
    with pytest.raises(HostFileRefused, match="named pipe"):
        async with files.opened(tmp_path / "pipe", "Artifact", 1.0):
            pass
    a_sparse_file(tmp_path / "long")
    async with files.opened(tmp_path / "long", "Artifact", 1.0) as file:
        assert await file.read(2) == b"\0\0"


async def test_a_file_may_be_longer_than_the_system_says() -> None:
    with pytest.raises(HostFileRefused, match="has more than 5 bytes"):
        await HostFiles().read("/proc/version", "it", 5)


async def test_what_is_read(tmp_path: Path) -> None:
    path, files = tmp_path / "x", HostFiles()
    path.write_bytes(b"x" * limits.HOST_FILE_BYTES)
    (tmp_path / "link").symlink_to(path)
    assert await files.read(tmp_path / "link", "it") == path.read_bytes()
    assert await files.match(f"{tmp_path}/*", "it") == [f"{tmp_path}/link", f"{tmp_path}/x"]
    assert await files.match("/no/pattern", "it") == ["/no/pattern"]
    async with files.opened(path, "it", 1.0) as file:
        assert [len(await file.read(1 << 19)) for _ in range(3)] == [1 << 19, 1 << 19, 0]
    for number in range(limits.HOST_FILES_MATCHED + 1):
        (tmp_path / f"{number}.env").touch()
    with pytest.raises(HostFileRefused, match="matches 101 files, expected at most 100"):
        await files.match(f"{tmp_path}/*.env", "it")


class Silent:
    """Something that does not answer before it is let go. It is asked in a thread."""

    def __init__(self) -> None:
        self.asked = 0
        self.gate = threading.Event()

    def __call__(self) -> str:
        self.asked += 1
        self.gate.wait()
        return "late"


async def refused(files: HostFiles, work: Callable[[], object], about: str, within: float = 60.0) -> str:
    with pytest.raises(HostFileRefused) as caught:
        await files.ask(work, f"reading {about}", about=about, within=within)
    return str(caught.value)


async def hung(files: HostFiles, silent: Silent, about: str) -> str:
    """Have a thread hang about something. Returns what the one who asked was told."""
    asked, told = silent.asked, ""
    while silent.asked == asked:  # on a slow machine the time may be over before a thread has begun
        told = await refused(files, silent, about, 0.05)
    return told


async def test_what_does_not_answer_holds_one_thread_and_no_other_path() -> None:
    files, silent = HostFiles(within=60.0, most=2), Silent()
    told = await hung(files, silent, "/far/a")
    assert told == "reading /far/a: no answer within 0.05 s: is it on a server that is away?"
    for _ in range(2):
        assert await refused(files, silent, "/far/a") == (
            "reading /far/a: an earlier reading has no answer yet: is it on a server that is away?"
        )
    assert silent.asked == 1
    assert await files.ask(lambda: "now", "reading", about="/near") == "now"
    await hung(files, silent, "/far/b")
    # No thread is left: nobody waits for one, as soon as both are overdue.
    while "no answer within" in (told := await refused(files, lambda: "now", "/near", 0.05)):
        pass
    assert told == (
        "reading /near: not read, for 2 other readings have no answer, and more are not begun: the first is /far/a"
    )
    silent.gate.set()
    while files._overdue:  # noqa: ASYNC110 - a thread sets no Event of the loop
        await asyncio.sleep(0.001)
    assert await files.ask(lambda: "now", "reading", about="/far/a") == "now"
    assert not files._turns


async def test_those_who_ask_for_the_same_path_take_turns() -> None:
    files, silent = HostFiles(within=60.0), Silent()
    both = asyncio.gather(*(files.ask(silent, "reading", about="/a") for _ in range(2)))
    while not silent.asked:  # noqa: ASYNC110 - a thread sets no Event of the loop
        await asyncio.sleep(0.001)
    assert await files.ask(lambda: "now", "reading", about="/b") == "now"
    assert silent.asked == 1
    silent.gate.set()
    assert await both == ["late", "late"]
    assert silent.asked == 2


async def test_a_reading_that_nobody_waits_for_any_more_closes_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, gate, closed = HostFiles(within=5.0), threading.Event(), threading.Event()
    path = tmp_path / "x"
    path.write_bytes(b"12")
    slow, close = os.read, os.close

    def read(descriptor: int, size: int) -> bytes:
        gate.wait()
        return slow(descriptor, size)

    async with files.opened(path, "it", 0.05) as file:
        monkeypatch.setattr(os, "read", read)
        with pytest.raises(HostFileRefused, match="no answer"):
            await file.read(1)
        mine = file._descriptor
    os.fstat(mine)  # the thread reads from it

    def note(descriptor: int) -> None:
        close(descriptor)
        if descriptor == mine:
            closed.set()

    monkeypatch.setattr(os, "close", note)
    gate.set()
    assert await asyncio.to_thread(closed.wait, 20)


async def test_a_call_that_was_given_up_before_a_thread_was_free_is_not_made() -> None:
    own, silent, called = DaemonThreads("test", 1), Silent(), []
    first = own.submit(silent)
    second = own.submit(called.append, 1)
    assert second.cancel()
    silent.gate.set()
    assert await asyncio.wrap_future(first) == "late"
    with pytest.raises(ZeroDivisionError):
        await asyncio.wrap_future(own.submit(lambda: 1 / 0))
    assert called == []


def test_threads_that_nobody_needs_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "IDLE", 0.001)
    own = DaemonThreads("idle", 3)
    for _ in range(50):
        calls = [own.submit(threading.get_ident) for _ in range(6)]
        assert len({call.result(timeout=20) for call in calls}) <= 3
    while any(thread.name.startswith("idle ") for thread in threading.enumerate()):
        threading.Event().wait(0.001)


def test_no_exit_of_the_process_waits_for_it() -> None:
    program = (
        "import asyncio, time\n"
        "from xchronos.hostfiles import HostFiles, HostFileRefused\n"
        "async def main():\n"
        "    try:\n"
        "        await HostFiles(within=0.05).ask(lambda: time.sleep(1000), 'it')\n"
        "    except HostFileRefused:\n"
        "        print('refused')\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "refused\n"


def kept(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A directory that units may name, one that they may not, and the daemon's own, each with a file."""
    places = tuple(tmp_path / name for name in ("open", "closed", "state"))
    for place in places:
        place.mkdir()
        (place / "file").write_text(place.name)
    return places[0], places[1], places[2]


async def test_only_what_is_in_the_roots_is_read(tmp_path: Path) -> None:
    roots, closed, state = kept(tmp_path)
    files = HostFiles(paths=ReadPaths((roots, tmp_path / "not-there"), (state, roots / "secret")))
    (roots / "link").symlink_to(closed / "file")
    (roots / "up").symlink_to(tmp_path)
    (roots / "secret").write_text("")
    (roots / "hard").hardlink_to(roots / "secret")
    (closed / "inward").symlink_to(roots / "file")
    assert await files.read(roots / "file", "it") == b"open"
    assert await files.read(closed / "inward", "it") == b"open"
    assert await files.read(closed / "file", "it", listed=False) == b"closed"
    assert await files.read(state / "file", "it", own=state) == b"state"
    for path in (roots / "link", roots / "up/closed/file", roots / "../closed/file", closed / "file"):
        with pytest.raises(HostFileRefused) as caught:
            await files.read(path, "it")
        assert str(caught.value) == (
            f"it: {closed}/file is outside of what units may have read on this machine ({roots}, {tmp_path}/not-there): "
            "move it there, or name its directory in the setting read_paths"
        )
        with pytest.raises(HostFileRefused, match="is outside of what"):
            async with files.opened(path, "it", 1.0):
                pass
    for path in (state / "file", roots / "secret", roots / "hard"):
        with pytest.raises(HostFileRefused, match="is the daemon's own, which units may not name"):
            await files.read(path, "it")
    assert [await files.is_open(path) for path in (roots, closed, state / "file")] == [True, False, False]


async def test_what_is_nearest_counts(tmp_path: Path) -> None:
    _, _, state = kept(tmp_path)
    (state / "units").mkdir()
    (state / "units/file").write_text("unit")
    files = HostFiles(paths=ReadPaths((Path("/"), state / "units"), (state,)))
    assert await files.read(state / "units/file", "it") == b"unit"
    with pytest.raises(HostFileRefused, match="the daemon's own"):
        await files.read(state / "file", "it")


async def test_what_is_only_told_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OUTSIDE_TOLD", 1)
    roots, closed, state = kept(tmp_path)
    files = HostFiles(paths=ReadPaths((roots,), (state,), told_only=True))
    for place in (roots, closed, closed, state):
        assert await files.read(place / "file", f"E={place}") == place.name.encode()
    assert files.outside == {f"{closed}/file": f"E={closed}"}
