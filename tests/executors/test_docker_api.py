"""The client against an engine made of canned answers: versions, refusals, pulls."""

import asyncio
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from aiohttp import web

from tests.executors.docker_bench import NAMESPACE, Bench
from xchronos.clock import MILLISECOND
from xchronos.errors import ConfigError, ExecutorUnavailable, StartRefused
from xchronos.executors import hostfacts, patience
from xchronos.executors.docker.body import read_assignments
from xchronos.executors.docker.client import ConnectionLost, DockerClient, EngineRefusal
from xchronos.executors.docker.executor import DockerExecutor
from xchronos.executors.docker.images import DOCKER_HUB, PullFailed, pull, registry_of, split_reference
from xchronos.executors.docker.inspected import moment, refused_start, seconds_text
from xchronos.executors.docker.messages import Demultiplexer
from xchronos.executors.hostfacts import boot_time, engine_started
from xchronos.hostfiles import HostFiles
from xchronos.testing.executors import output

FILES = HostFiles()


class Canned:
    """Answers (status, body) by "METHOD path-without-version"; remembers requests."""

    def __init__(self):
        self.version = "1.41"
        self.ping = 200
        self.answers = {}
        self.requests = []
        self.hang_up = 0
        self.engine: DockerClient

    async def handle(self, request):
        if request.path == "/_ping":
            headers = {"Api-Version": self.version} if self.version else {}
            return web.Response(status=self.ping, text="OK", headers=headers)
        version, _, path = request.path.lstrip("/").partition("/")
        self.requests.append((version, request))
        if self.hang_up:
            self.hang_up -= 1
            request.transport.abort()
        status, body = self.answers[f"{request.method} /{path}"]
        return web.Response(status=status, body=body if isinstance(body, bytes) else json.dumps(body).encode())


@pytest.fixture
async def canned(tmp_path):
    canned = Canned()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", canned.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "s")).start()
    canned.engine = DockerClient(f"unix://{tmp_path}/s")
    yield canned
    await canned.engine.close()
    await runner.cleanup()


@pytest.mark.parametrize(
    ("theirs", "spoken"), [("1.41", "v1.41"), ("1.55", "v1.47"), ("1.9", "v1.9"), ("", "v1.24"), ("2.0", "v1.47")]
)
async def test_the_version_is_negotiated(canned, theirs, spoken):
    canned.version = theirs
    canned.answers["GET /x"] = (200, {})
    await canned.engine.call("GET", "/x")
    assert canned.requests[0][0] == spoken


async def test_something_else_than_an_engine(canned):
    canned.version = "nonsense"
    with pytest.raises(ExecutorUnavailable, match="nonsense"):
        await canned.engine.ping()
    canned.ping = 500
    with pytest.raises(ExecutorUnavailable, match="500"):
        await canned.engine.ping()
    canned.ping, canned.version = 200, "1.41"
    canned.answers["GET /version"] = (500, {"message": "no"})
    executor = DockerExecutor("x", canned.engine.host)
    with pytest.raises(ExecutorUnavailable, match="no"):
        await executor.probe()
    await executor.close()


@pytest.mark.parametrize(
    ("body", "text"),
    [({"message": "why"}, "why"), (b"<html>", "<html>"), (b"", "HTTP status 409"), (["a"], "['a']")],
)
async def test_a_refusal_has_the_engines_words(canned, body, text):
    canned.answers["POST /x"] = (409, body)
    with pytest.raises(EngineRefusal) as caught:
        await canned.engine.call("POST", "/x", params={"a": "b c&d"}, body={"k": 1})
    assert (caught.value.status, caught.value.message) == (409, text)
    assert canned.requests[0][1].query == {"a": "b c&d"}


NO_JSON = [(200, b""), (204, b""), (200, b"\n"), (200, b"OK\n"), (201, b"{"), (200, b"<html>")]


@pytest.mark.parametrize("answer", NO_JSON)
async def test_success_is_an_answer_whatever_its_body(canned, answer):
    """Podman says `OK` or a line feed where docker says nothing or JSON."""
    canned.answers |= {"POST /x": answer, "GET /x": answer}
    assert await canned.engine.call("POST", "/x") is None
    assert len(canned.requests) == 1
    assert await canned.engine.call("GET", "/x") is None


@pytest.mark.parametrize("answer", NO_JSON)
async def test_an_answer_without_the_content_that_is_needed_is_a_refusal(canned, answer):
    canned.answers["POST /x"] = answer
    with pytest.raises(EngineRefusal, match="POST /x without any JSON"):
        await canned.engine.ask("POST", "/x")
    assert len(canned.requests) == 1  # it may have been carried out


