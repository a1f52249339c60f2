"""Starting a container while the engine has no containerd: made-up engines with the words of real ones."""

import asyncio
from typing import Any

import pytest

from xchronos.executors.contract import StepSpec
from xchronos.executors.docker.client import EngineRefusal
from xchronos.executors.docker.containers import Keeper
from xchronos.executors.docker.inspected import Inspected, State
from xchronos.hostfiles import HostFiles

NEVER = "0001-01-01T00:00:00Z"
AWAY = [
    # 20.10: no containerd listens; it ends while it starts one.
    (
        'connection error: desc = "transport: Error while dialing dial unix /var/run/docker/containerd/containerd.sock: '
        'connect: connection refused": unavailable'
    ),
    "transport is closing: unavailable",
    # 26.1: the same.
    (
        'connection error: desc = "transport: Error while dialing: dial unix /var/run/docker/containerd/containerd.sock: '
        'connect: connection refused": unavailable'
    ),
    (
        "error reading from server: read unix @->/var/run/docker/containerd/containerd.sock: read: connection reset by peer: "
        "unavailable"
    ),
    # What gRPC says otherwise.
    "error reading from server: EOF: unavailable",
    "rpc error: code = Unavailable desc = connection closed before server preface received",
]


class Engine:
    """Refuses the first starts with these words; `runs` after so many of them, although it has said no."""

    podman = False
    socket = None

    def __init__(self, refusals: list[str], runs: int | None = None) -> None:
        self.refusals = refusals
        self.runs = runs
        self.starts = 0
        self.started = False
        self.error = ""

    async def call(self, method: str, path: str, **_: object) -> None:
        assert (method, path) == ("POST", "/containers/c/start")
        self.starts += 1
        self.started = self.starts == self.runs or self.starts > len(self.refusals)
        if self.starts <= len(self.refusals):
            self.error = self.refusals[self.starts - 1]
            raise EngineRefusal(500, self.error)

    async def ask(self, method: str, path: str, **_: object) -> dict[str, object]:
        assert (method, path) == ("GET", "/containers/c/json")
        state = {"Status": "running", "StartedAt": "2026-01-01T00:00:00Z"} if self.started else {
            "Status": "created", "StartedAt": NEVER, "Error": self.error, "ExitCode": 128 if self.error else 0,
        }  # fmt: skip
        return {"Id": "c", "State": state}

    async def answers_anew(self, limit: float) -> bool:
        return True


def keeper(engine: Any) -> Keeper:
    return Keeper(engine, asyncio.Semaphore(), HostFiles())


def spec(tmp_path: object) -> StepSpec:
    return StepSpec("u.service", "u.service/0/0", 1, "start-0", (), "", {}, str(tmp_path), f"{tmp_path}/log")


@pytest.mark.parametrize("words", AWAY)
@pytest.mark.parametrize("runs", [None, 1, 2])
async def test_a_start_without_a_containerd_is_nobodys_result(tmp_path, words, runs):
    engine = Engine([words, words], runs)
    found = Inspected("c", "c", State("created"))
    assert await keeper(engine).start(found, spec(tmp_path)) is None
    assert engine.started
    assert engine.starts == (runs or 3), "it looks before each start"


@pytest.mark.parametrize("words", AWAY)
async def test_the_next_daemon_starts_what_was_refused_for_want_of_a_containerd(tmp_path, words):
    engine = Engine([])
    found = Inspected("c", "c", State("created", exit_code=128, error=words))
    assert await keeper(engine).start(found, spec(tmp_path)) is None
    assert engine.starts == 1


@pytest.mark.parametrize(
    "words",
    [
        "driver failed programming external connectivity: listen tcp4 0.0.0.0:80: bind: address already in use",
        "error while mounting volume: VolumeDriver.Mount: dial unix /run/docker/plugins/x.sock: connection refused",
    ],
)
async def test_every_other_refusal_is_a_result(tmp_path, words):
    engine = Engine([words])
    result = await keeper(engine).start(Inspected("c", "c", State("created")), spec(tmp_path))
    assert result is not None
    assert (result.code, result.lost, engine.starts) == (125, False, 1)


@pytest.mark.parametrize("status", ["exited", "dead", "stopped"])
async def test_an_end_of_before_is_not_taken_for_one_that_was_seen(status):
    ended = Inspected("c", "c", State(status, exit_code=255))
    assert await keeper(Engine([])).ended(ended) == (None, False), "without asking the engine to wait"
