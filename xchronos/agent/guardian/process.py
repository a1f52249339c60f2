"""The guardian: kills what has `OnPartition=stop` when its agent cannot, because the agent is paused, hung or dead.

It is a process of its own, in a session of its own. It imports nothing but the standard library and some modules that
do the same (the interpreter runs with `-I -S`): it has to be small, and to go on whatever becomes of the daemon.
Containers belong to the engine and host processes to their holders, so both survive the agent; the lease does not.

The guardian reads one thing: the deadline in the state file, which the agent puts off with every renewal of its lease.
When the deadline has passed, the guardian

- kills every container of this owner that is labelled `xchronos.partition=stop`, and removes those that were created
  and not started yet: an agent that was paused right before a start finds nothing to start;
- kills every host process of a step that the table has as `stop`, and forbids the start of those that have not begun;

and does so again until the deadline is put off. Its clock is CLOCK_BOOTTIME, which all processes of a machine share and
which goes on while the machine sleeps. Before each act it leaves a mark, so that the agent does not take what the
guardian has killed for something that has failed. It ends when its agent says so, or when the agent is dead and nothing
is left to kill.

What it cannot do: act while it is stopped itself, or while the engine does not answer (it goes on asking). Where it is
stopped together with its agent, in a container, another guardian stands by (`standby`).
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
from xchronos.executors.process import table, tree
from xchronos.executors.process.earlier import Home

STATE_POLL = 1.0
"""Seconds between two looks at the state file."""

STRIKE_POLL = 0.1
"""Seconds between two looks for what must not run, while the deadline has passed."""

WRITE_POLL = 0.001
"""Seconds between two looks at a file that the agent, or another guardian, is just writing."""

ENGINE_ANSWER_LIMIT = 5.0
"""Seconds that the engine has for one answer. It answers a kill when the container has ended."""

KILL_THREADS = 8
"""How many containers are killed side by side."""

_STATE = struct.Struct("<QI16sI")
_MARK = struct.Struct("<Q16sI")


def written(deadline: int, *, over: bool, boot: str) -> bytes:
    """The state file: a deadline (ns of CLOCK_BOOTTIME), whether the guarding is over, the boot, and a checksum."""
    body = struct.pack("<QI16s", deadline, int(over), bytes.fromhex(boot.replace("-", "")))
    return body + struct.pack("<I", zlib.crc32(body))


def read(descriptor: int) -> tuple[int, bool, str] | None:
    """The state file: the deadline, whether the guarding is over, and the boot id without dashes. None: it is torn."""
    data = os.pread(descriptor, _STATE.size, 0)
    if len(data) < _STATE.size or zlib.crc32(data[:-4]) != struct.unpack("<I", data[-4:])[0]:
        return None
    deadline, over, boot, _ = _STATE.unpack(data)
    return deadline, bool(over), boot.hex()


def marked(descriptor: int, boot: str) -> int | None:
    """When a guardian last struck in this boot (an id without dashes), in ns of CLOCK_MONOTONIC; None: it did not."""
    while data := os.pread(descriptor, _MARK.size, 0):
        if len(data) == _MARK.size and zlib.crc32(data[:-4]) == struct.unpack("<I", data[-4:])[0]:
            moment, life, _ = _MARK.unpack(data)
            return moment if life.hex() == boot else None
        time.sleep(WRITE_POLL)  # it is being written
    return None


def now() -> int:
    """Nanoseconds of CLOCK_BOOTTIME."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def locked(descriptor: int) -> bool:
    """Take the lock of a file, unless somebody else holds it. Whether it was taken."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(descriptor: int) -> None:
    """Let go of the lock of a file."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)


