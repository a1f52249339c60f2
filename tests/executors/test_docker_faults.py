"""Connections that break at every point of a container's life, through a proxy in front of the real engine."""

import asyncio
import uuid

import msgspec
import pytest

from tests.executors.engine_proxy import Proxy
from xchronos.dockercli import compile_docker
from xchronos.errors import ExecutorUnavailable
from xchronos.executors.contract import StepSpec
from xchronos.executors.docker.body import container_name
from xchronos.executors.docker.client import EngineRefusal
from xchronos.executors.docker.executor import DockerExecutor
from xchronos.executors.logfile import kept_files
from xchronos.testing.executors import eventually, output

pytestmark = pytest.mark.docker
NAMESPACE = "xchronos-tests"


@pytest.fixture
async def proxy(tmp_path, docker_host):
    async with Proxy(tmp_path / "engine.sock", docker_host) as proxy:
        yield proxy


@pytest.fixture
async def executor(proxy):
    executor = DockerExecutor(NAMESPACE, proxy.host)
    yield executor
    await executor.close()


@pytest.fixture
async def spec(tmp_path, busybox_image, docker_host):
    def build(script, **more):
        made = StepSpec(
            "f.service", f"f-{uuid.uuid4().hex}", 1, "start-0", (), "", {}, str(tmp_path), f"{tmp_path}/log"
        )
        body = {"Image": busybox_image, "Cmd": ["sh", "-c", script], "HostConfig": {"NetworkMode": "none"}}
        specs.append(msgspec.structs.replace(made, body=body, **more))
        return specs[-1]

    specs = []
    yield build
    cleaner = DockerExecutor(NAMESPACE, docker_host)
    for made in specs:
        await cleaner.release(made.execution, 1)
    await cleaner.close()


async def test_an_engine_that_is_not_there(tmp_path, spec):
    executor = DockerExecutor(NAMESPACE, f"unix://{tmp_path}/nothing.sock")
    with pytest.raises(ExecutorUnavailable, match="does not answer"):
        await executor.probe()
    with pytest.raises(ExecutorUnavailable, match=r"nothing\.sock"):
        await executor.run(spec("exit 0"))
    with pytest.raises(ExecutorUnavailable):
        await executor.run(spec("", docker=compile_docker(["docker", "rm", "x"])))
    await executor.close()


async def test_connections_cut_in_mid_wait_change_nothing(proxy, executor, spec):
    step = spec("echo one; sleep 1; echo two; sleep 1; echo three; exit 9")
    task = asyncio.create_task(executor.run(step))
    await eventually(lambda: "one" in output(step))
    proxy.cut()
    await eventually(lambda: "two" in output(step))
    proxy.cut()
    result = await task
    assert (result.code, result.lost) == (9, False)
    assert output(step) == "one\ntwo\nthree\n"


async def test_an_end_while_the_engine_is_away(proxy, executor, spec):
    step = spec("echo one; sleep 1; echo two; exit 4")
    task = asyncio.create_task(executor.run(step))
    await eventually(lambda: "one" in output(step))
    proxy.down = True
    proxy.cut()
    await asyncio.sleep(1.5)
    assert not task.done()
    proxy.down = False
    assert (await task).code == 4
    assert output(step) == "one\ntwo\n"


@pytest.mark.parametrize("request_line", ["/containers/create", "/start", "/wait", "/logs", "/json"])
async def test_an_answer_that_never_comes_is_looked_into(proxy, executor, spec, request_line):
    step = spec("echo once; exit 5")
    await executor.probe()
    proxy.swallow = request_line
    result = await executor.run(step)
    assert proxy.swallow == ""
    assert (result.code, result.lost) == (5, False)
    assert output(step) == "once\n"
    assert sum(line.startswith("POST") and "/start" in line for line in proxy.seen) == 1


async def test_a_lost_start_of_a_container_that_ended_is_not_repeated(proxy, executor, spec):
    step = spec("echo once; exit 5")
    await executor.probe()
    proxy.swallow = "/start"
    assert (await executor.run(step)).code == 5
    assert (await executor.run(step)).code == 5
    assert output(step) == "once\n"


