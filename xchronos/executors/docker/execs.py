"""`docker exec`: a process that is started in a container that runs already.

The engine keeps nothing of an exec but its exit code, and has no call to end one. When the reader of an exec's output
is gone, the engine may keep a wrong code: 126. So an exec whose connection broke is lost if its code is 126.
"""

import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from xchronos.dockercli import Exec
from xchronos.errors import ExecutorUnavailable
from xchronos.executors.contract import StepExit, StepSpec
from xchronos.executors.docker.client import ConnectionLost, DockerClient
from xchronos.executors.docker.messages import Demultiplexer
from xchronos.executors.logfile import BoundedLog
from xchronos.executors.patience import new_pauses

Assignments = Callable[[Path, Mapping[str, str] | None], Awaitable[list[str]]]


class RunningExec:
    """One exec. `id` is the engine's name for it; "" before the engine has made it."""

    def __init__(self, engine: DockerClient, command: Exec) -> None:
        self._engine = engine
        self._command = command
        self.id = ""

    async def run(self, spec: StepSpec, log: BoundedLog, read: Assignments) -> StepExit:
        """Start the exec, copy its output, wait for its end.

        Raises:
            EngineRefusal: the container is not there, or does not run.
            ExecutorUnavailable: the engine does not answer, and nothing was started.
        """
        command = self._command
        base = Path(spec.working_directory or spec.directory)
        env: list[str] = []
        for file in command.env_files:
            env += await read(base / file, spec.env)
        written = [f"{name}={spec.env[name]}" if name in spec.env else name for name in command.body.get("Env") or ()]
        tty = bool(command.body.get("Tty"))
        body = {**command.body, "Env": env + written, "AttachStdin": False, "Detach": command.detach}
        answer = await self._engine.ask("POST", f"/containers/{command.container}/exec", body=body)
        self.id = str(answer["Id"])
        cut = False
        frames = Demultiplexer()
        try:
            async with self._engine.stream(
                "POST", f"/exec/{self.id}/start", body={"Detach": command.detach, "Tty": tty}
            ) as response:
                async for chunk in response.content.iter_any():
                    for piece in (memoryview(chunk),) if tty else frames.feed(chunk):
                        log.write(piece)
        except ConnectionLost:
            cut = True
        if command.detach and not cut:
            return StepExit(code=0)
        return await self._result(cut=cut)

    async def _result(self, *, cut: bool) -> StepExit:
        pauses = new_pauses()
        while True:
            try:
                state: dict[str, Any] = await self._engine.ask("GET", f"/exec/{self.id}/json")
            except ExecutorUnavailable:
                cut = True
                state = {"Running": True}
            if not state.get("Running"):
                break
            await pauses.pause()
        code = state.get("ExitCode")
        if code is None or (cut and code == 126):
            return StepExit(lost=True, reason="the connection to the engine broke during the exec")
        return StepExit(code=int(code))

    async def signal(self, number: int) -> bool:
        """Signal the process by its pid on this machine. False when the engine is on another machine: nobody can."""
        if self._engine.socket is None:
            return False
        state = await self._engine.ask("GET", f"/exec/{self.id}/json")
        if state.get("Running") and state.get("Pid"):
            with suppress(ProcessLookupError):
                os.kill(state["Pid"], number)
        return True
