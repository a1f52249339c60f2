"""The launcher and its holders: what they leave behind, say and survive; what the daemon and the kernel do to them."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from xchronos.errors import ExecutorUnavailable
from xchronos.executors.process import launching, table, tree
from xchronos.testing.executors import eventually, output


async def test_what_has_begun_goes_on_without_its_launcher_and_its_end_is_noticed(host):
    spec = host.spec(script="while [ ! -e go ]; do sleep 0.02; done; echo said; exit 5")
    running = asyncio.create_task(host.executor.run(spec))
    await eventually(lambda: host.started == ["0"])
    os.kill(host.launcher, signal.SIGKILL)
    await eventually(lambda: not host.executor._launcher.alive)
    assert (await host.executor.run(host.spec(1))).code == 3, "by another launcher"
    assert not running.done()
    (host.directory / "go").touch()
    assert (await running).code == 5
    assert output(spec) == "said\n"


async def test_a_launcher_that_hangs_is_replaced(host, monkeypatch):
    monkeypatch.setattr("xchronos.executors.process.executor.ANSWER_LIMIT", 0.5)
    await host.executor.run(host.spec(0))
    before = host.launcher
    os.kill(before, signal.SIGSTOP)
    assert (await host.executor.run(host.spec(1))).code == 3
    assert host.launcher != before
    assert host.started == ["0", "1"]


async def test_a_launcher_that_hangs_does_not_hold_up_the_next_daemon(host):
    await host.executor.run(host.spec(0))
    hanging, link = host.launcher, host.executor._launcher._link
    os.kill(hanging, signal.SIGSTOP)
    os.close(link)
    asyncio.get_running_loop().remove_reader(link)
    host.executor._launcher._link, host.executor._launcher._pid = -1, 0
    await host.next_daemon()
    assert (await host.executor.run(host.spec(1))).code == 3
    assert os.waitpid(hanging, 0) == (hanging, signal.SIGKILL)  # noqa: ASYNC222 - it has ended


async def test_two_calls_and_a_cancelled_one_start_one_step(host):
    spec = host.spec(script="sleep 0.1; exit 3")
    for turns in range(12):
        first = asyncio.create_task(host.executor.run(spec))
        for _ in range(turns):
            await asyncio.sleep(0.001 * turns)
        first.cancel()
    results = await asyncio.gather(host.executor.run(spec), host.executor.run(spec))
    assert {result.code for result in results} == {3}
    assert host.started == ["0"]


async def test_a_released_step_that_was_asked_for_is_ended(host):
    await host.executor.run(host.spec(99))
    os.kill(host.launcher, signal.SIGSTOP)
    spec = host.spec(script="sleep 300")
    running = asyncio.create_task(host.executor.run(spec))
    await eventually(lambda: (step := host.executor._steps.of(spec.identity)) is not None and step.answer is not None)
    running.cancel()
    releasing = asyncio.create_task(host.executor.release(spec.execution, 1))
    await asyncio.sleep(0.05)
    os.kill(host.launcher, signal.SIGCONT)
    await releasing
    assert not [left for left in await host.executor.leftovers() if left.execution == spec.execution]
    await eventually(lambda: not any("sleep" in line for line in host.processes()))


async def test_a_start_that_the_kernel_refuses_starts_nothing_and_is_asked_again(host, monkeypatch):
    program = (
        "import sys, os; sys.path.append(sys.argv[1]); from xchronos.executors.process import launcher\n"
        "def no(): raise BlockingIOError(11, 'no')\n"
        "os.fork = no; launcher.main(sys.argv[2])"
    )
    with monkeypatch.context() as patch:
        patch.setattr(launching, "_PROGRAM", program)
        with pytest.raises(ExecutorUnavailable, match="no process can be started: Resource temporarily"):
            await host.executor.run(host.spec(0))
        assert await host.executor.leftovers() == []
        os.kill(host.launcher, signal.SIGKILL)
        await eventually(lambda: not host.executor._launcher.alive)
    assert (await host.executor.run(host.spec(0))).code == 3


async def test_without_ctypes_what_is_left_behind_is_looked_for(host, monkeypatch):
    program = (
        "import sys; sys.modules['ctypes'] = None; sys.path.append(sys.argv[1])\n"
        "from xchronos.executors.process import launcher; launcher.main(sys.argv[2])"
    )
    monkeypatch.setattr(launching, "_PROGRAM", program)
    looked: list[int] = []

    def look() -> list[tree.Seen]:
        looked.append(1)
        return []

    monkeypatch.setattr(tree, "look", look)
    assert (await host.executor.run(host.spec())).code == 3
    assert not await host.executor.left_behind("l.service/0/0", 1)
    assert looked


async def test_what_a_launcher_has_died_of_can_be_read(host, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(launching, "_PROGRAM", "import sys; sys.exit('for want of ' + 'luck')")
        with pytest.raises(ExecutorUnavailable, match="its words are in"):
            await host.executor.run(host.spec())
    await host.executor.run(host.spec())
    assert (host.directory / "state" / "launcher.log.1").read_text() == "for want of luck\n"
    assert (host.directory / "state" / "launcher.log").read_text() == ""


async def test_launcher_and_holders_have_names(host):
    spec = host.spec(script="sleep 300")
    running = asyncio.create_task(host.executor.run(spec))
    await eventually(lambda: host.started == ["0"])
    step = host.executor._steps.of(spec.identity)
    names = [Path(f"/proc/{pid}/comm").read_text() for pid in (host.launcher, step.pid)]  # noqa: ASYNC240 - does not block
    assert names == ["xchronos-launch\n", "xchronos-holder\n"]
    await host.executor.kill(spec)
    assert (await running).signal == "SIGKILL"


async def test_a_look_round_does_not_hold_up_the_daemon(host, monkeypatch):
    look, longest = tree.look, 0.0

    def slowly() -> list[tree.Seen]:
        time.sleep(0.4)  # thousands of processes
        return look()

    async def beat() -> None:
        nonlocal longest
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            longest = max(longest, time.monotonic() - before)

    monkeypatch.setattr(tree, "look", slowly)
    await host.executor.run(host.spec(0))
    heart = asyncio.create_task(beat())
    spec = host.spec(1, "sleep 300 & exit 3")
    assert (await host.executor.run(spec)).code == 3
    assert await host.executor.left_behind(spec.execution, 1)
    await host.executor.release(spec.execution, 1)
    stopped = host.spec(2, "sleep 300")
    running = asyncio.create_task(host.executor.run(stopped))
    await eventually(lambda: "2" in host.started)
    await host.executor.stop(stopped, "SIGTERM")
    await running
    heart.cancel()
    assert longest < 0.35


async def test_a_log_that_cannot_be_written_is_a_result(host):
    spec = host.spec()
    spec.log.mkdir()
    result = await host.executor.run(spec)
    assert (result.code, result.started_at) == (209, None)
    assert "cannot write the output to" in result.reason


async def test_more_steps_than_slots(host):
    count = table.GROWTH + 10
    specs = [host.spec(number, "while [ ! -e go ]; do sleep 0.05; done") for number in range(count)]
    tasks = [asyncio.create_task(host.executor.run(spec)) for spec in specs]
    await eventually(lambda: len(host.started) == count, 60)
    (host.directory / "go").touch()
    assert {result.code for result in await asyncio.gather(*tasks)} == {0}
    for spec in specs:
        await host.executor.release(spec.execution, 1)
    assert (host.directory / "state" / "table").stat().st_size == 2 * table.GROWTH * table.SLOT
    again = [host.spec(number) for number in range(1000, 1000 + count)]
    assert {result.code for result in await asyncio.gather(*(host.executor.run(spec) for spec in again))} == {3}
    assert (host.directory / "state" / "table").stat().st_size == 2 * table.GROWTH * table.SLOT, "slots are used again"
