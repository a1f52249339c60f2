"""The guardian: a real process that kills real processes and containers when their agent cannot."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from xchronos.agent import guardian
from xchronos.agent.contact import Contact
from xchronos.agent.guarding import Guarding
from xchronos.clock import SECOND, SystemClock
from xchronos.executors.contract import StepExit, StepSpec
from xchronos.executors.docker import DockerExecutor
from xchronos.executors.docker_engine import Engine
from xchronos.executors.hostfacts import boot_id, start_ticks
from xchronos.executors.process import ProcessExecutor
from xchronos.executors.process_record import Home
from xchronos.testing.executors import eventually, output
from xchronos.unitfile.dockercli import compile_docker

TTL = 3 * SECOND


def holder(directory: Path) -> int:
    """The pid of the process that guards; 0 when none does."""
    lock = directory / "guardian" / "guardian"
    if not lock.exists():
        return 0
    inode = lock.stat().st_ino
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[1] == "FLOCK" and int(fields[5].rpartition(":")[2]) == inode:
            return int(fields[4])
    return 0


class Bench:
    """An agent's side of a guardian, and what it guards."""

    def __init__(self, directory: Path, docker: str = "") -> None:
        self.directory = directory
        self.docker = docker
        self.owner = uuid.uuid4().hex
        self.contact = Contact(SystemClock(), TTL)
        self.guarding = self.new_agent()
        self.processes = ProcessExecutor(directory / "processes")
        self.tasks: list[asyncio.Task[StepExit]] = []

    def new_agent(self) -> Guarding:
        guarding = Guarding(
            self.directory / "guardian",
            docker=self.docker,
            namespace="xchronos-tests",
            owner=self.owner,
            processes=self.directory / "processes",
        )
        guarding.follow(self.contact)
        return guarding

    def die(self) -> None:
        """The agent is gone, as by kill -9: its locks are free, and nobody renews anything."""
        for descriptor in (self.guarding._state, self.guarding._agent, self.guarding._lock):
            os.close(descriptor)
        self.guarding._state = -1
        self.contact = Contact(SystemClock(), TTL)

    def renew(self) -> None:
        self.contact.renewed(SystemClock().monotonic())

    def spec(self, script: str, policy: str = "stop", **more: object) -> StepSpec:
        step = f"start-{len(self.tasks)}"
        env = {"PATH": os.environ["PATH"]}
        return StepSpec(
            "g.service", f"g-{self.owner[:8]}.service/0/0", 1, step, ("sh", "-c", script), "/bin/sh", env,
            self.directory, str(self.directory / f"{step}.log"), on_partition=policy, **more,  # type: ignore[arg-type]
        )  # fmt: skip

    def run(self, spec: StepSpec) -> "asyncio.Task[StepExit]":
        task = asyncio.create_task(self.processes.run(spec))
        self.tasks.append(task)
        return task


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    await clean(bench)


async def clean(bench: Bench) -> None:
    for task in bench.tasks:
        task.cancel()
    await asyncio.gather(*bench.tasks, return_exceptions=True)
    await bench.processes.remove(await bench.processes.leftovers())
    bench.guarding.end()
    await eventually(lambda: not holder(bench.directory))
    bench.guarding.end()


async def within(seconds: float, wanted: Callable[[], object]) -> None:
    async with asyncio.timeout(seconds):
        while not wanted():  # noqa: ASYNC110 - a process sets no Event
            await asyncio.sleep(0.02)


async def test_it_waits_for_the_deadline_and_kills_all_that_must_not_outlive_it(bench: Bench) -> None:
    bench.renew()
    await bench.guarding.ready()
    stop = bench.spec("setsid sh -c 'echo $$ > grandchild; exec sleep 300' & echo $$ > child; trap '' TERM; sleep 300")
    stop = msgspec.structs.replace(stop, kill_mode="none", working_directory=str(bench.directory))
    ended = bench.run(stop)
    spared = bench.run(bench.spec("sleep 300", "continue"))
    await eventually(lambda: (bench.directory / "grandchild").exists() and (bench.directory / "child").exists())
    for _ in range(4):
        bench.renew()
        await asyncio.sleep(0.6 * TTL / SECOND)
    bench.renew()
    began = time.monotonic()
    assert not ended.done()
    result = await asyncio.wait_for(ended, 10)
    took = time.monotonic() - began
    assert 0.8 * TTL / SECOND - 0.1 <= took < TTL / SECOND, "dead before the lease can end"
    assert result.signal == "SIGKILL"
    for name in ("child", "grandchild"):
        assert start_ticks(int((bench.directory / name).read_text())) is None
    assert not spared.done()


