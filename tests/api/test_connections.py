"""The bound on connections: who is let in, who has to go, and that a probe comes in while all of them are used up."""

import asyncio
import socket
from dataclasses import dataclass, field

import pytest

from tests.api.test_api_server import Serving
from xchronos.api.serving import connections as under_test
from xchronos.api.serving.connections import LOCAL, Connections, most_connections, peer_of
from xchronos.limits import CONNECTIONS, DESCRIPTORS_KEPT, HALF_REQUEST_SECONDS, SLOW_READER_SECONDS, UNSENT_BYTES


@dataclass(eq=False)
class Fake:
    peer: str
    since: float
    state: str = "reading"
    unsent: int = 0
    statuses: list[int] = field(default_factory=list)

    def stage(self):
        return self.state

    def cut(self, status):
        self.statuses.append(status)


class Book:
    """Connections under a clock that is set by hand."""

    def __init__(self, most=8):
        self.now = 0.0
        self.book = Connections(most, lambda: self.now)

    def open(self, peer="1.1.1.1", state="reading"):
        self.now += 0.001
        fake = Fake(peer, self.now, state)
        return fake, self.book.admit(fake)


def test_the_oldest_half_request_of_the_busiest_peer_goes_for_a_new_connection():
    world = Book(8)
    mine, _ = world.open("2.2.2.2")
    theirs = [world.open("1.1.1.1")[0] for _ in range(6)]
    other, _ = world.open("3.3.3.3")
    assert len(world.book) == 8
    new, taken = world.open("4.4.4.4")
    assert taken
    assert theirs[0].statuses == [503]
    assert not any(fake.statuses for fake in (mine, other, new, *theirs[1:]))
    assert len(world.book) == 8


def test_a_peer_has_its_share_and_then_makes_room_among_its_own():
    world = Book(8)
    assert world.book.share == 6
    mine = [world.open("1.1.1.1")[0] for _ in range(6)]
    assert world.open("1.1.1.1")[1]
    assert mine[0].statuses == [503]
    assert len(world.book) == 6


def test_who_is_being_answered_is_left_alone_and_others_still_have_room():
    world = Book(8)
    serving = [world.open("1.1.1.1", "serving")[0] for _ in range(6)]
    assert not world.open("1.1.1.1")[1]
    assert world.open("2.2.2.2", "serving")[1]
    assert world.open(LOCAL, "serving")[1]
    assert not world.open(LOCAL)[1], "all eight are being answered"
    assert not any(fake.statuses for fake in serving)


def test_who_does_not_read_goes_when_nobody_sends_slowly():
    world = Book(4)
    serving, _ = world.open("1.1.1.1", "serving")
    blocked, _ = world.open("1.1.1.1", "blocked")
    for _ in range(2):
        world.open("2.2.2.2", "serving")
    assert world.open("3.3.3.3")[1]
    assert (blocked.statuses, serving.statuses) == ([503], [])


def test_users_of_a_unix_socket_have_no_share():
    world = Book(8)
    assert all(world.open(LOCAL, "serving")[1] for _ in range(8))


def test_half_requests_end_after_a_while():
    world = Book()
    slow, _ = world.open()
    serving, _ = world.open(state="serving")
    world.now += HALF_REQUEST_SECONDS - 0.01
    world.book.sweep()
    assert slow.statuses == []
    world.now += 0.02
    world.book.sweep()
    assert (slow.statuses, serving.statuses) == ([408], [])
    assert len(world.book) == 1


def test_a_peer_that_takes_nothing_of_its_answer_is_cut_and_one_that_takes_some_is_not():
    world = Book()
    stuck, _ = world.open(state="blocked")
    slow, _ = world.open(state="blocked")
    stuck.unsent = slow.unsent = 1000
    for _ in range(5):
        world.book.sweep()
        world.now += SLOW_READER_SECONDS / 3
        slow.unsent -= 1
    assert (stuck.statuses, slow.statuses) == ([503], [])


