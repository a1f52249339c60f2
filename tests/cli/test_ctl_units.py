"""xchronosctl against a real server: submitting, listing and acting on units."""

from pathlib import Path

import msgspec
import pytest

from tests.api.api_helpers import HOURLY, at, ended, running
from xchronos.model.policies import Outcome
from xchronos.model.records import Attempt, Missed, StepResult
from xchronos.store.contract import Put, Txn
from xchronos.wire.details import UnitDetail
from xchronos.wire.messages import Asked, DaemonStatus, ExecutionIds, IntakeFault, SubmissionResult, UnitSummary

EXAMPLE = Path(__file__).parents[2] / "units/statement_generation.service"


def read(result, kind, code=0):
    assert result.exit_code == code, result.output
    return msgspec.json.decode(result.stdout, type=kind)


class TestSubmit:
    def test_files_and_their_drop_ins(self, ctl, daemon, tmp_path: Path):
        (tmp_path / "a.service").write_bytes(HOURLY)
        (tmp_path / "a.service.d").mkdir()
        (tmp_path / "a.service.d" / "10-x.conf").write_text(
            "[Unit]\nDescription=Dropped in\n[X-Chronos]\nJobStore=etcd\n"
        )
        result = ctl("submit", str(tmp_path / "a.service"))
        assert (result.exit_code, result.stdout.split()[:2]) == (0, ["a.service:", "created"])
        assert result.stderr.startswith(f"{tmp_path}/a.service.d/10-x.conf:4: [X-Chronos] JobStore: warning: ")
        record = daemon.run(daemon.cluster.registry.unit("a.service")).record
        assert record.drop_ins[0].name == "a.service.d/10-x.conf"
        assert "@" in record.submitted_by
        assert "unchanged" in ctl("submit", str(tmp_path / "a.service")).stdout

    def test_directories_recursively(self, ctl, daemon, tmp_path: Path):
        for place in ("a.service", "deep/b.service", "deep/c.timer", ".hidden/d.service", ".e.service", "notes.txt"):
            (tmp_path / place).parent.mkdir(exist_ok=True)
            (tmp_path / place).write_bytes(HOURLY)
        result = ctl("submit", str(tmp_path), "--output", "json")
        assert [done.unit for done in read(result, list[SubmissionResult])] == ["a.service", "b.service"]
        assert "c.timer: passed over: xchronos does not run .timer units" in result.stderr

    def test_the_good_ones_are_submitted_and_the_exit_code_is_1(self, ctl, daemon, tmp_path: Path):
        (tmp_path / "a.service").write_bytes(HOURLY + b"Nope=1\n")
        (tmp_path / "b.service").write_bytes(HOURLY)
        result = ctl(
            "submit", str(tmp_path / "a.service"), str(tmp_path / "missing.service"), str(tmp_path / "b.service")
        )
        assert result.exit_code == 1
        assert result.stderr.splitlines() == [
            f"{tmp_path}/a.service:7: [X-Chronos] Nope: unknown key",
            f"{tmp_path}/missing.service: cannot be read: No such file or directory",
        ]
        assert result.stdout.startswith("b.service: created")

    def test_standard_input(self, ctl, daemon):
        assert ctl("submit", "-", "--name", "piped", stdin=HOURLY).stdout.startswith("piped.service: created")
        assert ctl("submit", "-", stdin=HOURLY).exit_code == 2
        assert ctl("submit", "a", "b", "--name", "x").exit_code == 2
        assert ctl("submit").exit_code == 2

    @pytest.mark.parametrize("command", ["submit", "verify"])
    def test_a_name_that_is_none(self, ctl, daemon, command):
        result = ctl(command, "-", "--name", "bad name!", stdin=HOURLY)
        assert (result.exit_code, "bad name!.service" in result.stderr) == (1, True)
        assert ctl("list-units", "--no-legend").stdout == ""

    @pytest.mark.parametrize("command", ["submit", "verify"])
    def test_an_empty_argument(self, ctl, daemon, command):
        result = ctl(command, "")
        assert result.exit_code == 1
        assert "an empty argument: expected a file, a directory or -" in result.stderr

    def test_an_instance_is_made_of_its_template(self, ctl, daemon, tmp_path: Path):
        (tmp_path / "r@.service").write_bytes(HOURLY)
        assert "r@eu.service: created" in ctl("submit", str(tmp_path / "r@eu.service")).stdout

    def test_a_timer_that_is_named(self, ctl, daemon, tmp_path: Path):
        (tmp_path / "a.timer").write_text("[Timer]\nOnCalendar=daily\n")
        result = ctl("submit", str(tmp_path / "a.timer"))
        assert result.exit_code == 1
        assert "xchronos runs .service units" in result.stderr

    def test_an_empty_directory(self, ctl, daemon, tmp_path: Path):
        result = ctl("submit", str(tmp_path))
        assert (result.exit_code, result.stderr) == (
            1,
            f"{tmp_path}: no unit files (*.service) are in this directory\n",
        )

    def test_a_drop_in_that_is_no_text(self, ctl, daemon, tmp_path: Path):
        (tmp_path / "a.service").write_bytes(HOURLY)
        (tmp_path / "a.service.d").mkdir()
        (tmp_path / "a.service.d" / "x.conf").write_bytes(b"#\xff\n")
        result = ctl("submit", str(tmp_path / "a.service"))
        assert (result.exit_code, "not valid UTF-8" in result.stderr) == (1, True)

    def test_a_server_error_is_told_with_the_file(self, ctl, daemon, tmp_path: Path, monkeypatch):
        from xchronos.errors import StoreUnavailable

        async def fail(*_, **__):
            raise StoreUnavailable("the disk is full")

        monkeypatch.setattr(daemon.cluster.registry, "submit", fail)
        (tmp_path / "a.service").write_bytes(HOURLY)
        result = ctl("submit", str(tmp_path / "a.service"))
        assert (result.exit_code, result.stderr) == (
            1,
            f"{tmp_path}/a.service: the job store is not available: the disk is full\n",
        )

    def test_no_daemon(self, ctl, tmp_path: Path):
        (tmp_path / "a.service").write_bytes(HOURLY)
        result = ctl("--api", "http://127.0.0.1:1", "submit", str(tmp_path / "a.service"))
        assert result.exit_code == 4
        assert "is xchronosd running? Start it with `xchronosd`" in result.stderr