async def test_what_is_started_too_late_is_not(bench: Bench) -> None:
    bench.renew()
    await bench.guarding.ready()
    spec = bench.spec("echo started")
    home = Home.of(bench.directory / "processes", spec)
    home.prepare(spec)  # and then the agent was paused, before it spawned the wrapper
    await within(10, lambda: home.claim is not None)
    assert home.claim is not None
    assert not home.claim.alive
    result = await bench.run(spec)
    assert result.lost
    assert output(spec) == ""


async def test_old_and_broken_records_do_no_harm(bench: Bench) -> None:
    bystander = subprocess.Popen(["sleep", "300"], start_new_session=True)  # noqa: ASYNC220 - does not block
    try:
        ticks = start_ticks(bystander.pid)
        assert ticks is not None
        record = {"unit": "u", "execution": "e", "attempt": 1, "step": "s", "kill_mode": "none", "on_partition": "stop"}
        claims = (f"{bystander.pid} {ticks + 1} {boot_id()}", f"{bystander.pid} {ticks} another-boot", "no claim")
        for number, claim in enumerate(claims):
            home = bench.directory / "processes" / f"a{number}" / "start-0"
            home.mkdir(parents=True)
            (home / "record").write_text(json.dumps(record))
            (home / "claim").write_text(claim)
        (bench.directory / "processes" / "b" / "start-0").mkdir(parents=True)
        (bench.directory / "processes" / "b" / "start-0" / "record").write_text("{")
        bench.renew()
        await bench.guarding.ready()
        ended = bench.run(bench.spec("sleep 300"))
        assert (await asyncio.wait_for(ended, 10)).signal == "SIGKILL"
        assert bystander.poll() is None
    finally:
        bystander.kill()
        await asyncio.to_thread(bystander.wait)
        for path in (bench.directory / "processes").glob("[ab]*"):
            shutil.rmtree(path)


async def test_it_ends_when_told(bench: Bench) -> None:
    bench.renew()
    await asyncio.gather(*(bench.guarding.ready() for _ in range(5)))
    assert holder(bench.directory)
    assert len(bench.guarding._children) == 1
    bench.guarding.end()
    await within(5, lambda: not holder(bench.directory))


async def test_it_outlives_its_agent_for_as_long_as_needed(bench: Bench) -> None:
    bench.renew()
    await bench.guarding.ready()
    ended = bench.run(bench.spec("sleep 300"))
    await asyncio.sleep(0.2)
    bench.die()
    assert holder(bench.directory)
    assert (await asyncio.wait_for(ended, 10)).signal == "SIGKILL"
    await within(5, lambda: not holder(bench.directory))
    # The next agent of this machine learns that its predecessor's time was up.
    bench.guarding = bench.new_agent()
    bench.renew()
    await bench.guarding.ready()
    assert bench.guarding.struck


async def test_an_agent_that_is_back_in_time_goes_on_with_the_same_guardian(bench: Bench) -> None:
    bench.renew()
    await bench.guarding.ready()
    first = holder(bench.directory)
    ended = bench.run(bench.spec("sleep 300"))
    await asyncio.sleep(0.5)
    bench.die()
    bench.guarding = bench.new_agent()
    bench.renew()
    await bench.guarding.ready()
    assert not bench.guarding.struck
    for _ in range(4):
        await asyncio.sleep(0.5 * TTL / SECOND)
        bench.renew()
    assert not ended.done()
    assert holder(bench.directory) == first


async def test_a_daemon_that_has_no_store_yet_keeps_its_predecessors_deadline(bench: Bench) -> None:
    bench.renew()
    await bench.guarding.ready()
    ended = bench.run(bench.spec("sleep 300"))
    await asyncio.sleep(0.2)
    os.kill(holder(bench.directory), signal.SIGKILL)  # as a container engine ends all of a container
    bench.die()
    bench.guarding = bench.new_agent()
    await bench.guarding.revive()
    assert holder(bench.directory)
    assert (await asyncio.wait_for(ended, 10)).signal == "SIGKILL"


async def test_nobody_is_revived_for_nothing(bench: Bench) -> None:
    await bench.guarding.revive()
    assert not holder(bench.directory)
    bench.renew()
    await bench.guarding.ready()
    bench.guarding.end()
    await within(5, lambda: not holder(bench.directory))
    bench.guarding = bench.new_agent()
    await bench.guarding.revive()
    assert not holder(bench.directory)
    bench.renew()
    await bench.guarding.ready()
    assert not bench.guarding.struck


