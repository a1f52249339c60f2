"""How a container's output is read from an engine that reads its log while it is written, as Podman does.

The engine here reads its file as Podman 5 does (libpod's `readFromLogFile` with nxadm/tail 1.4): what stands behind the
last line feed counts as a line, a follower goes on at what is the end of the file by then, and the last lines are
looked up before the end is.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xchronos.executors.docker import output as output_module
from xchronos.executors.docker.client import DockerClient
from xchronos.executors.docker.output import OutputCopy, log_config, log_keeping
from xchronos.executors.logfile import BoundedLog, kept_files
from xchronos.testing.executors import eventually


class Podman:
    """An engine with one container.

    `writes` are the pieces in which the container's log file is written: one each time that a reading has come to the
    end of the file. `written` is set when there are none left, and some reading has seen the whole file.
    """

    podman = True
    version = (1, 41)

    def __init__(self, *writes: bytes) -> None:
        self.file = b""
        self.written = asyncio.Event()
        self.asked: list[str] = []
        self._writes = list(writes)
        self._grown = asyncio.Event()

    def write(self, data: bytes) -> None:
        """The container writes: what follows has to read it."""
        self._writes.append(data)
        self.written.clear()
        self._grow()

    def _grow(self) -> None:
        if self._writes:
            self.file += self._writes.pop(0)
            self._grown.set()
            self._grown.clear()
        else:
            self.written.set()

    @asynccontextmanager
    async def stream(self, method: str, path: str, *, params: Mapping[str, str]) -> AsyncIterator[SimpleNamespace]:
        assert (method, path) == ("GET", "/containers/c/logs")
        self.asked.append(f"tail={params['tail']}{' follow' if 'follow' in params else ''}")
        yield SimpleNamespace(content=SimpleNamespace(iter_any=lambda: self._frames(params)))

    async def _frames(self, params: Mapping[str, str]) -> AsyncIterator[bytes]:
        async for line in self._lines(params["tail"], follow="follow" in params):
            await asyncio.sleep(0)
            fields = line.split(b" ", 3)
            if len(fields) < 4:
                continue  # "not a valid container log line": the engine logs that, and goes on
            stamp, device, kind, text = fields
            body = stamp[:19] + b"Z " + text + (b"\n" if kind == b"F" else b"")
            yield bytes([{b"stdout": 1, b"stderr": 2}[device], 0, 0, 0]) + len(body).to_bytes(4, "big") + body

    async def _lines(self, tail: str, *, follow: bool) -> AsyncIterator[bytes]:
        at = 0
        if tail != "all":
            for line in self.file.split(b"\n")[-int(tail) - 1 :]:
                yield line
            self._grow()
            at = len(self.file)
        while True:
            *lines, half = self.file[at:].split(b"\n")
            at = len(self.file)
            for line in lines:
                yield line
            if half:
                yield half
            grown = asyncio.create_task(self._grown.wait())
            await asyncio.sleep(0)
            self._grow()
            if not follow:
                grown.cancel()
                return
            if half:
                at = len(self.file)
            await grown


def logged(second: int, text: str, device: str = "stdout") -> bytes:
    """A line of the container as it stands in the engine's file."""
    return f"2026-11-30T10:00:{second:02d}.123456789Z {device} F {text}\n".encode()


@pytest.fixture(autouse=True)
def no_pauses() -> Iterator[None]:
    with patch.multiple(output_module, FOLLOW_AFTER=0, LOOK_SOONEST=0, LOOK_LATEST=0, READING_SHARE=0):
        yield


def copy_of(engine: Podman, log: BoundedLog) -> OutputCopy:
    client = cast("DockerClient", engine)
    keeping = log_keeping(client, log_config(client, 1 << 20, tty=False), tty=False)
    assert keeping is not None
    return OutputCopy(client, "c", log, keeping, tty=False, fresh=True)


async def copied(engine: Podman, where: Path) -> bytes:
    """What is kept of a container that ends when its last byte is in the engine's file, and one reading behind it."""
    with BoundedLog(where / "log", 1 << 20) as log:
        copy = copy_of(engine, log)
        follower = asyncio.create_task(copy.follow())
        await engine.written.wait()
        await copy.finish(follower)
    return b"".join(path.read_bytes() for path in kept_files(where / "log"))


@given(data=st.data())
def test_no_line_is_lost_wherever_a_reading_meets_the_end_of_the_file(data: Any) -> None:
    seconds = sorted(data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=30)))
    devices = [data.draw(st.sampled_from(("stdout", "stdout", "stderr"))) for _ in seconds]
    texts = [data.draw(st.sampled_from(("line", "a longer line", "", str(at)))) for at in range(len(seconds))]
    file = b"".join(map(logged, seconds, texts, devices))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(file)), max_size=6)))
    writes = [file[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(file)], strict=True)]
    with tempfile.TemporaryDirectory() as where:
        kept = asyncio.run(copied(Podman(*writes), Path(where)))
    assert kept == "".join(f"{text}\n" for text in texts).encode()


async def test_a_line_that_is_half_written_when_a_reading_comes_to_it_is_not_lost(tmp_path: Path) -> None:
    """Followed, nothing tells of it: the next second's messages are there, and those before the place are not counted."""
    line = logged(1, "b")
    engine = Podman(logged(1, "a") + line[:20], line[20:] + logged(1, "c"), logged(2, "d"), logged(3, "e"))
    assert await copied(engine, tmp_path) == b"a\nb\nc\nd\ne\n"


async def test_a_line_is_there_while_the_container_says_no_more(tmp_path: Path) -> None:
    engine = Podman(logged(1, "early"))
    with BoundedLog(tmp_path / "log", 1 << 20) as log:
        follower = asyncio.create_task(copy_of(engine, log).follow())
        await eventually(lambda: b"early\n" in (tmp_path / "log").read_bytes())
        engine.write(logged(1, "later"))
        await eventually(lambda: b"later\n" in (tmp_path / "log").read_bytes())
        follower.cancel()
    assert (tmp_path / "log").read_bytes() == b"early\nlater\n"
    assert set(engine.asked) == {"tail=all"}


async def test_an_emptied_file_is_said_once_and_what_is_new_in_it_is_there(tmp_path: Path) -> None:
    engine = Podman(logged(1, "a") + logged(2, "b"))
    with BoundedLog(tmp_path / "log", 1 << 20) as log:
        copy = copy_of(engine, log)
        follower = asyncio.create_task(copy.follow())
        await eventually(lambda: b"b\n" in (tmp_path / "log").read_bytes())
        engine.file = b""
        before = len(engine.asked)
        await eventually(lambda: len(engine.asked) > before + 5)
        assert log.written == 4
        engine.file = logged(3, "c") + logged(4, "d")
        await eventually(lambda: b"d\n" in (tmp_path / "log").read_bytes())
        await copy.finish(follower)
    first, note, rest = (
        (tmp_path / "log")
        .read_text()
        .partition(
            "[xchronos: output from 2026-11-30T10:00:02.000000000Z to 2026-11-30T10:00:03.000000000Z is missing here: "
            "the engine had dropped it before it was read]\n"
        )
    )
    assert note
    assert (first, rest) == ("a\nb\n", "c\nd\n")