class TestCat:
    @pytest.mark.parametrize("text", [EXAMPLE.read_bytes(), b"# caf\xe9\r\n" + HOURLY, HOURLY.rstrip()])
    def test_byte_for_byte(self, ctl, daemon, text):
        daemon.run(daemon.cluster.submit("a.service", text, accepted=False))
        result = ctl("cat", "a")
        assert (result.exit_code, result.stdout_bytes) == (0, text)

    def test_unknown(self, ctl, daemon):
        result = ctl("cat", "no")
        assert (result.exit_code, result.stderr) == (3, "xchronosctl: there is no unit no.service\n")


class TestLists:
    def test_units(self, ctl, daemon):
        daemon.run(daemon.cluster.submit("a.service"))
        daemon.run(daemon.cluster.submit("b.service", accepted=False))
        lines = ctl("list-units").stdout.splitlines()
        assert lines[0].split() == ["UNIT", "STATE", "ACTIVE", "NEXT", "LAST", "DESCRIPTION"]
        assert lines[1].split(None, 5) == ["a.service", "scheduled", "0", "2030-01-01T13:00:00Z", "-", "Hourly report"]
        assert lines[2].split()[:4] == ["b.service", "new", "0", "-"]
        assert ctl("list-units", "--no-legend", "--limit", "1").stdout.split()[0] == "a.service"
        units = read(ctl("list-units", "-o", "json"), list[UnitSummary])
        assert [unit.name for unit in units] == ["a.service", "b.service"]

    def test_nothing(self, ctl, daemon):
        assert ctl("list-units", "--no-legend").stdout == ""
        assert ctl("list-units", "--output", "json").stdout == "[]\n"

    def test_pages(self, ctl, daemon, monkeypatch):
        monkeypatch.setattr("xchronos.client.client.UNITS_PER_PAGE", 2)
        for number in range(5):
            daemon.run(daemon.cluster.submit(f"u{number}.service"))
        assert len(ctl("list-units", "--no-legend").stdout.splitlines()) == 5
        assert len(ctl("list-units", "--no-legend", "--limit", "3").stdout.splitlines()) == 3


