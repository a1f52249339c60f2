"""The quick way to a list: it prints what the whole way prints, or leaves the list to that without a word.

Besides, the fixture `ctl` asks for every list of all other tests here in both ways.
"""

import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from tests.api.api_helpers import HOURLY, at, ended, running
from tests.cli.conftest import quickly
from tests.cli.shapes_of import shapes
from xchronos.api.app import create_app
from xchronos.api.ports import Services
from xchronos.api.serving.listening import listen
from xchronos.api.serving.server import serve
from xchronos.cli import main as entry
from xchronos.cli import quick
from xchronos.cli.shapes import SHAPES
from xchronos.model.policies import Outcome
from xchronos.wire.details import Executions, Machines
from xchronos.wire.messages import UnitPage


def test_the_shapes_are_those_of_the_records():
    wanted = shapes(UnitPage, Executions, Machines)
    assert wanted == SHAPES, wanted


@pytest.fixture
def full(daemon):
    """A cluster with something of everything."""

    async def fill() -> None:
        cluster = daemon.cluster
        for name in ("a.service", "b@eu.service", "n:x.service", "new.service"):
            await cluster.submit(name, accepted=name != "new.service")
        await cluster.submit("odd.service", HOURLY.replace(b"Hourly report", "Größe \x1b[31m, 東京, 🙂".encode()))
        await cluster.execution(ended("a.service", 0))
        await cluster.execution(ended("a.service", 1.5, Outcome.FAILED, "3d1219c7c4c5404aaa1f6d2a48adfda4"))
        await cluster.execution(running("b@eu.service", 5))
        await cluster.machine("m1", metadata={"zone": "z1", "disk": "ssd"})
        await cluster.machine("m2", cordoned=True, drain_until=at(60))

    daemon.run(fill())
    return daemon


@pytest.mark.parametrize(
    "arguments",
    [
        ("list-units",), ("list-units", "--no-legend"), ("list-units", "-o", "wide"), ("list-units", "--output=table"),
        ("list-units", "--limit", "2"), ("list-units", "--limit=1", "a*", "b*"), ("list-units", "*eu", "--no-color"),
        ("list-units", "none*"), ("list-executions",), ("list-executions", "--all"), ("list-executions", "--failed"),
        ("list-executions", "--limit", "1"), ("list-executions", "a.service", "--no-legend"), ("list-machines",),
        ("list-executions", "b@eu.service"), ("list-machines", "--no-legend", "--output", "wide"),
    ],
)  # fmt: skip
def test_both_ways_print_the_same(ctl, full, arguments):
    whole = ctl(*arguments)
    assert quickly(*arguments) == (whole.stdout, whole.stderr)


def test_a_list_of_many_pages(ctl, full, monkeypatch):
    from xchronos.client import client

    monkeypatch.setattr(quick, "UNITS_PER_PAGE", 2)
    monkeypatch.setattr(client, "UNITS_PER_PAGE", 2)
    for arguments in (("list-units",), ("list-units", "--limit", "3"), ("list-units", "--limit", "1", "*o*")):
        whole = ctl(*arguments)
        assert quickly(*arguments) == (whole.stdout, "")
    assert len(ctl("list-units", "--no-legend").stdout.splitlines()) == 5


@pytest.mark.parametrize(
    "arguments",
    [
        ("list-units", "-o", "json"), ("list-units", "--help"), ("list-units", "--output", "xml"), ("list-unit",),
        ("list-units", "--limit", "0"), ("list-units", "--limit", "x"), ("list-units", "--limit"), ("list-units", ""),
        ("list-units", "--all"), ("list-units", "--", "a*"), ("list-units", "-ojson"), ("list-units", "-o=json"),
        ("list-units", "--no-legend=1"), ("list-units", "--api", ""), ("list-units", "--api", "ftp://x"),
        ("list-units", "--api", "http://127.0.0.1:1"), ("list-units", "--api", "https://127.0.0.1:1"),
        ("list-units", "--api", "http://127.0.0.1:99999"), ("list-units", "--api", "unix:///no/such/socket"),
        ("list-executions", "a"), ("list-executions", "a*.service"), ("list-executions", "a.service", "b.service"),
        ("list-executions", "--limit", "100000"), ("list-executions", "none.service"), ("list-machines", "m1"),
        ("list-machines", "--limit", "1"),
    ],
)  # fmt: skip
def test_what_it_does_not_know_it_leaves_to_the_whole_way(full, arguments):
    assert quickly(*arguments) is None


def test_completions_and_other_encodings_are_for_the_whole_way(full, monkeypatch):
    assert quickly("list-units") is not None
    with monkeypatch.context() as patch:
        patch.setenv(quick.COMPLETING, "bash_complete")
        assert quickly("list-units") is None
    with monkeypatch.context() as patch:
        patch.setenv("XCHRONOS_API", "http://example.org")
        assert quickly("list-units") is None
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from xchronos.cli.quick import listed; sys.exit(listed(['list-units']))"],
        env=os.environ | {"PYTHONIOENCODING": "latin-1"}, capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


# -- answers -----------------------------------------------------------------------------------------------------------

UNIT = {"name": "a.service", "state": "scheduled", "next": "2030-01-01T12:00:00Z"}


