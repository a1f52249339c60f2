"""A workbench on a real engine: specs of one execution, and what has become of them."""

import uuid

from xchronos.dockercli import compile_docker
from xchronos.executors.contract import StepSpec
from xchronos.executors.docker.client import EngineRefusal
from xchronos.testing.executors import output

NAMESPACE = "xchronos-tests"


class Bench:
    """An executor, specs of one execution, and a raw engine to look with."""

    def __init__(self, executor, engine, directory, image):
        self.executor, self.engine, self.directory, self.image = executor, engine, directory, image
        self.execution = f"d-{uuid.uuid4().hex[:12]}.service/0/0"
        self.name = f"xct-{uuid.uuid4().hex[:12]}"
        self.count = 0

    def line(self, text, attempt=1, env=None, **more):
        """The spec of a docker line; IMAGE and NAME stand for this test's own."""
        self.count += 1
        step = more.pop("step", f"start-{self.count}")
        words = [word.replace("IMAGE", self.image).replace("NAME", self.name) for word in text.split("|")]
        argv = ("docker", *words)
        return StepSpec("d.service", self.execution, attempt, step, argv, "docker", env or {}, str(self.directory),
                        f"{self.directory}/{step}.log", docker=compile_docker(argv), **more)  # fmt: skip

    def container(self, script, body=None, **more):
        self.count += 1
        step = f"start-{self.count}"
        whole = {"Image": self.image, "Cmd": ["sh", "-c", script], **(body or {})}
        whole["HostConfig"] = {"NetworkMode": "none", **whole.get("HostConfig", {})}
        return StepSpec("d.service", self.execution, 1, step, (), "", {}, str(self.directory),
                        f"{self.directory}/{step}.log", body=whole, **more)  # fmt: skip

    async def run(self, text, **more):
        """(exit code, output) of a docker line."""
        spec = self.line(text, **more)
        result = await self.executor.run(spec)
        assert not result.lost
        return result.code, output(spec)

    async def inspect(self, name):
        try:
            return await self.engine.call("GET", f"/containers/{name}/json")
        except EngineRefusal:
            return None
