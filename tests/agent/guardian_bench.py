"""An agent and its guardian on a workbench: who guards, what is guarded, and how to be rid of both."""

import asyncio
import json
import os
import socket
import threading
import uuid
from pathlib import Path

from xchronos.agent.guardian.client import GuardianClient
from xchronos.agent.lease.lease_clock import LeaseClock
from xchronos.clock import SECOND, SystemClock
from xchronos.executors.contract import StepExit, StepSpec
from xchronos.executors.process.executor import ProcessExecutor
from xchronos.testing.executors import eventually

TTL = 6 * SECOND
"""What is left of it when the guardian strikes, a fifth, is what a busy machine may take to carry that out."""


def holder(directory: Path) -> int:
    """The pid of the process that guards; 0 when none does."""
    lock = directory / "guardian" / "guardian"
    if not lock.exists():
        return 0
    inode = lock.stat().st_ino
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[1] == "FLOCK" and int(fields[5].rpartition(":")[2]) == inode:
            return int(fields[4])
    return 0


class Bench:
    """An agent's side of a guardian, and what it guards."""

    def __init__(self, directory: Path, docker: str = "") -> None:
        self.directory = directory
        self.docker = docker
        self.owner = uuid.uuid4().hex
        self.lease_clock = LeaseClock(SystemClock(), TTL)
        self.guardian = self.new_agent()
        self.processes = ProcessExecutor(directory / "processes")
        self.tasks: list[asyncio.Task[StepExit]] = []

    def new_agent(self) -> GuardianClient:
        guardian = GuardianClient(
            self.directory / "guardian",
            docker=self.docker,
            namespace="xchronos-tests",
            owner=self.owner,
            processes=self.directory / "processes",
        )
        guardian.follow(self.lease_clock)
        return guardian

    def die(self) -> None:
        """The agent is gone, as by kill -9: its locks are free, and nobody renews anything."""
        for descriptor in (self.guardian._state, self.guardian._agent, self.guardian._lock, self.guardian._mark):
            os.close(descriptor)
        self.guardian._state = self.guardian._mark = -1
        self.lease_clock = LeaseClock(SystemClock(), TTL)

    def renew(self) -> None:
        self.lease_clock.renewed(SystemClock().monotonic())

    def spec(self, script: str, policy: str = "stop", **more: object) -> StepSpec:
        step = f"start-{len(self.tasks)}"
        env = {"PATH": os.environ["PATH"]}
        return StepSpec(
            "g.service", f"g-{self.owner[:8]}.service/0/0", 1, step, ("sh", "-c", script), "/bin/sh", env,
            str(self.directory), str(self.directory / f"{step}.log"), on_partition=policy, **more,  # type: ignore[arg-type]
        )  # fmt: skip

    def run(self, spec: StepSpec) -> "asyncio.Task[StepExit]":
        task = asyncio.create_task(self.processes.run(spec))
        self.tasks.append(task)
        return task


async def clean(bench: Bench) -> None:
    for task in bench.tasks:
        task.cancel()
    await asyncio.gather(*bench.tasks, return_exceptions=True)
    await bench.processes.remove(await bench.processes.leftovers())
    await bench.processes.close()
    bench.guardian.end()
    await eventually(lambda: not holder(bench.directory), 60)
    bench.guardian.end()


class FakeEngine:
    """A Docker engine's socket that answers from a list; kills are refused while it is `stubborn`."""

    def __init__(self, path: Path) -> None:
        self.containers: list[dict[str, object]] = []
        self.asked: list[str] = []
        self.stubborn = False
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            with peer:
                method, path, _ = peer.recv(65536).decode().split(" ", 2)
                self.asked.append(f"{method} {path.partition('?')[0]}")
                body = b""
                if method == "GET":
                    status = "200 OK"
                    body = json.dumps(self.containers).encode()
                elif self.stubborn:
                    status = "500 Internal Server Error"
                else:
                    status = "204 No Content"
                    self.containers = [c for c in self.containers if str(c["Id"]) not in path]
                peer.sendall(f"HTTP/1.0 {status}\r\nContent-Type: application/json\r\n\r\n".encode() + body)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
