"""Calls as steps: the contract's clauses that apply, and what functions may return."""

import asyncio
from pathlib import Path

import pytest

from xchronos.executors.contract import Executor, StepExit, StepSpec
from xchronos.executors.noop import CallableExecutor
from xchronos.testing.executors import ExecutorContract


async def small_shell(spec: StepSpec) -> int:
    verb, _, number = spec.argv[2].partition(" ")
    if verb == "sleep":
        await asyncio.sleep(float(number))
        return 0
    return int(number)


class TestCallable(ExecutorContract):
    shell = False

    def make_executor(self, directory: Path) -> Executor:
        return CallableExecutor("python", small_shell)


def spec(tmp_path, name="start-0"):
    return StepSpec("u", "u/0/0", 1, name, ("a",), "/a", {}, str(tmp_path), f"{tmp_path}/log")


@pytest.mark.parametrize("value", [None, 0, 3, True])
async def test_what_a_function_may_return(tmp_path, value):
    result = await CallableExecutor("python", lambda _: value).run(spec(tmp_path))
    assert result.code == int(value or 0)


async def test_a_step_exit_is_taken_as_it_is(tmp_path):
    given = StepExit(lost=True, reason="for a test")
    assert await CallableExecutor("python", lambda _: given).run(spec(tmp_path)) is given


@pytest.mark.parametrize("is_async", [True, False])
async def test_an_exception_is_exit_code_1(tmp_path, is_async):
    def fail(_):
        raise KeyError("x")

    async def fail_later(_):
        raise KeyError("x")

    result = await CallableExecutor("python", fail_later if is_async else fail).run(spec(tmp_path))
    assert (result.code, result.reason) == (1, "KeyError: 'x'")
    assert result.started_at is not None


async def test_the_callers_cancellation_is_not_swallowed(tmp_path):
    executor = CallableExecutor("python", lambda _: asyncio.sleep(60))
    task = asyncio.create_task(executor.run(spec(tmp_path)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await executor.stop(spec(tmp_path), "SIGTERM")


async def test_a_second_signal_changes_nothing(tmp_path):
    executor = CallableExecutor("python", lambda _: asyncio.sleep(60))
    task = asyncio.create_task(executor.run(spec(tmp_path)))
    await asyncio.sleep(0)
    await executor.stop(spec(tmp_path), "SIGTERM")
    await executor.kill(spec(tmp_path))
    assert (await task).signal == "SIGTERM"
    await executor.remove([])
