"""The executor contract on a real engine, once as [Container] steps and once as `docker run` lines."""

from pathlib import Path

import msgspec
import pytest

from xchronos.dockercli import compile_docker
from xchronos.executors.contract import Executor, StepSpec
from xchronos.executors.docker.executor import DockerExecutor
from xchronos.testing.executors import ExecutorContract

pytestmark = pytest.mark.docker
NAMESPACE = "xchronos-tests"


class TestContainer(ExecutorContract):
    @pytest.fixture(autouse=True)
    def engine(self, docker_host: str, busybox_image: str) -> None:
        self.host, self.image = docker_host, busybox_image

    def make_executor(self, directory: Path) -> Executor:
        return DockerExecutor(NAMESPACE, self.host)

    def adapt(self, spec: StepSpec) -> StepSpec:
        command = [spec.program, *spec.argv[1:]]
        body = {"Image": self.image, "Cmd": command, "HostConfig": {"NetworkMode": "none"}}
        return msgspec.structs.replace(spec, body=body)


class TestDockerRun(TestContainer):
    """--init, because a shell as PID 1 is deaf to signals without a handler, as docker's own users know."""

    def adapt(self, spec: StepSpec) -> StepSpec:
        env = [word for name, value in spec.env.items() for word in ("-e", f"{name}={value}")]
        argv = ["docker", "run", "--rm", "--init", "--net", "none", *env, self.image, spec.program, *spec.argv[1:]]
        return msgspec.structs.replace(spec, docker=compile_docker(argv))