class Guardian:
    """Watches the deadline, and strikes.

    `directory` holds the state file, the mark and the locks. `docker` is the engine's address ("": none); the guarded
    containers are those of `owner` in `namespace`. `processes` is the process executor's directory ("": none).
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
            # The clock is read before the file: a deadline that is put off right after that has not passed.
            at = now()
            deadline, over = self._known()
            left = (deadline - at) / 1e9
            if left > 0 and not over:
                time.sleep(min(left, STATE_POLL))
                continue
            busy = not over and self.strike()
            if not busy and self._alone(deadline):
                return
            time.sleep(STRIKE_POLL)

    def _known(self) -> tuple[int, bool]:
        """The deadline, and whether the guarding is over."""
        while (known := read(self._state)) is None:
            time.sleep(WRITE_POLL)  # it is being written
        return known[:2]

    def _strikes(self) -> bool:
        """Whether the deadline has (still) passed. Asked of each thing after it was found, right before it is killed.

        Leaves the mark when it has. Pinned by
        `test_what_is_put_off_while_it_gets_no_processor_has_not_passed`.
        """
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
        """Whether no agent is there, and none can come before this process has ended: an agent waits for this lock."""
        if not locked(self._agent):
            return False
        known = read(self._state)
        if known is not None and (known[0] == deadline or known[1]):
            return True
        unlock(self._agent)
        return False

    def strike(self) -> bool:
        """Kill everything that must not run. Returns whether there may be more to do."""
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
            # One that somebody has run from an image that was committed from one of ours has its labels, not its name.
            name = (container.get("Labels") or {}).get("xchronos.name")
            if name is not None and f"/{name}" not in (container.get("Names") or ()):
                continue
            if container["State"] in ("running", "paused", "restarting"):
                todo.append(("POST", f"/containers/{container['Id']}/kill?signal=SIGKILL"))
            elif container["State"] == "created":
                todo.append(("DELETE", f"/containers/{container['Id']}?force=1&v=1"))
        pending = iter(todo)  # shared by the threads: taking the next of a list is one step of the interpreter
        workers = [threading.Thread(target=self._carry_out, args=(pending,)) for _ in todo[:KILL_THREADS]]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return bool(todo)

    def _carry_out(self, pending: Iterator[tuple[str, str]]) -> None:
        for job in pending:
            if not self._strikes():
                return
            # When the engine refuses, or does not answer, the next look shows whether the container has ended anyhow.
            with suppress(OSError):
                call(self._docker, *job)

    # -- host processes -----------------------------------------------------------------------------------------------

    def _strike_processes(self) -> bool:
        if not self._processes:
            return False
        at = now()
        deadline, over = self._known()
        if not over and deadline <= at and os.path.isdir(self._processes):  # noqa: PTH112 - as everything here
            # First what is not started is forbidden, and then what was started is looked for: see `table.strike`.
            table.strike(f"{self._processes}/struck", self._boot.replace("-", ""))
        busy = False
        for entry in self._held():
            if entry.record.on_partition == "stop":
                busy |= self._strike_process(entry)
        return busy

    def _held(self) -> Iterator[table.SlotEntry]:
        """Every step that a holder has, or an earlier version's wrapper."""
        if os.path.exists(f"{self._processes}/table"):  # noqa: PTH110 - as everything here
            steps = table.StepTable(f"{self._processes}/table")
            try:
                yield from (entry for _, entry in steps.entries() if entry.pid)
            finally:
                steps.close()
        for home in Home.all(Path(self._processes)):
            # One that cannot be read must not keep the others alive.
            with suppress(OSError, ValueError, KeyError):
                entry = home.read()
                if entry is not None:
                    yield entry

    def _strike_process(self, entry: table.SlotEntry) -> bool:
        living = start_ticks(entry.pid)
        if entry.record.boot != self._boot.replace("-", "") or (living is not None and living != entry.ticks):
            return False  # that was in another boot of the machine, or another process has the number by now
        if entry.ended is not None and entry.ended.alone:
            return False
        pids = tree.members(entry.pid)
        if not pids and living is not None and not entry.program and entry.ended is None:
            pids = [entry.pid]  # it is about to start the program, be it that it was paused right before
        if pids and not self._strikes():
            return False
        tree.send(pids, signal.SIGKILL)
        return bool(pids) or living is not None


def call(host: str, method: str, path: str) -> bytes:
    """One request to the engine. Returns the answer's body. Raises OSError when there is no answer, or a refusal."""
    with _connected(host) as peer:
        # HTTP/1.0: the answer is not chunked, and ends with the connection.
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
        return socket.create_connection((name.strip("[]"), int(port)), ENGINE_ANSWER_LIMIT)
    peer = socket.socket(socket.AF_UNIX)
    try:
        peer.settimeout(ENGINE_ANSWER_LIMIT)
        peer.connect(rest)
    except OSError:
        peer.close()
        raise
    return peer


def main(settings: str) -> None:
    """Guard, as `settings` (JSON: the arguments of `Guardian`) say. Writes to stdout once something guards."""
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # whatever the daemon's own parent left open for it
    os.chdir("/")
    for heard in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(heard, signal.SIG_IGN)  # meant for the daemon; this process knows by itself when to end
    wanted = json.loads(settings)
    lock = os.open(f"{wanted['directory']}/guardian", os.O_RDWR | os.O_CREAT, 0o600)
    if locked(lock):
        guardian = Guardian(**wanted)
        os.write(1, b"ready")
        os.close(1)
        guardian.run()
    else:
        os.write(1, b"ready")  # another guardian runs already
