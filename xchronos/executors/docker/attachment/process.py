"""The process that holds the attachment of one container and writes what it prints into the step's log.

It is for containers whose output the engine does not keep, or keeps less of than the step's log does: the engine gives
it to who is attached, and to nobody afterwards. Who is attached and does not read holds the container up. So it is not
the daemon that is attached, but this process, in a session of its own: it outlives the daemon, and goes on while that
stands still. It imports the standard library and a module that does the same (the interpreter runs with `-I -S`).

It holds a lock on the file `lock` for as long as it lives: at most one is attached for a step. The file says how far it
is: `attached`, and at last `ended` (the container's output has come to its end) or `refused: <why>`. Its time is that
at which this process has last been there to read.

When the attachment is cut while the container runs (the engine was restarted), it attaches again, and a line in the log
says from when to when nobody was there. It ends when the container is gone, when the step's log is, or when the engine
has not answered for `GONE_LIMIT`. A full disk does not keep it from reading.
"""

import fcntl
import json
import os
import select
import signal
import socket
import ssl
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

from xchronos.executors.logfile import BoundedLog

ATTACHED, ENDED, REFUSED = "attached", "ended", "refused: "
ENGINE_LIMIT = 60.0
"""Seconds that the engine has for an answer."""

GONE_LIMIT = 3600.0
"""Seconds without an answer of the engine after which the process ends. A daemon that still waits starts another."""

IDLE_LOOK = 10.0
"""Seconds without output after which the process says that it is still there."""

RETRY_PAUSE = 0.1
"""Seconds before an engine that does not answer is asked again."""

_BEFORE = ("created", "configured", "initialized", "restarting", "unknown")
_READ = 1 << 16
_HEADER = 8