async def test_a_log_whose_beginning_was_dropped_is_continued_not_written_again(executor, spec, proxy):
    step = spec(
        "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); printf '%099d\\n' $i; done; sleep 2; echo end", log_limit=100_000
    )
    task = asyncio.create_task(executor.run(step))
    await eventually(lambda: "02000\n" in output(step))
    proxy.cut()  # who follows it is not told everything again, neither now nor at the end
    assert (await task).code == 0
    note, *lines = b"".join(path.read_bytes() for path in kept_files(step.log)).decode().splitlines()
    assert "its beginning was dropped: 150000 bytes" in note
    assert [int(line) for line in lines[:-1]] == list(range(1501, 2001))
    assert lines[-1] == "end"


async def test_a_container_removed_by_somebody_else_is_lost(executor, spec, docker_host):
    step = spec("echo one; sleep 60")
    task = asyncio.create_task(executor.run(step))
    await eventually(lambda: "one" in output(step))
    other = DockerExecutor(NAMESPACE, docker_host)
    await other.release(step.execution, 1)
    await other.close()
    result = await task
    assert result.lost or result.code == 137  # the engine may still answer the wait


async def test_255_that_nobody_saw_is_distrusted_only_after_a_restart(executor, spec):
    step = spec("exit 255")
    assert (await executor.run(step)).code == 255  # the wait's own answer
    assert (await executor.run(step)).lost is False  # adopted, but the engine has been up all the time


async def test_a_power_cut_is_told_from_a_result(executor, spec, monkeypatch):
    step = spec("exit 255")
    await executor.run(step)
    monkeypatch.setattr("xchronos.executors.docker.containers.engine_started", lambda _: 4e9)
    result = await executor.run(step)
    assert result.lost
    assert "engine went down" in result.reason


@pytest.mark.parametrize("signal", ["", "SIGQUIT"])
@pytest.mark.parametrize(
    ("code", "engine", "lost"),
    [(143, "another", True), (137, "another", True), (131, "another", True), (3, "another", False), (0, "another", False),
     (143, "the same", False), (137, "the same", False)],
)  # fmt: skip
async def test_an_end_that_nobody_saw_may_be_the_engines_doing(executor, spec, monkeypatch, code, engine, lost, signal):
    step = spec(f"exit {code}")
    if signal:
        step.body["StopSignal"] = signal
    assert (await executor.run(step)).code == code, "seen, and the engine goes on: it is the step's own"
    monkeypatch.setattr(
        "xchronos.executors.docker.containers.engine_started", lambda _: 4e9 if engine == "another" else 1.0
    )
    result = await executor.run(step)
    # Which signal a shutdown begins with is the container's to say.
    lost = lost and code != (143 if signal else 131)
    assert (result.lost, "engine was shut down" in result.reason) == (lost, lost)
    assert result.code == (None if lost else code)


async def test_an_end_for_want_of_memory_is_the_steps_whoever_saw_it(executor, spec, monkeypatch):
    step = spec("exit 137")
    await executor.run(step)
    real = executor._keeper.find

    async def killed(name):
        found = await real(name)
        return msgspec.structs.replace(found, state=msgspec.structs.replace(found.state, oom_killed=True))

    monkeypatch.setattr(executor._keeper, "find", killed)
    monkeypatch.setattr("xchronos.executors.docker.containers.engine_started", lambda _: 4e9)
    result = await executor.run(step)
    assert (result.code, result.lost, result.oom_killed) == (137, False, True)


async def test_an_engine_that_was_replaced_before_anybody_could_ask(executor, spec, monkeypatch):
    up = iter((4e9,))
    monkeypatch.setattr("xchronos.executors.docker.containers.engine_started", lambda _: next(up))
    result = await executor.run(spec("exit 143"))
    assert result.lost, "its socket is the init system's, and the next one has answered from there"


@pytest.mark.parametrize(
    ("code", "engine", "lost"), [(3, "another", True), (3, "the same", False), (0, "another", False)]
)
async def test_an_end_while_the_engine_shuts_down_is_not_the_steps(executor, spec, monkeypatch, code, engine, lost):
    answers = iter((False, False, True))

    async def answers_anew(limit):
        return next(answers)

    monkeypatch.setattr(executor._engine, "answers_anew", answers_anew)
    monkeypatch.setattr(
        "xchronos.executors.docker.containers.engine_started", lambda _: 4e9 if engine == "another" else 1.0
    )
    result = await executor.run(spec(f"exit {code}"))
    assert (result.lost, "engine was shut down" in result.reason) == (lost, lost)
    assert result.code == (None if lost else code)


