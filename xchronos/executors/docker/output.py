"""What a container writes: the engine's log, read as it grows and copied into the step's log file.

The engine's log is a file of its own, so nobody who reads it slowly, or not at all, holds the container up. It is made
large enough for `log.limit` bytes of normal lines with the engine's wrapping (`log_config`), and rotated beyond that.

- While it cannot have been rotated yet, it is followed: the engine tells what is new.
- From then on it is read from its end every now and then, back to the message that was read last. A followed log loses
  output at each rotation (dockerd 20.10 goes on with the new file, wherever the reader is: 0.35 of 4 MB arrived).
- A reading that does not hold the last message any more tells that the engine has dropped output. A line in the log
  says so, and from when to when.
- Podman's log is never followed, and only read as a whole while the container writes (`LogKeeping.settled`).

How far it was read is kept beside the log, so that another daemon goes on there.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from xchronos.aio import cancel_and_wait, retry
from xchronos.errors import ExecutorUnavailable
from xchronos.executors.docker.client import DockerClient, EngineRefusal
from xchronos.executors.docker.messages import TROUBLE, Frames, Lines, Message, Place, sortable
from xchronos.executors.logfile import BoundedLog
from xchronos.executors.patience import new_pauses

FOLLOW_AFTER = 0.25
"""Seconds that a container runs before `follow` begins to copy its output."""

LOOK_SOONEST, LOOK_LATEST = 0.5, 4.0
"""Seconds between two looks at a log that may have been rotated: after news, and at most while there are none."""

FIRST_TAIL = 1000
"""How many messages the first look asks for; eight times as many when they do not reach back far enough."""

READ_WHOLE = 1 << 16
"""Bytes of the engine's log up to which it is read from its beginning: one request tells where the place is."""

LONGEST_TAIL = 500_000
"""Beyond that the engine is asked for all messages."""

MOST_FOLLOWED = 1 << 20
"""Bytes of the engine's log after which it is followed no longer, but looked at now and then.

A busy container's log that is read all the time is written slowly, and what is not written some time after the
container's end is not there: on two busy cores a third of two million short lines was missing then.
"""

READING_SHARE = 4
"""The pause after a look is so many times as long as the look has taken."""

MARK_BYTES = 256 * 1024
"""So many bytes are copied before the place is saved again."""

MARK_INTERVAL = 1.0
"""Seconds after which the place is saved again when something was copied."""

FILES = 6
"""How many files the engine's log has when it is full; each has `log.limit` bytes."""

SMALLEST_FILE = 1 << 20
"""The least size of one of them, in bytes."""

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


class LogKeeping(msgspec.Struct, frozen=True):
    """How an engine keeps the output of one container.

    Attributes:
        kept: At least how many bytes of it are there once it was full.
        room: So many bytes are written before anything is dropped or moved.
        per_message, per_byte: At most how many bytes it needs for a message, and for each byte of it.
        swallowed: See `Place`.
        settled: A reading of a log that is being written has every message, and each of them whole. Podman reads its
            file while conmon writes it, and takes what stands behind the last line feed for a line. When it follows,
            it goes on at what is then the end of the file: the rest of that line and what came meanwhile are lost.
            When it is asked for the last messages, those between them and the end of the file are. Only what comes
            last in a reading of all messages may be half a line.
    """

    kept: float
    room: float
    per_message: int = 128
    per_byte: int = 1
    swallowed: bool = False
    settled: bool = True


def log_config(client: DockerClient, limit: int, *, tty: bool) -> dict[str, Any]:
    """The log driver of a container whose unit names none.

    `local` keeps every byte as it is and needs 28 to 40 bytes for a line, json-file 75 and several for some bytes; what
    is no UTF-8 json-file replaces. Podman has neither `local` nor rotation: its one file is emptied when it is full.
    """
    size = max(limit, SMALLEST_FILE)
    if client.podman:
        return {"Type": "json-file", "Config": {"max-size": str(FILES * size)}}
    if client.version < (1, 39) or (tty and client.version < (1, 42)):
        # `local` came with API 1.39. Below 1.42 it drops the line feed of a line that was cut into pieces. That can be
        # told from the messages, but not without frames.
        return {"Type": "json-file", "Config": {"max-size": str(size), "max-file": str(FILES)}}
    return {"Type": "local", "Config": {"max-size": str(size), "max-file": str(FILES), "compress": "false"}}


