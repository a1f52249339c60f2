"""Records that cannot be read: every list has a row for them, all others are listed, and they can be removed."""

import asyncio

import pytest

from tests.api.api_helpers import ended, running
from xchronos.model.records import Execution
from xchronos.store.contract import Put, Txn

VALUES = [
    b"TEXT",
    b"\xff\xfe",
    b"[]",
    b'{"unit":5,"id":5,"text":5,"cordoned":5}',
    b'{"v":99,"unit":"x","id":"x"}',
    b"null",
    b"",
]
FIRE = "20300101T120000.000000Z"


@pytest.fixture
def put(cluster):
    def write(key, value):
        asyncio.run(cluster.registry.store.commit(Txn((), (Put(key, value),))))

    return write


@pytest.mark.parametrize("value", VALUES)
def test_a_unit(api, cluster, put, value):
    asyncio.run(cluster.submit("good.service"))
    key = cluster.registry.keys.jobs + "rawjob"
    put(key, value)
    listed = {unit["name"]: unit for unit in api.get("/v1/units").json()["units"]}
    assert listed["good.service"]["state"] == "scheduled"
    assert listed["rawjob"]["state"] == "unreadable"
    assert key in listed["rawjob"]["problem"]
    assert api.get("/v1/status").json()["units"] == 2
    answer = api.get("/v1/units/rawjob")
    assert answer.status_code == 409
    assert f"destroy --unreadable {key}" in answer.json()["error"]
    removed = api.delete("/v1/unreadable", params={"key": key})
    assert removed.json()["action"] == "removed"
    assert [unit["name"] for unit in api.get("/v1/units").json()["units"]] == ["good.service"]


def test_a_key_that_names_no_unit_and_one_that_is_no_text(api, cluster, put):
    jobs = cluster.registry.keys.jobs
    put(jobs + "raw job", b'{"text":"[Service]\\nExecStart=/bin/true\\n"}')
    put(jobs + "a/b", b"{}")
    listed = {unit["name"]: unit for unit in api.get("/v1/units").json()["units"]}
    assert set(listed) == {"raw job", "a/b"}
    assert {unit["state"] for unit in listed.values()} == {"unreadable"}
    for name in listed:
        assert api.delete("/v1/unreadable", params={"key": jobs + name}).status_code == 200, name
    assert api.get("/v1/units").json()["units"] == []


@pytest.mark.parametrize("value", VALUES)
def test_a_cursor(api, cluster, put, value):
    asyncio.run(cluster.submit("a.service"))
    key = cluster.registry.keys.schedule("a.service")
    put(key, value)
    (unit,) = api.get("/v1/units").json()["units"]
    assert (unit["state"], key in unit["problem"]) == ("unreadable", True)
    detail = api.get("/v1/units/a.service").json()
    assert any(key in problem["message"] for problem in detail["problems"])
    before = asyncio.run(cluster.registry.store.get(cluster.registry.keys.job("a.service")))
    assert api.delete("/v1/unreadable", params={"key": key}).status_code == 200
    after = asyncio.run(cluster.registry.store.get(before.key))
    assert after.value == before.value
    assert after.mod_revision > before.mod_revision, "its scheduler hears of it"
    assert api.get("/v1/units").json()["units"][0]["state"] == "new"


@pytest.mark.parametrize(
    "value", [*VALUES, b'{"unit":"a.service","fire_time":"2030-01-01T12:00:00Z","state":"running"}']
)
@pytest.mark.parametrize("where", ["pending/", "placements/m1/", "executions/"])
def test_an_execution(api, cluster, put, value, where):
    asyncio.run(cluster.submit("a.service"))
    asyncio.run(cluster.execution(running("a.service", 60)))
    asyncio.run(cluster.execution(ended("a.service", -60)))
    bad = f"a.service/{FIRE}/7"
    key = f"{cluster.registry.keys.root}var/{where}{bad}"
    put(key, value)
    for question in ("/v1/executions", "/v1/units/a.service/executions", "/v1/executions?unit=a.service"):
        answer = api.get(question).json()
        assert len(answer["executions"]) == 2
        assert [row["key"] for row in answer["unreadable"]] == [key]
    for question in ("/v1/status", "/v1/units", "/v1/units/a.service", "/v1/units/a.service/explain", "/v1/machines"):
        assert api.get(question).status_code == 200, question
    assert api.get("/v1/executions?state=failed").status_code == 200
    assert api.get(f"/v1/executions/{bad}").status_code == 409
    assert api.post("/v1/units/a.service/stop").status_code == 202
    assert api.delete("/v1/unreadable", params={"key": key}).status_code == 200
    assert api.get("/v1/executions").json()["unreadable"] == []


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("where", ["executors/", "machines/"])
def test_a_machine(api, cluster, put, value, where):
    asyncio.run(cluster.machine("m1"))
    asyncio.run(cluster.submit("a.service"))
    asyncio.run(cluster.execution(Execution("a.service", ended("a", 0).fire_time, state="waiting")))
    key = f"{cluster.registry.keys.root}etc/{where}bad"
    put(key, value)
    answer = api.get("/v1/machines").json()
    assert [machine["id"] for machine in answer["machines"]] == ["m1"]
    assert [row["key"] for row in answer["unreadable"]] == [key]
    assert api.get("/v1/units/a.service/explain").status_code == 200
    assert api.delete("/v1/unreadable", params={"key": key}).status_code == 200


@pytest.mark.parametrize("key", ["/xchronos/etc/jobs/a.service", "/xchronos/etc/executors/m1"])
def test_what_can_be_read_is_not_removed_so(api, cluster, key):
    asyncio.run(cluster.submit("a.service"))
    asyncio.run(cluster.machine("m1"))
    answer = api.delete("/v1/unreadable", params={"key": key})
    assert (answer.status_code, "can be read" in answer.json()["error"]) == (409, True)


@pytest.mark.parametrize("key", ["/xchronos/etc/jobs/none", "/other", "", "/xchronos/var/scheduler/election"])
def test_what_is_not_there_is_not_removed(api, key):
    assert api.delete("/v1/unreadable", params={"key": key}).status_code == 404
