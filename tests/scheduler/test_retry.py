import msgspec
import pytest

from tests.scheduler.schedule_builders import attempt, execution, job, s
from xchronos.clock import HOUR, MINUTE, SECOND, to_datetime
from xchronos.model.policies import Outcome, Retry
from xchronos.model.records import StepResult
from xchronos.model.unit import ExitStatuses, Service
from xchronos.scheduler.policies.retry import Again, End, after_attempt, past_deadline, pause

FAILED, LOST, OK, TIMED_OUT = Outcome.FAILED, Outcome.LOST, Outcome.SUCCEEDED, Outcome.TIMED_OUT
NOW = s(100)


def told(decided):
    """A decision as it reads: its words instead of its reason."""
    if isinstance(decided, End):
        return decided.outcome, decided.reason.text
    return decided.due_at, decided.reason.text


def budget(attempts=3, delay=10 * SECOND, **fields):
    return job(retry=Retry(attempts, delay), **fields)


def after(unit, *attempts, now=NOW, **fields):
    *earlier, last = attempts
    return after_attempt(unit, execution(attempts=tuple(earlier), **fields), last, now)


def result(name="start-0", outcome="failed", **fields):
    return StepResult(name, "cmd", outcome, **fields)


class TestBudget:
    def test_one_attempt_is_the_default(self):
        assert told(after(job(), attempt(1, FAILED, reason="exit code 3"))) == (FAILED, "exit code 3")

    def test_a_retry_after_the_pause_on_another_machine(self):
        assert told(after(budget(), attempt(1, FAILED, reason="exit code 3"))) == (
            s(110),
            "attempt 1 of 3 failed: exit code 3",
        )

    def test_the_last_attempt_ends_it(self):
        tries = [attempt(1, FAILED), attempt(2, FAILED), attempt(3, TIMED_OUT, reason="TimeoutStartSec")]
        assert told(after(budget(), *tries)) == (TIMED_OUT, "attempt 3 of 3 timed out: TimeoutStartSec")

    def test_success_ends_it(self):
        assert told(after(budget(), attempt(1, FAILED), attempt(2, OK))) == (OK, "")

    def test_no_limit(self):
        many = [attempt(n, FAILED) for n in range(1, 100)]
        assert after(budget(0), *many).reason.text == "attempt 99 failed"

    def test_the_attempt_may_be_in_the_record_already(self):
        last = attempt(1, FAILED)
        ran = execution(attempts=(last,))
        assert isinstance(after_attempt(budget(2), ran, last, NOW), Again)

    def test_the_pause_counts_from_the_end_of_the_attempt(self):
        assert after(budget(), attempt(1, FAILED, ended=95)).due_at == s(105)
        assert after(budget(), attempt(1, FAILED, ended=5)).due_at == NOW
        # An agent whose clock is ahead does not make the pause longer.
        assert after(budget(), attempt(1, FAILED, ended=5000)).due_at == s(110)
        assert after(budget(), msgspec.structs.replace(attempt(1, FAILED), ended_at=None)).due_at == s(110)

    def test_an_attempt_without_an_outcome_is_a_defect(self):
        with pytest.raises(ValueError, match=r"attempt 1 of a\.service/20300101T000000\.000000Z/0 has not ended"):
            after(budget(), attempt(1, None))


