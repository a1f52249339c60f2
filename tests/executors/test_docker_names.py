"""ContainerName= of [Container]: whose container has the name, and how the step finds its own."""

import asyncio

import msgspec
import pytest

from xchronos.executors.docker.body import container_name
from xchronos.executors.docker.client import EngineRefusal
from xchronos.testing.executors import eventually, output

pytestmark = pytest.mark.docker


def of_another(bench, script, execution):
    """A step of another execution whose container wants the same name."""
    spec = bench.container(script, container_name=bench.name)
    return msgspec.structs.replace(spec, execution=execution)


async def test_a_container_has_the_name_that_its_unit_gives_it(bench):
    spec = bench.container("echo up; sleep 60", container_name=bench.name)
    running = asyncio.create_task(bench.executor.run(spec))
    await eventually(lambda: output(spec) == "up\n")
    assert await bench.run("exec|NAME|echo|inside", step="exec") == (0, "inside\n")
    await bench.executor.stop(spec, "SIGKILL")
    assert (await running).code == 137
    await bench.executor.release(bench.execution, 1)
    assert await bench.inspect(bench.name) is None


async def test_a_second_one_at_a_time_is_refused_with_the_name_of_the_first(bench):
    spec = bench.container("echo up; sleep 60", container_name=bench.name)
    running = asyncio.create_task(bench.executor.run(spec))
    await eventually(lambda: output(spec) == "up\n")
    second = of_another(bench, "true", "other.service/0/0")
    result = await bench.executor.run(second)
    assert (result.code, result.started_at) == (125, None)
    assert f"ContainerName={bench.name} is taken" in result.reason
    assert f"of execution {bench.execution} has it (running)" in result.reason
    await bench.executor.stop(second, "SIGKILL")  # not its own: nothing happens
    assert (await bench.inspect(bench.name))["State"]["Running"]
    await bench.executor.kill(spec)
    await running


async def test_a_container_of_somebody_else_is_said_to_be_so(bench):
    body = {"Image": bench.image, "Cmd": ["true"]}
    await bench.engine.call("POST", "/containers/create", params={"name": bench.name}, body=body)
    result = await bench.executor.run(bench.container("true", container_name=bench.name))
    assert result.code == 125
    assert "of no unit of xchronos has it (created)" in result.reason


async def test_one_that_has_ended_makes_room_as_soon_as_it_is_recorded(bench):
    first = bench.container("exit 3", container_name=bench.name)
    assert (await bench.executor.run(first)).code == 3
    second = of_another(bench, "exit 4", f"{bench.execution[:-1]}1")
    waiting = asyncio.create_task(bench.executor.run(second))
    await asyncio.sleep(0)
    await bench.executor.release(bench.execution, 1)
    assert (await waiting).code == 4
    await bench.executor.release(second.execution, 1)


async def test_one_that_is_removed_between_the_refusal_and_the_look_makes_room_too(bench, monkeypatch):
    first = bench.container("exit 3", container_name=bench.name)
    assert (await bench.executor.run(first)).code == 3
    keeper = bench.executor._keeper
    create, refused = keeper.create, []

    async def create_and_remove(*given, **named):
        try:
            return await create(*given, **named)
        except EngineRefusal:
            refused.append(True)
            await bench.executor.release(bench.execution, 1)
            raise

    monkeypatch.setattr(keeper, "create", create_and_remove)
    second = of_another(bench, "exit 4", f"{bench.execution[:-1]}1")
    assert (await bench.executor.run(second)).code == 4
    assert refused
    await bench.executor.release(second.execution, 1)


async def test_an_earlier_attempt_makes_room(bench):
    first = bench.container("exit 3", container_name=bench.name)
    assert (await bench.executor.run(first)).code == 3
    again = msgspec.structs.replace(first, attempt=2)
    assert (await bench.executor.run(again)).code == 3
    assert (await bench.inspect(bench.name))["Config"]["Labels"]["xchronos.attempt"] == "2"


async def test_it_is_found_by_its_labels(bench):
    """An older daemon has made it under another name, or somebody has renamed it: it is not started twice."""
    unnamed = bench.container("echo once; sleep 60")
    running = asyncio.create_task(bench.executor.run(unnamed))
    await eventually(lambda: output(unnamed) == "once\n")
    running.cancel()
    await asyncio.wait([running])
    named = msgspec.structs.replace(unnamed, container_name=bench.name)
    adopted = asyncio.create_task(bench.executor.run(named))
    await bench.executor.stop(named, "SIGTERM")
    result = await adopted
    assert result.container == (await bench.inspect(container_name(unnamed)))["Id"]
    assert await bench.inspect(bench.name) is None
