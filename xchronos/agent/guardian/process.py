"""The guardian: kills what has `OnPartition=stop` when its agent cannot, because that is paused, hung or dead.

A process of its own, in a session of its own, that imports nothing but the standard library and two modules which do
the same: it has to be small, and to go on whatever becomes of the daemon. Containers are the engine's and host
processes their wrappers', so both survive the agent; the lease does not. It reads one thing, the deadline in the file
that the agent renews with its lease, and when that has passed it

- kills every container of this owner that is labelled `xchronos.partition=stop`, and removes those that were created
  and not started yet: an agent that was paused right before the start finds nothing to start;
- kills every host process of a step recorded as `stop`, and claims the start of those that nobody has begun;

and again until the deadline is put off. Its clock is CLOCK_BOOTTIME, which all processes of a machine share and which
goes on while the machine sleeps. Before each of these it leaves a mark, so that the agent does not take what it has
killed for something that has failed. It ends when its agent says so, or when that is dead and nothing is left.

What it cannot do: act while it is stopped itself, or while the engine does not answer (it goes on asking). Where it is
stopped together with its agent, in a container, another one stands by (`standby`).
"""

import fcntl
import json
import os
import signal
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from xchronos.executors.hostfacts import boot_id, start_ticks
from xchronos.executors.process import tree

LOOK = 1.0
"""Seconds between two looks at the file."""

STRIKE_AGAIN = 0.1
"""Seconds between two looks for what must not run, while the deadline has passed."""

PATIENCE = 5.0
"""Seconds that the engine has for one answer; a kill is answered when the container has ended."""

AT_ONCE = 8
"""How many containers are killed side by side."""

NOBODY = 1 << 22
"""The pid in a claim of the guardian's: greater than any that Linux gives away, so the claimant is never alive."""

_STATE = struct.Struct("<QI16sI")
_MARK = struct.Struct("<Q16sI")


def written(deadline: int, *, over: bool, boot: str) -> bytes:
    """The state file: a deadline (ns of CLOCK_BOOTTIME), whether the guarding is over, the boot, and a checksum."""
    body = struct.pack("<QI16s", deadline, int(over), bytes.fromhex(boot.replace("-", "")))
    return body + struct.pack("<I", zlib.crc32(body))


def read(descriptor: int) -> tuple[int, bool, str] | None:
    """The deadline, whether it is over, and the boot id without dashes; None when there is no whole record."""
    data = os.pread(descriptor, _STATE.size, 0)
    if len(data) < _STATE.size or zlib.crc32(data[:-4]) != struct.unpack("<I", data[-4:])[0]:
        return None
    deadline, over, boot, _ = _STATE.unpack(data)
    return deadline, bool(over), boot.hex()


def marked(descriptor: int, boot: str) -> int | None:
    """When a guardian last struck in this boot (without dashes), in ns of CLOCK_MONOTONIC; None: it did not."""
    while data := os.pread(descriptor, _MARK.size, 0):
        if len(data) == _MARK.size and zlib.crc32(data[:-4]) == struct.unpack("<I", data[-4:])[0]:
            moment, life, _ = _MARK.unpack(data)
            return moment if life.hex() == boot else None
        time.sleep(0.001)  # it is being written
    return None


