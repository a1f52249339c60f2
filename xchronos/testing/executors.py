# ruff: noqa: D102 - a clause is its name
"""`ExecutorContract`: what every executor promises, as tests to inherit. Needs pytest and pytest-asyncio.

A test class derives from it and says how an executor is made and what its steps look like; pytest then runs every
clause. Scripts are POSIX shell. An executor without a shell (`shell = False`) is tested only by the clauses that need
none, with the scripts `exit <n>` and `sleep <n>`.
"""

import asyncio
import uuid
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from xchronos.executors.contract import Executor, StepExit, StepSpec
from xchronos.executors.logfile import kept_files


def output(spec: StepSpec) -> str:
    """Everything that is kept of a step's output."""
    return b"".join(path.read_bytes() for path in kept_files(spec.log)).decode(errors="replace")


async def eventually(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    """Return when the condition holds. Raises TimeoutError when it does not within `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - it looks at files and processes, which set no Event
            await asyncio.sleep(0.01)


class ExecutorContract:
    """The clauses. A subclass defines `make_executor`, and `adapt` if a step of its executor needs more than argv."""

    shell: bool = True

    @abstractmethod
    def make_executor(self, directory: Path) -> Executor:
        """A new executor. All executors of one test get the same `directory`."""

    def adapt(self, spec: StepSpec) -> StepSpec:
        """The spec with what this executor needs."""
        return spec

    @pytest_asyncio.fixture
    async def executor(self, tmp_path: Path) -> AsyncIterator[Executor]:
        """The executor under test."""
        executor = self.make_executor(tmp_path / "state")
        yield executor
        await executor.close()

    @pytest_asyncio.fixture
    async def make(self, executor: Executor, tmp_path: Path) -> AsyncIterator[Callable[..., StepSpec]]:
        """A function that builds specs of one new attempt. The attempt is released at the end of the test."""
        execution = f"contract-{uuid.uuid4().hex[:12]}.service/0/0"
        (tmp_path / "attempt").mkdir()
        made: list[StepSpec] = []

        def build(script: str, step: str = "start-0", **more: Any) -> StepSpec:
            spec = StepSpec(
                unit="contract.service",
                execution=execution,
                attempt=1,
                step=step,
                argv=("sh", "-c", script),
                program="/bin/sh",
                env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
                directory=f"{tmp_path}/attempt",
                log_path=str(tmp_path / f"{step}.log"),
            )
            made.append(self.adapt(msgspec.structs.replace(spec, **more)))
            return made[-1]

        yield build
        for spec in made:
            await executor.kill(spec)
        await executor.release(execution, 1)

    def need_shell(self) -> None:
        """Skip a clause that needs a shell if the executor has none."""
        if not self.shell:
            pytest.skip("this executor runs no shell")

    def need_recovery(self, executor: Executor) -> None:
        """Skip a clause about adoption if the executor's steps die with the daemon."""
        if not executor.recoverable:
            pytest.skip("this executor's steps do not outlive the daemon")

    @staticmethod
    async def abandon(task: "asyncio.Task[StepExit]") -> None:
        """Cancel a run and wait until its task has ended."""
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def test_probe_says_what_the_engine_is(self, executor: Executor) -> None:
        assert await executor.probe()

    @pytest.mark.parametrize("code", [0, 1, 7])
    async def test_the_exit_code_comes_back(self, executor: Executor, make: Callable[..., StepSpec], code: int) -> None:
        result = await executor.run(make(f"exit {code}"))
        assert (result.code, result.signal, result.lost, result.oom_killed) == (code, "", False, False)
        assert result.started_at is not None
        assert result.ended_at is not None
        assert result.started_at <= result.ended_at

    async def test_the_output_is_complete_and_in_order(self, executor: Executor, make: Callable[..., StepSpec]) -> None:
        self.need_shell()
        spec = make("i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; echo oops >&2; printf end")
        assert (await executor.run(spec)).code == 0
        lines = output(spec).splitlines()
        assert [line for line in lines if line.startswith("line")] == [f"line {i}" for i in range(3000)]
        assert any("oops" in line for line in lines)
        assert any(line.startswith("end") for line in lines)

    async def test_output_can_be_read_while_the_step_runs(
        self, executor: Executor, make: Callable[..., StepSpec]
    ) -> None:
        self.need_shell()
        spec = make("echo early; sleep 60")
        task = asyncio.create_task(executor.run(spec))
        await eventually(lambda: "early" in output(spec))
        assert not task.done()
        await executor.kill(spec)
        await task

    async def test_the_environment_arrives(self, executor: Executor, make: Callable[..., StepSpec]) -> None:
        self.need_shell()
        spec = make('printf "<%s>" "$A" "$B" "$C"', env={"A": "1 2", "B": "ä='\"$x", "C": ""})
        assert (await executor.run(spec)).code == 0
        assert output(spec) == "<1 2><ä='\"$x><>"

    async def test_stop_sends_the_signal(self, executor: Executor, make: Callable[..., StepSpec]) -> None:
        self.need_shell()
        spec = make("trap 'echo bye; exit 9' TERM; echo ready; while :; do sleep 0.05; done")
        task = asyncio.create_task(executor.run(spec))
        await eventually(lambda: "ready" in output(spec))
        await executor.stop(spec, "SIGTERM")
        assert (await task).code == 9
        assert "bye" in output(spec)

    async def test_a_step_without_a_handler_ends_by_the_signal(
        self, executor: Executor, make: Callable[..., StepSpec]
    ) -> None:
        spec = make("echo ready; exec sleep 60" if self.shell else "sleep 60")
        task = asyncio.create_task(executor.run(spec))
        if self.shell:
            await eventually(lambda: "ready" in output(spec))
        else:
            await asyncio.sleep(0.01)
        await executor.stop(spec, "SIGTERM")
        async with asyncio.timeout(15):
            result = await task
        assert result.signal == "SIGTERM" or result.code == 143

    async def test_kill_ends_what_ignores_the_signal(self, executor: Executor, make: Callable[..., StepSpec]) -> None:
        self.need_shell()
        spec = make("trap '' TERM; echo ready; while :; do sleep 0.05; done")
        task = asyncio.create_task(executor.run(spec))
        await eventually(lambda: "ready" in output(spec))
        await executor.stop(spec, "SIGTERM")
        done, _ = await asyncio.wait({task}, timeout=0.3)
        assert not done
        await executor.kill(spec)
        result = await task
        assert result.signal == "SIGKILL" or result.code == 137

    async def test_stop_and_kill_of_what_does_not_run_do_nothing(
        self, executor: Executor, make: Callable[..., StepSpec]
    ) -> None:
        spec = make("exit 0")
        await executor.stop(spec, "SIGTERM")
        await executor.kill(spec)
        assert (await executor.run(spec)).code == 0
        await executor.stop(spec, "SIGTERM")
        await executor.kill(spec)

    async def test_a_missing_program_is_a_result(self, executor: Executor, make: Callable[..., StepSpec]) -> None:
        self.need_shell()
        result = await executor.run(make("", argv=("nothing",), program="/no/such/program"))
        assert result.code in (127, 203)
        assert result.started_at is None
        assert "/no/such/program" in result.reason

    async def test_cancelling_leaves_the_step_running_and_a_second_call_joins_it(
        self, executor: Executor, make: Callable[..., StepSpec], tmp_path: Path
    ) -> None:
        self.need_shell()
        self.need_recovery(executor)
        spec = make("echo begin; sleep 1; echo end; exit 5")
        task = asyncio.create_task(executor.run(spec))
        await eventually(lambda: "begin" in output(spec))
        await self.abandon(task)
        other = self.make_executor(tmp_path / "state")
        try:
            assert (await other.run(spec)).code == 5
        finally:
            await other.close()
        assert output(spec) == "begin\nend\n"

    async def test_what_ended_while_nobody_looked_is_collected(
        self, executor: Executor, make: Callable[..., StepSpec], tmp_path: Path
    ) -> None:
        self.need_shell()
        self.need_recovery(executor)
        spec = make("echo begin; sleep 0.7; echo end; exit 6")
        task = asyncio.create_task(executor.run(spec))
        await eventually(lambda: "begin" in output(spec))
        await self.abandon(task)
        await asyncio.sleep(1.2)
        other = self.make_executor(tmp_path / "state")
        try:
            for _ in range(2):
                result = await other.run(spec)
                assert (result.code, result.lost) == (6, False)
                assert output(spec) == "begin\nend\n"
        finally:
            await other.close()

    async def test_an_ended_step_is_not_started_again(self, executor: Executor, make: Callable[..., StepSpec]) -> None:
        self.need_shell()
        self.need_recovery(executor)
        spec = make("echo once; exit 3")
        first = await executor.run(spec)
        assert await executor.run(spec) == first
        assert output(spec) == "once\n"

    async def test_two_calls_at_once_start_one_step(self, executor: Executor, make: Callable[..., StepSpec]) -> None:
        self.need_shell()
        self.need_recovery(executor)
        spec = make("echo $$ ; sleep 0.5; exit 4")
        quiet = msgspec.structs.replace(spec, log_path=str(spec.log.with_name("second.log")))
        results = await asyncio.gather(executor.run(spec), executor.run(quiet))
        assert [result.code for result in results] == [4, 4]
        assert results[0].started_at == results[1].started_at

    async def test_release_leaves_nothing(self, executor: Executor, make: Callable[..., StepSpec]) -> None:
        specs = [make("exit 0", "start-pre-0"), make("exit 1", "start-0")]
        for spec in specs:
            await executor.run(spec)
        execution = specs[0].execution
        if executor.recoverable:
            mine = [left for left in await executor.leftovers() if left.execution == execution]
            assert sorted(left.step for left in mine) == ["start-0", "start-pre-0"]
            assert not any(left.running for left in mine)
        await executor.release(execution, 1)
        assert not [left for left in await executor.leftovers() if left.execution == execution]
        await executor.release(execution, 1)

    async def test_a_running_leftover_is_ended_and_removed(
        self, executor: Executor, make: Callable[..., StepSpec]
    ) -> None:
        self.need_shell()
        self.need_recovery(executor)
        spec = make("echo ready; sleep 60")
        task = asyncio.create_task(executor.run(spec))
        await eventually(lambda: "ready" in output(spec))
        mine = [left for left in await executor.leftovers() if left.execution == spec.execution]
        assert [(left.step, left.attempt, left.running) for left in mine] == [("start-0", 1, True)]
        await executor.remove(mine)
        async with asyncio.timeout(15):
            await task
        assert not [left for left in await executor.leftovers() if left.execution == spec.execution]

    async def test_large_output_is_bounded_and_keeps_its_end(
        self, executor: Executor, make: Callable[..., StepSpec]
    ) -> None:
        self.need_shell()
        script = "i=0; while [ $i -lt 200 ]; do echo $i; head -c 20000 /dev/zero | tr '\\0' x; echo; i=$((i+1)); done"
        spec = make(script, log_limit=400_000)
        assert (await executor.run(spec)).code == 0
        kept = output(spec)
        assert 150_000 < len(kept) <= 400_000
        assert kept.rstrip().endswith("x" * 20000)
        assert "\n199\n" in kept
        assert "its beginning was dropped" in kept