class TestActions:
    def test_start_and_stop(self, ctl, daemon):
        daemon.run(daemon.cluster.submit("a.service", HOURLY + b"Availability=2\n"))
        started = ctl("start", "a", "--payload", "p")
        ids = started.stdout.split()
        assert (started.exit_code, len(ids)) == (0, 2)
        execution = daemon.run(daemon.cluster.registry.execution(ids[0]))
        assert execution.payload == "p"
        assert ctl("stop", ids[0], "--reason", "enough").stdout == f"{ids[0]}: stopping\n"
        assert daemon.run(daemon.cluster.registry.execution(ids[0])).stop_requested == "enough"
        assert ctl("stop", "a").stdout == f"{ids[1]}: stopping\n"
        assert ctl("stop", "a").stderr == "a: nothing to stop\n"

    def test_an_instance_that_was_not_submitted(self, ctl, daemon):
        daemon.run(daemon.cluster.submit("a@.service"))
        result = ctl("start", "a@b")
        assert result.exit_code == 3
        assert "xchronosctl cat a@.service | xchronosctl submit - --name a@b.service" in result.stderr
        text = ctl("cat", "a@.service").stdout
        assert ctl("submit", "-", "--name", "a@b.service", stdin=text.encode()).exit_code == 0
        assert ctl("start", "a@b").exit_code == 0

    def test_what_is_kept_running_is_not_started_beside_itself(self, ctl, daemon):
        daemon.run(daemon.cluster.submit("a.service", b"[Service]\nExecStart=/bin/true\nRestart=always\n"))
        result = ctl("start", "a")
        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr.startswith("a.service is kept running, and runs already")

    def test_what_is_kept_running_everywhere_is_not_stopped_for_long(self, ctl, daemon):
        daemon.run(
            daemon.cluster.submit(
                "a.service", b"[Service]\nExecStart=/bin/true\nRestart=always\n[X-Fleet]\nGlobal=true\n"
            )
        )
        schedule = daemon.run(daemon.cluster.registry.unit("a.service")).schedule
        everywhere = msgspec.structs.replace(schedule, everywhere=True)
        daemon.run(daemon.cluster.put("/xchronos/var/schedules/a.service", everywhere))
        assert "a.service is kept running on every machine and begins again: pause it first" in ctl("stop", "a").stderr
        ctl("pause", "a")
        assert ctl("stop", "a").stderr == "a: nothing to stop\n"

    @pytest.mark.parametrize(("outcome", "code"), [(Outcome.SUCCEEDED, 0), (Outcome.FAILED, 1)])
    def test_wait_follows_to_the_end(self, ctl, daemon, monkeypatch, outcome, code):
        daemon.run(daemon.cluster.submit("a.service"))
        monkeypatch.setattr("xchronos.cli.commands.actions.ASK_AGAIN_SECONDS", 0)
        cluster = daemon.cluster
        shown = []

        async def execution(execution_id):
            shown.append(execution_id)
            return running("a.service", 0) if len(shown) == 1 else ended("a.service", 0, outcome)

        monkeypatch.setattr(cluster.registry, "execution", execution)
        result = ctl("start", "--wait", "a")
        assert result.exit_code == code
        lines = result.stderr.splitlines()
        assert lines[0].endswith("running on m1, attempt 1")
        assert outcome.value in lines[1]

    def test_pause_resume_destroy(self, ctl, daemon):
        daemon.run(daemon.cluster.submit("a.service"))
        assert ctl("pause", "a").stdout == "a.service: paused\n"
        assert read(ctl("list-units", "-o", "json"), list[UnitSummary])[0].state == "paused"
        assert ctl("resume", "a").stdout == "a.service: resumed\n"
        assert daemon.run(daemon.cluster.registry.unit("a.service")).record.skip_missed is False
        assert ctl("pause", "a").exit_code == 0
        assert ctl("resume", "--skip-missed", "a").stdout == "a.service: resumed\n"
        assert daemon.run(daemon.cluster.registry.unit("a.service")).record.skip_missed is True
        assert ctl("destroy", "a").stdout == "a.service: destroyed\n"
        assert ctl("list-units", "--no-legend").stdout == ""

    def test_answers_for_programs(self, ctl, daemon):
        daemon.run(daemon.cluster.submit("a.service"))
        (begun,) = read(ctl("start", "a", "-o", "json"), list[ExecutionIds])
        assert len(begun.executions) == 1
        unknown = ctl("stop", "no", "a", "-o", "json")
        assert read(unknown, list[ExecutionIds], 3) == [begun]
        assert unknown.stderr == "xchronosctl: there is no unit no.service\n"
        for command, action in (("pause", "paused"), ("resume", "resumed"), ("destroy", "destroyed")):
            (asked,) = read(ctl(command, "a", "-o", "json"), list[Asked])
            assert (asked.target, asked.action) == ("a.service", action)

    @pytest.mark.parametrize(
        "command", ["start", "stop", "pause", "resume", "destroy", "status", "explain", "calendar"]
    )
    def test_unknown_units(self, ctl, daemon, command):
        result = ctl(command, "no")
        assert (result.exit_code, result.stderr) == (3, "xchronosctl: there is no unit no.service\n")

    def test_all_are_tried(self, ctl, daemon):
        daemon.run(daemon.cluster.submit("b.service"))
        result = ctl("pause", "a", "b")
        assert (result.exit_code, result.stdout) == (3, "b.service: paused\n")

    def test_unknown_executions(self, ctl, daemon):
        for command in ("stop", "status", "logs"):
            assert ctl(command, "a.service/20300101T000000.000000Z/0").exit_code == 3

    def test_a_name_that_cannot_be_one(self, ctl, daemon):
        result = ctl("pause", "x" * 300)
        assert result.exit_code == 1
        assert "longer than 255 bytes" in result.stderr