@pytest.mark.parametrize("answer", NO_JSON)
@pytest.mark.parametrize(
    ("line", "paths", "code", "printed"),
    [
        ("tag|a|b", ["POST /images/a/tag"], 0, ""),
        ("network|create|n", ["POST /networks/create"], 0, "n\n"),
        ("network|connect|n|c", ["POST /networks/n/connect"], 0, ""),
        ("network|disconnect|n|c", ["POST /networks/n/disconnect"], 0, ""),
        ("network|rm|n", ["DELETE /networks/n"], 0, "n\n"),
        ("volume|create|v", ["POST /volumes/create"], 0, "v\n"),
        ("volume|rm|v", ["DELETE /volumes/v"], 0, "v\n"),
        ("rename|a|b", ["POST /containers/a/rename"], 0, ""),
        ("pause|a", ["POST /containers/a/pause"], 0, "a\n"),
        ("stop|a", ["POST /containers/a/stop"], 0, "a\n"),
        ("kill|a", ["POST /containers/a/kill"], 0, "a\n"),
        ("rmi|a", ["DELETE /images/a"], 0, ""),
        ("network|prune|-f", ["POST /networks/prune"], 0, "Total reclaimed space: 0B\n"),
        ("inspect|--type=container|a", ["GET /containers/a/json"], 1, None),
        ("ps", ["GET /containers/json"], 1, None),
    ],
)
async def test_commands_end_whatever_the_body_of_success(canned, tmp_path, line, paths, code, printed, answer):
    canned.answers |= dict.fromkeys(paths, answer)
    executor = DockerExecutor(NAMESPACE, canned.engine.host)
    bench = Bench(executor, canned.engine, tmp_path, "busybox")
    try:
        async with asyncio.timeout(5):
            got, text = await bench.run(line)
    finally:
        await executor.close()
    assert got == code
    assert "without any JSON" in text if printed is None else text == printed


async def test_what_is_asked_again_for_long_is_told_in_the_steps_log(canned, tmp_path, monkeypatch):
    monkeypatch.setattr(patience, "TELL_AFTER", 100 * MILLISECOND)
    canned.answers["POST /images/a/tag"] = (200, b"")
    executor = DockerExecutor(NAMESPACE, canned.engine.host)
    bench = Bench(executor, canned.engine, tmp_path, "busybox")
    spec = bench.line("tag|a|b")
    canned.hang_up = 4
    assert (await executor.run(spec)).code == 0
    await executor.close()
    assert "the engine was asked" in output(spec)
    assert "POST /images/a/tag" in output(spec)
    assert "was lost" in output(spec)