class _EngineConnection(HTTPConnection):
    """One connection to the engine, over a unix socket, TCP or TLS."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__("docker", timeout=ENGINE_LIMIT)
        self._settings = settings

    def connect(self) -> None:
        """Connect. Raises OSError."""
        settings = self._settings
        if settings["socket"]:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(ENGINE_LIMIT)
            self.sock.connect(settings["socket"])
            return
        self.sock = socket.create_connection((settings["address"], settings["port"]), ENGINE_LIMIT)
        if settings["tls"]:
            context = ssl.create_default_context(cafile=settings["ca"] or None)
            if settings["certificate"]:
                context.load_cert_chain(settings["certificate"], settings["key"])
            self.sock = context.wrap_socket(self.sock, server_hostname=settings["address"])


def _ask(settings: dict[str, Any], method: str, path: str, headers: dict[str, str]) -> tuple[HTTPResponse, Any]:
    connection = _EngineConnection(settings)
    try:
        connection.request(method, f"{settings['prefix']}/containers/{settings['container']}{path}", headers=headers)
        stream = connection.sock
        response = connection.getresponse()
    except BaseException:
        connection.close()
        raise
    return response, stream


def _may_write(state: dict[str, Any] | None) -> bool:
    """Whether a container in this state may write. dockerd calls one that has ended `exited`, podman `stopped`."""
    return state is not None and (bool(state.get("Running")) or state["Status"] in _BEFORE)


class Attacher:
    """Holds one attachment. `settings` is what `client.AttachedOutput` has written."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._lock = os.open(settings["lock"], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._header = b""
        self._left = 0
        self._here = 0.0
        self._heard = time.monotonic()

    def run(self) -> None:
        """Attach, and read to the end. Returns immediately when another process has the lock."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        settings = self._settings
        last = os.fstat(self._lock).st_mtime if settings["late"] else 0.0
        with BoundedLog(Path(settings["log"]), settings["limit"], resume=True) as log:
            if settings["late"]:
                self._miss(log, last)
            running = True
            cut = 0.0
            while running and Path(settings["lock"]).exists():
                try:
                    refused = self._attach(log, cut)
                    running = self._goes_on()
                except (OSError, HTTPException):
                    refused = ""
                if refused:
                    self._say(REFUSED + refused)
                    return
                cut = time.time()
                if running and self._given_up():
                    log.sync()
                    self._say(ATTACHED)  # not to the end: whoever needs the rest attaches again
                    return
                if running:
                    time.sleep(RETRY_PAUSE)
            log.sync()
        self._say(ENDED)

    def _attach(self, log: BoundedLog, cut: float) -> str:
        """Attach, and copy until the attachment ends. Returns why the engine refuses it; "" if it does not.

        `cut` is when an earlier attachment was cut; 0: there was none.
        """
        with closing(_EngineConnection(self._settings)) as connection:
            connection.connect()
            return self._read(log, connection.sock, cut)

    def _read(self, log: BoundedLog, stream: socket.socket, cut: float) -> str:
        settings = self._settings
        # Not by http.client, which may have read some of the output together with the head.
        target = f"{settings['prefix']}/containers/{settings['container']}/attach?stream=1&stdout=1&stderr=1"
        stream.sendall(
            f"POST {target} HTTP/1.1\r\nHost: docker\r\nContent-Length: 0\r\n"
            "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n".encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            data = stream.recv(_READ)
            if not data:
                raise ConnectionResetError("the engine has not answered")
            head += data
        head, _, early = head.partition(b"\r\n\r\n")
        status = int(head.split(None, 2)[1])
        if status not in (101, 200):
            text = f"{head.splitlines()[0].decode(errors='replace')}: {early.decode(errors='replace').strip()}"
            return "" if status == 404 or status >= 500 else text
        self._heard = time.monotonic()
        if cut:
            self._miss(log, cut)
        self._say(ATTACHED)
        self._header, self._left = b"", 0
        self._copy(log, early)
        stream.settimeout(None)
        pending = getattr(stream, "pending", lambda: 0)
        while True:
            if not pending() and not select.select([stream], [], [], IDLE_LOOK)[0]:
                self._tick()
                if not self._there():
                    return ""
                continue
            data = stream.recv(_READ)
            if not data:
                return ""
            self._heard = time.monotonic()
            self._tick()
            self._copy(log, data)

    def _copy(self, log: BoundedLog, data: bytes) -> None:
        if self._settings["tty"]:
            log.write(data)
            return
        at = 0
        pieces = []
        while at < len(data):
            if self._left:
                piece = data[at : at + self._left]
                self._left -= len(piece)
                pieces.append(piece)
                at += len(piece)
                continue
            wanted = _HEADER - len(self._header)
            self._header += data[at : at + wanted]
            at += wanted
            if len(self._header) == _HEADER:
                self._left = int.from_bytes(self._header[4:], "big")
                self._header = b""
        log.write(b"".join(pieces))

    def _state(self) -> dict[str, Any] | None:
        """The engine's state of the container; None when it is gone. Raises OSError, HTTPException."""
        response, stream = _ask(self._settings, "GET", "/json", {})
        with stream:
            body = response.read()
        if response.status in (200, 404):  # whoever fails for good is gone, too
            self._heard = time.monotonic()
        if response.status == 404:
            return None
        state: dict[str, Any] = json.loads(body)["State"] if response.status == 200 else {"Status": "unknown"}
        return state

    def _there(self) -> bool:
        """Whether there still is a container that may write. An engine that is away for a while says nothing."""
        try:
            state = self._state()
        except (OSError, HTTPException, ValueError):
            state = {"Status": "unknown"}
        return _may_write(state) and not self._given_up()

    def _goes_on(self) -> bool:
        """After the attachment has ended: whether the container may still write. Asks until the engine answers.

        Returns True, too, when the engine has been given up.
        """
        while Path(self._settings["lock"]).exists():
            if self._given_up():
                return True
            try:
                state = self._state()
            except (OSError, HTTPException, ValueError):
                time.sleep(RETRY_PAUSE)
                continue
            return _may_write(state)
        return False

    def _given_up(self) -> bool:
        """Whether the engine has not answered for so long that it is gone for good."""
        return time.monotonic() - self._heard > GONE_LIMIT

    def _tick(self) -> None:
        """Say that this process is there, once a second at most."""
        now = time.time()
        if now - self._here >= 1:
            self._here = now
            os.utime(self._lock)

    def _say(self, word: str) -> None:
        os.pwrite(self._lock, word.encode(), 0)
        os.ftruncate(self._lock, len(word.encode()))

    @staticmethod
    def _miss(log: BoundedLog, since: float) -> None:
        times = (datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z") for at in (since, time.time()))
        log.gap("output from {} to {} may be missing here: nobody was attached".format(*times))


def main(settings: str) -> None:
    """Run with the settings, in JSON."""
    for heard in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(heard, signal.SIG_IGN)  # it ends with the container, not with the daemon
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    Attacher(json.loads(settings)).run()
    sys.exit(0)