def test_answers_that_nobody_takes_do_not_fill_the_memory():
    world = Book()
    stuck = [world.open(state="blocked")[0] for _ in range(3)]
    for fake in stuck:
        fake.unsent = UNSENT_BYTES // 2
    world.book.sweep()
    assert [fake.statuses for fake in stuck] == [[503], [], []]


def test_a_flood_is_one_line(monkeypatch):
    lines = []
    monkeypatch.setattr(under_test.log, "warning", lambda event, **facts: lines.append(facts))
    world = Book(8)
    for _ in range(1000):
        world.open()
        world.book.sweep()
    assert len(lines) == 1
    world.now += under_test.TELL_EVERY
    world.book.sweep()
    assert len(lines) == 2
    assert lines[0]["cut"] + lines[1]["cut"] == 994
    assert (lines[1]["busiest"], lines[1]["open"], lines[1]["most"]) == ("1.1.1.1: 6", 6, 8)


def test_forgetting_twice_is_forgetting_once():
    world = Book()
    fake, _ = world.open()
    world.book.forget(fake)
    world.book.forget(fake)
    assert len(world.book) == 0
    assert world.open()[1]


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        (("10.0.0.1", 5), "10.0.0.1"),
        (("::ffff:10.0.0.1", 5, 0, 0), "10.0.0.1"),
        (("2001:db8:1:2:3:4:5:6", 5, 0, 0), "2001:db8:1:2::"),
        (("fe80::1%eth0", 5, 0, 2), "fe80::"),
        (("testclient", 5), "testclient"),
        ("", LOCAL),
        (None, LOCAL),
    ],
)
def test_who_counts_as_one_peer(address, peer):
    assert peer_of(address) == peer


def test_the_store_and_the_executors_have_descriptors_first():
    assert most_connections(CONNECTIONS, 1 << 20) == CONNECTIONS
    assert most_connections(CONNECTIONS, 1024) == (1024 - DESCRIPTORS_KEPT) // 2
    assert most_connections(CONNECTIONS, 64) == 8


async def http(address: str, request: bytes = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"):
    host, port = address.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    try:
        return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize(
    "half",
    [b"", b"GET /healthz HT", b"PUT /v1/units/a.service HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\nx"],
)
async def test_a_probe_comes_in_while_all_connections_are_used_up(services, monkeypatch, half):
    monkeypatch.setattr("xchronos.api.serving.server.most_connections", lambda wanted, allowed: 20)
    serving = Serving(services)
    address = await serving.address
    host, port = address.removeprefix("http://").split(":")
    peers = []
    try:
        for _ in range(60):
            peer = socket.create_connection((host, int(port)))
            peers.append(peer)
            peer.sendall(half)
            await asyncio.sleep(0)
        await asyncio.sleep(0.2)
        async with asyncio.timeout(5):
            assert (await http(address)).startswith(b"HTTP/1.1 200")
            status = await http(address, b"GET /v1/status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        assert status.startswith(b"HTTP/1.1 200")
        peers[0].settimeout(5)
        assert b"too many connections" in peers[0].recv(1000)
    finally:
        for peer in peers:
            peer.close()
        await serving.stop()


async def test_a_half_request_is_answered_with_what_was_wrong(services, monkeypatch):
    monkeypatch.setattr("xchronos.api.serving.connections.HALF_REQUEST_SECONDS", 0.3)
    monkeypatch.setattr("xchronos.api.serving.server.SWEEP_SECONDS", 0.05)
    serving = Serving(services)
    address = await serving.address
    async with asyncio.timeout(5):
        head = b"PUT /v1/units/a.service HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\nx"
        for half in (b"", b"GET /hea", head):
            assert b"408 Request Timeout" in await http(address, half)
        whole = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
        assert (await http(address, whole + whole[:10])).count(b"HTTP/1.1 ") == 2
    await serving.stop()
