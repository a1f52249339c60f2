"""Executions: lists with filters, progress, and stopping."""

import msgspec
import pytest

from tests.api.api_helpers import at, ended, running
from xchronos.model.policies import Outcome
from xchronos.model.records import Attempt, Execution, StepResult
from xchronos.wire.details import Executions
from xchronos.wire.messages import ErrorBody, ExecutionIds


def read(answer, kind, status=200):
    assert answer.status_code == status, answer.text
    return msgspec.json.decode(answer.content, type=kind)


@pytest.fixture
async def history(cluster):
    """Two units: a.service with an open and three ended executions, b.service with one of each of two outcomes."""
    await cluster.submit("a.service")
    await cluster.submit("b.service")
    await cluster.execution(running("a.service", 0))
    for seconds in (-30, -20, -10):
        await cluster.execution(ended("a.service", seconds))
    await cluster.execution(ended("b.service", -25, Outcome.FAILED))
    await cluster.execution(ended("b.service", -5, Outcome.LOST))


class TestLists:
    async def times(self, api, query):
        found = read(api.get(f"/v1/executions{query}"), Executions)
        return [(e.unit[0], (e.fire_time - at(0)).total_seconds()) for e in found.executions], found.more

    async def test_newest_first_across_units(self, api, history):
        everything = [("a", 0), ("b", -5), ("a", -10), ("a", -20), ("b", -25), ("a", -30)]
        assert await self.times(api, "") == (everything, False)
        assert await self.times(api, "?limit=3") == (everything[:3], True)
        assert await self.times(api, "?limit=6") == (everything, False)

    async def test_of_one_unit(self, api, history):
        assert await self.times(api, "?unit=b.service") == ([("b", -5), ("b", -25)], False)
        assert read(api.get("/v1/executions?unit=c.service"), ErrorBody, 404).error == "there is no unit c.service"

    async def test_by_outcome_and_state(self, api, history):
        assert await self.times(api, "?state=failed") == ([("b", -25)], False)
        assert await self.times(api, "?state=failed&state=lost") == ([("b", -5), ("b", -25)], False)
        assert await self.times(api, "?state=failed,running") == ([("a", 0), ("b", -25)], False)
        assert await self.times(api, "?state=running") == ([("a", 0)], False)
        assert await self.times(api, "?state=waiting") == ([], False)
        assert (await self.times(api, "?state=ended&limit=1"))[0] == [("b", -5)]

    async def test_an_unknown_state_is_named(self, api):
        assert "'bored' is unknown" in read(api.get("/v1/executions?state=bored"), ErrorBody, 400).error

    async def test_programs_find_an_id_and_lists_in_all_of_them(self, api, cluster):
        await cluster.submit("a.service")
        await cluster.execution(running("a.service", -10))
        await cluster.execution(Execution("a.service", at(0)))
        path = "a.service/20300101T120000.000000Z/0"
        waits, runs = api.get("/v1/executions").json()["executions"]
        assert (waits["id"], waits["attempts"], "current" in waits) == (path, [], False)
        assert (runs["attempts"], runs["current"]["steps"]) == ([], [])
        assert api.get(f"/v1/executions/{path}").json() == waits
        assert api.get("/v1/units/a.service").json()["executions"] == [waits, runs]
        assert api.get("/v1/units/a.service/executions").json()["executions"] == [waits, runs]
        stored = await cluster.registry.store.get(cluster.registry.keys.pending_execution(path))
        assert b'"id"' not in stored.value

    async def test_one_that_ends_between_the_readings_is_listed_once(self, api, cluster):
        await cluster.submit("a.service")
        await cluster.execution(running("a.service", -10))
        await cluster.execution(ended("a.service", -10))
        found = read(api.get("/v1/executions"), Executions).executions
        assert [execution.state for execution in found] == ["ended"]

    async def test_more_than_a_page_of_the_store(self, api, cluster, monkeypatch):
        monkeypatch.setattr("xchronos.api.queries.PAGE", 2)
        await cluster.submit("a.service")
        for number in range(5):
            await cluster.execution(ended("a.service", -number))
        assert len(read(api.get("/v1/executions"), Executions).executions) == 5


class TestOne:
    async def test_local_progress(self, api, cluster):
        execution = await cluster.execution(running("a.service", 0))
        step = StepResult("start-0", "/bin/true", "succeeded", at(0), at(1), 0)
        cluster.steps.running[execution.id] = Attempt(1, "m1", at(0), at(0), steps=(step,))
        found = read(api.get(f"/v1/executions/{execution.id}"), Execution)
        assert found.current.steps == (step,)

    async def test_progress_of_another_attempt_is_not_this_one_s(self, api, cluster):
        execution = await cluster.execution(running("a.service", 0))
        cluster.steps.running[execution.id] = Attempt(2, "m1")
        assert read(api.get(f"/v1/executions/{execution.id}"), Execution) == execution

    async def test_ended(self, api, cluster):
        execution = await cluster.execution(ended("a.service", 0))
        assert read(api.get(f"/v1/executions/{execution.id}"), Execution) == execution

    async def test_a_machine_that_does_not_answer_costs_only_the_progress(self, api, cluster):
        execution = await cluster.execution(running("a.service", 0, machine="m2"))
        assert read(api.get(f"/v1/executions/{execution.id}"), Execution) == execution

    async def test_placed_elsewhere_has_no_progress_to_ask_for(self, api, cluster):
        execution = await cluster.execution(msgspec.structs.replace(running("a.service", 0, "m2"), state="placed"))
        assert read(api.get(f"/v1/executions/{execution.id}"), Execution) == execution

    @pytest.mark.parametrize("path", ["a.service/20300101T120000.000000Z/0", "a.service/x/0"])
    async def test_unknown(self, api, path):
        assert "there is no execution" in read(api.get(f"/v1/executions/{path}"), ErrorBody, 404).error
        assert api.post(f"/v1/executions/{path}/stop").status_code == 404
        assert api.get(f"/v1/executions/{path}/logs").status_code == 404

    async def test_a_copy_that_is_no_number(self, api):
        assert api.get("/v1/executions/a.service/x/one").status_code in (400, 404)

    async def test_stop(self, api, cluster):
        execution = await cluster.execution(running("a.service", 0))
        path = f"/v1/executions/{execution.id}/stop"
        assert read(api.post(path, json={"reason": "too slow"}), ExecutionIds, 202).executions == (execution.id,)
        assert (await cluster.registry.execution(execution.id)).stop_requested == "too slow"
        assert read(api.post(path), ExecutionIds, 202).executions == ()
