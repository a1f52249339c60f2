"""Artifact=: fetched whole, checked, once, or the attempt fails with the reason."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.agent.worlds import OK, Cluster
from xchronos.agent.attempt import artifact
from xchronos.agent.attempt.artifact import NotFetched, fetch
from xchronos.clock import SECOND
from xchronos.model.policies import Outcome
from xchronos.testing.clock import VirtualClock, run_virtual

BODY = b"data" * 1000
SUM = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
async def server() -> AsyncIterator[str]:
    async def serve(request: web.Request) -> web.StreamResponse:
        if request.path == "/cut":
            response = web.StreamResponse(headers={"Content-Length": "100"})
            await response.prepare(request)
            await response.write(b"x")
            assert request.transport is not None
            request.transport.abort()
            return response
        if request.path.endswith("report.tar"):
            return web.Response(body=BODY)
        raise web.HTTPNotFound

    runner = web.ServerRunner(web.Server(serve))  # type: ignore[arg-type]
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_from_a_server(server: str, tmp_path: Path) -> None:
    target = await fetch(f"{server}/a/report.tar?token=1", SUM.upper(), tmp_path / "scratch")
    assert target == tmp_path / "scratch/report.tar"
    assert target.read_bytes() == BODY
    assert [path.name for path in target.parent.iterdir()] == ["report.tar"]


@pytest.mark.parametrize(
    ("path", "sha256", "words"),
    [
        ("/missing", "", "the server answered 404 Not Found"),
        ("/report.tar", "0" * 64, f"its SHA-256 is {SUM}, expected {'0' * 64}"),
        ("/cut", "", ""),
        ("/", "", "expected a URL whose path ends in a file name"),
        ("/..", "", "expected a URL whose path ends in a file name"),
        ("/a%2Fb", "", "expected a URL whose path ends in a file name"),
    ],
)
async def test_what_a_server_may_do_wrong(server: str, tmp_path: Path, path: str, sha256: str, words: str) -> None:
    with pytest.raises(NotFetched) as caught:
        await fetch(server + path, sha256, tmp_path)
    assert words in str(caught.value)
    assert str(caught.value)
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240 - a test may wait for a small file


async def test_no_server(tmp_path: Path) -> None:
    with pytest.raises(NotFetched, match="connect"):
        await fetch("http://127.0.0.1:1/x", "", tmp_path)
    for url in ("ftp://h/x", "file://elsewhere/x", "x"):
        with pytest.raises(NotFetched, match="http, https or file"):
            await fetch(url, "", tmp_path)


async def test_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "with space.bin"
    source.write_bytes(BODY)
    target = await fetch(source.as_uri(), SUM, tmp_path / "scratch")
    assert target.name == "with space.bin"
    assert target.read_bytes() == BODY
    with pytest.raises(NotFetched, match="No such file"):
        await fetch("file:///nonexistent/x", "", tmp_path / "scratch")
    monkeypatch.setattr(artifact, "MAX_SIZE", 100)
    with pytest.raises(NotFetched, match="larger than 100 bytes"):
        await fetch(source.as_uri(), "", tmp_path / "other")
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
    async def never(url: str, sha256: str, directory: Path) -> Path:
        await asyncio.Event().wait()
        return directory

    monkeypatch.setattr(artifact, "fetch", never)
    outcome, reason, _ = attempt(tmp_path, "http://h/x")
    assert (outcome, reason) == (Outcome.FAILED, "Artifact=http://h/x: it could not be fetched within 1800 s")
    outcome, reason, _ = attempt(tmp_path, "http://h/x", stop=True)
    assert (outcome, reason) == (Outcome.CANCELLED, "by hand")