def now() -> int:
    """Nanoseconds of CLOCK_BOOTTIME."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def locked(descriptor: int) -> bool:
    """Take a lock, unless somebody else holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(descriptor: int) -> None:
    """Let go of a lock."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)


class Guardian:
    """Watches the deadline, and strikes.

    `directory` holds the state file, the mark and the locks; `docker` is the engine's address ("": none), `owner` whose
    containers in `namespace` they are, and `processes` the process executor's directory ("": none).
    """

    def __init__(self, directory: str, docker: str, namespace: str, owner: str, processes: str) -> None:
        self._state = os.open(f"{directory}/state", os.O_RDWR)
        self._agent = os.open(f"{directory}/agent", os.O_RDWR | os.O_CREAT, 0o600)
        self._mark = os.open(f"{directory}/mark", os.O_RDWR | os.O_CREAT, 0o600)
        self._marking = threading.Lock()
        self._docker = docker
        self._labels = [f"xchronos.namespace={namespace}", f"xchronos.owner={owner}", "xchronos.partition=stop"]
        self._processes = processes
        self._boot = boot_id()
        self._said = ""

    def run(self) -> None:
        """Guard until nobody needs it any more."""
        while True:
            # Read before the file is: what is put off right behind that has not passed.
            at = now()
            deadline, over = self._known()
            left = (deadline - at) / 1e9
            if left > 0 and not over:
                time.sleep(min(left, LOOK))
                continue
            busy = not over and self.strike()
            if not busy and self._alone(deadline):
                return
            time.sleep(STRIKE_AGAIN)

    def _known(self) -> tuple[int, bool]:
        """The deadline, and whether the guarding is over."""
        while (known := read(self._state)) is None:
            time.sleep(0.001)  # it is being written
        return known[:2]

    def _strikes(self) -> bool:
        """Whether the time is (still) up; asked for each thing, right before its end, and after it was found."""
        with self._marking:
            at = now()
            deadline, over = self._known()
            if over or deadline > at:
                return False
            body = struct.pack("<Q16s", time.monotonic_ns(), bytes.fromhex(self._boot.replace("-", "")))
            os.pwrite(self._mark, body + struct.pack("<I", zlib.crc32(body)), 0)
            return True

    def _say(self, words: str) -> None:
        if words != self._said:
            self._said = words
            os.write(2, f"{words}\n".encode())

    def _alone(self, deadline: int) -> bool:
        """Whether no agent is there, and none can come before this process has ended: it would wait for the lock."""
        if not locked(self._agent):
            return False
        known = read(self._state)
        if known is not None and (known[0] == deadline or known[1]):
            return True
        unlock(self._agent)
        return False

    def strike(self) -> bool:
        """End everything that must not run. Returns whether there may be more to do."""
        busy = False
        for step in (self._strike_containers, self._strike_processes):
            try:
                busy |= step()
            except (OSError, ValueError) as error:
                self._say(f"{type(error).__name__}: {error}")
                busy = True
        return busy

    # -- containers ---------------------------------------------------------------------------------------------------

    def _strike_containers(self) -> bool:
        if not self._docker:
            return False
        filters = quote(json.dumps({"label": self._labels}))
        found = json.loads(call(self._docker, "GET", f"/containers/json?all=1&filters={filters}"))
        todo = []
        for container in found:
            if container["State"] in ("running", "paused", "restarting"):
                todo.append(("POST", f"/containers/{container['Id']}/kill?signal=SIGKILL"))
            elif container["State"] == "created":
                todo.append(("DELETE", f"/containers/{container['Id']}?force=1&v=1"))
        pending = iter(todo)  # one for all: taking the next of a list is one step to the interpreter
        workers = [threading.Thread(target=self._carry_out, args=(pending,)) for _ in todo[:AT_ONCE]]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return bool(todo)

    def _carry_out(self, pending: Iterator[tuple[str, str]]) -> None:
        for job in pending:
            if not self._strikes():
                return
            # Refused or unanswered: whether it has ended anyhow is seen at the next look.
            with suppress(OSError):
                call(self._docker, *job)

    # -- host processes -----------------------------------------------------------------------------------------------

    def _strike_processes(self) -> bool:
        if not self._processes:
            return False
        busy = False
        for path in Path(self._processes).glob("*/*/record"):
            # One record that cannot be read must not save the others.
            with suppress(OSError, ValueError):
                if json.loads(path.read_bytes()).get("on_partition") == "stop":
                    busy |= self._strike_process(path.parent)
        return busy

    def _strike_process(self, home: Path) -> bool:
        claim = home / "claim"
        if not claim.exists():
            if not self._strikes():
                return False
            mine = home / f".claim.guardian.{os.getpid()}"
            mine.write_text(f"{NOBODY} 0 {self._boot}")
            with suppress(FileExistsError):
                os.link(mine, claim)
            mine.unlink()
        leader, ticks, boot = claim.read_text().split()
        pid, living = int(leader), start_ticks(int(leader))
        if boot != self._boot or (living is not None and living != int(ticks)):
            return False  # that was in another life of the machine, or somebody else has the number by now
        pids = tree.members(pid)
        if pids and not self._strikes():
            return False
        tree.send(pids, signal.SIGKILL)
        return bool(pids) or living is not None


def call(host: str, method: str, path: str) -> bytes:
    """One request to the engine: the answer's body. Raises OSError when there is none, or one that refuses."""
    with _connected(host) as peer:
        # HTTP/1.0: the answer ends with the connection, and comes in one piece.
        peer.sendall(f"{method} {path} HTTP/1.0\r\nHost: docker\r\nContent-Length: 0\r\n\r\n".encode())
        answer = b""
        while more := peer.recv(65536):
            answer += more
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1:2]
    if not status or not status[0].startswith(b"2"):
        raise OSError(f"{method} {path.partition('?')[0]}: {head.splitlines()[:1]}")
    return body


def _connected(host: str) -> socket.socket:
    scheme, _, rest = host.partition("://")
    if scheme != "unix":
        name, _, port = rest.rstrip("/").rpartition(":")
        return socket.create_connection((name.strip("[]"), int(port)), PATIENCE)
    peer = socket.socket(socket.AF_UNIX)
    try:
        peer.settimeout(PATIENCE)
        peer.connect(rest)
    except OSError:
        peer.close()
        raise
    return peer


def main(settings: str) -> None:
    """Guard, as `settings` (JSON: the arguments of `Guardian`) say. Says so on stdout once it does."""
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # whatever the daemon's own parent left open for it
    os.chdir("/")
    for heard in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(heard, signal.SIG_IGN)  # meant for the daemon; this process has its own end
    wanted = json.loads(settings)
    lock = os.open(f"{wanted['directory']}/guardian", os.O_RDWR | os.O_CREAT, 0o600)
    if locked(lock):
        guardian = Guardian(**wanted)
        os.write(1, b"ready")
        os.close(1)
        guardian.run()
    else:
        os.write(1, b"ready")  # there is one already