class TestStatus:
    def test_a_unit_with_everything(self, ctl, daemon):
        cluster = daemon.cluster
        text = HOURLY + b'Availability=2\nJobStore=etcd\nTTL=30d\n[X-Fleet]\nMachineMetadata="region=eu" "disk=ssd"\n'
        daemon.run(cluster.submit("a.service", text))
        daemon.run(cluster.execution(ended("a.service", -60, Outcome.FAILED)))
        now = daemon.run(cluster.execution(running("a.service", 0, stop_requested="enough")))
        pull = StepResult("start-pre-0", "docker pull x", "ignored", at(0), at(1), 1, reason="no such image")
        killed = StepResult("start-0", "/bin/x", "failed", at(1), at(2), None, "SIGKILL", True, "out of memory")
        unstarted = StepResult("start-1", "/bin/y", "failed", reason="it did not run")
        cluster.steps.running[now.id] = Attempt(1, "m1", at(0), at(0), steps=(pull, killed, unstarted))
        result = ctl("status", "a")
        assert result.exit_code == 0
        for part in (
            "* a.service - Hourly report",
            "Loaded: from unknown, 2030-01-01T12:00:00Z",
            "State: scheduled",
            "Trigger: TriggerCron=0 0 * * * *",
            "next 2030-01-01T13:00:00Z; fired 0 times",
            "Expires: 2030-01-31T12:00:00Z",
            "Placement: process on 2 machines with disk=ssd, region=eu; load balancing: workload",
            "Warning: a.service:8: [X-Chronos] JobStore: expects the etcd store",
            "stop requested: enough",
            "start-pre-0: exit code 1, ignored (no such image) (1s): docker pull x",
            "start-0: killed by SIGKILL, out of memory (1s): /bin/x",
            "start-1: failed (it did not run): /bin/y",
            "a.service/20300101T115900.000000Z/0: failed (cron), 2030-01-01T11:59:01Z",
            "attempt 1 on m1: failed (1s): start-0: exited with 3",
            "start-0: exit code 3 (1s): /bin/true",
        ):
            assert part in result.stdout, result.stdout
        detail = read(ctl("status", "a", "--output", "json"), list[UnitDetail])[0]
        assert detail.summary.name == "a.service"

    def test_several_and_one_that_is_unknown(self, ctl, daemon):
        daemon.run(daemon.cluster.submit("a.service", b"[Service]\nExecStart=/bin/true\n[X-Fleet]\nGlobal=true\n"))
        missed = msgspec.structs.replace(
            ended("a.service", -60, Outcome.MISSED),
            attempts=(),
            missed=Missed(at(-120), at(-60), 2, "FIRE_NOW"),
            reason="late",
        )
        daemon.run(daemon.cluster.execution(missed))
        result = ctl("status", missed.id, "nope", "a")
        assert result.exit_code == 3
        assert "stands for 2 from 2030-01-01T11:58:00Z to 2030-01-01T11:59:00Z (FIRE_NOW)" in result.stdout
        assert "process on every machine" in result.stdout

    def test_what_waits(self, ctl, daemon):
        daemon.run(daemon.cluster.submit("a.service", HOURLY))
        (started,) = ctl("start", "a").stdout.split()
        assert "not before 2030-01-01T12:00:00Z" in ctl("status", started).stdout
        assert started in ctl("status", "a", "--recent", "0").stdout

    def test_drop_ins_a_counted_trigger_and_who(self, ctl, daemon, tmp_path: Path):
        (tmp_path / "c.service").write_text(
            "[Service]\nExecStart=/bin/true\n[X-Chronos]\nTriggerRepeatInterval=1s\nTriggerRepeatCount=2\n"
        )
        (tmp_path / "c.service.d").mkdir()
        (tmp_path / "c.service.d" / "x.conf").write_text("[Unit]\nDescription=\x1b[31mred\n")
        assert ctl("submit", str(tmp_path)).exit_code == 0
        shown = ctl("status", "c").stdout
        assert "Drop-ins: c.service.d/x.conf" in shown
        assert "\\x1b[31mred" in shown
        assert "by " in shown
        assert "no further fire time" in shown
        assert "Executions: none yet" in shown

    def test_a_trigger_that_has_fired(self, ctl, daemon):
        cluster = daemon.cluster
        text = b"[Service]\nExecStart=/bin/true\n[X-Chronos]\nTriggerRepeatInterval=1h\nTriggerRepeatCount=5\n"
        daemon.run(cluster.submit("a.service", text))
        schedule = daemon.run(cluster.registry.unit("a.service")).schedule
        state = msgspec.structs.replace(schedule.triggers[0], last=at(0), fired=1, remaining=5)
        fired = msgspec.structs.replace(schedule, triggers=(state,), fired=1)
        daemon.run(cluster.put("/xchronos/var/schedules/a.service", fired))
        assert "last 2030-01-01T12:00:00Z; fired once; 5 remaining" in ctl("status", "a").stdout
        assert ctl("list-units", "--no-legend").stdout.split()[4] == "2030-01-01T12:00:00Z"

    def test_a_unit_that_does_not_compile_any_more(self, ctl, daemon):
        from xchronos.model.records import UnitRecord

        daemon.run(daemon.cluster.put("/xchronos/etc/jobs/a.service", UnitRecord("[X-Chronos]\nNope=1\n", "x")))
        assert "Refused: a.service:2: [X-Chronos] Nope: unknown key" in ctl("status", "a").stdout
        assert ctl("explain", "a").exit_code == 1

    def test_the_daemon(self, ctl, daemon):

        daemon.run(daemon.cluster.submit("a.service"))
        keys, held = daemon.cluster.registry.keys, [Put("/xchronos/var/scheduler/election", b"m1")]
        held += [Put(keys.shard(number), b"m1") for number in (0, 1)]
        held.append(Put(keys.member("m1"), b'{"id":"m1"}'))
        daemon.run(daemon.cluster.registry.store.commit(Txn((), tuple(held))))
        assert "none active" in ctl("status").stdout
        ctl("start", "a")
        daemon.cluster.daemon.refused.append(IntakeFault("/etc/x.service", "unknown key\nbad cron", at(0), "abcdef"))
        shown = ctl("status").stdout
        for part in (
            "xchronosd 0.1.0 on machine m1",
            "Store: memory",
            "Scheduler: m1: 2 shards, leads",
            "no scheduler owns the shards 2, 3, 4",
            "Units: 1",
            "1 delayed",
            "/etc/x.service is not taken in since 2030",
            "  bad cron\n",
        ):
            assert part in shown
        assert "revision abcdef stays in force" in shown
        daemon.cluster.daemon.refused.append(IntakeFault("/etc/y.service", "not valid UTF-8\n" * 50, at(0), ""))
        shown = ctl("status").stdout
        assert shown.count("not valid UTF-8") == 10
        assert "and 40 more, which xchronosctl verify tells" in shown
        assert read(ctl("status", "-o", "json"), DaemonStatus).machine == "m1"


def test_a_name_outside_of_ascii_is_told_escaped_and_found_as_it_is_spoken(ctl, daemon, tmp_path: Path):
    path = tmp_path / "größe.service"
    path.write_text("[Service]\nExecStart=/bin/true\n")
    escaped = r"gr\xc3\xb6\xc3\x9fe.service"
    assert f"expected {escaped}" in ctl("submit", str(path)).stderr
    assert ctl("submit", "--name", escaped, str(path)).stdout.startswith(f"{escaped}: created")
    assert ctl("cat", "größe").exit_code == 0
