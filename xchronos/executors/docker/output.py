"""What a container writes: the engine's log stream, taken apart and copied into the step's log file.

A stream always begins at the container's first byte, and written bytes never change. So a stream that was cut is read
again from its beginning: the bytes that the file already holds are compared and skipped, and the rest is appended. That
is exact, has no duplicates, and needs no time stamps (podman's are too coarse to resume by).
"""

import asyncio
from collections.abc import Iterator

from xchronos.aio import cancel_and_wait, retry
from xchronos.errors import ExecutorUnavailable
from xchronos.executors.docker.client import DockerClient, EngineRefusal, new_pauses
from xchronos.executors.logfile import BoundedLog

FOLLOW_AFTER = 0.25
"""Seconds that a container runs before `follow` begins to copy its output."""

COMPARED = 4096
"""How many of the last bytes must be there to compare: with them, a log whose beginning was dropped is continued.

With fewer it is read again from the beginning. See `test_what_is_compared_once_the_beginning_is_gone`.
"""

_FRAME_HEADER = 8


class Demultiplexer:
    """Takes apart the frames of a stream without a terminal: 8 bytes of header (stream number, length), then output."""

    def __init__(self) -> None:
        self._header = b""
        self._left = 0

    def feed(self, chunk: bytes) -> Iterator[memoryview]:
        """The pieces of output in the next chunk of the stream. Chunks may be cut anywhere."""
        view = memoryview(chunk)
        while view:
            if self._left:
                piece, view = view[: self._left], view[self._left :]
                self._left -= len(piece)
                yield piece
                continue
            wanted = _FRAME_HEADER - len(self._header)
            self._header += view[:wanted]
            view = view[wanted:]
            if len(self._header) == _FRAME_HEADER:
                self._left = int.from_bytes(self._header[4:], "big")
                self._header = b""


class _Differs(Exception):  # noqa: N818 - caught where it is raised
    """The engine's stream does not begin with what the file holds, since the engine has dropped the beginning."""


class OutputCopy:
    """Copies one container's output into a log file, over as many streams as it takes.

    With `fresh` the container is new: what the file holds already is no output of it (but the text of a pull, say), and
    stays. Without it the file holds, or should hold, the beginning of the container's output. `since`
    (`seconds.nanoseconds`) leaves out earlier output, of a container that was started before; "": none.
    """

    def __init__(
        self, engine: DockerClient, container: str, log: BoundedLog, *, tty: bool, fresh: bool, since: str = ""
    ) -> None:
        self._engine = engine
        self._path = f"/containers/{container}/logs"
        self._log = log
        self._tty = tty
        self._since = since
        self._base = log.written if fresh else 0
        self._kept = True

    async def follow(self) -> None:
        """Copy what the container writes while it runs; reconnects when cut. `finish` adds what this leaves out.

        It begins after FOLLOW_AFTER, so that a step of a fraction of a second costs only the one read at its end.
        """
        await asyncio.sleep(FOLLOW_AFTER)
        await self._persist("1")

    async def finish(self, follower: asyncio.Task[None]) -> None:
        """The container has ended: end the follower, then read the whole output once more.

        The end of a followed stream is not the end of the output. dockerd 20.10 ends the stream when the container
        dies; in more than half of all runs measured, a last line without a line feed was not in it yet. A plain read
        after the wait was complete every time.
        """
        await cancel_and_wait(follower)
        await self._persist("0")

    async def _persist(self, follow: str) -> None:
        await retry(lambda: self._copy(follow), ExecutorUnavailable, new_pauses())

    async def _copy(self, follow: str) -> None:
        if not self._kept:
            return
        if self._log.rotated and self._log.written - self._log.begins < COMPARED:
            self._restart()
        try:
            try:
                await self._read(follow)
            except _Differs:
                self._restart()
                await self._read(follow)
        except EngineRefusal as refusal:
            # 501: the log driver cannot be read (none, or a remote one). 404: somebody has removed the container.
            self._kept = False
            self._log.note(f"the engine has no output to give: {refusal.message}")

    def _restart(self) -> None:
        self._log.restart()
        self._base = 0

    async def _read(self, follow: str) -> None:
        params = {"follow": follow, "stdout": "1", "stderr": "1"}
        if self._since:
            params["since"] = self._since
        known = self._log.written - self._base
        position = 0
        frames = Demultiplexer()
        async with self._engine.stream("GET", self._path, params=params) as response:
            async for chunk in response.content.iter_any():
                for piece in (memoryview(chunk),) if self._tty else frames.feed(chunk):
                    if position < known:
                        old = piece[: known - position]
                        if not self._log.agrees(self._base + position, old):
                            raise _Differs
                        position += len(piece)
                        self._log.write(piece[len(old) :])
                    else:
                        self._log.write(piece)
        if position < known and self._log.rotated:
            raise _Differs  # the engine keeps less than was read before
