"""Submitting, looking at and acting on units."""

import base64

import msgspec
import pytest

from tests.api.api_helpers import HOURLY, NOW, at, ended, running
from xchronos.clock import to_datetime
from xchronos.errors import StoreError, StoreUnavailable
from xchronos.limits import UNITS_DESTROYED
from xchronos.model.records import Attempt, StepResult
from xchronos.wire.details import Executions, UnitDetail
from xchronos.wire.messages import (
    Asked,
    Calendar,
    DestroyedUnits,
    ErrorBody,
    ExecutionIds,
    Explanation,
    SubmissionResult,
    UnitPage,
    Verified,
)


def read(answer, kind, status=200):
    assert answer.status_code == status, answer.text
    return msgspec.json.decode(answer.content, type=kind)


class TestSubmit:
    async def test_raw_text_is_stored_byte_for_byte(self, api, cluster):
        text = b"# caf\xe9\r\n" + HOURLY
        done = read(api.put("/v1/units/a.service", content=text), SubmissionResult)
        assert (done.unit, done.result, done.warnings) == ("a.service", "created", ())
        detail = read(api.get("/v1/units/a.service"), UnitDetail)
        assert base64.b64decode(detail.record.text_base64) == text
        assert detail.record.revision == done.revision
        assert detail.record.submitted_at == to_datetime(NOW)

    async def test_the_same_again_changes_nothing_and_another_text_does(self, api):
        api.put("/v1/units/a.service", content=HOURLY)
        assert read(api.put("/v1/units/a.service", content=HOURLY), SubmissionResult).result == "unchanged"
        assert read(api.put("/v1/units/a.service", content=HOURLY + b"#\n"), SubmissionResult).result == "changed"

    async def test_json_with_drop_ins(self, api):
        dropin = {"name": "a.service.d/10.conf", "text": "[Unit]\nDescription=Dropped in\n"}
        body = {"text": HOURLY.decode(), "drop_ins": [dropin], "by": "ann@host"}
        read(api.put("/v1/units/a.service", json=body), SubmissionResult)
        detail = read(api.get("/v1/units/a.service"), UnitDetail)
        assert detail.record.submitted_by == "ann@host"
        assert detail.record.drop_ins[0].name == "a.service.d/10.conf"
        assert detail.summary.description == "Dropped in"

    async def test_json_with_bytes_that_are_no_text(self, api):
        text = b"#\xff\n" + HOURLY
        body = {"text_base64": base64.b64encode(text).decode()}
        read(api.put("/v1/units/a.service", json=body), SubmissionResult)
        record = read(api.get("/v1/units/a.service"), UnitDetail).record
        assert base64.b64decode(record.text_base64) == text

    @pytest.mark.parametrize("body", [b"{", b'{"text": 1}', b'{"text_base64": "x"}', b"[]", b'{"text": "\\ud800"}'])
    async def test_a_body_that_is_no_submission(self, api, body):
        answer = api.put("/v1/units/a.service", content=body, headers={"content-type": "application/json"})
        assert "the body is no submission" in read(answer, ErrorBody, 400).error

    async def test_every_problem_of_a_refused_file_is_told(self, api):
        text = HOURLY + b"Nope=1\nMaxAttempts=-1\n"
        failure = read(api.put("/v1/units/a.service?path=/srv/a.service", content=text), ErrorBody, 422)
        assert [(p.file, p.line, p.key) for p in failure.problems] == [
            ("/srv/a.service", 7, "Nope"),
            ("/srv/a.service", 8, "MaxAttempts"),
        ]
        assert failure.error == "the unit file is refused: 2 problems"
        assert api.get("/v1/units/a.service").status_code == 404

    async def test_warnings_come_with_the_answer(self, api):
        done = read(api.put("/v1/units/a.service", content=HOURLY + b"JobStore=etcd\n"), SubmissionResult)
        assert [problem.key for problem in done.warnings] == ["JobStore"]
        for name, content in (("b", b"JobStore=memory\n"), ("c", b"")):  # the store that this daemon has
            assert read(api.put(f"/v1/units/{name}.service", content=HOURLY + content), SubmissionResult).warnings == ()
            assert read(api.post("/v1/verify", content=HOURLY + content), Verified) == Verified(ok=True)
        again = read(api.put("/v1/units/a.service", content=HOURLY + b"JobStore=etcd\n"), SubmissionResult)
        assert (again.result, len(again.warnings)) == ("unchanged", 1)

    async def test_a_name_that_is_none(self, api):
        failure = read(api.put("/v1/units/a", content=HOURLY), ErrorBody, 422)
        assert "no known suffix" in failure.problems[0].message

    async def test_names_with_every_allowed_character(self, api):
        path = "/v1/units/a%5Cx2db:c_d%40e.service"
        read(api.put(path, content=HOURLY), SubmissionResult)
        assert read(api.get(path), UnitDetail).summary.name == "a\\x2db:c_d@e.service"


