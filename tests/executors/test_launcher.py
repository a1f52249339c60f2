"""The launcher and the holders die at every point; the disk, the kernel and the daemon do their worst."""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from xchronos.errors import ExecutorUnavailable
from xchronos.executors.contract import StepSpec
from xchronos.executors.process import launching, table
from xchronos.executors.process.executor import ProcessExecutor
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


class LauncherBench:
    """Executors over one directory, one after the other, as a daemon has them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.executor = ProcessExecutor(directory / "state")
        self.starts = directory / "starts"
        self.starts.touch()

    def spec(self, number: int = 0, script: str = "exit 3") -> StepSpec:
        """A step that notes that it was started."""
        return StepSpec(
            "l.service", f"l.service/{number}/0", 1, "start-0", ("sh", "-c", f"echo {number} >> starts; {script}"), "/bin/sh",
            {"PATH": "/usr/bin:/bin"}, str(self.directory), str(self.directory / f"{number}.log"),
        )  # fmt: skip

    @property
    def started(self) -> list[str]:
        return self.starts.read_text().split()

    @property
    def launcher(self) -> int:
        return self.executor._launcher._pid

    async def next_daemon(self) -> None:
        """The daemon is gone, as by kill -9, and another one takes its place."""
        await self.executor.close()
        self.executor = ProcessExecutor(self.directory / "state")

    def processes(self) -> list[str]:
        """What still runs in the directory, or for it."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                there = str((entry / "cwd").readlink()), (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue  # it has ended, or is a zombie
            if str(self.directory) in there[0] or str(self.directory) in there[1]:
                found.append(f"{entry.name} {there[1]}")
        return found


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[LauncherBench]:
    bench = LauncherBench(tmp_path)
    yield bench
    await bench.executor.remove(await bench.executor.leftovers())
    await bench.executor.close()
    await eventually(lambda: not bench.processes())


def dying(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, point: str) -> Path:
    mark = tmp_path / "died"
    monkeypatch.setattr(launching, "_PROGRAM", DYING.format(point=point, mark=str(mark)))
    return mark


@pytest.mark.parametrize("point", LAUNCHER_POINTS)
async def test_a_launcher_that_dies_at_any_point_starts_each_step_once(bench, monkeypatch, tmp_path, point):
    mark = dying(monkeypatch, tmp_path, point.replace("after answer", "before answer"))
    if point == "after answer":
        mark.touch()  # the first answer is `ready`
        await bench.executor.run(bench.spec(99, "exit 0"))
        mark.unlink()
    specs = [bench.spec(number) for number in range(3)]
    results = await asyncio.gather(*(bench.executor.run(spec) for spec in specs))
    assert mark.exists()
    assert [result.code for result in results] == [3, 3, 3]
    assert sorted(bench.started) == ["0", "1", "2", *(["99"] if point == "after answer" else [])]
    for spec in specs:
        assert (await bench.executor.run(spec)).code == 3, "it is known, and not started again"


@pytest.mark.parametrize("point", HOLDER_POINTS)
async def test_a_holder_that_dies_at_any_point_is_lost_or_known_and_not_started_again(
    bench, monkeypatch, tmp_path, point
):
    mark = dying(monkeypatch, tmp_path, point)
    starts, lost = HOLDER_POINTS[point]
    spec = bench.spec(script="sleep 0.3; exit 3" if point == "after start" else "exit 3")
    for _ in range(2):
        result = await bench.executor.run(spec)
        assert mark.exists()
        assert result.lost == lost, result
        assert lost or result.code == 3
    await bench.next_daemon()
    assert (await bench.executor.run(spec)).lost == lost
    await eventually(lambda: bench.started == ([] if starts == "never" else ["0"]))


@pytest.mark.parametrize("point", [*LAUNCHER_POINTS, "before hold"])
async def test_launcher_and_daemon_die_together_and_the_next_one_starts_it_once(bench, monkeypatch, tmp_path, point):
    mark = dying(monkeypatch, tmp_path, point)
    mark.touch()
    await bench.executor.run(bench.spec(99, "exit 0"))
    mark.unlink()
    spec = bench.spec(script="sleep 0.1; exit 3")
    running = asyncio.create_task(bench.executor.run(spec))
    await eventually(mark.exists)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await bench.next_daemon()
    result = await bench.executor.run(spec)
    assert (result.code, result.lost) == (3, False)
    assert bench.started == ["99", "0"]


async def test_a_holder_that_is_slow_to_say_that_it_is_there_is_waited_for(bench, monkeypatch, tmp_path):
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
    spec = bench.spec()
    running = asyncio.create_task(bench.executor.run(spec))
    await eventually(mark.exists)
    (tmp_path / "second").touch()  # another holder would not be slow
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await bench.next_daemon()  # this one would have to wait: the holder has the connection, too
    assert (await bench.executor.run(spec)).code == 3
    await asyncio.sleep(1)
    assert bench.started == ["0"]


async def test_what_has_begun_goes_on_without_its_launcher_and_its_end_is_noticed(bench):
    spec = bench.spec(script="while [ ! -e go ]; do sleep 0.02; done; echo said; exit 5")
    running = asyncio.create_task(bench.executor.run(spec))
    await eventually(lambda: bench.started == ["0"])
    os.kill(bench.launcher, signal.SIGKILL)
    await eventually(lambda: not bench.executor._launcher.alive)
    assert (await bench.executor.run(bench.spec(1))).code == 3, "by another launcher"
    assert not running.done()
    (bench.directory / "go").touch()
    assert (await running).code == 5
    assert output(spec) == "said\n"


