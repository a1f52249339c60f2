"""The client alone: addresses, and servers that do not behave."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.api.api_helpers import HOURLY, ended
from xchronos.api.views import shown
from xchronos.client import ADDRESS, Client
from xchronos.errors import ApiError, ConfigError


@contextmanager
def answering(answer: bytes, *, hold: float = 0) -> Iterator[str]:
    """A server that sends these bytes to whoever connects, and closes (after `hold` seconds)."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            peer, _ = server.accept()
            with peer:
                peer.recv(65_536)
                peer.sendall(answer)
                if hold:
                    threading.Event().wait(hold)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join(10)


class TestAddresses:
    def test_the_argument_then_the_environment_then_the_default(self, monkeypatch):
        monkeypatch.delenv("XCHRONOS_API", raising=False)
        assert Client().address == ADDRESS == "http://127.0.0.1:7480"
        monkeypatch.setenv("XCHRONOS_API", "unix:///run/x.sock")
        assert Client().address == "unix:///run/x.sock"

    def test_a_bare_host_and_port(self, daemon):
        assert Client(daemon.url.removeprefix("http://")).status().machine == "m1"

    @pytest.mark.parametrize("address", ["ftp://host", "http://", "http://host:port", "http://[::1"])
    def test_what_is_no_address(self, address):
        with pytest.raises(ConfigError, match=r"expected http://host:port or unix:///path"):
            Client(address).status()

    def test_https_is_tried_as_such(self):
        with answering(b"not TLS") as url, pytest.raises(ApiError) as caught:
            Client(url.replace("http", "https")).status()
        assert caught.value.status == 0


class TestFaults:
    def test_nobody_listens(self, tmp_path):
        for address in ("http://127.0.0.1:1", f"unix://{tmp_path}/no.sock"):
            with pytest.raises(ApiError, match=r"cannot connect to .*: is xchronosd running\? Start it with"):
                Client(address).status()

    def test_a_name_that_is_none(self):
        with pytest.raises(ApiError, match=r"cannot connect to http://no\.such\.host\.invalid:1: ") as caught:
            Client("http://no.such.host.invalid:1").status()
        assert caught.value.status == 0

    def test_silence(self):
        with answering(b"", hold=0.3) as url, pytest.raises(ApiError, match="does not answer in time"):
            Client(url, timeout=0.1).status()

    def test_something_else_listens(self):
        with answering(b"SSH-2.0\r\n") as url, pytest.raises(ApiError, match="cannot connect"):
            Client(url).status()
        with (
            answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi") as url,
            pytest.raises(ApiError, match=r"answered something unexpected .*: is this an xchronosd"),
        ):
            Client(url).status()
        with (
            answering(b"HTTP/1.1 502 Bad\r\ncontent-length: 2\r\n\r\nhi") as url,
            pytest.raises(ApiError, match="HTTP status 502 and no reason") as caught,
        ):
            Client(url).status()
        assert caught.value.status == 0

    @pytest.mark.parametrize(
        ("token", "told"),
        [("", "wants a token: set XCHRONOS_TOKEN"), ("no", "does not accept this token: set XCHRONOS_")],
    )
    def test_a_token_that_is_missing_or_wrong(self, token, told):
        body = b'{"error":"a token is needed","problems":[]}'
        refusal = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
        with answering(refusal) as url, pytest.raises(ApiError) as caught:
            Client(url, token=token).status()
        assert str(caught.value).startswith(f"{url} {told}")
        assert caught.value.status == 401

    def test_an_answer_that_breaks_off(self):
        begun = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n"
        with answering(begun) as url:
            stream = Client(url).logs("a.service/x/0", follow=True)
            assert next(stream) == b"one"
            with pytest.raises(ApiError, match="broke off"):
                next(stream)

    def test_a_token_is_sent(self, monkeypatch):
        monkeypatch.setenv("XCHRONOS_TOKEN", "s3cret")
        with socket.create_server(("127.0.0.1", 0)) as server:
            heard = []

            def serve() -> None:
                peer, _ = server.accept()
                with peer:
                    heard.append(peer.recv(65_536))

            thread = threading.Thread(target=serve)
            thread.start()
            with pytest.raises(ApiError):
                Client(f"http://127.0.0.1:{server.getsockname()[1]}").status()
            thread.join(10)
        assert b"authorization: Bearer s3cret\r\n" in heard[0]


class TestCalls:
    def test_verify_stores_nothing(self, daemon):
        client = Client()
        assert client.verify("a.service", HOURLY).ok
        refused = client.verify("a.service", HOURLY + b"#\xff\nNope=1\n", drop_ins=[("x.conf", "[X-Chronos]\nNo=1\n")])
        assert [problem.key for problem in refused.problems] == ["Nope", "No"]
        assert list(client.units()) == []

    def test_a_refusal_has_its_problems(self, daemon):
        with pytest.raises(ApiError, match="the unit file is refused") as caught:
            Client().submit("a.service", HOURLY + b"Nope=1\n")
        assert (caught.value.status, [problem.key for problem in caught.value.problems]) == (422, ["Nope"])

    def test_names_are_quoted(self, daemon):
        client = Client()
        client.submit("a\\x2fb@c:d.service", HOURLY)
        assert client.unit("a\\x2fb@c:d.service").summary.name == "a\\x2fb@c:d.service"
        with pytest.raises(ApiError, match="Not Found"):
            client.unit("../status")

    def test_executions_by_state(self, daemon):
        execution = shown(daemon.run(daemon.cluster.execution(ended("a.service", 0))), daemon.cluster.clock.now())
        assert Client().executions(states=["succeeded"]).executions == (execution,)
        assert Client().executions(states=["failed"]).executions == ()
        assert Client().execution(execution.id) == execution


def test_importing_it_costs_little():
    """Neither http.client nor asyncio, nor any record, before the first request."""
    import subprocess
    import sys

    code = (
        "import sys, xchronos.client\n"
        "slow = {'http.client', 'asyncio', 'xchronos.model.records', 'email'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