@pytest.mark.parametrize("what", ["/containers/create", "/start"])
@pytest.mark.parametrize(("answers", "lost"), [((False, True), True), ((True,), False)])
async def test_a_start_that_an_engine_refuses_as_it_shuts_down_is_none(
    executor, spec, monkeypatch, what, answers, lost
):
    given, real = iter(answers), executor._engine.call

    async def answers_anew(limit):
        return next(given)

    async def call(method, path, **options):
        if method == "POST" and path.endswith(what):
            raise EngineRefusal(500, "failed to update store")
        return await real(method, path, **options)

    monkeypatch.setattr(executor._engine, "answers_anew", answers_anew)
    monkeypatch.setattr(executor._engine, "call", call)
    result = await executor.run(spec("exit 0"))
    assert (result.lost, result.code) == (lost, None if lost else 125)
    assert "failed to update store" in result.reason


async def test_an_engine_that_takes_no_new_connections(executor, proxy):
    await executor.probe()
    assert await executor._engine.answers_anew(10)
    proxy.down = True
    assert not await executor._engine.answers_anew(10)
    assert await executor.probe(), "on the connection that it has it goes on answering"


@pytest.mark.parametrize(
    ("ended_behind", "code", "lost"),
    [(True, 0, True), (True, 255, True), (False, 3, False), (False, 143, True), (False, 137, True)],
)
async def test_a_boot_is_told_from_a_result(executor, spec, monkeypatch, ended_behind, code, lost):
    step = spec(f"exit {code}")
    first = await executor.run(step)
    keeper = executor._keeper
    real = keeper.find

    async def long_ago(name):
        found = await real(name)
        state = msgspec.structs.replace(found.state, started_at="2001-01-01T00:00:00.123456789Z")
        if not ended_behind:
            state = msgspec.structs.replace(state, finished_at="2001-01-01T00:00:01Z")
        return msgspec.structs.replace(found, state=state)

    monkeypatch.setattr(keeper, "find", long_ago)
    assert first.code == code
    result = await executor.run(step)
    assert result.lost is lost
    assert lost == ("machine went down" in result.reason)


async def test_a_journalled_command_is_performed_again(proxy, executor, spec, docker_host):
    target = spec("exit 0")
    await executor.run(target)
    step = spec("", docker=compile_docker(["docker", "rm", container_name(target)]))
    proxy.swallow = "DELETE"
    result = await executor.run(step)
    assert result.code == 0
    assert (await executor.run(step)).code == 0  # and again behind a crash


async def test_an_exec_is_never_begun_twice(proxy, executor, spec, tmp_path):
    target = spec("echo up; sleep 60")
    task = asyncio.create_task(executor.run(target))
    await eventually(lambda: "up" in output(target))
    line = ["docker", "exec", container_name(target), "sh", "-c", "echo in; sleep 1; exit 3"]
    step = spec("", docker=compile_docker(line), log_path=f"{tmp_path}/exec.log", step="start-post-0")
    assert (await executor.run(step)).code == 3
    assert output(step) == "in\n"
    assert (await executor.run(step)).lost
    again = msgspec.structs.replace(step, step="start-post-1")
    running = asyncio.create_task(executor.run(again))
    await eventually(lambda: output(again).count("in") == 1)
    proxy.cut()
    result = await running
    assert result.lost or result.code == 3
    await executor.kill(target)
    await task


async def test_what_a_step_costs_the_engine(proxy, executor, spec):
    await executor.probe()
    first = spec("true")  # once for an engine: what it leaves out
    assert (await executor.run(first)).code == 0
    await executor.release(first.execution, first.attempt)
    # Created, started, waited for, looked at, read (while it runs, too, if that is long), removed, looked for.
    for script, logs in (("true", 1), ("echo hi; sleep 1; echo ho", 2)):
        step = spec(script)
        proxy.seen.clear()
        assert (await executor.run(step)).code == 0
        await executor.tidy(step.execution, step.attempt, step.step)
        await executor.release(step.execution, step.attempt)
        asked = [line.split()[0] + " " + line.split()[1].split("?")[0].rpartition("/")[2] for line in proxy.seen]
        assert asked[:3] == ["POST create", "POST start", "POST wait"]
        found = asked.count("GET logs")
        assert found >= logs if executor._engine.podman and logs > 1 else found == logs  # podman's is not followed
        assert len(asked) == 6 + found
        assert output(step) == ("" if logs == 1 else "hi\nho\n")
