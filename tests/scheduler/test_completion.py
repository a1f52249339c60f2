"""What follows an end: the record after an attempt, after a lost machine, and what OnSuccess= and OnFailure= start."""

import msgspec
import pytest

from tests.scheduler.deciders import MOMENT, NOW, on
from tests.scheduler.schedule_builders import asks, attempt, execution, job, s
from xchronos.clock import SECOND, to_datetime
from xchronos.model.lifecycle import IllegalEvent
from xchronos.model.policies import Outcome, Retry
from xchronos.scheduler.completion import KEPT_ATTEMPTS, chain, chain_of, complete, finish, lose, take_back
from xchronos.scheduler.reasons import Reason, because

FAILED, LOST, OK = Outcome.FAILED, Outcome.LOST, Outcome.SUCCEEDED
WHY, X = Reason("asked", "why"), Reason("asked", "x")


def reported(outcome, *earlier, **fields):
    last = attempt(len(earlier) + 1, outcome)
    return execution(state="reported", current=last, attempts=tuple(earlier), **fields)


class TestAttempts:
    def test_the_last_one_ends_it(self):
        ended = complete(job(), reported(FAILED), NOW)
        assert (ended.state, ended.outcome, ended.ended_at) == ("ended", FAILED, to_datetime(s(100)))
        assert (ended.current, len(ended.attempts)) == (None, 1)

    def test_another_one_follows_after_the_pause(self):
        it = job(retry=Retry(3, 10 * SECOND), start_deadline=5 * SECOND)
        again = complete(it, reported(FAILED), NOW)
        assert (again.state, again.due_at, again.waits_since) == ("delayed", to_datetime(s(110)), MOMENT)
        assert again.deadline == to_datetime(s(115))
        assert again.reason == "attempt 1 of 3 failed"
        assert complete(job(retry=Retry(3)), reported(FAILED), NOW).deadline is None

    @pytest.mark.parametrize(
        ("it", "home"),
        [
            # What comes back to its machine keeps its room; any other retry goes elsewhere.
            (job(keep_running=True), "m1"),
            (job(retry=Retry(3), requirements=asks(is_global=True)), "m1"),
            (job(retry=Retry(3)), ""),
        ],
    )
    def test_what_comes_back_to_its_machine_keeps_its_room(self, it, home):
        again = complete(it, reported(FAILED), NOW)
        assert (again.state, again.home) == ("delayed", home)
        assert finish(again, Outcome.CANCELLED, because("destroyed"), NOW).home == ""

    def test_of_a_unit_that_is_gone_the_attempt_says_it_all(self):
        ended = complete(None, reported(FAILED), NOW)
        assert (ended.outcome, ended.reason) == (FAILED, "")
        assert complete(None, reported(None), NOW).outcome is LOST

    def test_who_was_to_end_does(self):
        it = job(retry=Retry(3))
        ended = complete(it, reported(FAILED), NOW, because("availability", count=1))
        assert (ended.outcome, ended.reason) == (Outcome.CANCELLED, "Availability=1 now")
        first = complete(it, reported(FAILED, stop_requested="stopped by ann"), NOW, because("availability", count=1))
        assert first.reason == "stopped by ann"

    @pytest.mark.parametrize(
        ("it", "outcome", "kept"),
        [
            (job(retry=Retry(100)), FAILED, 41),
            (job(retry=Retry(0)), FAILED, KEPT_ATTEMPTS),
            (job(keep_running=True), FAILED, KEPT_ATTEMPTS),
            # Lost ones are not charged, so nothing bounds them but this.
            (job(retry=Retry(100)), LOST, KEPT_ATTEMPTS),
            (None, LOST, KEPT_ATTEMPTS),
        ],
    )
    def test_how_many_a_record_keeps(self, it, outcome, kept):
        many = [attempt(n, outcome) for n in range(1, 41)]
        numbers = [one.number for one in complete(it, reported(outcome, *many), NOW).attempts]
        assert numbers == list(range(42 - kept, 42))