async def test_a_guardian_that_is_gone_is_replaced(bench: Bench) -> None:
    bench.renew()
    await bench.guarding.ready()
    first = holder(bench.directory)
    os.kill(first, signal.SIGKILL)
    await within(5, lambda: holder(bench.directory) != first)
    bench.renew()
    await within(10, lambda: holder(bench.directory) not in (0, first))


async def test_two_agents_of_one_machine_are_refused(bench: Bench) -> None:
    bench.renew()
    await bench.guarding.ready()
    with pytest.raises(OSError, match="another agent uses"):
        await bench.new_agent().ready()


async def test_an_engine_behind_tls_is_refused(tmp_path: Path) -> None:
    guarding = Guarding(tmp_path, docker="https://engine:2376", namespace="n", owner="o", processes=None)
    with pytest.raises(OSError, match="TLS"):
        await guarding.ready()


async def test_a_guardian_that_cannot_start_is_an_error(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guardian, "_ROOT", "/nowhere", raising=False)
    monkeypatch.setattr("xchronos.agent.guarding._ROOT", "/nowhere")
    with pytest.raises(OSError, match="has not started"):
        await bench.guarding.ready()
    assert "No module named" in (bench.directory / "guardian" / "guardian.log").read_text()


def test_it_needs_the_standard_library_only() -> None:
    code = (
        "import sys; sys.path.append(sys.argv[1]); import xchronos.agent.guardian;"
        "print(sorted(m for m in sys.modules if m.partition('.')[0] not in sys.stdlib_module_names))"
    )
    root = str(Path(guardian.__file__).parents[2])
    found = subprocess.run([sys.executable, "-I", "-S", "-c", code, root], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str(
        ["__main__", "xchronos", "xchronos.agent", "xchronos.agent.guardian", "xchronos.executors",
         "xchronos.executors.hostfacts", "xchronos.executors.process_tree"]
    )  # fmt: skip


def test_a_torn_state_is_no_state(tmp_path: Path) -> None:
    whole = guardian.written(12345, over=True, boot=boot_id())
    path = tmp_path / "state"
    for data, wanted in (
        (whole, (12345, True, boot_id().replace("-", ""))),
        (whole[:-1], None),
        (b"", None),
        (bytes([whole[0] ^ 1]) + whole[1:], None),
    ):
        path.write_bytes(data)
        descriptor = os.open(path, os.O_RDONLY)
        assert guardian.read(descriptor) == wanted
        os.close(descriptor)


# -- containers -------------------------------------------------------------------------------------------------------


@pytest.mark.docker
async def test_containers(tmp_path: Path, docker_host: str, busybox_image: str) -> None:
    bench = Bench(tmp_path, docker_host)
    executor, engine = DockerExecutor("xchronos-tests", docker_host, owner=bench.owner), Engine(docker_host)
    name = f"xct-{bench.owner[:12]}"

    def container(step: str, policy: str = "stop", **more: object) -> StepSpec:
        host = {"NetworkMode": "none", "Init": True}
        body = {"Image": busybox_image, "Cmd": ["sleep", "300"], "HostConfig": host}
        spec = bench.spec("", policy, body=body, **more)
        return msgspec.structs.replace(spec, step=step, log_path=str(tmp_path / f"{step}.log"))

    def line(step: str, text: str) -> StepSpec:
        argv = ("docker", *text.replace("IMAGE", busybox_image).replace("NAME", name).split())
        spec = bench.spec("", docker=compile_docker(argv))
        return msgspec.structs.replace(spec, step=step, argv=argv, log_path=str(tmp_path / f"{step}.log"))

    async def state(wanted: str) -> str:
        found = await engine.call(
            "GET",
            "/containers/json",
            params={"all": "1", "filters": json.dumps({"label": [f"xchronos.owner={bench.owner}"]})},
        )
        states = {item["Labels"]["xchronos.step"]: item["State"] for item in found}
        return states.get(wanted, "none")

    try:
        bench.renew()
        await bench.guarding.ready()
        steps = {
            "stop": container("stop"),
            "named": line("named", "run --network none --name NAME-a IMAGE sleep 300"),
            "spared": container("spared", "continue"),
            "detached": line("detached", "run -d --network none --name NAME-b IMAGE sleep 300"),
        }
        tasks = {step: asyncio.create_task(executor.run(spec)) for step, spec in steps.items()}
        bench.tasks.extend(tasks.values())
        for step in steps:
            async with asyncio.timeout(60):
                while await state(step) != "running":
                    bench.renew()
                    await asyncio.sleep(0.05)
        # One that the agent was about to start when it was paused.
        late = container("late")
        made = await executor._run_of(late).create(
            {**(late.body or {}), "Labels": {**executor._labels_of(late), "xchronos.partition": "stop"}},
            _Silent(), pull="never",
        )  # type: ignore[arg-type]  # fmt: skip
        bench.renew()
        began = time.monotonic()
        done, _ = await asyncio.wait({tasks["stop"], tasks["named"]}, timeout=20)
        took = time.monotonic() - began
        assert len(done) == 2
        assert took < TTL / SECOND, "dead before the lease can end"
        assert {task.result().code for task in done} == {137}
        async with asyncio.timeout(10):
            while await state("late") != "none":  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.05)
        refused = await executor._keeper.start(made, late)
        assert refused is not None
        assert await state("late") == "none"
        assert await state("spared") == "running"
        assert await state("detached") == "running"
        assert not tasks["spared"].done()
    finally:
        for task in bench.tasks:
            task.cancel()
        found = await engine.call(
            "GET",
            "/containers/json",
            params={"all": "1", "filters": json.dumps({"label": [f"xchronos.owner={bench.owner}"]})},
        )
        for item in found:
            await engine.call("DELETE", f"/containers/{item['Id']}", params={"force": "1", "v": "1"})
        await clean(bench)
        await executor.close()
        await engine.close()


