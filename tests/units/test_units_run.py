"""Every example runs to the end that its comments promise: a whole daemon, real containers, no waiting for schedules."""

import asyncio
import os
import subprocess
import time
import uuid
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.units.example_units import ORIGINAL, read_all
from xchronos.agent.attempt.journal import attempt_directory
from xchronos.agent.steps.host_facts import host_facts
from xchronos.agent.steps.resolved_unit import HostContext
from xchronos.clock import SECOND, SystemClock
from xchronos.daemon.roles import Roles, RolesContext, RolesOptions
from xchronos.executors.docker.executor import DockerExecutor
from xchronos.model.records import DropIn
from xchronos.registry.keys import Keys
from xchronos.registry.registry import Registry
from xchronos.store.memory import MemoryStore

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("busybox_image")]

PATIENCE = 60.0
MACHINE = "example-machine"

PRINTS = {
    "container-limits.service": {
        "start-0": ["run number 1, blanks need quotes, as in systemd", "Read-only file system"]
    },
    "cron-timezone.service": {"start-0": ["Fire time 20", "(always written in UTC)"]},
    "docker-run.service": {"start-0": ["hello from docker run"], "stop-0": ["xchronos-docker-run"]},
    "hello.service": {"start-0": [f"Hello from hello.service on {MACHINE}, fire time 20"]},
    "iso8601.service": {"start-0": ["Slot 20"]},
    "misfire.service": {"start-0": ["Fire time 20"]},
    "one-shot.service": {"start-0": ["Payload: none"]},
    "pipeline.service": {
        "start-pre-0": ["checking"],
        "start-0": ["fetched 10 lines"],
        "start-1": ["kept 9"],
        "start-2": ["loaded a sum of 48"],
        "start-post-0": ["announcing"],
        "stop-post-0": ["cleaning up after: success"],
    },
    "report@eu.service": {"start-0": ["Report for region eu"]},
}
"""What each step prints when an example is started by hand and succeeds at once."""


class Bench:
    def __init__(self, registry, attempts):
        self.registry = registry
        self.attempts = attempts

    async def submit(self, name, drop_ins=()):
        """Paused, so that nothing but what a test starts is running."""
        submitted = await self.registry.submit(name, read_all()[name], drop_ins=drop_ins, now=SystemClock().now())
        await self.registry.set_desired(name, "paused")
        return submitted

    async def until(self, what, look):
        deadline = time.monotonic() + PATIENCE
        while (found := await look()) is None:
            assert time.monotonic() < deadline, f"waited {PATIENCE:.0f} s for {what}"
            await asyncio.sleep(0.05)
        return found

    async def ended(self, execution_id):
        async def look():
            execution = await self.registry.execution(execution_id)
            return execution if execution.state == "ended" else None

        return await self.until(f"the end of {execution_id}", look)

    async def run(self, name, **options):
        [execution_id] = await self.registry.start(name, now=SystemClock().now(), **options)
        return await self.ended(execution_id)

    def has_written(self, execution, attempt, step):
        where = attempt_directory(self.attempts, execution.unit, execution.fire_time, execution.copy, attempt)
        log = Path(where, f"{step}.log")
        return log.exists() and log.stat().st_size > 0

    def log(self, execution, attempt, step):
        where = attempt_directory(self.attempts, execution.unit, execution.fire_time, execution.copy, attempt)
        return Path(where, f"{step}.log").read_text(encoding="utf-8")


@asynccontextmanager
async def daemon(directory, docker_host, **options):
    clock = SystemClock()
    executor = DockerExecutor(f"xchronos-units-{uuid.uuid4().hex[:8]}", docker_host)
    place = HostContext(MACHINE, host_facts(MACHINE), dict(os.environ), directory / "secrets", 1 << 20)
    store = MemoryStore(clock)
    attempts = directory / "attempts"
    context = RolesContext(store, Keys(), clock, place, {"docker": executor}, attempts)
    running = Roles(context, RolesOptions(instance="i", **options))
    try:
        await running.start()
        yield Bench(Registry(store, Keys()), attempts)
    finally:
        await running.stop(5 * SECOND)
        await executor.close()
        await store.close()


@pytest.fixture
def volume():
    """The named volume that an example leaves behind, as it should."""
    name = "xchronos-example"
    subprocess.run(["docker", "volume", "rm", "-f", name], capture_output=True, check=False)
    yield name
    subprocess.run(["docker", "volume", "rm", "-f", name], capture_output=True, check=False)


def test_every_example_is_run_by_some_test():
    others = {"report@.service", "retries.service", ORIGINAL}
    assert sorted({*PRINTS, *others}) == sorted(read_all())


@pytest.mark.usefixtures("volume")
@pytest.mark.parametrize("name", sorted(PRINTS))
async def test_an_example_succeeds_and_prints_what_it_should(name, tmp_path, docker_host):
    async with daemon(tmp_path, docker_host) as bench:
        await bench.submit(name)
        execution = await bench.run(name)
        assert (execution.outcome, len(execution.attempts)) == ("succeeded", 1), execution.reason
        assert {step.name for step in execution.attempts[0].steps} >= set(PRINTS[name])
        for step, wanted in PRINTS[name].items():
            printed = bench.log(execution, 1, step)
            for text in wanted:
                assert text in printed

        async def look():
            return None if list(bench.attempts.rglob("scratch/*")) else True

        await bench.until("the scratch directory to go", look)


