"""A process that runs one step in a container, as a daemon would, and may be stopped or killed: prints how it ended."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from tests.executors.docker_bench import NAMESPACE
from xchronos.executors.contract import StepExit, StepSpec
from xchronos.executors.docker.executor import DockerExecutor


def spawn(host: str, spec: StepSpec) -> "subprocess.Popen[str]":
    """Run the step in a process of its own."""
    fields = {
        name: getattr(spec, name)
        for name in ("unit", "execution", "step", "directory", "log_path", "log_limit", "body")
    }
    argv = [sys.executable, "-m", "tests.executors.one_step", json.dumps([host, fields])]
    root = Path(__file__).resolve().parents[2]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=root)


def kill(process: "subprocess.Popen[str]") -> None:
    """kill -9."""
    with process:
        process.kill()


def result(process: "subprocess.Popen[str]") -> StepExit:
    """How the step ended; waits for the process."""
    told, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return msgspec.json.decode(told, type=StepExit)


async def _run(host: str, fields: dict[str, Any]) -> StepExit:
    executor = DockerExecutor(NAMESPACE, host)
    try:
        return await executor.run(StepSpec(attempt=1, argv=(), program="", env={}, **fields))
    finally:
        await executor.close()


if __name__ == "__main__":
    sys.stdout.write(msgspec.json.encode(asyncio.run(_run(*json.loads(sys.argv[1])))).decode())
