"""When the process that holds an attachment ends although its container has not: made-up engines on a socket."""

import socket
import threading
from contextlib import contextmanager, suppress

import pytest

from xchronos.executors.docker.attachment import process
from xchronos.executors.docker.attachment.process import ATTACHED, ENDED, Attacher

ATTACH = b"HTTP/1.1 101 UPGRADED\r\n\r\n"
BROKEN = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\n{}"
NO_SUCH = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(process, "GONE_LIMIT", 0.5)
    monkeypatch.setattr(process, "IDLE_LOOK", 0.05)
    monkeypatch.setattr(process, "ENGINE_LIMIT", 5.0)


@contextmanager
def engine(path, *answers):
    """Gives these answers, one to a connection, the last one from then on; None: the engine ends. Holds each open."""
    held = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            left = list(answers)
            while True:
                answer = left.pop(0) if len(left) > 1 else left[0]
                if answer is None:
                    listener.shutdown(socket.SHUT_RDWR)
                    return
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connection.recv(1 << 16)
                connection.sendall(answer)
                held.append(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            for connection in held:
                connection.close()


def attached(tmp_path) -> str:
    """Run the process to its end. Returns what it has said at last."""
    lock = tmp_path / "lock"
    Attacher(
        {"socket": str(tmp_path / "s"), "prefix": "/v1.41", "container": "c", "log": str(tmp_path / "log"),
         "limit": 1000, "lock": str(lock), "tty": True, "late": False}
    ).run()  # fmt: skip
    return lock.read_text()


@pytest.mark.timeout(60)
def test_it_ends_when_its_engine_has_gone_for_good(tmp_path):
    assert attached(tmp_path) == ATTACHED, "who still wants the output attaches again"


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("answers", "said"),
    [
        pytest.param((ATTACH, None), ATTACHED, id="its connection is open, and the engine has gone"),
        pytest.param((ATTACH, BROKEN), ATTACHED, id="the engine fails for good"),
        pytest.param((ATTACH, NO_SUCH), ENDED, id="its connection is open, and the container is gone"),
        pytest.param((NO_SUCH,), ENDED, id="the container is gone"),
    ],
)
def test_it_ends_when_there_is_nothing_more_to_read(tmp_path, answers, said):
    with engine(tmp_path / "s", *answers):
        assert attached(tmp_path) == said
