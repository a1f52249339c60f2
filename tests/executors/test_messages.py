"""Finding one's place in an engine's messages again, whatever part of them a reading has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xchronos.executors.docker.messages import PIECE, Frames, Lines, Message, Place, sortable


def framed(messages):
    """The engine's stream of these messages."""
    parts = []
    for stream, stamp, body in messages:
        text = stamp + b" " + body
        parts.append(bytes([stream, 0, 0, 0]) + len(text).to_bytes(4, "big") + text)
    return b"".join(parts)


def stamp_of(second, fraction=""):
    return f"2026-11-30T10:00:{second:02d}{fraction and '.' + fraction}Z".encode()


@st.composite
def engine_logs(draw):
    """Messages as an engine keeps them: times that never go back in a stream, many of one time, and alike."""
    coarse = draw(st.booleans())
    now = {1: 0, 2: 0}
    messages = []
    for _ in range(draw(st.integers(1, 60))):
        stream = draw(st.sampled_from((1, 1, 1, 2)))
        now[stream] = min(max(now.values()) if draw(st.booleans()) else now[stream] + draw(st.integers(0, 1)), 59)
        stamp = stamp_of(now[stream]) if coarse else stamp_of(now[stream], "123456789")
        messages.append(Message(stream, stamp, draw(st.sampled_from((b"a\n", b"b\n", b"\n", b"\xff\0\n", b"piece")))))
    return messages


@given(messages=engine_logs(), data=st.data())
def test_a_reading_that_holds_the_place_gives_what_follows(messages, data):
    at = data.draw(st.integers(1, len(messages)))
    tail = data.draw(st.integers(1, len(messages)))
    place = Place()
    before = place.take(messages[:at])
    saved = Place()
    saved.load(place.save())
    whole = tail == len(messages)
    search = saved.search(whole=whole)
    rest = messages[-tail:]
    cut = data.draw(st.integers(0, len(rest)))
    new = search.look(rest[:cut])
    if search.found:
        new = new + rest[cut:]
    elif not search.missed:
        new = search.look(rest[cut:])
    if whole:
        assert search.found, "all messages are there"
    if search.found:
        assert before + saved.take(new) == b"".join(message.body for message in messages)


@given(messages=engine_logs(), data=st.data())
def test_what_the_engine_has_dropped_is_never_taken_for_read(messages, data):
    at = data.draw(st.integers(1, len(messages)))
    dropped = data.draw(st.integers(at, len(messages)))
    place = Place()
    place.take(messages[:at])
    search = place.search(whole=True)
    new = search.look(messages[dropped:])
    if search.found:
        # Messages that are alike in everything cannot be told apart.
        assert b"".join(message.body for message in new) in b"".join(message.body for message in messages[at:])
    else:
        assert not new


def test_pieces_of_one_line_have_one_time():
    pieces = [Message(1, stamp_of(1, "000000001"), bytes([65 + n]) * PIECE) for n in range(5)]
    pieces.append(Message(1, stamp_of(1, "000000001"), b"end\n"))
    place = Place()
    place.take(pieces[:3])
    assert place.search(whole=True).look(pieces) == pieces[3:]
    search = place.search(whole=False)
    search.look(pieces[1:])
    assert search.missed, "how many of this time came before it cannot be told"
    search = place.search(whole=True)
    search.look(pieces[1:])
    assert search.missed, "the first piece is gone: the third one is another than it was"
    assert search.held == pieces[1:]


def test_a_later_message_of_the_other_stream_may_come_first():
    early, late = stamp_of(1, "000000001"), stamp_of(1, "000000002")
    messages = [Message(2, late, b"e\n"), Message(1, early, b"o\n"), Message(1, late, b"p\n")]
    place = Place()
    place.take(messages[:2])
    assert place.search(whole=True).look(messages) == messages[2:]


@pytest.mark.parametrize(
    ("bodies", "want", "owed"),
    [
        ([b"x" * PIECE, b"y"], b"x" * PIECE + b"y", True),
        ([b"x" * PIECE, b"y", ("later", b"z\n")], b"x" * PIECE + b"y\nz\n", False),
        ([b"x" * PIECE, b"", ("later", b"z\n")], b"x" * PIECE + b"\nz\n", False),
        ([b"x" * PIECE, b"x" * PIECE, b"y", ("later", b"z")], b"x" * 2 * PIECE + b"y\nz", False),
        ([b"x" * PIECE, b"y\n"], b"x" * PIECE + b"y\n", False),
        ([b"x" * PIECE, ("later", b"y\n")], b"x" * PIECE + b"y\n", False),
        ([b"no line feed"], b"no line feed", False),
    ],
)
def test_a_line_feed_that_the_engine_has_swallowed_is_put_back(bodies, want, owed):
    messages = [
        Message(1, stamp_of(2), body[1]) if isinstance(body, tuple) else Message(1, stamp_of(1), body)
        for body in bodies
    ]
    place = Place(swallowed=True)
    assert b"".join(place.take([message]) for message in messages) == want
    assert place.line_feeds_owed == owed
    place.take([Message(2, stamp_of(3), b"of the other stream\n")])
    assert place.line_feeds_owed == owed
    plain = Place()
    assert plain.take(messages) == b"".join(message.body for message in messages)


@given(messages=engine_logs(), cuts=st.lists(st.integers(1, 40)))
def test_frames_may_be_cut_anywhere(messages, cuts):
    data, parts, found = framed(messages), Frames(), []
    for cut in [*cuts, len(data)]:
        found += parts.feed(data[:cut])
        data = data[cut:]
    assert found + parts.end() == messages


@given(
    lengths=st.lists(st.integers(0, 2 * PIECE), max_size=6), ended=st.booleans(), cuts=st.lists(st.integers(1, 9999))
)
def test_a_terminals_stream_has_no_frames(lengths, ended, cuts):
    output = b"".join(b"x" * length + b"\r\n" for length in lengths) + (b"" if ended else b"last")
    data = b""
    for line in output.splitlines(keepends=True):
        data += b"".join(stamp_of(1, "000000001") + b" " + line[at : at + PIECE] for at in range(0, len(line), PIECE))
    parts, found = Lines(), []
    for cut in [*cuts, len(data)]:
        found += parts.feed(data[:cut])
        data = data[cut:]
    assert b"".join(message.body for message in found + parts.end()) == output


def test_times_sort_whatever_an_engine_leaves_out():
    times = [
        b"2026-11-30T10:00:01Z",
        b"2026-11-30T10:00:01.25Z",
        b"2026-11-30T10:00:01.5+00:00",
        b"2026-11-30T10:00:02Z",
    ]
    assert sorted(times, key=sortable) == times
    assert sortable(b"2026-11-30T10:00:01.123456789Z") == b"2026-11-30T10:00:01.123456789Z"
    assert sortable(b"nonsense") == b"nonsense"
