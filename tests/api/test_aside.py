"""Requests that are answered by another process: by the same application, and what its end means for who asked."""

from contextlib import asynccontextmanager

import pytest
from litestar.testing import AsyncTestClient

from tests.api.api_helpers import HOURLY
from xchronos.api.app import create_app, create_inner_app
from xchronos.api.serving.aside import answered
from xchronos.ipc import Disconnected


class Elsewhere:
    """The other process: what it was asked, and whether it is there."""

    def __init__(self, services) -> None:
        self.app = create_inner_app(services)
        self.asked = []
        self.gone = False
        self.full = False

    @asynccontextmanager
    async def place(self):
        yield None if self.full else self.answer

    async def answer(self, request):
        self.asked.append(f"{request.method} {request.path}")
        if self.gone:
            raise Disconnected("gone")
        return await answered(self.app, request)


@pytest.fixture
def elsewhere(services) -> Elsewhere:
    return Elsewhere(services)


async def asked(services, elsewhere):
    """Some requests of every kind, and what they were answered."""
    async with AsyncTestClient(create_app(services, aside=elsewhere), base_url="http://127.0.0.1") as api:
        found = [
            await api.put("/v1/units/a.service", content=HOURLY),
            await api.put("/v1/units/b.service", content=b"nonsense"),
            await api.post("/v1/verify?name=c.service", json={"text": HOURLY.decode()}),
            await api.get("/v1/units?limit=1&after=Z"),
            await api.get("/v1/units?nonsense=1"),
            await api.get("/v1/executions?state=failed,lost&state=running"),
            await api.get("/v1/units/a.service/executions"),
            await api.get("/v1/units/none.service/executions"),
            await api.get("/metrics"),
            await api.get("/v1/units/a.service/calendar"),
            await api.get("/healthz"),
        ]
    return [(each.status_code, each.headers.get("content-type"), each.content) for each in found]


async def test_the_answers_are_the_same(services, cluster, elsewhere):
    cluster.daemon.counted = b"things_total 3.0\n"
    there = await asked(services, elsewhere)
    assert elsewhere.asked == [
        "PUT /v1/units/a.service",
        "PUT /v1/units/b.service",
        "POST /v1/verify",
        "GET /v1/units",
        "GET /v1/units",
        "GET /v1/executions",
        "GET /v1/units/a.service/executions",
        "GET /v1/units/none.service/executions",
        "GET /metrics",
    ]
    assert [status for status, _, _ in there] == [200, 422, 200, 200, 400, 200, 200, 404, 200, 200, 200]
    elsewhere.full = True
    here = await asked(services, elsewhere)
    assert here[1:] == there[1:]
    assert (b"created" in there[0][2], b"unchanged" in here[0][2]) == (True, True)


async def test_the_end_of_the_other_process_is_told(services, elsewhere):
    elsewhere.gone = True
    there = await asked(services, elsewhere)
    assert {status for status, _, _ in there[:9]} == {503}
    assert b"has ended, and may have done what was asked" in there[0][2]
    assert there[9][0] == 404  # what asks for one unit is answered here
    assert there[10][0] == 200


async def test_who_may_not_call_is_not_answered_there_either(services, elsewhere):
    services.token = "secret"
    assert {status for status, _, _ in (await asked(services, elsewhere))[:10]} == {401}
    assert elsewhere.asked == []
