"""The guardian and real containers: which ones it kills, and which ones it lets be."""

import asyncio
import json
import time
from pathlib import Path

import msgspec
import pytest

from tests.agent.guardian_bench import TTL, Bench, clean
from xchronos.clock import SECOND
from xchronos.dockercli import compile_docker
from xchronos.executors.contract import StepSpec
from xchronos.executors.docker.client import DockerClient
from xchronos.executors.docker.executor import DockerExecutor


@pytest.mark.docker
async def test_containers(tmp_path: Path, docker_host: str, busybox_image: str) -> None:
    bench = Bench(tmp_path, docker_host)
    executor, engine = DockerExecutor("xchronos-tests", docker_host, owner=bench.owner), DockerClient(docker_host)
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
        await bench.guardian.ready()
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
            _Silent(), pull="never",  # type: ignore[arg-type]
        )  # fmt: skip
        bench.renew()
        began = time.monotonic()
        done, _ = await asyncio.wait({tasks["stop"], tasks["named"]}, timeout=60)
        took = time.monotonic() - began
        assert len(done) == 2
        assert took < TTL / SECOND, "dead before the lease can end"
        assert {task.result().code for task in done} == {137}
        async with asyncio.timeout(60):
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

    def note(self, text: str) -> None:
        pass