class TestVerify:
    async def test_nothing_is_stored(self, api):
        assert read(api.post("/v1/verify", content=HOURLY), Verified) == Verified(ok=True)
        assert read(api.get("/v1/units"), UnitPage).units == ()

    async def test_problems_with_their_lines(self, api):
        answer = api.post("/v1/verify?name=b.service&path=b", json={"text": "[Service]\nExecStart='x\n", "path": "b"})
        found = read(answer, Verified)
        assert not found.ok
        assert ("b", 2, "ExecStart") in [(problem.file, problem.line, problem.key) for problem in found.problems]


class TestList:
    async def test_pages(self, api, cluster):
        for number in range(5):
            await cluster.submit(f"u{number}.service")
        first = read(api.get("/v1/units?limit=2"), UnitPage)
        assert [unit.name for unit in first.units] == ["u0.service", "u1.service"]
        second = read(api.get(f"/v1/units?limit=2&after={first.after}"), UnitPage)
        assert [unit.name for unit in second.units] == ["u2.service", "u3.service"]
        third = read(api.get(f"/v1/units?limit=2&after={second.after}"), UnitPage)
        assert ([unit.name for unit in third.units], third.after) == (["u4.service"], "")

    async def test_a_page_that_ends_with_the_last_unit_says_so(self, api, cluster):
        await cluster.submit("a.service")
        assert read(api.get("/v1/units?limit=1"), UnitPage).after == ""

    @pytest.mark.parametrize("limit", ["0", "5001", "x"])
    async def test_limits(self, api, limit):
        assert "limit" in read(api.get(f"/v1/units?limit={limit}"), ErrorBody, 400).error

    async def test_states(self, api, cluster):
        started_by_hand = b"[Service]\nExecStart=/bin/true\n"
        past = b"[Service]\nExecStart=/bin/true\n[X-Chronos]\nTriggerISO8601=R1/2000-01-01T00:00:00Z/PT1H\n"
        await cluster.submit("idle.service", started_by_hand)
        await cluster.submit("finished.service", past)
        await cluster.submit("masked.service", b"", accepted=False)
        await cluster.submit("new.service", accepted=False)
        await cluster.submit("paused.service")
        await cluster.submit("scheduled.service")
        await cluster.submit("template@.service", accepted=False)
        await cluster.submit("an@..service")
        assert read(api.get("/v1/units/an@..service"), UnitDetail).summary.state == "scheduled"
        await cluster.registry.destroy("an@..service")
        api.post("/v1/units/paused.service/pause")
        units = {unit.name: unit for unit in read(api.get("/v1/units"), UnitPage).units}
        assert {name.partition(".")[0].rstrip("@"): unit.state for name, unit in units.items()} == {
            state: state for state in ("idle", "finished", "masked", "new", "paused", "scheduled", "template")
        }
        assert units["scheduled.service"].next == at(3600)
        assert units["paused.service"].next is None
        assert units["finished.service"].finished

    async def test_active_executions_are_counted(self, api, cluster):
        await cluster.submit("a.service")
        await cluster.execution(running("a.service", 0))
        api.post("/v1/units/a.service/start")
        await cluster.execution(ended("a.service", -60))
        assert read(api.get("/v1/units"), UnitPage).units[0].active == 2

    @pytest.mark.parametrize(
        ("unit", "expected"),
        [
            ("[Unit]\nDescription=plain\n", "plain"),
            ("[Unit]\n  Description =  spaced out  \n", "spaced out"),
            ("[Unit]\nDescription=first\nDescription=second\n", "second"),
            ("[Unit]\nDescription=over \\\n two lines\n", "over   two lines"),
            ("[Service]\nDescription=in the wrong place\n[Unit]\nDescription=right\n", "right"),
            ("[Unit]\nAfter=x\n", ""),
        ],
    )
    async def test_descriptions_without_compiling(self, api, unit, expected):
        text = unit + "[Service]\nExecStart=/bin/true\n"
        assert api.put("/v1/units/a.service", content=text.encode()).status_code == 200
        assert read(api.get("/v1/units"), UnitPage).units[0].description == expected