class _Silent:
    def write(self, data: bytes) -> None:
        pass


# -- in this process --------------------------------------------------------------------------------------------------


class FakeEngine:
    """A Docker engine's socket that answers from a list; kills are refused while it is `stubborn`."""

    def __init__(self, path: Path) -> None:
        self.containers: list[dict[str, object]] = []
        self.asked: list[str] = []
        self.stubborn = False
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            with peer:
                method, path, _ = peer.recv(65536).decode().split(" ", 2)
                self.asked.append(f"{method} {path.partition('?')[0]}")
                body = b""
                if method == "GET":
                    status = "200 OK"
                    body = json.dumps(self.containers).encode()
                elif self.stubborn:
                    status = "500 Internal Server Error"
                else:
                    status = "204 No Content"
                    self.containers = [c for c in self.containers if str(c["Id"]) not in path]
                peer.sendall(f"HTTP/1.0 {status}\r\nContent-Type: application/json\r\n\r\n".encode() + body)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


def test_a_strike_kills_removes_and_comes_back_for_what_is_left(tmp_path: Path) -> None:
    engine = FakeEngine(tmp_path / "docker.sock")
    try:
        (tmp_path / "state").write_bytes(guardian.written(1, over=False, boot=boot_id()))
        watcher = guardian.Guardian(str(tmp_path), f"unix://{tmp_path}/docker.sock", "n", "o", "")
        engine.containers = [
            {"Id": "runs", "State": "running"},
            {"Id": "pauses", "State": "paused"},
            {"Id": "created", "State": "created"},
            {"Id": "over", "State": "exited"},
        ]
        engine.stubborn = True
        assert watcher.strike()
        engine.stubborn = False
        engine.asked.clear()
        assert watcher.strike()
        assert sorted(engine.asked) == [
            "DELETE /containers/created",
            "GET /containers/json",
            "POST /containers/pauses/kill",
            "POST /containers/runs/kill",
        ]
        assert not watcher.strike()
        watcher.run()  # the deadline has passed, nothing is left, and there is no agent
    finally:
        engine.close()


def test_an_engine_that_does_not_answer_is_asked_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "state").write_bytes(guardian.written(1, over=False, boot=boot_id()))
    watcher = guardian.Guardian(str(tmp_path), f"unix://{tmp_path}/nobody.sock", "n", "o", str(tmp_path / "none"))
    assert watcher.strike()
    assert watcher.strike()
    assert capfd.readouterr().err.count("FileNotFoundError") == 1, "said once"
    with pytest.raises(OSError, match="refused"):
        guardian.call("tcp://127.0.0.1:1", "GET", "/")


def test_while_an_agent_is_there_it_stays(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(guardian.written(1, over=False, boot=boot_id()))
    watcher = guardian.Guardian(str(tmp_path), "", "n", "o", "")
    agent = os.open(tmp_path / "agent", os.O_RDWR)
    assert guardian.locked(agent)
    assert not watcher._alone(1)
    os.close(agent)
    assert not watcher._alone(0), "the deadline was put off meanwhile"
    assert watcher._alone(1)
