"""A unix socket in front of the Docker engine: a test hears of each request before the engine does, and may keep it."""

import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self


class EngineTap:
    """Passes bytes to and fro. `hear` gets the first line of each request; False: the engine never sees it."""

    def __init__(self, path: Path, engine: str, hear: Callable[[str], bool]) -> None:
        self.host = f"unix://{path}"
        self._engine = engine.removeprefix("unix://")
        self._hear = hear
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(128)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            engine = socket.socket(socket.AF_UNIX)
            engine.connect(self._engine)
            threading.Thread(target=self._upward, args=(client, engine), daemon=True).start()
            threading.Thread(target=self._downward, args=(engine, client), daemon=True).start()

    def _upward(self, client: socket.socket, engine: socket.socket) -> None:
        with client:
            while data := _received(client):
                line = data.split(b"\r\n", 1)[0].decode(errors="replace")
                if line.endswith(" HTTP/1.1") and not self._hear(line):
                    break
                if not _sent(engine, data):
                    break
            _ended(engine)

    def _downward(self, engine: socket.socket, client: socket.socket) -> None:
        with engine:
            while (data := _received(engine)) and _sent(client, data):
                pass
            _ended(client)


def _received(end: socket.socket) -> bytes:
    try:
        return end.recv(1 << 16)
    except OSError:
        return b""


def _sent(end: socket.socket, data: bytes) -> bool:
    try:
        end.sendall(data)
    except OSError:
        return False
    return True


def _ended(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it is closed already
