"""A container that the engine shows as running although its process is gone: made-up engines, real processes."""

import asyncio
import subprocess
from typing import Any

import pytest

from xchronos.executors.docker import containers, vanished
from xchronos.executors.docker.client import EngineRefusal
from xchronos.executors.docker.containers import Keeper
from xchronos.executors.docker.vanished import GONE_LOOKS, ProcessWatch
from xchronos.hostfiles import HostFiles

ID = "5" * 64
MINE = f"8:pids:/docker/{ID}\n0::/docker/{ID}\n"
AWAY = "transport is closing: unavailable"
FORGOTTEN = f"task {ID} not found: not found"


class Engine:
    """Shows a container as running until `ended` is set; `top` answers in these words, the last of them for good."""

    podman = False

    def __init__(self, pid: int, top: list[str], socket: str | None = "/run/docker.sock") -> None:
        self.pid = pid
        self.top = top
        self.socket = socket
        self.ended = asyncio.Event()
        self.asked: list[str] = []

    async def call(self, method: str, path: str, **_: object) -> dict[str, object]:
        self.asked.append(path.rpartition("/")[2])
        if path.endswith("/top"):
            words = self.top.pop(0) if len(self.top) > 1 else self.top[0]
            if words == "end":
                self.ended.set()
                return {}
            raise EngineRefusal(500, words)
        await self.ended.wait()
        return {"StatusCode": 7}

    async def ask(self, method: str, path: str, **_: object) -> dict[str, object]:
        state: dict[str, object] = {"Status": "running", "Running": True, "Pid": self.pid}
        if self.ended.is_set():
            state = {"Status": "exited", "ExitCode": 7}
        return {"Id": ID, "State": {**state, "StartedAt": "2026-01-01T00:00:00Z"}}

    async def answers_anew(self, limit: float) -> bool:
        return True


@pytest.fixture
def process(monkeypatch):
    """A process that /proc shows in the container's cgroup while it lives."""
    monkeypatch.setattr(vanished, "PROCESS_LOOK", 0.02)
    monkeypatch.setattr(containers, "engine_started", lambda _: 1.0)
    child = subprocess.Popen(["sleep", "60"])
    monkeypatch.setattr(vanished, "cgroups_of", lambda pid: MINE if pid == child.pid else "")
    yield child
    child.kill()
    child.wait()


def end(process: Any) -> None:
    process.kill()
    process.wait()


async def result(keeper: Keeper) -> Any:
    code, held = await keeper.wait(ID)
    return await keeper.result(ID, code, held=held)


async def test_a_container_without_its_process_is_lost(process):
    engine = Engine(process.pid, [FORGOTTEN])
    keeper = Keeper(engine, asyncio.Semaphore(), HostFiles())  # type: ignore[arg-type]
    task = asyncio.create_task(result(keeper))
    await asyncio.sleep(0.2)
    assert not task.done()
    assert "top" not in engine.asked, "while it runs, /proc alone is looked at"
    end(process)
    ended = await asyncio.wait_for(task, 20)
    assert (ended.lost, ended.code) == (True, None)
    assert "containerd was away" in ended.reason
    assert engine.asked.count("top") >= GONE_LOOKS


async def test_an_end_that_the_engine_hears_of_later_counts(process):
    engine = Engine(process.pid, [AWAY, AWAY, AWAY, AWAY, AWAY, FORGOTTEN, "end"])
    keeper = Keeper(engine, asyncio.Semaphore(), HostFiles())  # type: ignore[arg-type]
    task = asyncio.create_task(result(keeper))
    await asyncio.sleep(0.2)
    end(process)
    ended = await asyncio.wait_for(task, 20)
    assert (ended.lost, ended.code) == (False, 7), "nothing is decided while containerd is away"


@pytest.mark.parametrize("why", ["another pid namespace", "another machine", "gone before it was seen"])
async def test_where_proc_proves_nothing_the_engine_is_believed(process, monkeypatch, why):
    engine = Engine(process.pid, [FORGOTTEN], None if why == "another machine" else "/run/docker.sock")
    if why == "another pid namespace":
        monkeypatch.setattr(vanished, "cgroups_of", lambda _: "0::/init.scope\n")
    if why == "gone before it was seen":
        end(process)
    keeper = Keeper(engine, asyncio.Semaphore(), HostFiles())  # type: ignore[arg-type]
    task = asyncio.create_task(result(keeper))
    await asyncio.sleep(0.2)
    end(process)
    await asyncio.sleep(0.3)
    assert not task.done()
    assert "top" not in engine.asked
    engine.ended.set()
    assert (await task).code == 7


def test_the_judgement_of_a_process():
    watch = ProcessWatch(ID)
    assert watch.judge(5, 100, MINE, told=True) is None
    assert watch.is_there(100)
    assert not watch.is_there(101), "the pid is another process's now"
    assert [watch.judge(5, 101, "0::/\n", told=True) for _ in range(GONE_LOOKS)] == [None] * (GONE_LOOKS - 1) + [True]
    watch = ProcessWatch(ID)
    watch.judge(5, 100, MINE, told=True)
    assert [watch.judge(5, None, "", told=False) for _ in range(9)] == [None] * 9
    assert watch.judge(5, None, "", told=True) is None
    assert watch.is_there(100), "what is seen again"
    assert [watch.judge(5, None, "", told=True) for _ in range(GONE_LOOKS)].index(True) == GONE_LOOKS - 1
    assert watch.judge(6, 200, MINE, told=True) is None, "somebody has started it again"
    assert watch.judge(7, None, "", told=True) is False
    assert ProcessWatch(ID).judge(0, None, "", told=True) is False, "a container that has no process yet"
    assert ProcessWatch(ID).judge(5, 100, "8:pids:/docker/other\n", told=True) is False
