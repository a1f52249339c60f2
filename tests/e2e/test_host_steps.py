"""Host steps of a real daemon while it and its launcher are killed again and again: none lost, none twice, nothing left."""

import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.house import House, eventually

pytestmark = pytest.mark.slow

FULL = os.environ.get("XCHRONOS_CLUSTER_FULL") == "1"
UNITS, EACH = 10, 1000 if FULL else 30
TEXT = """\
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo "start $$XCHRONOS_EXECUTION" >> {sink}; sleep 0.0{length}; echo said; echo "end $$XCHRONOS_EXECUTION" >> {sink}'
[X-Chronos]
Executor=process
HistoryLimit=1000
MisfireThreshold=1h
MisfirePolicy=IGNORE_MISFIRE_POLICY
TriggerStartDelay={delay}
TriggerRepeatInterval=150
TriggerRepeatCount={repeats}
"""


def launchers(state: Path) -> list[int]:
    """The launcher that has the lock, as it has noted itself."""
    with suppress(FileNotFoundError):
        words = (state / "processes/launcher").read_text().split()
        return [int(words[0])] if words else []
    return []


def processes(root: Path) -> list[str]:
    """What runs in this directory, or for it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            line = (entry / "cmdline").read_bytes().decode(errors="replace")
            if str(root) in line or str((entry / "cwd").readlink()).startswith(str(root)):
                found.append(f"{entry.name} {line}")
    return found


def test_steps_survive_the_deaths_of_daemons_and_launchers(house: House, tmp_path: Path) -> None:
    sink, names = tmp_path / "sink", [f"u{number}.service" for number in range(UNITS)]
    for number, name in enumerate(names):
        house.drop(name, TEXT.format(sink=sink, length=number % 4, delay=2000 + 15 * number, repeats=EACH - 1))
    house.start()
    chance, turn, deaths = random.Random(7), 0, Counter[str]()
    eventually(sink.exists, pause=0.01)
    while sink.read_text().count("end") < 0.9 * UNITS * EACH:
        time.sleep(chance.uniform(0.05, 3.0 if FULL else 0.6))
        turn += 1
        if turn % 3 != 2:
            for pid in launchers(house.state):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    deaths["launcher"] += 1
        if turn % 3 != 0:
            house.kill()
            house.start()
            deaths["daemon"] += 1
    # How often depends on how long a daemon takes to come back: on a busy machine most steps are over by then.
    assert min(deaths["launcher"], deaths["daemon"]) >= (20 if FULL else 1), "they were killed"
    eventually(lambda: sum(len(house.ended(name)) for name in names) >= UNITS * EACH, pause=1)
    ended = [one for name in names for one in house.ended(name)]
    assert Counter(one["outcome"] for one in ended) == {"succeeded": UNITS * EACH}
    assert {len(one["attempts"]) for one in ended} == {1}, "no attempt was lost"
    lines = Counter(sink.read_text().splitlines())
    assert lines == Counter(f"{what} {one['id']}" for one in ended for what in ("start", "end"))
    logs = [path.read_text() for path in house.state.glob("attempts/*/*/start-0.log")]
    assert logs == ["said\n"] * (UNITS * EACH), "output is complete"
    assert house.terminate() == 0
    eventually(lambda: not processes(tmp_path))
    print(f"{UNITS * EACH} steps, {dict(deaths)} killed")
