"""The messages that an engine keeps of a container's output, and how to find the place in them again.

An engine keeps output in messages: a line, or a piece of a line that is longer than PIECE. With `timestamps=1` its log
stream gives each message with the time at which the engine took it. Within one stream (standard output, standard
error) messages stay in order, and so a message is known by its stream, its time, and its number among those of the same
time: engines that tell whole seconds (podman) have many of them.
"""

import re
import zlib
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec

PIECE = 16384
"""Bytes of a line after which dockerd cuts it into pieces. All but the last piece have this length."""

TROUBLE = 3
"""The stream on which the engine says why it cannot go on giving its log."""

_DISORDER = 64
"""How many later messages may come before one of the other stream: each stream has a thread of its own in dockerd."""

_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?")
_FIXED = 30
_HEADER = 8

_body = itemgetter(2)


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
            wanted = _HEADER - len(self._header)
            self._header += view[:wanted]
            view = view[wanted:]
            if len(self._header) == _HEADER:
                self._left = int.from_bytes(self._header[4:], "big")
                self._header = b""


class Message(NamedTuple):
    """One message: its stream (1 standard output, 2 standard error), the engine's time as text, its bytes."""

    stream: int
    stamp: bytes
    body: bytes


def sortable(stamp: bytes) -> bytes:
    """A time in a form that sorts as text. dockerd's are of that form; podman leaves zeros and whole fractions out."""
    if len(stamp) == _FIXED or (found := _STAMP.match(stamp)) is None:
        return stamp
    return found[1] + b"." + (found[2] or b"").ljust(9, b"0") + b"Z"


class Frames:
    """Takes the log stream of a container without a terminal apart. Chunks may be cut anywhere."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[Message]:
        """The messages that end in the next chunk."""
        data = self._rest + chunk if self._rest else chunk
        messages = []
        at, size = 0, len(data)
        while size - at >= _HEADER:
            begin = at + _HEADER
            end = begin + int.from_bytes(data[at + 4 : begin], "big")
            if end > size:
                break
            blank = data.find(b" ", begin, end)
            if blank < 0:
                blank = end
            messages.append(Message(data[at], data[begin:blank], data[blank + 1 : end]))
            at = end
        self._rest = data[at:]
        return messages

    def end(self) -> list[Message]:
        """What is left when the stream has ended: nothing, as half a frame is none."""
        return []


class Lines:
    """Takes the log stream of a container with a terminal apart: messages without frames, each after its time."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[Message]:
        """The messages that end in the next chunk."""
        data = self._rest + chunk if self._rest else chunk
        messages = []
        at = 0
        while (blank := data.find(b" ", at, at + 64)) >= 0:
            begin = blank + 1
            end = data.find(b"\n", begin, begin + PIECE) + 1
            if not end:
                if len(data) < begin + PIECE:
                    break
                end = begin + PIECE
            messages.append(Message(1, data[at:blank], data[begin:end]))
            at = end
        self._rest = data[at:]
        return messages

    def end(self) -> list[Message]:
        """What is left when the stream has ended: a last line without a line feed."""
        stamp, blank, body = self._rest.partition(b" ")
        self._rest = b""
        return [Message(1, stamp, body)] if blank else []


class _Stream(msgspec.Struct):
    """Where one stream is.

    Attributes:
        stamp: The time of the last message.
        number: How many messages of this time there were.
        chain: A checksum of these.
        cut: The last message was a piece of a line that goes on.
        feed: A line feed may be missing after the last message: see `Place`.
    """

    stamp: str = ""
    number: int = 0
    chain: int = 0
    cut: bool = False
    feed: bool = False


class _Saved(msgspec.Struct):
    streams: dict[int, _Stream] = {}
    last: int = 0
    filled: int = 0


