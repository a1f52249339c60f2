"""What a container step costs through the executor, beside the bare API sequence and the docker client.

The three run `true` without a network on one engine, in turns, so that whatever else the machine does meets them
alike. `ratio_to_bare` compares with create, start, wait, logs, remove over one aiohttp session; `ratio_to_cli` with
`docker run --rm`, when there is a docker client.
"""

import asyncio
import os
import shutil
import statistics
import subprocess
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp

from tests.benchmarks.rows import Row
from xchronos.executors.contract import StepSpec
from xchronos.executors.docker.executor import DockerExecutor

IMAGE = "xchronos/busybox:latest"
ROUNDS = 40
SERVICES = frozenset(["docker"])
TINY = {"rounds": 1}
NAMESPACE = "xchronos-bench"
BODY = {"Image": IMAGE, "Cmd": ["true"], "HostConfig": {"NetworkMode": "none", "Init": True}}


def _socket() -> str:
    return (os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock").removeprefix("unix://")


async def _bare(session: aiohttp.ClientSession) -> None:
    async def call(method: str, path: str, body: object = None) -> dict[str, str]:
        async with session.request(method, f"http://docker/v1.41/containers{path}", json=body) as response:
            data = await response.read()
            assert response.status < 400, data
            return await response.json() if response.content_type == "application/json" and data else {}

    container = (await call("POST", "/create", BODY))["Id"]
    await call("POST", f"/{container}/start")
    await call("POST", f"/{container}/wait")
    await call("GET", f"/{container}/logs?stdout=1&stderr=1")
    await call("DELETE", f"/{container}?v=1")


async def _step(executor: DockerExecutor, directory: Path) -> None:
    name = f"bench-{uuid.uuid4().hex}.service/0/0"
    spec = StepSpec(
        "bench.service", name, 1, "start-0", ("true",), "true", {}, str(directory), f"{directory}/log", body=BODY
    )
    result = await executor.run(spec)
    assert result.code == 0, result
    await executor.release(name, 1)


async def _cli() -> None:
    argv = ("docker", "run", "--rm", "--init", "--network", "none", IMAGE, "true")
    process = await asyncio.create_subprocess_exec(*argv)
    assert await process.wait() == 0


async def _measure(rounds: int) -> list[Row]:
    times: dict[str, list[float]] = {}
    cpu: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as directory:
        executor = DockerExecutor(NAMESPACE)
        connector = aiohttp.UnixConnector(_socket(), limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            ways: dict[str, Callable[[], Awaitable[None]]] = {
                "executor": lambda: _step(executor, Path(directory)),
                "bare API": lambda: _bare(session),
            }
            if shutil.which("docker"):
                ways["docker run --rm"] = _cli
            for turn in range(rounds + 2):
                for name, way in ways.items():
                    own, began = time.process_time(), time.perf_counter()
                    await way()
                    if turn >= 2:  # the first ones warm caches and connections up
                        times.setdefault(name, []).append(time.perf_counter() - began)
                        cpu[name] = cpu.get(name, 0.0) + time.process_time() - own
        await executor.close()
    medians = {name: statistics.median(values) for name, values in times.items()}
    ours, bare = medians["executor"], medians["bare API"]
    name, milliseconds = "container step", 1000 * ours
    cli = medians.get("docker run --rm")
    return [
        Row(name, milliseconds, "ms", reference="the bare API sequence", ratio=ours / bare, ratio_goal="<= 1.1"),
        *([Row(name, milliseconds, "ms", reference="docker run --rm", ratio=ours / cli, ratio_goal="< 1")] if cli else []),
        Row(
            "the same, CPU of this process", 1000 * cpu["executor"] / rounds, "ms",
            reference="the bare API sequence", ratio=cpu["executor"] / cpu["bare API"],
        ),
    ]  # fmt: skip


def run(rounds: int = ROUNDS) -> list[Row]:
    """Measure; raises when the engine does not answer."""
    maker = Path(__file__).resolve().parents[2] / "packaging/images/make-busybox"
    subprocess.run([maker], check=True, capture_output=True)
    return asyncio.run(_measure(rounds))