class TestDetail:
    async def test_triggers_and_placement(self, api, cluster):
        text = HOURLY + b'Availability=2\n[X-Fleet]\nMachineMetadata="region=eu" "cores>=8"\nConflicts=b*.service\n'
        await cluster.submit("a.service", text)
        detail = read(api.get("/v1/units/a.service"), UnitDetail)
        assert [(t.key, t.kind, t.next) for t in detail.triggers] == [("TriggerCron", "cron", at(3600))]
        assert detail.placing.availability == 2
        assert {"region=eu", "cores>=8", "Conflicts=b*.service"} <= set(detail.placing.requirements)

    async def test_peers_and_ids_in_words(self, api, cluster):
        await cluster.submit("a.service", HOURLY + b"[X-Fleet]\nMachineID=abc\n")
        await cluster.submit("b.service", HOURLY + b"[X-Fleet]\nMachineOf=a.service\nReplaces=c.service\n")
        assert read(api.get("/v1/units/a.service"), UnitDetail).placing.requirements == ("MachineID=abc",)
        placing = read(api.get("/v1/units/b.service"), UnitDetail).placing
        assert placing.requirements == ("MachineOf=a.service", "Replaces=c.service")

    async def test_recent_executions_newest_first_with_local_progress(self, api, cluster):
        await cluster.submit("a.service")
        for number in range(4):
            await cluster.execution(ended("a.service", -3600 * (number + 1)))
        now = await cluster.execution(running("a.service", 0))
        step = StepResult("start-pre-0", "/bin/true", "succeeded", at(0), at(1), 0)
        cluster.steps.running[now.id] = Attempt(1, "m1", at(0), at(0), steps=(step,))
        await cluster.execution(running("a.service", -1, machine="m2"))
        found = read(api.get("/v1/units/a.service?recent=2"), UnitDetail).executions
        assert [execution.fire_time for execution in found] == [at(0), at(-1), at(-3600), at(-7200)]
        assert found[0].current.steps == (step,)
        assert read(api.get("/v1/units/a.service?recent=0"), UnitDetail).executions[-1].state == "running"

    async def test_a_stored_unit_that_does_not_compile_any_more(self, api, cluster):
        await cluster.submit("a.service")
        record = (await cluster.registry.unit("a.service")).record
        await cluster.put(
            cluster.registry.keys.job("a.service"),
            msgspec.structs.replace(record, text="[X-Chronos]\nNope=1\n", revision="x"),
        )
        detail = read(api.get("/v1/units/a.service"), UnitDetail)
        assert "Nope" in [problem.key for problem in detail.problems]
        assert (detail.triggers, detail.placing) == ((), None)
        assert api.get("/v1/units/a.service/explain").status_code == 422

    async def test_unknown(self, api):
        for path in ("", "/explain", "/calendar", "/executions"):
            assert read(api.get(f"/v1/units/no.service{path}"), ErrorBody, 404).error == "there is no unit no.service"
        for verb in ("start", "stop", "pause", "resume"):
            assert api.post(f"/v1/units/no.service/{verb}").status_code == 404
        assert api.delete("/v1/units/no.service").status_code == 404


