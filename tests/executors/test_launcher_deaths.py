"""Launchers, holders and daemons are killed at every point: each step is started once, and its end is known."""

import asyncio
import os
import random
import signal
from pathlib import Path

import pytest

from xchronos.executors.process import launching
from xchronos.testing.executors import eventually, output

DYING = """
import os, signal, sys
sys.path.append(sys.argv[1])
from xchronos.executors.process import launcher, table, wrapper
point, mark = {point!r}, {mark!r}

def die(here):
    # The first one to come here dies, be it a launcher or a holder.
    if here == point and not os.path.exists(mark):
        os.close(os.open(mark, os.O_CREAT))
        os.kill(os.getpid(), signal.SIGKILL)

def around(owner, name, key):
    inner = getattr(owner, name)
    def called(*args, **more):
        die(f"before {{key}}")
        result = inner(*args, **more)
        die(f"after {{key}}" if result != 0 or key != "fork" else "")
        return result
    setattr(owner, name, called)

around(table.StepTable, "claim", "claim")
around(table.StepTable, "sync", "sync")
around(os, "fork", "fork")
around(launcher, "_tell", "answer")
around(table.StepTable, "hold", "hold")
around(wrapper, "start", "start")
around(table.StepTable, "runs", "runs")
around(table.StepTable, "end", "end")
launcher.main(sys.argv[2])
"""

MANY = 300

LAUNCHER_POINTS = [
    "before claim",
    "after claim",
    "before sync",
    "after sync",
    "before fork",
    "after fork",
    "after answer",
]
HOLDER_POINTS = {
    "before hold": ("once", False),
    "after hold": ("never", True),
    "before start": ("never", True),
    "after start": ("once", True),
    "after runs": ("once", True),
    "before end": ("once", True),
    "after end": ("once", False),
}
"""Whether the program has started, and whether the step is lost."""


def dying(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, point: str) -> Path:
    mark = tmp_path / "died"
    monkeypatch.setattr(launching, "_PROGRAM", DYING.format(point=point, mark=str(mark)))
    return mark


@pytest.mark.parametrize("point", LAUNCHER_POINTS)
async def test_a_launcher_that_dies_at_any_point_starts_each_step_once(host, monkeypatch, tmp_path, point):
    mark = dying(monkeypatch, tmp_path, point.replace("after answer", "before answer"))
    if point == "after answer":
        mark.touch()  # the first answer is `ready`
        await host.executor.run(host.spec(99, "exit 0"))
        mark.unlink()
    specs = [host.spec(number) for number in range(3)]
    results = await asyncio.gather(*(host.executor.run(spec) for spec in specs))
    assert mark.exists()
    assert [result.code for result in results] == [3, 3, 3]
    assert sorted(host.started) == ["0", "1", "2", *(["99"] if point == "after answer" else [])]
    for spec in specs:
        assert (await host.executor.run(spec)).code == 3, "it is known, and not started again"


@pytest.mark.parametrize("point", HOLDER_POINTS)
async def test_a_holder_that_dies_at_any_point_is_lost_or_known_and_not_started_again(
    host, monkeypatch, tmp_path, point
):
    mark = dying(monkeypatch, tmp_path, point)
    starts, lost = HOLDER_POINTS[point]
    spec = host.spec(script="sleep 0.3; exit 3" if point == "after start" else "exit 3")
    for _ in range(2):
        result = await host.executor.run(spec)
        assert mark.exists()
        assert result.lost == lost, result
        assert lost or result.code == 3
    await host.next_daemon()
    assert (await host.executor.run(spec)).lost == lost
    await eventually(lambda: host.started == ([] if starts == "never" else ["0"]))


@pytest.mark.parametrize("point", [*LAUNCHER_POINTS, "before hold"])
async def test_launcher_and_daemon_die_together_and_the_next_one_starts_it_once(host, monkeypatch, tmp_path, point):
    mark = dying(monkeypatch, tmp_path, point)
    mark.touch()
    await host.executor.run(host.spec(99, "exit 0"))
    mark.unlink()
    spec = host.spec(script="sleep 0.1; exit 3")
    running = asyncio.create_task(host.executor.run(spec))
    await eventually(mark.exists)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await host.next_daemon()
    result = await host.executor.run(spec)
    assert (result.code, result.lost) == (3, False)
    assert host.started == ["99", "0"]


async def test_a_holder_that_is_slow_to_say_that_it_is_there_is_waited_for(host, monkeypatch, tmp_path):
    mark = tmp_path / "died"
    slow = DYING.format(point="after fork", mark=str(mark)).replace(
        'around(table.StepTable, "hold", "hold")',
        "def hold(*args, inner=table.StepTable.hold):\n"
        f"    if not os.path.exists({str(tmp_path / 'second')!r}):\n"
        "        __import__('time').sleep(0.8)\n"
        "    inner(*args)\n"
        "table.StepTable.hold = hold",
    )
    monkeypatch.setattr(launching, "_PROGRAM", slow)
    spec = host.spec()
    running = asyncio.create_task(host.executor.run(spec))
    await eventually(mark.exists)
    (tmp_path / "second").touch()  # another holder would not be slow
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await host.next_daemon()  # this one would have to wait: the holder has the connection, too
    assert (await host.executor.run(spec)).code == 3
    await asyncio.sleep(1)
    assert host.started == ["0"]


@pytest.mark.slow
async def test_many_steps_while_launchers_and_daemons_are_killed(host):
    """None is lost, none runs twice, and nothing is left: neither a process nor a step in the table."""
    chance = random.Random(13)
    open_ = {
        number: host.spec(number, f"sleep 0.0{number % 5}; echo out {number}; exit {number % 7}")
        for number in range(MANY)
    }
    ends = {}

    async def one(number: int) -> None:
        ends[number] = await host.executor.run(open_[number])

    while len(ends) < len(open_):
        tasks = [asyncio.create_task(one(number)) for number in open_ if number not in ends]
        for _ in range(3):
            await asyncio.wait(tasks, timeout=chance.uniform(0.02, 0.25))
            if host.launcher:
                os.kill(host.launcher, signal.SIGKILL)
        await asyncio.wait(tasks, timeout=chance.uniform(0.02, 0.25))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if len(ends) < len(open_):
            await host.next_daemon()
    assert [number for number, end in ends.items() if end.lost] == []
    assert {number: end.code for number, end in ends.items()} == {number: number % 7 for number in open_}
    assert sorted(map(int, host.started)) == list(range(MANY))
    assert all(output(spec) == f"out {number}\n" for number, spec in open_.items())
    for spec in open_.values():
        await host.executor.release(spec.execution, 1)
    assert await host.executor.leftovers() == []
