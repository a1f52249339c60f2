"""The description of the API against its answers, in both directions.

Whatever schemathesis makes of the description, the answer is described. And every error that is described is given.
"""

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import httpx
import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from litestar.testing import TestClient
from schemathesis import Case, GenerationMode
from schemathesis.checks import CHECKS

from tests.api.api_helpers import HOURLY, Cluster, FakeSteps, StillClock, at, ended, running
from xchronos.api import peers
from xchronos.api.app import create_app
from xchronos.api.openapi import MEANINGS
from xchronos.api.ports import Services
from xchronos.api.serving.connections import _ANSWERS
from xchronos.errors import StoreError, StoreUnavailable
from xchronos.limits import BODY_BYTES
from xchronos.model.records import UnitRecord, fire_key
from xchronos.registry.keys import Keys
from xchronos.registry.registry import Registry
from xchronos.store.contract import Put, Txn
from xchronos.wire.messages import ErrorBody

FIRE = fire_key(at(0))
WORDS = {"name": "a.service", "unit": "a.service", "fire": FIRE, "copy": "0", "machine": "machine1-twin"}
"""What there is, for each parameter of a path."""

BODIES: dict[str, Any] = {
    "PUT /v1/units/{name}": {"text": HOURLY.decode()},
    "POST /v1/verify": {"text": HOURLY.decode()},
    "POST /v1/destroy": {"units": ["a.service"]},
    "POST /v1/machines/{machine}/drain": {"seconds": 1},
    "PATCH /v1/machines/{machine}/metadata": {"set": {"a": "b"}},
}
QUERIES = {"DELETE /v1/unreadable": {"key": "/xchronos/etc/jobs/a.service"}}

DECIDED_BY_THE_TEXT = {
    "PUT /v1/units/{name}", "POST /v1/verify", "GET /v1/executions", "PATCH /v1/machines/{machine}/metadata",
}  # fmt: skip
"""What a value may be is told in words there: the text of a unit file, states with commas between, names."""


class Broken:
    """A store that fails, as often as it is asked."""

    name = "etcd"
    max_operations = 128

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, method: str) -> Any:
        def fail(*_: object, **__: object) -> None:
            raise self._error

        return fail


class Api:
    """A cluster, its API, and what there is in it: `WORDS`, and more of each kind."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.services = Services(
            self.cluster.registry, self.cluster.clock, "m1", self.cluster.steps, self.cluster.daemon,
        )  # fmt: skip
        asyncio.run(self._fill())

    async def _fill(self) -> None:
        cluster = self.cluster
        await cluster.submit("a.service")
        await cluster.submit("t@.service")
        for machine in ("m1", "machine1-twin", "machine1-other"):
            await cluster.machine(machine)
        for fields in ({"seconds": 0}, {"seconds": 1, "machine": "m2"}):
            await cluster.execution(ended("a.service", **fields))
        await cluster.execution(running("a.service", 2))
        await self.put(cluster.registry.keys.job("unreadable.service"), b"TEXT")
        await self.put(f"{cluster.registry.keys.history('a.service')}{fire_key(at(9))}/0", b"TEXT")
        text = "[X-Chronos]\nTriggerCron=never\n"
        await cluster.put(cluster.registry.keys.job("old.service"), UnitRecord(text, "r"))

    async def put(self, key: str, value: bytes) -> None:
        await self.cluster.registry.store.commit(Txn((), (Put(key, value),)))

    def client(self) -> TestClient[Any]:
        return TestClient(create_app(self.services), base_url="http://127.0.0.1")


def described() -> dict[str, Any]:
    with Api().client() as client:
        found: dict[str, Any] = client.get("/schema").json()
        return found


DESCRIPTION = described()
SCHEMA = schemathesis.openapi.from_dict(DESCRIPTION)
OPERATIONS: list[Any] = [found.ok() for found in SCHEMA.get_all_operations()]  # type: ignore[union-attr]
PATHS = {operation.label: operation.path for operation in OPERATIONS}


@pytest.fixture
def live() -> Iterator[tuple[Api, TestClient[Any]]]:
    api = Api()
    with api.client() as client:
        yield api, client


def cases(operation: Any) -> st.SearchStrategy[Case]:
    """Requests that fit the description, and such that do not where there is something that they could violate."""
    modes = [GenerationMode.POSITIVE]
    if operation.body or operation.query:
        modes.append(GenerationMode.NEGATIVE)
    return st.one_of([operation.as_strategy(generation_mode=mode) for mode in modes])


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_every_answer_is_described(operation: Any, live: tuple[Api, TestClient[Any]]) -> None:
    client = live[1]
    unfit: list[Any] = [CHECKS.get_one("positive_data_acceptance")] if operation.label in DECIDED_BY_THE_TEXT else []

    @settings(
        max_examples=40, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(case=cases(operation), there_is=st.booleans())
    def ask(case: Case, there_is: bool) -> None:
        if there_is:
            case.path_parameters.update({word: WORDS[word] for word in case.path_parameters})
        if case.method == "GET" and (case.query or {}).get("follow"):
            case.query["follow"] = False  # it would go on for ever
        request = case.as_transport_kwargs(base_url="http://127.0.0.1")
        del request["cookies"]
        if "data" in request:
            request["content"] = request.pop("data")
        case.validate_response(client.request(**request), excluded_checks=unfit)

    ask()


def test_a_wrong_base64_is_no_fault_of_the_daemon(live: tuple[Api, TestClient[Any]]) -> None:
    answer = live[1].post("/v1/verify", json={"text_base64": "größe"})
    assert (answer.status_code, "the body is no submission" in answer.text) == (400, True)


# -- every error that is described -----------------------------------------------------------------------------------


def errors_of(label: str) -> list[int]:
    method, path = label.split(" ")
    return sorted(int(status) for status in DESCRIPTION["paths"][path][method.lower()]["responses"] if status >= "400")


class Asking:
    """One request to a route, which is given the error that it should have by one change to it or to the API."""

    def __init__(self, label: str, patches: ExitStack) -> None:
        self.api = Api()
        self.label = label
        self.patches = patches
        self.method, self.path = label.split(" ")
        self.words = dict(WORDS)
        self.query = dict(QUERIES.get(label, {}))
        self.body: Any = BODIES.get(label)
        self.content: bytes | None = None
        self.headers: dict[str, str] = {}

    def send(self) -> httpx.Response:
        path = re.sub(r"\{(\w+)\}", lambda found: self.words[found[1]], self.path)
        body: dict[str, Any] = {"json": self.body} if self.content is None else {"content": self.content}
        with self.api.client() as client:
            return client.request(self.method, path, params=self.query, headers=self.headers, **body)

    def of_another_store(self, error: Exception) -> None:
        store: Any = Broken(error)
        daemon: Any = Broken(error)
        self.api.services = Services(Registry(store, Keys()), StillClock(), "m1", FakeSteps(), daemon)


def unknown_query(asking: Asking) -> None:
    asking.query["nonsense"] = "1"


def no_token(asking: Asking) -> None:
    asking.api.services.token = "secret"


def another_host(asking: Asking) -> None:
    asking.headers["host"] = "evil.example"


def nothing_of_that_name(asking: Asking) -> None:
    asking.words = {"name": "none.service", "unit": "none.service", "fire": FIRE, "copy": "0", "machine": "none"}
    if asking.label == "GET /v1/executions":
        asking.query["unit"] = "none.service"
    if asking.label == "DELETE /v1/unreadable":
        asking.query["key"] = "/xchronos/etc/jobs/none.service"


def not_as_it_is(asking: Asking) -> None:
    """Unreadable records, an id that begins two machines', a template that is started, and what can be read."""
    asking.words |= {"name": "unreadable.service", "fire": fire_key(at(9)), "machine": "machine1"}
    if asking.label == "GET /v1/executions":
        asking.query["unit"] = "unreadable.service"
    if asking.label == "DELETE /v1/units/{name}":
        asking.words["name"] = "filed.service"
        record = UnitRecord("", "r", source="directory:/units", file="/units/filed.service")
        asyncio.run(asking.api.cluster.put(asking.api.cluster.registry.keys.job("filed.service"), record))