@contextmanager
def answering(*parts: bytes, hold: threading.Event | None = None):
    """A server that sends these parts to whoever connects, and closes; with `hold`, when that is set."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def run() -> None:
            peer, _ = server.accept()
            with peer:
                peer.recv(65_536)
                for part in parts:
                    peer.sendall(part)
                if hold is not None:
                    hold.wait(30)

        thread = threading.Thread(target=run)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        if hold is not None:
            hold.set()
        thread.join(10)
        assert not thread.is_alive()


def response(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join([*lines, b"", body])


def page(**fields: object) -> bytes:
    return json.dumps({"units": [UNIT | fields], "after": ""}).encode()


def test_an_answer_in_small_parts():
    with answering(*(bytes([byte]) for byte in response(page(unheard_of=1)))) as url:
        out, _ = quickly("list-units", "--no-legend", "--api", url)
    assert out == "a.service  scheduled  0  2030-01-01T12:00:00Z  -  -\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\n\r\n{}", response(page())[:-1],
        response(page()) + b" ", response(page(), status=b"503 Service Unavailable"),
        response(page(), b"Transfer-Encoding: chunked"), response(page(), b"Content-Encoding: gzip"),
        response(b"\xff"), response(b"[]"), response(b"{}"), response(b"[" * 100_000), response(b'{"units": [1]}'),
        response(page(state="dancing")), response(page(name=None)), response(page(active=True)),
        response(page(active=1.5)), response(page(fired=float("nan"))), response(page(active=1 << 70)),
        response(page(next="yesterday")), response(page(next="2030-01-01T12:00:00")), response(page(source=3)),
        response(page(next="2030-02-31T12:00:00Z")), response(page(description="\ud800")),
        response(json.dumps({"units": [{"name": "a.service"}]}).encode()),
    ],
)  # fmt: skip
def test_an_answer_that_is_not_quite_one_is_for_the_whole_way(answer):
    with answering(answer) as url:
        assert quickly("list-units", "--api", url) is None


@pytest.mark.parametrize(
    ("begun", "told"),
    [
        (b"", "{url} does not answer in time"),
        (b"HTTP/1.1 200 OK\r\nContent-", "{url} does not answer in time"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", "the answer of {url} broke off: timed out"),
    ],
)
def test_a_daemon_that_is_silent_is_not_asked_twice(begun, told, monkeypatch, capsys):
    monkeypatch.setattr(quick, "SECONDS", 0.2)
    with answering(begun, hold=threading.Event()) as url, pytest.raises(SystemExit) as ended:
        quick.listed(["list-units", "--api", url])
    assert (ended.value.code, capsys.readouterr().err) == (4, f"xchronosctl: {told.format(url=url)}\n")


# -- the program -------------------------------------------------------------------------------------------------------


def program(*arguments: str, code: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """xchronosctl in a process of its own, whose `code` runs first; it says at the end which modules it has imported."""
    script = (
        f"import sys, atexit\n{code}\n"
        "atexit.register(lambda: print(*sorted({'click', 'msgspec', 'http.client', 'typing', 'ssl'} & set(sys.modules)),"
        " file=sys.stderr))\n"
        f"sys.argv = ['xchronosctl', *{arguments!r}]\n"
        "from xchronos.cli.main import main; main()"
    )
    return subprocess.run(
        [sys.executable, "-c", script], env=os.environ | environment, capture_output=True, text=True, check=False
    )


def test_nothing_slow_is_imported(full):
    quickly_done = program("list-units", "--no-legend")
    assert (quickly_done.returncode, len(quickly_done.stdout.splitlines()), quickly_done.stderr) == (0, 5, "\n")
    assert {"click", "msgspec", "http.client"} <= set(program("list-units", "-o", "json").stderr.split())


def test_the_reader_has_gone(full):
    gone = "import os; r, w = os.pipe(); os.close(r); os.dup2(w, 1)"
    assert program("list-units", code=gone).returncode == entry.UNWRITTEN
    assert program("list-units", "-o", "json", code=gone).returncode == entry.UNWRITTEN


@pytest.fixture
def guarded(full, tmp_path):
    """The same on a unix socket, with a token. Yields the socket's address."""
    cluster, path = full.cluster, tmp_path / "s"
    services = Services(
        cluster.registry,
        cluster.clock,
        "m1",
        cluster.steps,
        cluster.daemon,
        token="s3cret",
    )

    async def begin():
        ready = full.loop.create_future()
        task = full.loop.create_task(serve(create_app(services), listen(f"unix://{path}", 0), ready.set_result))
        await ready
        return task

    task = full.run(begin())
    yield f"unix://{path}"
    full.loop.call_soon_threadsafe(task.cancel)


def test_a_unix_socket_and_a_token(ctl, guarded, tmp_path, monkeypatch):
    arguments = ("list-units", "--api", guarded)
    refused = ctl(*arguments)
    assert (refused.exit_code, "wants a token: set XCHRONOS_TOKEN" in refused.stderr) == (1, True)
    assert quickly(*arguments) is None
    monkeypatch.setenv("XCHRONOS_TOKEN", "s3cret")
    assert quickly(*arguments) == (ctl(*arguments).stdout, "")
    monkeypatch.delenv("XCHRONOS_TOKEN")
    file = tmp_path / "token"
    file.write_text("s3cret\n")
    monkeypatch.setenv("XCHRONOS_TOKEN_FILE", str(file))
    assert ctl(*arguments).exit_code == 0
    assert quickly(*arguments) == (ctl(*arguments).stdout, "")
    monkeypatch.setenv("XCHRONOS_TOKEN", "other")  # the variable counts first
    assert quickly(*arguments) is None
    monkeypatch.setenv("XCHRONOS_TOKEN", "s3cret\r\nx: y")
    assert quickly(*arguments) is None


@pytest.mark.parametrize(("content", "told"), [(None, "No such file or directory"), ("\n", "it is empty")])
def test_a_token_file_that_gives_no_token(ctl, full, tmp_path, monkeypatch, content, told):
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("XCHRONOS_TOKEN_FILE", str(file))
    assert quickly("list-units") is None
    result = ctl("list-units")
    assert (result.exit_code, result.stderr) == (2, f"xchronosctl: XCHRONOS_TOKEN_FILE: {file}: {told}\n")