async def test_what_a_pull_says(canned, monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    lines = [
        {"status": "Pulling from library/x", "id": "latest"},
        {"status": "Downloading", "id": "abc", "progressDetail": {"current": 1}},
        {"status": "Digest: sha256:1"},
    ]
    canned.answers["POST /images/create"] = (200, b"\r\n".join(json.dumps(line).encode() for line in lines) + b"\r\n")
    said = []
    await pull(canned.engine, "x", said.append, FILES, platform="linux/arm64")
    assert said == ["latest: Pulling from library/x", "Digest: sha256:1"]
    assert canned.requests[0][1].query == {"fromImage": "x", "tag": "latest", "platform": "linux/arm64"}
    await pull(canned.engine, "x", said.append, FILES, all_tags=True)
    assert canned.requests[1][1].query == {"fromImage": "x"}


@pytest.mark.parametrize(
    "answer",
    [
        (200, b'{"status":"x"}\n{"errorDetail":{"message":"manifest unknown"},"error":"manifest unknown"}\n'),
        (200, b'{"errorDetail":{"message":"manifest unknown"}}'),
        (404, {"message": "manifest unknown"}),
    ],
)
async def test_a_pull_fails_in_three_ways(canned, answer):
    canned.answers["POST /images/create"] = answer
    with pytest.raises(PullFailed, match="manifest unknown"):
        await pull(canned.engine, "x", lambda _: None, FILES)


async def test_a_pull_that_is_cut_is_no_failure_of_the_image(canned):
    canned.answers["POST /images/create"] = (200, b'{"status":')
    canned.hang_up = 1
    with pytest.raises(ConnectionLost):
        await pull(canned.engine, "x", lambda _: None, FILES)


@pytest.mark.parametrize("body", [b"OK\n", b"", b"\n", b"[]"])
async def test_a_pull_whose_answer_is_no_json_is_over_all_the_same(canned, body):
    canned.answers["POST /images/create"] = (200, body)
    said = []
    await pull(canned.engine, "x", said.append, FILES)
    assert said == [body.decode().strip()] * bool(body.strip())


@pytest.mark.parametrize(
    ("image", "parts", "registry"),
    [
        ("x", ("x", "latest"), DOCKER_HUB),
        ("a/b:1", ("a/b", "1"), DOCKER_HUB),
        ("docker.io/a/b", ("docker.io/a/b", "latest"), DOCKER_HUB),
        ("localhost:5000/x", ("localhost:5000/x", "latest"), "localhost:5000"),
        ("localhost/x:2", ("localhost/x", "2"), "localhost"),
        ("h:5/x@sha256:ab", ("h:5/x", "sha256:ab"), "h:5"),
        ("x:1@sha256:ab", ("x", "sha256:ab"), DOCKER_HUB),
    ],
)
def test_references(image, parts, registry):
    assert split_reference(image) == parts
    assert registry_of(image) == registry


@pytest.mark.parametrize("host", ["", "ssh://me@there", "unix://", "/var/run/docker.sock", "nonsense"])
def test_addresses(host, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", host)
    if host:
        with pytest.raises(ConfigError, match="expected unix:///path"):
            DockerClient()
    else:
        assert DockerClient().socket == "/var/run/docker.sock"


async def test_addresses_over_tcp(monkeypatch, tmp_path):
    engine = DockerClient("tcp://127.0.0.1:9/")
    assert engine.socket is None
    with pytest.raises(ExecutorUnavailable, match="does not answer"):
        await engine.call("GET", "/x")
    await engine.close()
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="no usable certificates"):
        DockerClient("tcp://127.0.0.1:9")


def test_frames_cut_anywhere():
    stream = b"\1\0\0\0\0\0\0\3abc\2\0\0\0\0\0\0\0\1\0\0\0\0\0\0\2de"
    for size in range(1, len(stream) + 1):
        frames = Demultiplexer()
        chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
        assert b"".join(bytes(piece) for chunk in chunks for piece in frames.feed(chunk)) == b"abcde"


@pytest.mark.parametrize(
    ("message", "given", "code"),
    [
        ("x", 127, 127),
        ("x", 126, 126),
        ('exec: "x": executable file not found in $PATH', 0, 127),
        ("exec: /x: permission denied", 0, 126),
        ("unable to find user x", 128, 125),
    ],
)
def test_the_clients_codes_of_a_start_that_failed(message, given, code):
    assert refused_start(message, given) == code


def test_times_of_the_engine():
    assert moment("0001-01-01T00:00:00Z") is None
    assert moment("2026-01-02T03:04:05.123456789Z").microsecond == 123456
    assert moment("2026-01-02T03:04:05+01:00").utcoffset().seconds == 3600
    assert seconds_text("1970-01-01T00:00:01.5Z") == "1.500000000"
    assert seconds_text("") == ""


def test_when_an_engine_started(tmp_path, docker_host):
    assert engine_started(str(tmp_path / "none")) is None
    started = engine_started(docker_host.removeprefix("unix://"))
    assert started is None or started >= boot_time() - 5


def test_when_an_engine_started_whose_socket_is_the_init_systems(tmp_path, monkeypatch):
    monkeypatch.setattr(hostfacts, "_listener", lambda _: 1)
    path, noted = str(tmp_path / "docker.sock"), tmp_path / "docker.pid"
    assert engine_started(path) is None
    program = tmp_path / "dockerd"
    shutil.copy("/bin/sleep", program)
    with subprocess.Popen([program, "60"]) as engine:
        try:
            # The kernel tells the parent of the new program a moment before it gives the process its name.
            while Path(f"/proc/{engine.pid}/comm").read_text() != "dockerd\n":
                time.sleep(0.01)
            noted.write_text(str(engine.pid))
            started = engine_started(path)
            assert started is not None
            assert abs(started - time.time()) < 30
            # The engine is gone, and its number somebody else's.
            noted.write_text(str(os.getpid()))
            assert engine_started(path) is None
            noted.write_text("")
            assert engine_started(path) is None
        finally:
            engine.kill()


async def test_a_file_that_is_no_text(tmp_path):
    path, files = tmp_path / "f", HostFiles()
    path.write_bytes(b"A=\xff")
    with pytest.raises(StartRefused, match="not UTF-8"):
        await read_assignments(files, path, {})
    path.write_text("=1\n")
    with pytest.raises(StartRefused, match=":1: the name is empty"):
        await read_assignments(files, path, {})