class Place:
    """How far the messages of a container were read. It can be saved, and looked for in another reading.

    With `swallowed` the engine forgets the line feed of a line that it has cut into pieces (the `local` driver below
    Docker 23). It is put back when the next message shows that the line has ended.

    Attributes:
        filled: About how many bytes the engine's log has been given, at least.
    """

    def __init__(self, *, swallowed: bool = False, per_message: int = 128, per_byte: int = 1) -> None:
        self._swallowed = swallowed
        self._per_message = per_message
        self._per_byte = per_byte
        self._saved = _Saved()

    @property
    def begun(self) -> bool:
        """Whether anything was read."""
        return self._saved.last != 0

    @property
    def filled(self) -> int:
        """About how many bytes the engine's log was given for what was read; never less than it was."""
        return self._saved.filled

    @property
    def stamp(self) -> str:
        """The time of the last message; "" before the first one."""
        return self._saved.streams[self._saved.last].stamp if self.begun else ""

    @property
    def line_feeds_owed(self) -> int:
        """How many streams may end with a line feed that the engine has forgotten: nothing tells."""
        return sum(stream.feed for stream in self._saved.streams.values())

    def fill(self, filled: int) -> None:
        """The engine's log was given at least this much: what was read before this process included."""
        self._saved.filled = max(self._saved.filled, filled)

    def save(self) -> Any:
        """A JSON value for `load`."""
        return msgspec.to_builtins(self._saved, str_keys=True)

    def load(self, value: Any) -> None:
        """Go on where `save` was called, by another process perhaps. Raises msgspec.ValidationError."""
        self._saved = msgspec.convert(value, _Saved, strict=False) if value else _Saved()

    def weigh(self, messages: Sequence[Message]) -> int:
        """At most how many bytes the engine's log needs for these messages."""
        return self._per_message * len(messages) + self._per_byte * sum(len(message.body) for message in messages)

    def take(self, messages: Sequence[Message]) -> bytes:
        """Move on over messages that are new. Returns their bytes."""
        saved = self._saved
        if not messages:
            return b""
        saved.filled += self.weigh(messages)
        saved.last = messages[-1].stream
        for stream in {message.stream for message in messages} - saved.streams.keys():
            saved.streams[stream] = _Stream()
        plain = max(map(len, map(_body, messages))) < PIECE
        if plain and not any(stream.cut or stream.feed for stream in saved.streams.values()):
            for stream, where in saved.streams.items():
                self._move(where, [message for message in messages if message.stream == stream])
            return b"".join(map(_body, messages))
        parts = []
        for message in messages:
            where = saved.streams[message.stream]
            goes_on = where.cut and where.stamp == message.stamp.decode(errors="replace")
            if where.feed:
                parts.append(b"\n")
            parts.append(message.body)
            whole = message.body.endswith(b"\n")
            where.feed = self._swallowed and goes_on and not whole and len(message.body) < PIECE
            where.cut = not whole and len(message.body) == PIECE
            self._move(where, [message])
        return b"".join(parts)

    @staticmethod
    def _move(where: _Stream, messages: Sequence[Message]) -> None:
        """Count the last messages of one stream that have the same time."""
        if not messages:
            return
        stamp = messages[-1].stamp
        begin = len(messages) - 1
        while begin and messages[begin - 1].stamp == stamp:
            begin -= 1
        text = stamp.decode(errors="replace")
        if begin or where.stamp != text:
            where.stamp, where.number, where.chain = text, 0, 0
        where.number += len(messages) - begin
        where.chain = zlib.crc32(b"".join(map(_body, messages[begin:])), where.chain)

    def search(self, *, whole: bool) -> "Search":
        """Look for this place in another reading. `whole`: it begins with the first message that the engine has."""
        saved = self._saved
        return Search(saved.last, saved.streams[saved.last], whole=whole)


class Search:
    """Looks for a place in a reading of the messages.

    Attributes:
        found: The last message that was read has gone by: what follows is new.
        missed: It cannot be in this reading any more. When the reading is of all that there is, the engine has dropped
            it; `held` has what came so far and may be new.
    """

    def __init__(self, stream: int, where: _Stream, *, whole: bool) -> None:
        self.found = False
        self.missed = False
        self.held: list[Message] = []
        self._stream = stream
        self._stamp = where.stamp.encode()
        self._sortable = sortable(self._stamp)
        self._number, self._chain = where.number, where.chain
        self._whole = whole
        self._before = False
        self._run = self._sum = self._later = 0

    def look(self, messages: list[Message]) -> list[Message]:
        """Go over the next messages. Returns those after the place."""
        for index, message in enumerate(messages):
            same = message.stamp == self._stamp
            if not same and sortable(message.stamp) < self._sortable:
                self._before |= message.stream == self._stream
                continue
            self.held.append(message)
            if not same:
                self._later += 1
            if message.stream == self._stream:
                if not same or not (self._before or self._whole):
                    self.missed = True
                else:
                    self._run += 1
                    self._sum = zlib.crc32(message.body, self._sum)
                    if self._run == self._number:
                        self.found = self._sum == self._chain
                        self.missed = not self.found
            self.missed |= not self.found and self._later > _DISORDER
            if self.found or self.missed:
                rest = messages[index + 1 :]
                if self.found:
                    self.held = []
                    return rest
                self.held += rest
                return []
        return []