class TestOutcomes:
    def test_a_lost_attempt_is_not_charged(self):
        assert told(after(budget(1), attempt(1, LOST, "m7"))) == (NOW, "attempt 1 was lost with m7")
        tries = [attempt(1, LOST), attempt(2, FAILED), attempt(3, LOST), attempt(4, FAILED)]
        assert after(budget(3), *tries).reason.text == "attempt 2 of 3 failed"

    def test_one_that_had_to_leave_is_not_charged(self):
        left = attempt(1, LOST, leave="m1 is being drained", reason="m1 is being drained")
        assert told(after(budget(1), left)) == (NOW, "attempt 1 had to leave m1: m1 is being drained")

    def test_machines_that_refuse_are_asked_at_growing_intervals(self):
        refused = [
            msgspec.structs.replace(attempt(n, LOST, reason="m1 lacks a=b"), started_at=None) for n in range(1, 40)
        ]
        pauses = [(after(budget(1), *refused[:n]).due_at - NOW) / SECOND for n in range(1, 40)]
        assert pauses[:5] == [0, 0.2, 0.4, 0.8, 1.6]
        assert pauses[-1] == 60
        assert after(budget(1), *refused[:2]).reason.text == "attempt 2 was not begun on m1: m1 lacks a=b"
        # One that was begun in between ends the row.
        assert after(budget(1), refused[0], attempt(2, LOST), refused[2]).due_at == NOW

    def test_who_finds_no_room_time_and_again_is_asked_for_soon(self):
        refused = [
            msgspec.structs.replace(attempt(n, LOST, reason="m1 has no free slot"), started_at=None, crowded=True)
            for n in range(1, 40)
        ]
        pauses = [(after(budget(1), *refused[:n]).due_at - NOW) / SECOND for n in range(1, 40)]
        assert pauses[:5] == [0, 0.2, 0.4, 0.8, 1.6]
        assert set(pauses[5:]) == {2}
        # What it was refused for before has nothing to do with it.
        other = msgspec.structs.replace(refused[2], crowded=False)
        assert after(budget(1), *refused[:2], other).due_at == NOW
        assert after(budget(1), *refused[:2], other, refused[3]).due_at == NOW + SECOND * 4 // 10

    @pytest.mark.parametrize("outcome", [Outcome.CANCELLED, Outcome.SKIPPED, Outcome.MISSED])
    def test_never_again(self, outcome):
        assert told(after(budget(), attempt(1, outcome, reason="why"))) == (outcome, "why")

    @pytest.mark.parametrize("outcome", [FAILED, LOST, TIMED_OUT, Outcome.CANCELLED])
    def test_a_requested_stop_cancels(self, outcome):
        decided = after(budget(), attempt(1, outcome), stop_requested="stopped by ann")
        assert told(decided) == (Outcome.CANCELLED, "stopped by ann")

    def test_a_success_stays_one_although_a_stop_was_requested(self):
        kept = job(keep_running=True)
        assert told(after(kept, attempt(1, OK), stop_requested="stopped by ann")) == (OK, "")


