"""Host processes: the contract, systemd's exec errors, kill modes, users, and what a crash leaves behind."""

import asyncio
import os
import signal
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from xchronos.errors import ExecutorUnavailable
from xchronos.executors.contract import Executor, StepSpec
from xchronos.executors.hostfacts import boot_id, start_ticks
from xchronos.executors.process import launching, tree
from xchronos.executors.process.executor import ProcessExecutor
from xchronos.executors.process.table import SlotEntry, StepRecord, StepTable, packed
from xchronos.executors.signals import signal_name, signal_number
from xchronos.testing.executors import ExecutorContract, eventually, output

BOOT = boot_id().replace("-", "")
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs to switch users")


def zombies() -> set[str]:
    """The pids of ended children that nobody has waited for."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it may be gone by now
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if state == "Z" and int(parent) == os.getpid():
                found.add(stat.parent.name)
    return found


def table_of(tmp_path: Path) -> StepTable:
    (tmp_path / "state").mkdir(exist_ok=True)
    return StepTable(str(tmp_path / "state" / "table"))


def entries(tmp_path: Path) -> dict[tuple[str, int, str], SlotEntry]:
    """What the table says, by step."""
    table = table_of(tmp_path)
    try:
        return {entry.record.identity: entry for _, entry in table.entries()}
    finally:
        table.close()


class TestProcess(ExecutorContract):
    def make_executor(self, directory: Path) -> Executor:
        return ProcessExecutor(directory)

    @staticmethod
    def claim(tmp_path: Path, spec: StepSpec, pid: int, ticks: int, boot: str = "") -> None:
        """As if a daemon had had the step begun, by a holder of this pid; 0: by none yet."""
        table = table_of(tmp_path)
        table.grow()
        table.claim(0, packed(StepRecord(*spec.identity, spec.kill_mode, "continue", boot or BOOT, 1)))
        if pid:
            table.hold(0, pid, ticks)
        table.close()

    async def test_a_signal_is_named(self, executor, make):
        result = await executor.run(make("kill -9 $$"))
        assert (result.code, result.signal) == (None, "SIGKILL")
        assert result.started_at is not None

    @pytest.mark.parametrize(
        ("more", "code", "text"),
        [
            ({"program": "nosuchprogram"}, 203, "executable not found: nosuchprogram"),
            ({"program": "/etc/passwd"}, 203, "cannot execute /etc/passwd: Permission denied"),
            ({"program": "/etc"}, 203, "cannot execute /etc"),
            ({"program": "/etc/passwd/x"}, 203, "executable not found: /etc/passwd/x"),
            ({"working_directory": "/no/such/place"}, 200, "cannot change to the directory /no/such/place"),
            ({"user": "no-such-user"}, 217, "there is no user 'no-such-user'"),
            ({"group": "no-such-group"}, 216, "there is no group 'no-such-group'"),
        ],
    )
    async def test_what_fails_before_execve_has_systemds_code(self, executor, make, more, code, text):
        result = await executor.run(make("exit 0", **more))
        assert result.code == code
        assert text in result.reason
        assert result.started_at is None

    async def test_a_crowd_of_starts_does_not_starve_the_daemon(self, executor, make):
        longest, now = 0.0, asyncio.get_running_loop().time

        async def beat() -> None:
            nonlocal longest
            while True:
                before = now()
                await asyncio.sleep(0.005)
                longest = max(longest, now() - before)

        heart = asyncio.create_task(beat())
        results = await asyncio.gather(*(executor.run(make("exit 3", step=f"start-{n}")) for n in range(60)))
        heart.cancel()
        assert {result.code for result in results} == {3}
        assert longest < 1

    @pytest.mark.parametrize("end", ["stop", "kill"])
    async def test_a_step_that_waits_for_its_start_can_be_given_up(self, executor, make, tmp_path, end):
        executor._gate = asyncio.Semaphore(0)
        spec = make("echo started")
        task = asyncio.create_task(executor.run(spec))
        await asyncio.sleep(0.01)
        await (executor.stop(spec, "SIGTERM") if end == "stop" else executor.kill(spec))
        executor._gate.release()
        result = await task
        assert (result.code, result.signal) == (None, "SIGTERM" if end == "stop" else "SIGKILL")
        assert result.started_at is None
        assert not spec.log.exists()
        assert not entries(tmp_path)

    async def test_a_script_without_its_interpreter(self, executor, make, tmp_path):
        script = tmp_path / "script"
        script.write_text("#!/no/such/interpreter\n")
        script.chmod(0o755)
        result = await executor.run(make("", program=str(script)))
        assert result.code == 203
        assert "interpreter" in result.reason

    async def test_a_plain_name_is_looked_up_in_the_steps_own_path(self, executor, make, tmp_path):
        script = tmp_path / "hello"
        script.write_text("#!/bin/sh\necho hello $0 $1\n")
        script.chmod(0o755)
        spec = make("", program="hello", argv=("hello", "you"), env={"PATH": f"/nowhere:{tmp_path}"})
        assert (await executor.run(spec)).code == 0
        assert output(spec) == f"hello {script} you\n"

    async def test_argv0_is_what_the_program_sees_as_its_name(self, executor, make):
        spec = make("", argv=("other", "-c", "echo $0"))
        await executor.run(spec)
        assert output(spec) == "other\n"

    async def test_the_surroundings(self, executor, make, tmp_path):
        spec = make("pwd; umask; cat; trap; kill -PIPE $$; kill -USR1 $$")
        result = await executor.run(spec)
        assert output(spec) == f"{tmp_path}/attempt\n0022\n"
        # As under systemd, SIGPIPE is ignored; every other signal does what it does.
        assert result.signal == "SIGUSR1"

    async def test_the_holder_passes_no_file_or_environment_on(self, executor, make):
        spec = make("env; ls /proc/self/fd | wc -l", env={"ONLY": "this", "PATH": "/usr/bin:/bin"})
        await executor.run(spec)
        lines = output(spec).split()
        assert "ONLY=this" in lines
        assert not [line for line in lines if line.startswith(("XCHRONOS", "PYTHON"))]
        assert lines[-1] == "4"  # 0, 1, 2 and the directory that ls reads

    async def test_the_limits_of_the_daemon_are_those_of_the_step(self, executor, make):
        spec = make("cat /proc/self/limits")
        await executor.run(spec)
        assert output(spec) == Path("/proc/self/limits").read_text()  # noqa: ASYNC240 - does not block

    @root_only
    @pytest.mark.parametrize(
        ("user", "group", "shown"),
        [
            ("nobody", "", "65534 65534"),
            ("65534", "", "65534 65534"),
            ("4242", "", "4242 4242"),
            ("nobody", "root", "65534 0"),
            ("", "65534", "0 65534"),
        ],
    )
    async def test_the_identity(self, executor, make, user, group, shown):
        spec = make("echo $(id -u) $(id -g)", user=user, group=group, working_directory="/")
        assert (await executor.run(spec)).code == 0
        assert output(spec).strip() == shown

    @root_only
    async def test_anybody_is_let_into_the_attempts_own_directory_only(self, executor, make, tmp_path):
        for name, there in (("attempt", True), ("elsewhere", False)):
            place = tmp_path / name / "scratch"
            place.mkdir(parents=True, exist_ok=True)
            place.chmod(0o1777)
            place.parent.chmod(0o700)
            result = await executor.run(make("pwd; touch here", name, user="nobody", working_directory=str(place)))
            assert (result.code, (place / "here").exists()) == ((0, True) if there else (200, False))

    async def start(self, executor, make, mode: str, trap: str = "") -> tuple[StepSpec, "asyncio.Task", int]:
        """A step whose main process has a child; the child's pid."""
        spec = make(f"{trap} sleep 300 & echo $!; wait; sleep 300", kill_mode=mode)
        task = asyncio.create_task(executor.run(spec))
        await eventually(lambda: output(spec).endswith("\n"))
        return spec, task, int(output(spec))

    @pytest.mark.parametrize(("mode", "spared"), [("control-group", False), ("mixed", True), ("process", True)])
    async def test_stop_reaches_whom_the_kill_mode_says(self, executor, make, mode, spared):
        spec, task, child = await self.start(executor, make, mode)
        await executor.stop(spec, "TERM")
        assert (await task).signal == "SIGTERM"
        await asyncio.sleep(0.1)
        assert (start_ticks(child) is not None) == spared
        await executor.release(spec.execution, 1)
        if mode == "process":
            assert start_ticks(child) is not None
            os.kill(child, signal.SIGKILL)
        await eventually(lambda: start_ticks(child) is None)

    async def test_kill_mode_none_signals_nobody(self, executor, make):
        spec, task, child = await self.start(executor, make, "none")
        await executor.stop(spec, "TERM")
        await asyncio.sleep(0.2)
        assert not task.done()
        await executor.kill(spec)
        assert (await task).signal == "SIGKILL"
        assert start_ticks(child) is not None
        os.kill(child, signal.SIGKILL)

    async def test_what_is_left_behind_is_known_without_a_look_round(self, executor, make, monkeypatch):
        looked: list[int] = []

        def look() -> list[tree.Seen]:
            looked.append(1)
            return []

        monkeypatch.setattr(tree, "look", look)
        spec = make("(sleep 3 &) ; exit 0", "start-0")
        await executor.run(spec)
        assert not await executor.left_behind(spec.execution, 1)
        before = len(looked)
        for number in range(3):
            await executor.run(make("true; true | cat; exit 0", f"stop-{number}"))
        assert not await executor.left_behind(spec.execution, 1, "SIGTERM")
        await executor.release(spec.execution, 1)
        assert (before, len(looked)) == (1, 3), "of the first step only, which has left something"

    async def test_kill_ends_the_whole_tree_even_in_other_sessions(self, executor, make):
        spec = make("setsid sleep 300 & echo $!; wait")
        task = asyncio.create_task(executor.run(spec))
        await eventually(lambda: output(spec).endswith("\n"))
        child = int(output(spec))
        await executor.kill(spec)
        assert (await task).signal == "SIGKILL"
        await eventually(lambda: start_ticks(child) is None)

    async def test_a_stop_that_comes_with_the_start_is_not_lost(self, executor, make):
        spec = make("sleep 300")
        task = asyncio.create_task(executor.run(spec))
        await asyncio.sleep(0)
        await executor.stop(spec, "SIGTERM")
        assert (await task).signal == "SIGTERM"

    async def test_a_stop_waits_for_a_start_that_takes_its_time(self, executor, make):
        await executor.run(make("exit 0", "first-0"))
        launcher = executor._launcher._pid
        os.kill(launcher, signal.SIGSTOP)
        spec = make("sleep 300")
        task = asyncio.create_task(executor.run(spec))
        await eventually(lambda: executor._steps.of(spec.identity) is not None)
        stopping = asyncio.create_task(executor.stop(spec, "SIGTERM"))
        await asyncio.wait({stopping}, timeout=0.5)
        assert not stopping.done()
        os.kill(launcher, signal.SIGCONT)
        await stopping
        async with asyncio.timeout(60):
            assert (await task).signal == "SIGTERM"

    async def test_no_zombie_stays(self, executor, make):
        before = zombies()  # other tests' servers may be children of this process, too
        spec = make("exit 0")
        await executor.run(spec)
        assert zombies() <= before

    async def test_a_holder_that_died_means_lost_and_is_not_started_again(self, executor, make, tmp_path):
        spec, task, child = await self.start(executor, make, "control-group")
        os.kill(entries(tmp_path)[spec.identity].pid, signal.SIGKILL)
        result = await task
        assert result.lost
        assert "without an exit status" in result.reason
        assert (await executor.run(spec)).lost
        assert start_ticks(child) is not None
        await executor.release(spec.execution, 1)  # what is orphaned still belongs to the session
        await eventually(lambda: start_ticks(child) is None)

    async def test_a_reboot_means_lost(self, executor, make, tmp_path):
        spec = make("exit 0")
        self.claim(tmp_path, spec, os.getpid(), start_ticks(os.getpid()), "00" * 16)
        assert (await executor.run(spec)).lost
        assert [left.running for left in await executor.leftovers()] == [False]

    async def test_after_a_reboot_a_claim_alone_means_lost(self, executor, make, tmp_path):
        spec = make("exit 0")
        self.claim(tmp_path, spec, 0, 0, "00" * 16)
        assert (await executor.run(spec)).lost
        assert not spec.log.exists()

    async def test_a_number_that_is_a_threads_now_means_lost(self, executor, make, tmp_path):
        spec = make("exit 0")
        until = threading.Event()
        thread = threading.Thread(target=until.wait)
        thread.start()
        try:
            self.claim(tmp_path, spec, thread.native_id, 1)
            assert (await executor.run(spec)).lost
        finally:
            until.set()
            thread.join()

    async def test_a_crash_before_there_is_a_holder_starts_it_once(self, executor, make, tmp_path):
        spec = make("echo once; exit 2")
        self.claim(tmp_path, spec, 0, 0)
        assert [left.what for left in await executor.leftovers()] == ["process that was never started"]
        assert (await executor.run(spec)).code == 2
        assert output(spec) == "once\n"

    async def test_a_launcher_that_cannot_work_is_no_failure_of_the_step(self, executor, make, monkeypatch):
        monkeypatch.setattr(launching, "_ROOT", "/no/such/place")
        with pytest.raises(ExecutorUnavailable, match="its words are in"):
            await executor.run(make("exit 0"))
        monkeypatch.undo()
        assert (await executor.run(make("exit 0"))).code == 0

    async def test_a_reused_pid_is_not_touched(self, executor, make, tmp_path):
        bystander = await asyncio.create_subprocess_exec("sleep", "300", start_new_session=True)
        spec = make("exit 0")
        self.claim(tmp_path, spec, bystander.pid, 1)
        assert (await executor.run(spec)).lost
        await executor.stop(spec, "SIGKILL")
        await executor.remove(await executor.leftovers())
        await executor.release(spec.execution, 1)
        assert bystander.returncode is None
        assert start_ticks(bystander.pid) is not None
        bystander.kill()
        await bystander.wait()

    async def test_removal_is_idempotent(self, executor, make):
        spec = make("exit 0")
        await executor.run(spec)
        leftovers = await executor.leftovers()
        await executor.remove(leftovers)
        await executor.remove(leftovers)
        assert not await executor.leftovers()


def test_signal_names_and_numbers():
    assert signal_number("TERM") == signal_number("SIGTERM") == signal_number("15") == 15
    assert signal_number("SIGRTMIN+3") == signal.SIGRTMIN + 3
    assert signal_name(signal.SIGRTMIN + 3) == "SIGRTMIN+3"
    assert signal_name(9) == "SIGKILL"
    with pytest.raises(ValueError, match="'SIGNO' is no signal"):
        signal_number("SIGNO")


def test_a_name_with_blanks_and_parentheses_is_read(tmp_path):
    copy = tmp_path / "a) b ("
    copy.write_bytes(Path("/bin/sleep").read_bytes())
    copy.chmod(0o755)
    pid = os.posix_spawn(str(copy), [str(copy), "300"], {})
    try:
        assert start_ticks(pid)
        assert pid in tree.members(os.getpid())
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert start_ticks(pid) is None
