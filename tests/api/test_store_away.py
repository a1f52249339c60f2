"""Every route while the job store is not available: 503 with the reason where it is needed, and no harm elsewhere."""

import msgspec
import pytest
from litestar.testing import TestClient

from tests.api.api_helpers import HOURLY, Cluster, FakeDaemon, FakeSteps, StillClock, at, ended, running
from xchronos.api.app import create_app
from xchronos.api.errors import RETRY_AFTER_SECONDS
from xchronos.api.ports import Services
from xchronos.errors import StoreUnavailable
from xchronos.model.records import fire_key
from xchronos.registry.keys import Keys
from xchronos.registry.registry import Registry
from xchronos.wire.messages import ErrorBody

NEED_NO_STORE = {"/metrics", "/healthz", "/schema", "/schema/openapi.json", "/v1/verify"}
BODIES = {
    ("PUT", "/v1/units/{name}"): {"text": HOURLY.decode()},
    ("POST", "/v1/verify"): {"text": HOURLY.decode()},
    ("POST", "/v1/destroy"): {"units": ["a.service"]},
    ("POST", "/v1/machines/{machine}/drain"): {"seconds": 1},
    ("PATCH", "/v1/machines/{machine}/metadata"): {"set": {"a": "b"}},
}
WORDS = {
    "name": "a.service",
    "unit": "a.service",
    "fire": fire_key(at(0)),
    "fire_time": fire_key(at(0)),
    "copy": "0",
    "machine": "m1",
}


class Away:
    """A store that does not answer, as often as it is asked."""

    name = "etcd"
    max_operations = 128

    def __getattr__(self, method):
        def fail(*_, **__):
            raise StoreUnavailable("etcd at 10.0.0.1:2379 did not answer in time")

        return fail


def routes():
    app = create_app(Services(Cluster().registry, Cluster().clock, "m1", FakeSteps(), FakeDaemon()))
    for path, operations in app.openapi_schema.paths.items():
        for method in ("get", "put", "post", "delete", "patch"):
            if getattr(operations, method) is not None:
                yield method.upper(), path


@pytest.mark.parametrize(("method", "path"), sorted(routes()), ids=lambda word: word)
def test_every_route(method, path):
    away = Registry(Away(), Keys())
    services = Services(away, StillClock(), "m1", FakeSteps(), FakeDaemon())
    where = path
    for word, value in WORDS.items():
        where = where.replace("{" + word + "}", value)
    assert "{" not in where, "a new parameter: give it a value above"
    body = BODIES.get((method, path), {} if method in ("PUT", "POST") else None)
    query = {"/v1/verify": "?name=a.service", "/v1/unreadable": "?key=/xchronos/etc/jobs/a.service"}.get(path, "")
    with TestClient(create_app(services), base_url="http://127.0.0.1") as api:
        answer = api.request(method, where + query, json=body)
        if path in NEED_NO_STORE:
            assert answer.status_code < 300
            return
        assert answer.status_code == 503, answer.text
        told = msgspec.json.decode(answer.content, type=ErrorBody).error
        assert told == "the job store is not available: etcd at 10.0.0.1:2379 did not answer in time"
        assert answer.headers["retry-after"] == str(RETRY_AFTER_SECONDS)


@pytest.mark.parametrize("begun", [True, False], ids=["running", "waiting"])
async def test_output_is_followed_through_an_outage(api, cluster, tmp_path, monkeypatch, begun):
    await cluster.submit("a.service")
    await cluster.machine("m1")
    now = running("a.service", 0)
    if begun:
        await cluster.execution(now)
    else:
        await cluster.execution(msgspec.structs.replace(now, state="waiting", current=None))
    log = tmp_path / "start-0.log"
    cluster.steps.files["a.service", 1] = [("start-0", log)]
    asked = 0

    async def execution(execution_id):
        nonlocal asked
        asked += 1
        if asked == 1:
            return now if begun else msgspec.structs.replace(now, state="waiting", current=None)
        if asked < 5:
            log.write_text("one\n" if asked < 4 else "one\ntwo\n")
            raise StoreUnavailable("etcd is away")
        return ended("a.service", 0)

    monkeypatch.setattr(cluster.registry, "execution", execution)
    answer = api.get(f"/v1/executions/{now.id}/logs?follow=true")
    assert answer.text == "one\ntwo\n"