class TestActions:
    async def test_destroy(self, api, cluster):
        await cluster.submit("a.service")
        assert read(api.delete("/v1/units/a.service"), Asked) == Asked("a.service", "destroyed")
        assert api.get("/v1/units/a.service").status_code == 404

    async def test_destroy_many(self, api, cluster):
        for name in ("a.service", "b.service"):
            await cluster.submit(name)
        await cluster.registry.submit(
            "c.service", HOURLY, now=cluster.clock.now(), source="directory:/u", by="intake@m7"
        )
        names = ["a.service", "no.service", "c.service", "b.service", "a.service"]
        found = read(api.post("/v1/destroy", json={"units": names}), DestroyedUnits).units
        assert [(one.unit, one.status, bool(one.error)) for one in found] == [
            ("a.service", 200, False), ("no.service", 404, True), ("c.service", 409, True), ("b.service", 200, False),
            ("a.service", 404, True),
        ]  # fmt: skip
        assert found[1].error == "there is no unit no.service"
        (kept,) = read(api.post("/v1/destroy", json={"units": ["c.service"], "keep_file": True}), DestroyedUnits).units
        assert (kept.error, kept.note[:42]) == ("", "the file /u/c.service on m7 is still there")
        assert await cluster.registry.unit_names() == []

    async def test_too_many_to_destroy(self, api):
        answer = api.post("/v1/destroy", json={"units": ["a.service"] * (UNITS_DESTROYED + 1)})
        assert read(answer, ErrorBody, 400).error == "1001 units: expected at most 1000 in one request"

    async def test_start_with_a_payload_then_stop(self, api, cluster):
        await cluster.submit("a.service", HOURLY + b"Availability=2\n")
        started = read(api.post("/v1/units/a.service/start", json={"payload": "p", "by": "ann"}), ExecutionIds, 202)
        assert [name[-1] for name in started.executions] == ["0", "1"]
        execution = await cluster.registry.execution(started.executions[0])
        assert (execution.payload, execution.reason) == ("p", "started by ann")
        stopped = read(api.post("/v1/units/a.service/stop", json={"by": "ann"}), ExecutionIds, 202)
        assert set(stopped.executions) == set(started.executions)
        assert (await cluster.registry.execution(started.executions[0])).stop_requested == "stopped by ann"

    async def test_stop_without_a_word(self, api, cluster):
        await cluster.submit("a.service")
        (started,) = read(api.post("/v1/units/a.service/start"), ExecutionIds, 202).executions
        read(api.post("/v1/units/a.service/stop"), ExecutionIds, 202)
        assert (await cluster.registry.execution(started)).stop_requested == "stopped by hand"

    async def test_what_cannot_be_started(self, api, cluster):
        await cluster.submit("a@.service", accepted=False)
        assert "template" in read(api.post("/v1/units/a@.service/start"), ErrorBody, 409).error

    async def test_pause_and_resume(self, api, cluster):
        await cluster.submit("a.service")
        assert read(api.post("/v1/units/a.service/pause"), Asked).action == "paused"
        assert "paused" in read(api.get("/v1/units/a.service/explain"), Explanation).lines[0]
        assert "paused" in read(api.get("/v1/units/a.service/calendar"), Calendar).note
        assert read(api.post("/v1/units/a.service/resume"), Asked).action == "resumed"
        assert "next fire time" in read(api.get("/v1/units/a.service/explain"), Explanation).lines[0]

    async def test_resume_and_skip_what_was_missed(self, api, cluster):
        await cluster.submit("a.service", HOURLY)
        api.post("/v1/units/a.service/pause")
        read(api.post("/v1/units/a.service/resume", json={"skip": True}), ErrorBody, 400)
        read(api.post("/v1/units/a.service/resume", json={"skip_missed": True}), Asked)
        record = (await cluster.registry.unit("a.service")).record
        assert (record.desired, record.skip_missed, record.resumed_at) == ("active", True, at(0))
        # What is active already stays as it is.
        read(api.post("/v1/units/a.service/resume"), Asked)
        assert (await cluster.registry.unit("a.service")).record == record