async def test_a_launcher_that_hangs_is_replaced(bench, monkeypatch):
    monkeypatch.setattr("xchronos.executors.process.executor.ANSWER_LIMIT", 0.5)
    await bench.executor.run(bench.spec(0))
    before = bench.launcher
    os.kill(before, signal.SIGSTOP)
    assert (await bench.executor.run(bench.spec(1))).code == 3
    assert bench.launcher != before
    assert bench.started == ["0", "1"]


async def test_a_launcher_that_hangs_does_not_hold_up_the_next_daemon(bench):
    await bench.executor.run(bench.spec(0))
    hanging, link = bench.launcher, bench.executor._launcher._link
    os.kill(hanging, signal.SIGSTOP)
    os.close(link)
    asyncio.get_running_loop().remove_reader(link)
    bench.executor._launcher._link, bench.executor._launcher._pid = -1, 0
    await bench.next_daemon()
    assert (await bench.executor.run(bench.spec(1))).code == 3
    assert os.waitpid(hanging, 0) == (hanging, signal.SIGKILL)  # noqa: ASYNC222 - it has ended


async def test_two_calls_and_a_cancelled_one_start_one_step(bench):
    spec = bench.spec(script="sleep 0.1; exit 3")
    for turns in range(12):
        first = asyncio.create_task(bench.executor.run(spec))
        for _ in range(turns):
            await asyncio.sleep(0.001 * turns)
        first.cancel()
    results = await asyncio.gather(bench.executor.run(spec), bench.executor.run(spec))
    assert {result.code for result in results} == {3}
    assert bench.started == ["0"]


async def test_a_released_step_that_was_asked_for_is_ended(bench):
    await bench.executor.run(bench.spec(99))
    os.kill(bench.launcher, signal.SIGSTOP)
    spec = bench.spec(script="sleep 300")
    running = asyncio.create_task(bench.executor.run(spec))
    await eventually(lambda: (step := bench.executor._steps.of(spec.identity)) is not None and step.answer is not None)
    running.cancel()
    releasing = asyncio.create_task(bench.executor.release(spec.execution, 1))
    await asyncio.sleep(0.05)
    os.kill(bench.launcher, signal.SIGCONT)
    await releasing
    assert not [left for left in await bench.executor.leftovers() if left.execution == spec.execution]
    await eventually(lambda: not any("sleep" in line for line in bench.processes()))


async def test_a_start_that_the_kernel_refuses_starts_nothing_and_is_asked_again(bench, monkeypatch):
    program = (
        "import sys, os; sys.path.append(sys.argv[1]); from xchronos.executors.process import launcher\n"
        "def no(): raise BlockingIOError(11, 'no')\n"
        "os.fork = no; launcher.main(sys.argv[2])"
    )
    with monkeypatch.context() as patch:
        patch.setattr(launching, "_PROGRAM", program)
        with pytest.raises(ExecutorUnavailable, match="no process can be started: Resource temporarily"):
            await bench.executor.run(bench.spec(0))
        assert await bench.executor.leftovers() == []
        os.kill(bench.launcher, signal.SIGKILL)
        await eventually(lambda: not bench.executor._launcher.alive)
    assert (await bench.executor.run(bench.spec(0))).code == 3


async def test_a_log_that_cannot_be_written_is_a_result(bench):
    spec = bench.spec()
    spec.log.mkdir()
    result = await bench.executor.run(spec)
    assert (result.code, result.started_at) == (209, None)
    assert "cannot write the output to" in result.reason


async def test_more_steps_than_slots(bench):
    count = table.GROWTH + 10
    specs = [bench.spec(number, "while [ ! -e go ]; do sleep 0.05; done") for number in range(count)]
    tasks = [asyncio.create_task(bench.executor.run(spec)) for spec in specs]
    await eventually(lambda: len(bench.started) == count, 60)
    (bench.directory / "go").touch()
    assert {result.code for result in await asyncio.gather(*tasks)} == {0}
    for spec in specs:
        await bench.executor.release(spec.execution, 1)
    assert (bench.directory / "state" / "table").stat().st_size == 2 * table.GROWTH * table.SLOT
    again = [bench.spec(number) for number in range(1000, 1000 + count)]
    assert {result.code for result in await asyncio.gather(*(bench.executor.run(spec) for spec in again))} == {3}
    assert (bench.directory / "state" / "table").stat().st_size == 2 * table.GROWTH * table.SLOT, "slots are used again"


@pytest.mark.slow
async def test_three_hundred_steps_while_launchers_and_daemons_are_killed(bench):
    """None is lost, none runs twice, and nothing is left: neither a process nor a step in the table."""
    chance = random.Random(13)
    open_ = {
        number: bench.spec(number, f"sleep 0.0{number % 5}; echo out {number}; exit {number % 7}")
        for number in range(300)
    }
    ends = {}

    async def one(number: int) -> None:
        ends[number] = await bench.executor.run(open_[number])

    while len(ends) < len(open_):
        tasks = [asyncio.create_task(one(number)) for number in open_ if number not in ends]
        for _ in range(3):
            await asyncio.wait(tasks, timeout=chance.uniform(0.02, 0.25))
            if bench.launcher:
                os.kill(bench.launcher, signal.SIGKILL)
        await asyncio.wait(tasks, timeout=chance.uniform(0.02, 0.25))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if len(ends) < len(open_):
            await bench.next_daemon()
    assert [number for number, end in ends.items() if end.lost] == []
    assert {number: end.code for number, end in ends.items()} == {number: number % 7 for number in open_}
    assert sorted(map(int, bench.started)) == list(range(300))
    assert all(output(spec) == f"out {number}\n" for number, spec in open_.items())
    for spec in open_.values():
        await bench.executor.release(spec.execution, 1)
    assert await bench.executor.leftovers() == []
