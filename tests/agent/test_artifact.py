"""Artifact=: fetched whole, checked, once, or the attempt fails with the reason."""

import asyncio
import gzip
import hashlib
import os
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.agent.worlds import OK, Cluster
from xchronos import limits
from xchronos.agent.attempt import artifact, download
from xchronos.agent.attempt.artifact import fetch
from xchronos.agent.attempt.download import NotFetched
from xchronos.clock import SECOND
from xchronos.hostfiles import HostFiles
from xchronos.model.policies import Outcome
from xchronos.testing.clock import VirtualClock, run_virtual

BODY = b"data" * 1000
SUM = hashlib.sha256(BODY).hexdigest()


ZIPPED = gzip.compress(b"a tar")


class Server:
    """A server that answers each path in its own way, and notes what it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(request.headers.get("Accept-Encoding", ""))
        number = len(self.asked)
        match request.path.rpartition("/")[2]:
            case "cut":
                return await self._cut(request)
            case "late.tar" if number == 1:
                raise web.HTTPServiceUnavailable
            case "late.tar" if number == 2:
                raise web.HTTPTooManyRequests(headers={"Retry-After": "0"})
            case "late.tar" if number == 3:
                return await self._cut(request)
            case "report.tar" | "late.tar":
                return web.Response(body=BODY)
            case "a.tar.gz":
                return web.Response(body=ZIPPED, headers={"Content-Encoding": "gzip"})
            case "down":
                raise web.HTTPBadGateway
            case "busy":
                raise web.HTTPServiceUnavailable(headers={"Retry-After": "Fri, 31 Dec 2100 23:59:59 GMT"})
            case "moved":
                raise web.HTTPFound("ftp://user:pass@elsewhere/x?sig=s3cret")
            case _:
                raise web.HTTPNotFound

    async def _cut(self, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"x")
        assert request.transport is not None
        request.transport.abort()
        return response


@pytest.fixture
async def asked(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    monkeypatch.setattr(download, "PAUSES", (0.0, 0.0, 0.0))
    serve = Server()
    runner = web.ServerRunner(web.Server(serve))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    serve.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield serve
    await runner.cleanup()


@pytest.fixture
def server(asked: Server) -> str:
    return asked.url


@pytest.fixture
def files() -> HostFiles:
    return HostFiles()


async def test_from_a_server(server: str, tmp_path: Path, files: HostFiles) -> None:
    target = await fetch(f"{server}/a/report.tar?token=1", SUM.upper(), tmp_path / "scratch", files)
    assert target == tmp_path / "scratch/report.tar"
    assert target.read_bytes() == BODY
    assert [path.name for path in target.parent.iterdir()] == ["report.tar"]


@pytest.mark.parametrize(
    ("path", "sha256", "words"),
    [
        ("/missing", "", "the server answered 404 Not Found"),
        ("/report.tar", "0" * 64, f"its SHA-256 is {SUM}, expected {'0' * 64}"),
        ("/cut", "", "Response payload is not completed: "),
        ("/down", "", "the server answered 502 Bad Gateway; tried 4 times"),
        ("/busy", "", "the server answered 503 Service Unavailable; it asks to be left alone for "),
        ("/moved", "", "ftp://...@elsewhere/x?sig=..."),
        ("/", "", "expected a URL whose path ends in a file name"),
        ("/..", "", "expected a URL whose path ends in a file name"),
        ("/a%2Fb", "", "expected a URL whose path ends in a file name"),
    ],
)
async def test_what_a_server_may_do_wrong(
    server: str, tmp_path: Path, path: str, sha256: str, words: str, files: HostFiles
) -> None:
    with pytest.raises(NotFetched) as caught:
        await fetch(server + path, sha256, tmp_path, files)
    assert words in str(caught.value)
    assert str(caught.value)
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240 - a test may wait for a small file


async def test_what_may_pass_is_tried_again(asked: Server, tmp_path: Path, files: HostFiles) -> None:
    target = await fetch(f"{asked.url}/late.tar", SUM, tmp_path, files)
    assert target.read_bytes() == BODY
    assert len(asked.asked) == 4


async def test_the_bytes_are_those_that_were_published(asked: Server, tmp_path: Path, files: HostFiles) -> None:
    target = await fetch(f"{asked.url}/a.tar.gz", hashlib.sha256(ZIPPED).hexdigest(), tmp_path, files)
    assert target.read_bytes() == ZIPPED
    assert asked.asked == ["identity"]


async def test_it_may_be_a_program(server: str, tmp_path: Path, files: HostFiles) -> None:
    os.umask(0o027)
    target = await fetch(f"{server}/report.tar", "", tmp_path, files)
    assert target.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7.0), ("", None), ("soon", None), ("Fri, 31 Dec 1999 23:59:59 GMT", 0.0), ("9" * 50, 999999999.0)],
)
def test_when_a_server_wants_to_be_asked_again(text: str, seconds: float | None) -> None:
    assert download._pause_of(text) == seconds


async def test_a_name_is_looked_up_in_threads_of_their_own(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: HostFiles
) -> None:
    monkeypatch.setattr(download, "PAUSES", ())
    asked: list[str] = []

    def look_up(host: str, port: int, *_: object, **__: object) -> list[object]:
        asked.append(threading.current_thread().name)
        if host == "nothing.invalid":
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    target = await fetch(server.replace("127.0.0.1", "here.invalid") + "/report.tar", SUM, tmp_path, files)
    assert target.read_bytes() == BODY
    with pytest.raises(NotFetched, match=r"the address of nothing\.invalid: Name or service not known"):
        await fetch("http://nothing.invalid/x", "", tmp_path, files)
    assert [name.rpartition(" ")[0] for name in asked] == ["xchronos host files"] * 2


async def test_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: HostFiles) -> None:
    monkeypatch.setattr(download, "PAUSES", (0.0,))
    with pytest.raises(NotFetched, match="connect"):
        await fetch("http://127.0.0.1:1/x", "", tmp_path, files)
    for url in ("ftp://h/x", "file://elsewhere/x", "x"):
        with pytest.raises(NotFetched, match="http, https or file"):
            await fetch(url, "", tmp_path, files)


async def test_a_file_that_is_no_file_holds_nobody_up(tmp_path: Path) -> None:
    files = HostFiles(most=1)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "data").write_bytes(BODY)
    for _ in range(8):
        with pytest.raises(NotFetched, match=r"^is a named pipe \(FIFO\)"):
            await fetch((tmp_path / "pipe").as_uri(), "", tmp_path / "scratch", files)
    with pytest.raises(NotFetched, match="is a device"):
        await fetch("file:///dev/zero", "", tmp_path / "scratch", files)
    assert (await fetch((tmp_path / "data").as_uri(), SUM, tmp_path / "scratch", files)).read_bytes() == BODY


async def test_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: HostFiles) -> None:
    source = tmp_path / "with space.bin"
    source.write_bytes(BODY)
    target = await fetch(source.as_uri(), SUM, tmp_path / "scratch", files)
    assert target.name == "with space.bin"
    assert target.read_bytes() == BODY
    with pytest.raises(NotFetched, match="No such file"):
        await fetch("file:///nonexistent/x", "", tmp_path / "scratch", files)
    monkeypatch.setattr(limits, "ARTIFACT_BYTES", 100)
    with pytest.raises(NotFetched, match="larger than 100 bytes"):
        await fetch(source.as_uri(), "", tmp_path / "other", files)
    assert list((tmp_path / "other").iterdir()) == []


def attempt(
    tmp_path: Path, url: str, *, crash: bool = False, recoverable: bool = True, stop: bool = False
) -> tuple[Outcome | None, str, list[str]]:
    async def main(clock: VirtualClock) -> tuple[Outcome | None, str, list[str]]:
        c = Cluster(clock, tmp_path, {"start-0": (10.0, OK)}, recoverable=recoverable)
        await c.submit("Type=oneshot\nExecStart=/bin/work", f"Artifact={url}")
        execution = await c.place()
        c.boot()
        if stop:
            await c.clock.sleep(SECOND)
            await c.ask_to_stop(execution, "by hand")
        if crash:
            await c.clock.sleep(5 * SECOND)
            await c.crash()
            Path(url.removeprefix("file://")).unlink()  # noqa: ASYNC240 - a test may wait for a small file
            c.boot()
        ended = await c.ended(execution)
        await c.clock.sleep(SECOND)
        await c.crash()
        await c.memory.close()
        assert not list(tmp_path.glob("attempts/*/*/scratch"))  # noqa: ASYNC240 - a test may wait for a small file
        return ended.outcome, ended.reason, c.world.starts

    return run_virtual(main)


@pytest.mark.parametrize("recoverable", [True, False])
def test_an_attempt_begins_with_it(tmp_path: Path, recoverable: bool) -> None:
    (tmp_path / "data").write_bytes(BODY)
    assert attempt(tmp_path, f"file://{tmp_path}/data", recoverable=recoverable) == (Outcome.SUCCEEDED, "", ["start-0"])


def test_an_attempt_without_it_fails(tmp_path: Path) -> None:
    outcome, reason, starts = attempt(tmp_path, "file:///nonexistent/x")
    assert (outcome, reason, starts) == (
        Outcome.FAILED, "Artifact=file:///nonexistent/x: No such file or directory", [],
    )  # fmt: skip


def test_it_is_not_fetched_again_after_a_crash(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(BODY)
    assert attempt(tmp_path, f"file://{tmp_path}/data", crash=True) == (Outcome.SUCCEEDED, "", ["start-0"])


def test_its_time_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(url: str, sha256: str, directory: Path, files: HostFiles) -> Path:
        await asyncio.Event().wait()
        return directory

    monkeypatch.setattr(artifact, "fetch", never)
    outcome, reason, _ = attempt(tmp_path, "http://me:pass@h/x?token=s3cret")
    assert (outcome, reason) == (
        Outcome.FAILED,
        "Artifact=http://...@h/x?token=...: it could not be fetched within 1800 s",
    )
    outcome, reason, _ = attempt(tmp_path, "http://h/x", stop=True)
    assert (outcome, reason) == (Outcome.CANCELLED, "by hand")