def log_keeping(client: DockerClient, config: Mapping[str, Any], *, tty: bool) -> LogKeeping | None:
    """How much of a container's output the engine keeps with this `LogConfig`; None: it cannot be read back exactly."""
    driver, options = config.get("Type") or "", config.get("Config") or {}
    if driver not in ("json-file", "local", "k8s-file") or (tty and client.podman):
        return None
    try:
        size = _bytes(options.get("max-size", "20m" if driver == "local" else ""))
        files = int(options.get("max-file", 5 if driver == "local" else 1))
    except ValueError:
        return None  # the engine refuses it
    if client.podman:
        return LogKeeping(size, size, settled=False)
    if driver == "local":
        return LogKeeping((files - 1) * size, size, swallowed=client.version < (1, 42))
    return LogKeeping(size if size == float("inf") else (files - 1) * size, size, per_byte=6)


def _bytes(text: str) -> float:
    """The engine's sizes: a number with an optional unit. Infinity for none. Raises ValueError."""
    if not text or text == "-1":
        return float("inf")
    digits = text.lower().removesuffix("b").rstrip("kmg")
    unit = text.lower().removesuffix("b")[len(digits) :]
    if unit not in _UNITS:
        raise ValueError(text)
    return float(digits) * _UNITS[unit]


class Output(Protocol):
    """Copies one container's output into a step's log."""

    async def follow(self) -> None:
        """Copy while the container runs."""
        ...

    async def finish(self, follower: asyncio.Task[None]) -> None:
        """The container has ended: end the follower, and return when the log has the last byte."""
        ...


