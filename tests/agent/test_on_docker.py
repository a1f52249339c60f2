"""Attempts in containers of a real engine."""

import asyncio
import base64
import os
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry

from tests.agent.worlds import FACTS, FIRE
from xchronos.agent.agent import Agent
from xchronos.agent.attempt.journal import attempt_directory, logs_in
from xchronos.agent.lease.lease_clock import LeaseClock
from xchronos.agent.steps.resolved_unit import HostContext
from xchronos.clock import SECOND, SystemClock
from xchronos.executors.contract import Executor
from xchronos.executors.docker.executor import DockerExecutor
from xchronos.executors.process.executor import ProcessExecutor
from xchronos.model.compile.unit import compile_unit
from xchronos.model.policies import Outcome
from xchronos.model.records import Attempt, Execution, Machine
from xchronos.registry.codec import decode, encode
from xchronos.registry.keys import Keys
from xchronos.registry.units import record_of
from xchronos.store.contract import Put, Txn
from xchronos.store.memory import MemoryStore

pytestmark = pytest.mark.docker
KEYS = Keys()


class Bench:
    """A store and agents, one after the other, over a real engine."""

    def __init__(self, host: str, image: str, directory: Path) -> None:
        self.host, self.image, self.directory = host, image, directory
        self.namespace = f"agent-{uuid4().hex[:8]}"
        self.store = MemoryStore()
        self.docker = DockerExecutor(self.namespace, host)
        self.task: asyncio.Task[None] | None = None
        self.agent: Agent | None = None

    async def boot(self) -> None:
        await self.crash()
        self.docker = DockerExecutor(self.namespace, self.host)
        executors: dict[str, Executor] = {
            "docker": self.docker,
            "process": ProcessExecutor(self.directory / "processes"),
        }
        host = HostContext("m1", FACTS, dict(os.environ), self.directory / "secrets", 1 << 20)
        machine = Machine("m1", executors=("docker", "process"), docker="20")
        self.agent = Agent(
            self.store, KEYS, SystemClock(), host, executors, self.directory / "attempts", lambda: machine,
            lambda: asyncio.sleep(0), LeaseClock(SystemClock(), SECOND, alone=True), CollectorRegistry(),
        )  # fmt: skip
        self.task = asyncio.create_task(self.agent.run())
        await self.agent.ready.wait()

    async def crash(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait({self.task})
            await self.docker.close()
            self.task = None

    async def place(self, service: str, container: str = "", image: str = "", more: str = "") -> Execution:
        text = f"[Service]\n{service}\n[Container]\nImage={image or self.image}\nNetwork=none\n{container}\n{more}".encode()
        unit = compile_unit("job.service", text)
        execution = Execution("job.service", FIRE, state="placed", current=Attempt(1, "m1", revision=unit.revision))
        where = KEYS.placement("m1", execution.id)
        puts = (Put(KEYS.job("job.service"), encode(record_of(text, unit))), Put(where, encode(execution)))
        await self.store.commit(Txn((), puts))
        return execution

    async def ended(self, execution: Execution) -> Attempt:
        async with asyncio.timeout(60):
            while True:
                for key in (KEYS.execution(execution.id), KEYS.placement("m1", execution.id)):
                    item = await self.store.get(key)
                    now = decode(item, Execution) if item is not None else None
                    if now is not None and now.state == "ended":
                        return now.attempts[-1]
                    if now is not None and now.state == "reported" and now.current is not None:
                        return now.current
                await asyncio.sleep(0.02)

    def output(self, execution: Execution) -> str:
        where = attempt_directory(self.directory / "attempts", execution.unit, execution.fire_time, execution.copy, 1)
        return "".join(path.read_text() for _, path in logs_in(where))

    async def nothing_left(self) -> bool:
        for _ in range(200):
            if not await self.docker.leftovers():
                return True
            await asyncio.sleep(0.02)
        return False


@pytest.fixture
async def bench(docker_host: str, busybox_image: str, tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(docker_host, busybox_image, tmp_path)
    await bench.boot()
    yield bench
    await bench.docker.remove(await bench.docker.leftovers())
    await bench.crash()
    await bench.store.close()


async def test_a_new_agent_adopts_what_runs(bench: Bench) -> None:
    execution = await bench.place("ExecStart=/bin/sh -c 'for i in 1 2 3 4 5 6 7 8; do echo line $$i; sleep 0.2; done'")
    async with asyncio.timeout(30):
        while "line 2" not in bench.output(execution):  # noqa: ASYNC110 - the output is a file
            await asyncio.sleep(0.02)
    before = [left.what for left in await bench.docker.leftovers()]
    await bench.crash()
    await asyncio.sleep(0.3)
    await bench.boot()
    assert [left.what for left in await bench.docker.leftovers()] == before
    attempt = await bench.ended(execution)
    assert attempt.outcome is Outcome.SUCCEEDED
    assert bench.output(execution).splitlines() == [f"line {number}" for number in range(1, 9)]
    assert attempt.steps[0].container.startswith(before[0].split()[1])
    assert await bench.nothing_left()


async def test_the_steps_of_an_attempt_share_a_directory(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("fetched")
    service = (
        "Type=oneshot\nExecStartPre=/bin/sh -c 'echo hello >greeting'\n"
        "ExecStart=/bin/sh -c 'pwd; cat greeting data $XCHRONOS_SCRATCH/greeting'"
    )
    execution = await bench.place(service, more=f"[X-Chronos]\nArtifact=file://{tmp_path}/data")
    attempt = await bench.ended(execution)
    assert attempt.outcome is Outcome.SUCCEEDED, attempt.reason
    assert bench.output(execution) == "/xchronos\nhello\nfetchedhello\n"
    assert await bench.nothing_left()


async def test_an_artifact_is_run_as_a_program(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh\necho ran as $1\n")
    execution = await bench.place(
        "ExecStart=./tool %p", more=f"User=65534\n[X-Chronos]\nArtifact=file://{tmp_path}/tool"
    )
    attempt = await bench.ended(execution)
    assert attempt.outcome is Outcome.SUCCEEDED, attempt.reason
    assert bench.output(execution).startswith("ran as ")


async def test_out_of_memory(bench: Bench) -> None:
    hog = base64.b64encode(b"x=a; while :; do x=$x$x; done").decode()
    execution = await bench.place(
        f"Type=oneshot\nMemoryMax=16M\nMemorySwapMax=0\nExecStart=/bin/sh -c 'eval \"$$(echo {hog} | base64 -d)\"'"
    )
    attempt = await bench.ended(execution)
    assert attempt.outcome is Outcome.FAILED
    assert "out of memory" in attempt.reason
    assert await bench.nothing_left()


async def test_what_ignores_the_stop_signal_is_killed(bench: Bench) -> None:
    execution = await bench.place(
        "Type=oneshot\nTimeoutStartSec=500ms\nTimeoutStopSec=1\n"
        "ExecStart=/bin/sh -c 'trap \"\" TERM; while :; do sleep 0.1; done'"
    )
    attempt = await bench.ended(execution)
    assert attempt.outcome is Outcome.TIMED_OUT
    assert attempt.reason.startswith(
        "start-0: TimeoutStartSec=500ms expired; start-0: it did not end within TimeoutStopSec=1s"
    )
    assert await bench.nothing_left()


async def test_a_missing_image_is_said_in_the_engines_words(bench: Bench) -> None:
    image = f"xchronos/no-such-image-{uuid4().hex[:8]}"
    execution = await bench.place("ExecStart=/bin/true", "Pull=never", image=image)
    attempt = await bench.ended(execution)
    assert attempt.outcome is Outcome.FAILED
    assert "no such image" in attempt.reason.lower()
    assert image in attempt.reason
    assert await bench.nothing_left()


@pytest.mark.parametrize("killed", [False, True])
async def test_the_next_line_finds_the_name_and_the_volume_free(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    name = f"xct-{uuid4().hex[:12]}"
    run = f"docker run --rm --name {name} --net none -v {name}:/data {bench.image} sh -c"
    service = (
        f"Type=oneshot\nExecStart={run} 'echo one >>/data/runs; cat /data/runs'\n"
        f"ExecStart={run} 'echo two >>/data/runs; cat /data/runs'\nExecStopPost=docker volume rm {name}"
    )
    if killed:  # between the record of the first line's end and the removal of its container
        held = asyncio.Event()

        async def hangs(*_: object) -> None:
            held.set()
            await asyncio.sleep(3600)

        with monkeypatch.context() as patch:
            patch.setattr(DockerExecutor, "tidy", hangs)
            execution = await bench.place(service, "Volume=/unused")
            async with asyncio.timeout(30):
                await held.wait()
            await bench.crash()
        await bench.boot()
    else:
        execution = await bench.place(service, "Volume=/unused")
    attempt = await bench.ended(execution)
    assert attempt.outcome is Outcome.SUCCEEDED, attempt.reason
    assert [(step.name, step.outcome) for step in attempt.steps] == [
        ("start-0", "succeeded"), ("start-1", "succeeded"), ("stop-post-0", "succeeded"),
    ]  # fmt: skip
    assert bench.output(execution) == f"one\none\ntwo\n{name}\n", "each line has run once"
