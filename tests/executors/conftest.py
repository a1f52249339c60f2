"""Fixtures of the executors' tests."""

import pytest

from tests.executors.docker_bench import NAMESPACE, Bench
from tests.executors.launcher_bench import LauncherBench
from xchronos.executors.docker.client import DockerClient
from xchronos.executors.docker.executor import DockerExecutor
from xchronos.testing.executors import eventually


@pytest.fixture
async def bench(tmp_path, docker_host, busybox_image):
    executor, engine = DockerExecutor(NAMESPACE, docker_host), DockerClient(docker_host)
    bench = Bench(executor, engine, tmp_path, busybox_image)
    yield bench
    for item in await engine.call("GET", "/containers/json", params={"all": "1"}):
        if item["Names"][0].startswith(f"/{bench.name}") or item["Labels"].get("xchronos.execution") == bench.execution:
            await engine.call("DELETE", f"/containers/{item['Id']}", params={"force": "1", "v": "1"})
    await executor.close()
    await engine.close()


@pytest.fixture
async def host(tmp_path):
    """Host processes, of which nothing may be left in the end."""
    host = LauncherBench(tmp_path)
    yield host
    await host.executor.remove(await host.executor.leftovers())
    await host.executor.close()
    await eventually(lambda: not host.processes())
