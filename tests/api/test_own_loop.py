"""What the API says of the event loop that schedules, and what it does without it."""

import asyncio
import dataclasses
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import msgspec
from litestar.testing import TestClient

from xchronos.api import context
from xchronos.api.app import create_app
from xchronos.cli.commands.status import Printer
from xchronos.wire.messages import DaemonStatus, LoopStalls


class Standing:
    """A daemon's loop that does not answer."""

    async def __call__(self, work):
        await asyncio.Event().wait()


class Stall(msgspec.Struct):
    at: datetime = datetime(2030, 1, 1, tzinfo=UTC)
    seconds: float = 0.25
    culprit: str = "the task 'engine' in turn (engine/reconcile/turn.py:12)"


class Watch(msgspec.Struct):
    stalls: int = 3
    longest: float = 1.5
    last: Stall | None = None


def served(services, **changes):
    return TestClient(create_app(dataclasses.replace(services, **changes)), base_url="http://127.0.0.1")


def test_a_probe_is_answered_while_the_loop_that_schedules_stands(services, monkeypatch):
    monkeypatch.setattr(context, "ANSWER_SECONDS", 0.05)
    with served(services, inside=Standing()) as api:
        answer = api.get("/healthz")
    assert answer.status_code == 503
    assert "the event loop that schedules has not answered for 0.05 s" in answer.json()["error"]


def test_the_status_tells_how_often_it_stood_and_why(services):
    with served(services) as api:
        assert api.get("/v1/status").json()["stalls"] is None
    with served(services, loop=Watch(0, 0.0)) as api:
        assert msgspec.json.decode(api.get("/v1/status").content, type=DaemonStatus).stalls == LoopStalls(0, 0.0)
    with served(services, loop=Watch(last=Stall())) as api:
        stalls = msgspec.json.decode(api.get("/v1/status").content, type=DaemonStatus).stalls
    assert stalls == LoopStalls(3, 1.5, Stall().at, 0.25, Stall().culprit)


def test_people_are_told(services):
    session: Any = SimpleNamespace(now=Stall().at, terminal=False)

    def lines(stalls):
        overview = DaemonStatus("1", "m1", "sqlite", "", Stall().at, 0, {}, 1, stalls=stalls)
        return "\n".join(Printer(session).daemon(overview))

    told = lines(LoopStalls(3, 1.5, Stall().at, 0.25, Stall().culprit))
    assert "Stalls: its event loop stood 3 times, the longest for 1.50 s" in told
    assert "for 0.25 s, in the task 'engine' in turn" in told
    assert "Stalls" not in lines(None)
    assert "Stalls" not in lines(LoopStalls(0, 0.0))


def test_long_answers_and_compiles_are_made_aside(services, cluster):
    aside = []

    async def offload(work):
        aside.append(work)
        return work()

    asyncio.run(cluster.submit("a.service"))
    questions = (
        "/v1/units",
        "/v1/units/a.service",
        "/v1/units/a.service/explain",
        "/v1/units/a.service/calendar",
        "/v1/units/a.service/executions",
        "/v1/executions",
        "/v1/machines",
    )
    with served(services, offload=offload) as api:
        for path in questions:
            before = len(aside)
            assert api.get(path).status_code == 200
            assert len(aside) > before, path
        before = len(aside)
        assert api.post("/v1/verify", content=b"[Service]\nExecStart=/bin/true\n").status_code == 200
        assert len(aside) > before