def test_what_no_machine_has_ends():
    ended = finish(execution(state="queued"), Outcome.CANCELLED, WHY, NOW)
    assert (ended.state, ended.outcome, ended.reason, ended.ended_at) == ("ended", Outcome.CANCELLED, "why", MOMENT)
    with pytest.raises(IllegalEvent):
        finish(ended, FAILED, WHY, NOW)


class TestTakenFromItsMachine:
    def test_a_lost_machine(self):
        back = lose(job(start_deadline=5 * SECOND), on("m"), NOW, None)
        assert (back.state, back.current, back.deadline) == ("waiting", None, to_datetime(NOW + 5 * SECOND))
        assert (back.reason, back.waits_since) == ("attempt 1 was lost with m", MOMENT)
        (gone,) = back.attempts
        assert (gone.outcome, gone.reason, gone.ended_at) == (LOST, "the machine was lost", MOMENT)

    def test_one_that_was_not_begun(self):
        back = take_back(job(), on("m", state="placed"), Reason("drained", "m is being drained"), NOW, None)
        assert (back.state, back.reason) == ("waiting", "attempt 1 was not begun: m is being drained")
        assert back.attempts[0].reason == "m is being drained"
        assert back.deadline is None
        assert take_back(None, on("m", state="placed"), WHY, NOW, None).deadline is None

    @pytest.mark.parametrize(("asked", "cancelled", "why"), [("", X, "x"), ("y", X, "y"), ("y", None, "y")])
    def test_who_was_to_end_does(self, asked, cancelled, why):
        back = lose(job(), on("m", stop_requested=asked), NOW, cancelled)
        assert (back.state, back.outcome, back.reason) == ("ended", Outcome.CANCELLED, why)
        assert (back.stop_requested, back.ended_at) == (why, MOMENT)


UNITS = {name: job(name) for name in ("s.service", "t.service", "f.service")}


class TestChain:
    IT = job(on_success=("s.service", "t.service"), on_failure=("f.service",))
    STAMPS = (NOW + 1, NOW + 2, NOW + 3)

    def started(self, outcome, units=UNITS, running=None, it=IT):
        return chain(it, execution(state="ended", outcome=outcome), units, running or {}, NOW, self.STAMPS)

    @pytest.mark.parametrize(
        ("outcome", "names"),
        [
            (OK, ["s.service", "t.service"]),
            (FAILED, ["f.service"]),
            (Outcome.TIMED_OUT, ["f.service"]),
            (LOST, ["f.service"]),
            (Outcome.CANCELLED, []),
            (Outcome.SKIPPED, []),
            (Outcome.MISSED, []),
        ],
    )
    def test_whom_an_end_starts(self, outcome, names):
        found = self.started(outcome)
        assert [one.unit for one in found.executions] == names
        assert [one.fire_time for one in found.executions] == [to_datetime(NOW + 1 + n) for n in range(len(names))]
        assert {(one.trigger, one.state) for one in found.executions} <= {("chain", "delayed")}
        assert found.unstartable == ()

    def test_why(self):
        (one,) = self.started(FAILED).executions
        assert one.reason == "failed of a.service/20300101T000000.000000Z/0"

    @pytest.mark.parametrize("other", [None, job("f.service", masked=True), job("f.service", template=True), "missing"])
    def test_who_cannot_be_started(self, other):
        units = {} if other == "missing" else {"f.service": other}
        found = self.started(FAILED, units)
        assert (found.executions, found.unstartable) == ((), ("f.service",))

    def test_what_is_kept_running_begins_where_it_does_not_run(self):
        kept = job("f.service", keep_running=True, availability=2)
        runs = msgspec.structs.replace(on("m"), unit="f.service")
        found = self.started(FAILED, {"f.service": kept}, {"f.service": [runs]})
        assert [one.copy for one in found.executions] == [1]
        everywhere = job("f.service", keep_running=True, requirements=asks(is_global=True))
        assert self.started(FAILED, {"f.service": everywhere}, {"f.service": [runs]}).executions == ()
        assert len(self.started(FAILED, {"f.service": everywhere}).executions) == 1

    def test_of_what_nothing_is_known_nothing_follows(self):
        assert self.started(FAILED, it=None).executions == ()
        assert chain_of(self.IT) == ("s.service", "t.service", "f.service")
        assert chain_of(job()) == ()
