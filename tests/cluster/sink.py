"""The sink: a file outside of the cluster to which every step appends that it starts, and that it ends.

One line an event, one write a line: `start <execution> <attempt> <machine> <when>`, and the same with `end`; a step that
may be killed says `beat` meanwhile, so that it is known for how long it lived. `<when>` is unix seconds; shells without
a fine clock write `u` and the machine's uptime instead. The daemons never read it.
"""

import os
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple, cast

SHELL = (
    "say() {{ read up rest < /proc/uptime; "
    'echo "$1 $XCHRONOS_EXECUTION $XCHRONOS_ATTEMPT $XCHRONOS_MACHINE u$up" >> {sink}; }}; '
    "say start; {body}; say end"
)
"""A script that does something between its two lines."""

KINDS = ("start", "beat", "end")


class Key(NamedTuple):
    """What may start once."""

    unit: str
    fire: datetime
    copy: int
    attempt: int


class Event(NamedTuple):
    """A line. `when` is in unix seconds."""

    kind: Literal["start", "beat", "end"]
    key: Key
    machine: str
    when: float


class Sink:
    """Appends to the file; for steps that are calls in the daemon's own process."""

    def __init__(self, path: Path, machine: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        self._machine = machine

    def write(self, *kinds: str, execution: str, attempt: int) -> None:
        """One line for each kind, all in one write."""
        when = time.time()
        text = "".join(f"{kind} {execution} {attempt} {self._machine} {when:.6f}\n" for kind in kinds)
        os.write(self._file, text.encode())


def shell_line(sink: str, body: str = "true") -> str:
    """The value of an ExecStart= that runs `body` and reports before and after; `sink` as the step sees it."""
    script = SHELL.format(sink=sink, body=body).replace("$", "$$").replace("%", "%%").replace("\\", "\\\\")
    return "/bin/sh -c '" + script.replace("'", "\\'") + "'"


def beating(seconds: float) -> str:
    """The body of a step that says ten times a second that it lives."""
    return f"i=0; while [ $i -lt {round(seconds * 10)} ]; do say beat; sleep 0.1; i=$((i+1)); done"


def parse_fire(text: str) -> datetime:
    """A fire time as it stands in ids."""
    return datetime.strptime(text, "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)


def read(path: Path) -> list[Event]:
    """Every event, in the order of the file."""
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return list(_events(path.read_text().splitlines(), booted)) if path.exists() else []


def _events(lines: Iterable[str], booted: float) -> Iterable[Event]:
    for line in lines:
        kind, execution, attempt, machine, when = line.split()
        if kind not in KINDS:
            raise ValueError(f"not a line of the sink: {line!r}")
        unit, fire, copy = execution.split("/")
        # An uptime has two digits, cut off: half of one is the fairest guess.
        instant = booted + float(when[1:]) + 0.005 if when.startswith("u") else float(when)
        key = Key(unit, parse_fire(fire), int(copy), int(attempt))
        yield Event(cast("Literal['start', 'beat', 'end']", kind), key, machine, instant)
