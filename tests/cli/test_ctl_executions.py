"""`list-executions` and `logs` against a real server."""

import msgspec
import pytest

from tests.api.api_helpers import at, ended, running
from xchronos.model.policies import Outcome
from xchronos.model.records import Execution


def fill(daemon):
    daemon.run(daemon.cluster.submit("a.service"))
    daemon.run(daemon.cluster.submit("b.service"))
    for execution in (
        ended("a.service", -30),
        ended("a.service", -20, Outcome.FAILED),
        ended("b.service", -10),
        running("a.service", 0),
    ):
        daemon.run(daemon.cluster.execution(execution))


class TestList:
    def test_table(self, ctl, daemon):
        fill(daemon)
        lines = ctl("list-executions").stdout.splitlines()
        assert lines[0].split() == ["EXECUTION", "STATE", "TRIGGER", "ATTEMPTS", "MACHINE", "STARTED", "TOOK", "REASON"]
        assert [line.split()[1] for line in lines[1:]] == ["running", "succeeded", "failed", "succeeded"]
        assert lines[3].split(None, 7)[4:] == ["m1", "2030-01-01T11:59:40Z", "1s", "start-0: exited with 3"]

    def test_filters(self, ctl, daemon):
        fill(daemon)
        assert len(ctl("list-executions", "b", "--no-legend").stdout.splitlines()) == 1
        assert ctl("list-executions", "--failed", "--no-legend").stdout.split()[1] == "failed"
        result = ctl("list-executions", "--limit", "1", "--no-legend")
        assert result.stdout.split()[1] == "running"
        assert "there are more" in result.stderr
        assert len(ctl("list-executions", "--all", "--no-legend").stdout.splitlines()) == 4
        assert ctl("list-executions", "no").exit_code == 3

    def test_json(self, ctl, daemon):
        fill(daemon)
        daemon.run(daemon.cluster.execution(Execution("a.service", at(9), state="waiting")))
        found = msgspec.json.decode(ctl("list-executions", "-o", "json").stdout, type=list[Execution])
        assert len(found) == 5
        assert ctl("list-executions", "--no-legend").stdout.splitlines()[0].split()[1:] == [
            "waiting", "-", "0", "-", "-", "-", "-",
        ]  # fmt: skip


class TestLogs:
    def test_the_latest_that_has_run(self, ctl, daemon, tmp_path):
        daemon.run(daemon.cluster.submit("a.service"))
        assert ctl("logs", "a").stderr == "xchronosctl: a.service has no executions yet\n"
        skipped = msgspec.structs.replace(ended("a.service", 5, Outcome.SKIPPED), attempts=())
        daemon.run(daemon.cluster.execution(skipped))
        result = ctl("logs", "a")
        assert (result.exit_code, "none of the last 1 executions" in result.stderr) == (3, True)
        daemon.run(daemon.cluster.execution(ended("a.service", 0)))
        (tmp_path / "log").touch()
        daemon.cluster.steps.files["a.service", 1] = [("start-0", tmp_path / "log")]
        silent = ctl("logs", "a")
        assert silent.stdout_bytes == b""
        assert silent.stderr == "(a.service/20300101T120000.000000Z/0 has no output)\n"
        assert ctl("logs", "-f", "a").stderr == "(a.service/20300101T120000.000000Z/0 has no output)\n"
        assert ctl("logs", "a", "-n", "0").stderr == ""
        (tmp_path / "log").write_bytes(b"one\n\xfftwo\n")
        daemon.cluster.steps.files["a.service", 1] = [("start-0", tmp_path / "log")]
        assert ctl("logs", "a").stdout_bytes == b"one\n\xfftwo\n"
        assert ctl("logs", "a", "-n", "1", "--step", "start-0", "--attempt", "1").stdout_bytes == b"\xfftwo\n"
        assert ctl("logs", "a", "-f").stdout_bytes == b"one\n\xfftwo\n"
        assert ctl("logs", "a", "--step", "stop-0").exit_code == 3

    def test_of_an_execution(self, ctl, daemon, tmp_path):
        execution = daemon.run(daemon.cluster.execution(ended("a.service", 0)))
        (tmp_path / "log").write_bytes(b"one\n")
        daemon.cluster.steps.files["a.service", 1] = [("start-0", tmp_path / "log")]
        assert ctl("logs", execution.id).stdout == "one\n"
        assert ctl("logs", execution.id.replace(".service", "")).stdout == "one\n"

    @pytest.mark.parametrize(
        ("target", "told"),
        [
            ("a/b/c", "there is no execution a/b/c: an id is <unit>/<fire time>/<copy>"),
            ("a//0", "there is no execution a//0: an id is"),
            ("a/b/0", "there is no execution a.service/b/0\n"),
        ],
    )
    def test_of_what_is_none(self, ctl, daemon, target, told):
        for command in ("logs", "stop", "status"):
            result = ctl(command, target)
            assert (result.exit_code, told in result.stderr) == (3, True), result.stderr

    def test_follow_one_that_is_about_to_run(self, ctl, daemon):
        daemon.run(daemon.cluster.submit("a.service"))
        (started,) = ctl("start", "a").stdout.split()
        waiting = daemon.run(daemon.cluster.registry.execution(started))
        done = msgspec.structs.replace(waiting, state="ended", outcome=Outcome.SKIPPED)
        daemon.run(daemon.cluster.execution(done))
        assert "has not run" in ctl("logs", "-f", started).stderr

    def test_follow_from_attempt_to_attempt(self, ctl, daemon, tmp_path, monkeypatch):
        """--tail is about the one that was the latest at the beginning, whose machine is gone here."""
        monkeypatch.setattr("xchronos.cli.commands.executions.ASK_AGAIN_SECONDS", 0)
        for number in (2, 3):
            (tmp_path / str(number)).write_text(f"old {number}\nnew {number}\n")
            daemon.cluster.steps.files["a.service", number] = [("start-0", tmp_path / str(number))]
        (first,) = ended("a.service", 0, machine="m9").attempts
        second, third = (msgspec.structs.replace(first, number=number, machine="m1") for number in (2, 3))
        begun = msgspec.structs.replace(ended("a.service", 0), state="running", outcome=None, attempts=())
        moments = [
            msgspec.structs.replace(begun, current=first),
            msgspec.structs.replace(begun, state="delayed", attempts=(first,)),
            msgspec.structs.replace(begun, state="delayed", attempts=(first, second)),
            msgspec.structs.replace(ended("a.service", 0), attempts=(first, second, third)),
        ]
        seen = []

        def execution(self, execution_id):
            seen.append(execution_id)
            found = moments[min(len(seen), len(moments)) - 1]
            daemon.run(daemon.cluster.execution(found))
            return found

        monkeypatch.setattr("xchronos.client.Client.execution", execution)
        result = ctl("logs", "-f", begun.id, "--tail", "1")
        assert (result.exit_code, result.stdout) == (0, "old 2\nnew 2\nold 3\nnew 3\n")
        assert result.stderr.splitlines() == [
            f"{begun.id}: machine m9 is not alive: what it ran left its output there; waiting for the next attempt",
            f"({begun.id}: attempt 2, on m1)",
            f"({begun.id}: attempt 3, on m1)",
        ]