class TestPause:
    def test_constant(self):
        assert [pause(budget(), n) for n in (1, 2, 50)] == [10 * SECOND] * 3

    def test_exponential_up_to_the_cap(self):
        unit = job(retry=Retry(0, 10 * SECOND, "exponential", 60 * SECOND))
        assert [pause(unit, n) // SECOND for n in (1, 2, 3, 4, 5, 10_000)] == [10, 20, 40, 60, 60, 60]

    def test_exponential_without_a_cap_stops_at_an_hour_or_the_first_pause(self):
        assert pause(job(retry=Retry(0, MINUTE, "exponential")), 30) == HOUR
        assert pause(job(retry=Retry(0, 2 * HOUR, "exponential")), 30) == 2 * HOUR
        assert pause(job(retry=Retry(0, 0, "exponential")), 30) == 0

    # (RestartSec, RestartSteps, RestartMaxDelaySec, the restart, RestartUSecNext), as systemd 262 was seen to say it.
    @pytest.mark.parametrize(
        ("first", "steps", "longest", "restart", "expected"),
        [
            (100_000, 3, 800_000, 1, 100_000),
            (100_000, 3, 800_000, 3, 400_000),
            (100_000, 3, 800_000, 4, 800_000),
            (123_000, 4, 1_234_000, 3, 389_592),
            (123_000, 4, 1_234_000, 4, 693_366),
            (123_000, 4, 1_234_000, 5, 1_234_000),
            (70_000, 7, 999_000, 2, 102_334),
            (70_000, 7, 999_000, 4, 218_710),
            (70_000, 7, 999_000, 6, 467_431),
            (70_000, 7, 999_000, 7, 683_347),
            (70_000, 7, 999_000, 70, 999_000),
            (100_000, 1, 700_000, 2, 700_000),
            (0, 3, 500_000, 6, 0),
            (200_000, 3, 200_000, 7, 200_000),
        ],
    )
    def test_pauses_grow_as_in_systemd(self, first, steps, longest, restart, expected):
        assert pause(job(retry=Retry(0, first, max_delay=longest, growth_steps=steps)), restart) == expected

    def test_steps_without_an_end_do_not_grow(self):
        assert pause(job(retry=Retry(0, SECOND, growth_steps=3)), 3) == SECOND


CAUSES = {
    "exit-code": attempt(1, FAILED, steps=(result(exit_code=3),)),
    "signal": attempt(1, FAILED, steps=(result(signal="SIGKILL"),)),
    "timeout": attempt(1, TIMED_OUT, steps=(result(outcome="timed_out", signal="SIGTERM"),)),
    "no step": attempt(1, FAILED),
}


class TestRestartByCause:
    @pytest.mark.parametrize(
        ("restart", "again"),
        [
            ("no", {"exit-code", "signal", "timeout", "no step"}),
            ("always", {"exit-code", "signal", "timeout", "no step"}),
            ("on-failure", {"exit-code", "signal", "timeout", "no step"}),
            ("on-abnormal", {"signal", "timeout"}),
            ("on-abort", {"signal"}),
            # Not about failures at all: MaxAttempts is what the unit must have said.
            ("on-watchdog", {"exit-code", "signal", "timeout", "no step"}),
            ("on-success", {"exit-code", "signal", "timeout", "no step"}),
        ],
    )
    def test_the_table(self, restart, again):
        unit = budget(service=Service(restart=restart))
        for cause, ended in CAUSES.items():
            decided = after(unit, ended)
            assert isinstance(decided, Again) is (cause in again), cause
        assert told(after(unit, attempt(1, OK))) == (OK, "")

    def test_why_it_is_not_tried_again(self):
        unit = budget(service=Service(restart="on-abort"))
        ended = attempt(1, FAILED, reason="exit code 3", steps=(result(exit_code=3),))
        assert told(after(unit, ended)) == (FAILED, "failed, and Restart= does not apply: exit code 3")

    def test_prevent_and_force_look_at_the_main_process(self):
        prevent = budget(service=Service(restart_prevent=ExitStatuses(frozenset((3,)), frozenset(("SIGKILL",)))))
        assert isinstance(after(prevent, CAUSES["exit-code"]), End)
        assert isinstance(after(prevent, CAUSES["signal"]), End)
        assert isinstance(after(prevent, attempt(1, FAILED, steps=(result(exit_code=4),))), Again)
        # The status of a command before the main process is not what they list.
        before = attempt(1, FAILED, steps=(result("start-pre-0", exit_code=3),))
        assert isinstance(after(prevent, before), Again)

    def test_force_starts_anew_within_the_budget(self):
        force = budget(2, service=Service(restart="on-abort", restart_force=ExitStatuses(frozenset((0, 3)))))
        assert isinstance(after(force, CAUSES["exit-code"]), Again)
        fine = attempt(2, OK, steps=(result(outcome="succeeded", exit_code=0),))
        assert isinstance(after(force, msgspec.structs.replace(fine, number=1)), Again)
        assert told(after(force, CAUSES["exit-code"], fine)) == (OK, "")

    def test_without_restart_only_what_is_forced_is_tried_again(self):
        forced = ExitStatuses(frozenset({7}))
        unit = budget(service=Service(restart_force=forced), attempts=3)
        unit = msgspec.structs.replace(unit, retry=Retry(3, 10 * SECOND, forced_only=True))
        main = attempt(1, FAILED, steps=(result(exit_code=7),))
        assert isinstance(after(unit, main), Again)
        assert isinstance(after(unit, attempt(1, FAILED, steps=(result(exit_code=8),))), End)
        assert isinstance(after(unit, attempt(1, TIMED_OUT)), End)


class TestKeptRunning:
    def test_steps_count_every_restart_but_not_lost_attempts(self):
        unit = job(keep_running=True, retry=Retry(0, SECOND, max_delay=8 * SECOND, growth_steps=3))
        assert told(after(unit, attempt(1, OK)))[0] == s(101)
        # However long it ran: systemd does not begin anew either. Attempts that are not kept count as well.
        assert told(after(unit, attempt(7, LOST), attempt(8, OK, took=90)))[0] == s(108)
        assert told(after(unit, attempt(1, OK), attempt(2, LOST), attempt(3, FAILED)))[0] == s(102)

    def test_started_anew_whatever_the_end_on_any_machine(self):
        unit = job(keep_running=True, retry=Retry(1, 2 * SECOND))
        assert told(after(unit, attempt(1, OK))) == (s(102), "kept running: it succeeded")
        assert after(unit, attempt(1, FAILED, reason="x")).reason.text == "kept running: it failed: x"
        assert after(unit, attempt(1, LOST)).due_at == NOW

    def test_quick_ends_back_off(self):
        unit = job(keep_running=True)
        quick = [attempt(n, FAILED, took=1) for n in range(1, 6)]
        assert [after(unit, *quick[: n + 1]).due_at - NOW for n in range(5)] == [
            pause * SECOND // 10 for pause in (1, 2, 4, 8, 16)
        ]
        assert after(unit, *[attempt(n, FAILED, took=1) for n in range(1, 99)]).due_at == NOW + HOUR
        steady = attempt(9, FAILED, took=30)
        assert after(unit, *quick, steady).due_at == NOW + SECOND // 10
        assert after(unit, steady, attempt(10, FAILED, took=1)).due_at == NOW + SECOND // 10
        never = msgspec.structs.replace(attempt(6, FAILED), started_at=None, ended_at=None)
        assert after(unit, *quick, never).due_at == NOW + 32 * SECOND // 10

    def test_a_listed_status_ends_it(self):
        unit = job(keep_running=True, service=Service(restart_prevent=ExitStatuses(frozenset((0,)))))
        fine = attempt(1, OK, steps=(result(outcome="succeeded", exit_code=0),))
        assert told(after(unit, fine)) == (OK, "RestartPreventExitStatus= lists how it ended")
        other = attempt(1, OK, steps=(result(outcome="succeeded", exit_code=1),))
        assert isinstance(after(unit, other), Again)


class TestDeadline:
    def test_each_wait_has_its_own(self):
        unit = budget(start_deadline=30 * SECOND)
        assert after(unit, attempt(1, FAILED)).deadline == s(140)
        assert after(unit, attempt(1, LOST)).deadline == s(130)
        assert after(budget(), attempt(1, LOST)).deadline is None

    def test_past_it_what_never_ran_was_missed(self):
        waits = execution(deadline=to_datetime(s(50)))
        assert past_deadline(execution(), NOW, "") is None
        assert past_deadline(waits, s(50), "") is None
        assert told(past_deadline(waits, s(51), "1 machine is cordoned")) == (
            Outcome.MISSED,
            "StartDeadline passed while it waited: 1 machine is cordoned",
        )

    def test_past_it_what_ran_ends_as_it_last_did(self):
        waits = execution(deadline=to_datetime(s(50)), attempts=(attempt(1, FAILED), attempt(2, TIMED_OUT)))
        assert past_deadline(waits, NOW, "x").outcome is TIMED_OUT
        assert (
            past_deadline(execution(deadline=to_datetime(s(5)), attempts=(attempt(1, None),)), NOW, "").outcome is LOST
        )