async def test_the_retries_are_needed_and_suffice(tmp_path, docker_host):
    async with daemon(tmp_path, docker_host) as bench:
        await bench.submit("retries.service")
        execution = await bench.run("retries.service")
        codes = [attempt.steps[0].exit_code for attempt in execution.attempts]
        assert (execution.outcome, codes) == ("succeeded", [1, 1, 0])
        assert [bench.log(execution, number, "start-0") for number in (1, 2, 3)] == [
            f"attempt {number}\n" for number in (1, 2, 3)
        ]
        began = [attempt.started_at for attempt in execution.attempts]
        pauses = [
            (later - before.ended_at).total_seconds()
            for before, later in zip(execution.attempts, began[1:], strict=False)
        ]
        assert pauses[0] >= 1.0
        assert pauses[1] >= 2.0


async def test_a_payload_reaches_the_one_shot(tmp_path, docker_host):
    async with daemon(tmp_path, docker_host) as bench:
        await bench.submit("one-shot.service")
        execution = await bench.run("one-shot.service", payload='{"customer": 42}')
        assert bench.log(execution, 1, "start-0") == 'Payload: {"customer": 42}\n'


async def test_the_pipeline_is_followed_by_the_one_shot(tmp_path, docker_host):
    async with daemon(tmp_path, docker_host) as bench:
        await bench.submit("one-shot.service")
        await bench.submit("pipeline.service")
        await bench.run("pipeline.service")

        async def look():
            return next(iter(await bench.registry.history("one-shot.service")), None)

        followed = await bench.until("the unit in OnSuccess=", look)
        assert (followed.outcome, followed.trigger) == ("succeeded", "chain")


async def test_the_volume_outlives_its_containers(tmp_path, docker_host, volume):
    async with daemon(tmp_path, docker_host) as bench:
        await bench.submit("container-limits.service")
        for number in (1, 2):
            execution = await bench.run("container-limits.service")
            assert f"run number {number}," in bench.log(execution, 1, "start-0"), volume


# -- the original example ----------------------------------------------------------------------------------------------

SITE = {"region": "us-east-1", "diskType": "SSD"}
OFFLINE = DropIn(
    "10-offline.conf",
    "# No registry can be reached here: a pull that fails is not the end when the image is there.\n"
    "[Service]\n"
    "ExecStartPre=\n"
    "ExecStartPre=-/usr/bin/docker kill apache1\n"
    "ExecStartPre=-/usr/bin/docker rm apache1\n"
    "ExecStartPre=-/usr/bin/docker pull coreos/apache\n",
)


@pytest.fixture
def apache_image(busybox_image, tmp_path):
    """coreos/apache, made here: busybox, and an apache2ctl that stays in the foreground until it is told to stop."""
    name = "coreos/apache"
    script = tmp_path / "apache2ctl"
    script.write_text(
        '#!/bin/sh\necho "apache2ctl $*"\ntrap "echo bye; exit 0" TERM\nsleep 600 &\nwait\n', encoding="ascii"
    )
    script.chmod(0o755)
    maker = f"xchronos-apache-{uuid.uuid4().hex[:8]}"
    for command in (
        ["create", "--name", maker, busybox_image, "true"],
        ["cp", str(script), f"{maker}:/usr/sbin/apache2ctl"],
        ["commit", maker, name],
    ):
        subprocess.run(["docker", *command], check=True, capture_output=True)
    yield name
    for command in (["rm", "-f", maker, "apache1"], ["rmi", name]):
        subprocess.run(["docker", *command], check=False, capture_output=True)


@pytest.mark.usefixtures("apache_image")
async def test_the_original_runs_where_its_metadata_is(tmp_path, docker_host):
    async with daemon(tmp_path, docker_host, metadata=SITE) as bench:
        await bench.submit(ORIGINAL, [OFFLINE])
        runs, waits = await bench.registry.start(ORIGINAL, now=SystemClock().now())

        async def serving():
            execution = await bench.registry.execution(runs)
            assert execution.state != "ended", execution
            running = execution.state == "running" and execution.current is not None
            return execution if running and bench.has_written(execution, 1, "start-0") else None

        execution = await bench.until("the container of the original", serving)
        assert bench.log(execution, 1, "start-0") == "apache2ctl -D FOREGROUND\n"
        # Availability=2 wants a second machine; there is none, and the copy that waits says so.
        second = await bench.registry.execution(waits)
        assert second.state == "waiting"
        assert "machine" in second.reason

        await bench.registry.stop(ORIGINAL, "the test has seen enough")
        ended = await bench.ended(runs)
        assert ended.outcome == "cancelled"
        steps = {step.name: step for step in ended.attempts[0].steps}
        assert (steps["start-pre-2"].outcome, steps["stop-0"].exit_code) == ("ignored", 0)
        assert bench.log(ended, 1, "start-0").endswith("bye\n")
        assert (await bench.ended(waits)).outcome == "cancelled"

        async def removed():
            listed = ["docker", "ps", "-aq", "--filter", "name=^apache1$"]
            found = await asyncio.to_thread(subprocess.run, listed, capture_output=True, check=True)
            return None if found.stdout else True

        await bench.until("-rm to remove the container", removed)


async def test_the_original_waits_where_no_machine_fits_and_says_why(tmp_path, docker_host):
    async with daemon(tmp_path, docker_host, metadata={"region": "eu-west-1"}) as bench:
        await bench.submit(ORIGINAL)
        first, _ = await bench.registry.start(ORIGINAL, now=SystemClock().now())

        async def look():
            execution = await bench.registry.execution(first)
            return execution if execution.state == "waiting" else None

        execution = await bench.until("a reason", look)
        assert "lacks region=us-east-1" in execution.reason
