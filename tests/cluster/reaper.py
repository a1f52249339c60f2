"""Removes what a fault test has made on this machine, in the end or when the test itself is killed.

Run as a script, it reads one JSON list a line from its standard input: a kind and a name. When the input ends (the
test is done, or dead) it ends and removes everything, the newest first. `Reaper` is the test's side of it.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

LIMIT = 60.0
"""Seconds that removing everything may take."""


class Reaper:
    """Remembers, in a process of its own, what has to be removed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )

    def note(self, kind: str, name: str | int) -> None:
        """Remove this later. Noted before it is made, nothing is ever left behind."""
        assert kind in KINDS, kind
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([kind, str(name)]).encode() + b"\n")
        self._process.stdin.flush()

    def close(self) -> None:
        """Remove everything now."""
        told, _ = self._process.communicate(timeout=LIMIT)
        assert told == b"removed\n", told


def _kill(text: str) -> None:
    """A process, named by its pid and the tick of its start: pids come back."""
    pid, ticks = text.split(":")
    if start_ticks(int(pid)) == ticks:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def start_ticks(pid: int) -> str:
    """When a process was started, in ticks; empty when there is none (any more)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _namespace(name: str) -> None:
    """A network namespace, with every process in it."""
    if not Path(f"/run/netns/{name}").exists():
        return
    deadline = time.monotonic() + 10
    while pids := _run("ip", "netns", "pids", name).split():
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    _run("ip", "netns", "del", name)


def _containers(namespace: str) -> None:
    """The containers of one xchronos namespace."""
    if ids := _run("docker", "ps", "-aq", "--filter", f"label=xchronos.namespace={namespace}").split():
        _run("docker", "rm", "-f", *ids)


def _mount(path: str) -> None:
    _run("umount", "-l", path)


def _mounts(path: str) -> None:
    """Every mount below a directory, the deepest first."""
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for point in sorted((point for point in points if point.startswith(path + "/")), reverse=True):
        _mount(point)


def _directory(path: str) -> None:
    shutil.rmtree(path, ignore_errors=True)


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


KINDS: dict[str, Callable[[str], None]] = {
    "process": _kill,
    "netns": _namespace,
    "containers": _containers,
    "mount": _mount,
    "mounts": _mounts,
    "directory": _directory,
}


def main() -> None:
    """Wait for the end of the input, then remove."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    noted = [json.loads(line) for line in sys.stdin]
    for kind, name in reversed(noted):
        KINDS[kind](name)
    with contextlib.suppress(BrokenPipeError):
        print("removed", flush=True)


if __name__ == "__main__":
    main()