class OutputCopy:
    """Copies one container's output into a log file by reading the engine's log, over as many readings as it takes.

    With `fresh` the container is new: what the file holds already is no output of it (but the text of a pull, say), and
    stays. Without it the file may hold output of it. `since` (`seconds.nanoseconds`) leaves out earlier output, of a
    container that was started before; "": none.
    """

    def __init__(
        self,
        engine: DockerClient,
        container: str,
        log: BoundedLog,
        keeping: LogKeeping,
        *,
        tty: bool,
        fresh: bool,
        since: str = "",
    ) -> None:
        self._engine = engine
        self._path = f"/containers/{container}/logs"
        self._log = log
        self._keeping = keeping
        self._tty = tty
        self._since = since
        self._place = Place(swallowed=keeping.swallowed, per_message=keeping.per_message, per_byte=keeping.per_byte)
        self._room = int(min(keeping.room, MOST_FOLLOWED))
        self._kept = True
        self._tail = FIRST_TAIL
        self._held_back: tuple[int, list[Message]] = (0, [])
        self._marked_at = time.monotonic()
        self._unmarked = 0
        self._skip = 0
        self._known = b""
        self._from_nothing = False
        if since:
            # Nobody knows how much the engine was given before.
            self._place.fill(self._room)
        if fresh:
            if log.written:
                log.mark({})
        else:
            position, self._skip, self._known = log.marked
            self._from_nothing = position is None
            self._place.load(position)

    # -- following ---------------------------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Copy what the container writes while it runs; reconnects when cut. `finish` adds what this leaves out.

        It begins after FOLLOW_AFTER, so that a step of a fraction of a second costs only the one read at its end.
        """
        await asyncio.sleep(FOLLOW_AFTER)
        await retry(self._follow, ExecutorUnavailable, new_pauses())

    async def _follow(self) -> None:
        pause = LOOK_SOONEST
        while self._kept:
            began = time.monotonic()
            looks = not self._keeping.settled or self._place.filled >= self._room
            count = await self._look(writes=True) if looks or self._place.begun else 0
            if not looks:
                # It ends when the log may be rotated; or with the container, and `finish` is about to come; or with
                # the engine.
                await self._read("all", follow=True)
                pause = LOOK_SOONEST if self._place.filled >= self._room else LOOK_LATEST
            else:
                # Whoever reads takes time from the engine's writing: see MOST_FOLLOWED.
                busy = READING_SHARE * (time.monotonic() - began)
                pause = min(max(LOOK_SOONEST if count else 2 * pause, busy), LOOK_LATEST)
                if not self._keeping.settled:
                    pause = max(pause, busy)  # nothing bounds how long a reading of all messages takes
            await asyncio.sleep(pause)

    async def finish(self, follower: asyncio.Task[None]) -> None:
        """The container has ended: end the follower, then read what is left.

        The end of a followed stream is not the end of the output. dockerd 20.10 ends the stream when the container
        dies; in more than half of all runs measured, a last line without a line feed was not in it yet. A plain read
        after the wait was complete every time.
        """
        await cancel_and_wait(follower)
        await retry(self._look, ExecutorUnavailable, new_pauses())
        self._write(b"\n" * self._place.line_feeds_owed)

    # -- readings ----------------------------------------------------------------------------------------------------

    async def _look(self, *, writes: bool = False) -> int:
        """Copy everything that is new. Returns how many messages that were. `writes`: the container may still run."""
        unsettled = writes and not self._keeping.settled
        if unsettled or self._place.filled < READ_WHOLE:
            return await self._read("all", unsettled=unsettled) or 0
        while True:
            tail = str(self._tail) if self._tail <= LONGEST_TAIL else "all"
            count = await self._read(tail)
            if count is not None:
                self._tail = max(FIRST_TAIL, 2 * count)
                return count
            self._tail *= 8

    async def _read(self, tail: str, *, follow: bool = False, unsettled: bool = False) -> int | None:
        """Copy what is new among the last `tail` messages. Returns their number; None: they do not reach back enough.

        With `follow` it goes on until the container ends, or until the engine's log may be rotated. With `unsettled`
        the last message may be half of one: it is copied once two readings agree that it is the last one.
        """
        if not self._kept:
            return 0
        params = {"stdout": "1", "stderr": "1", "timestamps": "1", "tail": tail}
        if follow:
            params["follow"] = "1"
        if self._since:
            params["since"] = self._since
        whole = tail == "all"
        search = self._place.search(whole=whole) if self._place.begun else None
        parts: Frames | Lines = Lines() if self._tty else Frames()
        count = 0
        seen = 0
        total = 0
        last: list[Message] = []

        def take(messages: list[Message]) -> bool:
            """Whether to go on."""
            nonlocal count, search
            if search is not None:
                messages = search.look(messages)
                if search.missed:
                    if not whole:
                        return False
                    self._miss(search.held)
                    messages = search.held
                if search.found or search.missed:
                    search = None
            count += len(messages)
            self._take(messages)
            return True

        try:
            async with self._engine.stream("GET", self._path, params=params) as response:
                async for chunk in response.content.iter_any():
                    messages = parts.feed(chunk)
                    seen += self._place.weigh(messages) if follow else 0
                    if unsettled:
                        total += len(messages)
                        messages = last + messages
                        messages, last = messages[:-1], messages[-1:]
                    if not take(messages):
                        return None
                    if follow and max(seen, self._place.filled) >= self._room:
                        self._place.fill(seen)
                        return count
            if unsettled and not self._agreed(total, last):
                # Without it nothing can be said of the place either: it may be the place.
                self._mark()
                return count + len(last)
            if not take(last + parts.end()):
                return None
            if search is not None:  # the place was not among them
                if not whole:
                    return None
                self._miss(search.held)
                count += len(search.held)
                self._take(search.held)
            self._mark()
        except EngineRefusal as refusal:
            # 501: the log driver cannot be read. 404: somebody has removed the container.
            self._kept = False
            self._log.note(f"the engine has no output to give: {refusal.message}")
        return count

    def _agreed(self, total: int, last: list[Message]) -> bool:
        """Whether the reading before had as many messages, and the same last one."""
        before, self._held_back = self._held_back, (total, last)
        return bool(last) and self._held_back == before

    def _miss(self, held: list[Message]) -> None:
        """Say where the engine has dropped output that was not read before."""
        before = sortable(self._place.stamp.encode()).decode()
        after = sortable(held[0].stamp).decode() if held else "its end"
        self._log.gap(f"output from {before} to {after} is missing here: the engine had dropped it before it was read")
        self._skip, self._known = 0, b""

    # -- writing -----------------------------------------------------------------------------------------------------

    def _take(self, messages: list[Message]) -> None:
        if not messages:
            return
        if messages[-1].stream == TROUBLE:
            trouble = [message for message in messages if message.stream == TROUBLE]
            messages = [message for message in messages if message.stream != TROUBLE]
            for message in trouble:
                text = b" ".join((message.stamp, message.body)).decode(errors="replace").strip()
                self._log.note(f"the engine cannot read its log: {text}")
        self._write(self._place.take(messages))

    def _write(self, data: bytes) -> None:
        if self._skip:
            data = self._without_known(data)
        self._log.write(data)
        self._unmarked += len(data)
        if self._unmarked >= MARK_BYTES or time.monotonic() - self._marked_at >= MARK_INTERVAL:
            self._mark()

    def _mark(self) -> None:
        if self._unmarked and not self._skip:
            self._unmarked = 0
            self._marked_at = time.monotonic()
            self._log.mark(self._place.save())

    def _without_known(self, data: bytes) -> bytes:
        """`data` without what the log has already: an earlier daemon has written it and not marked it yet."""
        unknown = self._skip - len(self._known)
        span = min(self._skip, len(data))
        compared = data[max(unknown, 0) : span] if unknown < span else b""
        if not self._known.startswith(compared):
            # What the log holds is no output of this container, or was not written by this release.
            if self._from_nothing:
                self._log.restart()
            self._skip, self._known = 0, b""
            return data
        self._from_nothing = False
        self._known = self._known[len(compared) :]
        self._skip -= span
        return data[span:]