class TestQuestions:
    async def test_calendar(self, api, cluster):
        await cluster.submit("a.service", HOURLY + b"RandomizedDelay=10min\n")
        found = read(api.get("/v1/units/a.service/calendar?n=2"), Calendar)
        assert [(fire.fire_time, fire.trigger) for fire in found.fires] == [(at(3600), "cron"), (at(7200), "cron")]
        assert all(fire.starts_at > fire.fire_time for fire in found.fires)
        assert (found.unit, found.note, found.zone) == ("a.service", "", "UTC")

    async def test_calendar_of_a_unit_that_nobody_has_accepted(self, api, cluster):
        await cluster.submit("a.service", accepted=False)
        found = read(api.get("/v1/units/a.service/calendar?n=1"), Calendar)
        assert (found.fires[0].fire_time, found.note) == (at(3600), "as if the unit were accepted now")

    async def test_calendar_of_a_finished_unit(self, api, cluster):
        past = b"[Service]\nExecStart=/bin/true\n[X-Chronos]\nTriggerISO8601=R1/2000-01-01T00:00:00Z/PT1H\n"
        await cluster.submit("a.service", past)
        found = read(api.get("/v1/units/a.service/calendar"), Calendar)
        assert found.fires == ()
        assert "finished" in found.note

    async def test_explain_knows_that_nobody_decides(self, api, cluster):
        await cluster.submit("a.service")
        unowned = "nothing is decided about it just now: no scheduler owns its shard, 6: none is alive, or"
        assert read(api.get("/v1/units/a.service/explain"), Explanation).lines[1].startswith(unowned)
        await cluster.scheduler()
        assert len(read(api.get("/v1/units/a.service/explain"), Explanation).lines) == 1
        cluster.daemon.store = ["it is full"]
        full = read(api.get("/v1/units/a.service/explain"), Explanation).lines[1]
        assert full == "nothing is decided about it just now: the job store: it is full"

    async def test_explain_judges_every_machine(self, api, cluster):
        await cluster.scheduler()
        await cluster.submit("a.service", HOURLY + b"[X-Fleet]\nMachineMetadata=region=eu\nConflicts=b.service\n")
        await cluster.submit("b.service")
        await cluster.machine("m1", metadata={"region": "us"})
        await cluster.machine("m2", metadata={"region": "eu"})
        await cluster.execution(running("b.service", 0, machine="m2"))
        await cluster.execution(running("gone.service", 0, machine="m2"))
        await cluster.execution(running("b.service", 1, machine="dead"))
        await cluster.execution(msgspec.structs.replace(running("a.service", 0), state="waiting", current=None))
        lines = read(api.get("/v1/units/a.service/explain"), Explanation).lines
        assert "waits for a machine" in lines[1]
        assert any("m1 lacks region=eu" in line for line in lines)
        assert any("m2 is taken by a conflict with b.service" in line for line in lines)

    async def test_executions(self, api, cluster):
        await cluster.submit("a.service")
        for number in range(3):
            await cluster.execution(ended("a.service", -number))
        found = read(api.get("/v1/units/a.service/executions?limit=2"), Executions)
        assert ([execution.fire_time for execution in found.executions], found.more) == ([at(0), at(-1)], True)


class TestStoreTrouble:
    @pytest.mark.parametrize(
        ("error", "status", "text"),
        [
            (StoreUnavailable("the disk is full"), 503, "the job store is not available: the disk is full"),
            (StoreError("unreadable"), 500, "unreadable"),
        ],
    )
    async def test_the_reason_is_told(self, api, cluster, monkeypatch, error, status, text):
        async def fail(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(cluster.registry.store, "get", fail)
        assert read(api.get("/v1/units/a.service"), ErrorBody, status).error == text

    async def test_a_defect_is_logged_and_not_shown(self, api, cluster, monkeypatch):
        async def fail(*_: object, **__: object) -> None:
            raise RuntimeError("secret")

        monkeypatch.setattr(cluster.registry.store, "get", fail)
        failure = read(api.get("/v1/units/a.service"), ErrorBody, 500)
        assert failure.error == "internal error: the daemon's log has the details"


@pytest.mark.parametrize(
    ("method", "path", "error"),
    [
        ("GET", "/v1/units?limt=5", "limt: no such query parameter, did you mean limit?: expected after, limit"),
        ("GET", "/v1/executions?status=failed", "status: no such query parameter"),
        ("GET", "/v1/executions?states=failed", "states: no such query parameter, did you mean state?"),
        ("GET", "/v1/status?verbose=1", "verbose: no such query parameter: expected none"),
        ("PUT", "/v1/units/a.service?force=1", "force: no such query parameter: expected by, path"),
        ("POST", "/v1/verify?nam=a.service", "nam: no such query parameter, did you mean name?"),
        ("DELETE", "/v1/units/a.service?now", "now: no such query parameter: expected keep_file"),
    ],
)
def test_unknown_query_parameters_are_refused(api, method, path, error):
    answer = api.request(
        method, path, content=b"[Service]\nExecStart=/bin/true\n" if method in ("PUT", "POST") else None
    )
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(error)


def test_known_query_parameters_are_taken(api):
    text = b"[Service]\nExecStart=/bin/true\n"
    assert api.put("/v1/units/a.service?path=a&by=me", content=text).status_code == 200
    assert api.post("/v1/verify?name=a.service&path=a", content=text).status_code == 200
    assert api.get("/v1/units?limit=5&after=").status_code == 200
    assert api.get("/v1/executions?unit=a.service&state=failed&state=running&limit=5").status_code == 200
    assert api.get("/v1/units/a.service?recent=1").status_code == 200
    assert api.get("/v1/units/a.service/calendar?n=1").status_code == 200
