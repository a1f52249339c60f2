"""What the API says of the event loop that schedules, and what it does without it."""

import asyncio
import dataclasses
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import msgspec
from litestar.testing import TestClient

from tests.api.api_helpers import FakeDaemon
from xchronos.api import context
from xchronos.api.app import create_app
from xchronos.cli.commands.status import Printer
from xchronos.ipc import Disconnected
from xchronos.wire.messages import DaemonStatus, LoopStalls

AT = datetime(2030, 1, 1, tzinfo=UTC)
STALLS = LoopStalls(3, 1.5, AT, 0.25, "the task 'engine' in turn (engine/reconcile/turn.py:12)")


class Standing(FakeDaemon):
    """A daemon whose loop does not answer."""

    async def report(self):
        await asyncio.Event().wait()


class Gone(FakeDaemon):
    """A daemon that has ended."""

    async def report(self):
        raise Disconnected("gone")

    metrics = report


def served(services, **changes):
    return TestClient(create_app(dataclasses.replace(services, **changes)), base_url="http://127.0.0.1")


def test_a_probe_is_answered_while_the_loop_that_schedules_stands(services, monkeypatch):
    monkeypatch.setattr(context, "ANSWER_SECONDS", 0.05)
    with served(services, daemon=Standing()) as api:
        answer = api.get("/healthz")
    assert answer.status_code == 503
    assert "the event loop that schedules has not answered for 0.05 s" in answer.json()["error"]


def test_a_probe_is_answered_when_the_process_that_schedules_is_gone(services):
    with served(services, daemon=Gone()) as api:
        answer = api.get("/healthz")
        counted = api.get("/metrics")
    assert (answer.status_code, answer.json()["error"]) == (503, "the process that schedules has ended")
    assert counted.status_code == 503


def test_the_status_tells_how_often_it_stood_and_why(services):
    with served(services) as api:
        assert api.get("/v1/status").json()["stalls"] is None
    with served(services, daemon=FakeDaemon(stalls=STALLS)) as api:
        assert msgspec.json.decode(api.get("/v1/status").content, type=DaemonStatus).stalls == STALLS


def test_people_are_told(services):
    session: Any = SimpleNamespace(now=AT, terminal=False)

    def lines(stalls):
        overview = DaemonStatus("1", "m1", "sqlite", "", AT, 0, {}, 1, stalls=stalls)
        return "\n".join(Printer(session).daemon(overview))

    told = lines(STALLS)
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
    services.registry.offload = offload
    with served(services, offload=offload, making=offload) as api:
        for path in questions:
            before = len(aside)
            assert api.get(path).status_code == 200
            assert len(aside) > before, path
        before = len(aside)
        assert api.post("/v1/verify", content=b"[Service]\nExecStart=/bin/true\n").status_code == 200
        assert len(aside) > before