def too_large(asking: Asking) -> None:
    asking.content = bytes(BODY_BYTES + 1)


def refused_file(asking: Asking) -> None:
    asking.body = {"text": "nonsense"} if asking.method == "PUT" else None
    asking.words["name"] = "old.service"


def broken_store(asking: Asking) -> None:
    asking.of_another_store(StoreError("the disk has gone"))


def no_api(asking: Asking) -> None:
    async def relay(*_: object, **__: object) -> Any:
        raise peers._refusal(b"<html>", "m2", 504)
        yield

    asking.words["fire"] = fire_key(at(1))
    asking.patches.enter_context(patch("xchronos.api.peers.relay", relay))


def absent_store(asking: Asking) -> None:
    if asking.label in ("GET /metrics", "POST /v1/verify"):  # they need no store, but room
        asking.patches.enter_context(patch("xchronos.api.serving.admission.BODIES_BYTES", -1))
    elif asking.label == "GET /healthz":
        asking.api.cluster.daemon.faults = ["the disk is full"]
    else:
        asking.of_another_store(StoreUnavailable("it is away"))


PROVOKED: dict[int, Callable[[Asking], None]] = {
    400: unknown_query, 401: no_token, 403: another_host, 404: nothing_of_that_name, 409: not_as_it_is, 413: too_large,
    422: refused_file, 500: broken_store, 502: no_api, 503: absent_store,
}  # fmt: skip


@pytest.mark.parametrize(
    ("label", "status"),
    [(label, status) for label in PATHS for status in errors_of(label) if status != 408],
)
def test_every_described_error_is_given(label: str, status: int) -> None:
    with ExitStack() as patches:
        asking = Asking(label, patches)
        PROVOKED[status](asking)
        answer = asking.send()
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    told = msgspec.json.decode(answer.content, type=ErrorBody, strict=True)
    assert told.error
    assert bool(told.problems) == (status == 422)
    assert set(msgspec.json.decode(answer.content)) <= {"error", "problems"}


def test_a_request_that_never_ends_is_answered_as_described() -> None:
    head, _, body = _ANSWERS[408].partition(b"\r\n\r\n")
    assert b"408 Request Timeout\r\ncontent-type: application/json" in head
    assert msgspec.json.decode(body, type=ErrorBody).error
    assert all(408 in errors_of(label) for label in PATHS)


def test_every_error_is_an_error_body() -> None:
    for label in PATHS:
        method, path = label.split(" ")
        responses = DESCRIPTION["paths"][path][method.lower()]["responses"]
        for status in errors_of(label):
            assert responses[str(status)] == {
                "description": MEANINGS[status],
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}},
            }
