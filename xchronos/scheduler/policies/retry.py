"""What follows when an attempt has ended: the end of its execution, or another attempt.

The budget is the unit's `Retry`: MaxAttempts, or what the compiler made of Restart= and StartLimitBurst=. On top of
it `Service.restart` says *which* failures are tried again, by their cause (`RESTARTS`); `no` leaves that to the
budget alone, so a unit that says MaxAttempts is retried after every failure.
"""

from decimal import Context
from typing import Literal

import msgspec

from xchronos.clock import MINUTE, SECOND, Instant, Micros, to_instant
from xchronos.model.policies import Outcome, Retry
from xchronos.model.records import Attempt, Execution, StepResult
from xchronos.model.unit import MAX_DELAY, ExitStatuses, Unit
from xchronos.scheduler.reasons import Reason, because

FailureCause = Literal["exit-code", "signal", "timeout"]

RESTARTS: dict[str, frozenset[FailureCause]] = {
    "always": frozenset(("exit-code", "signal", "timeout")),
    "on-failure": frozenset(("exit-code", "signal", "timeout")),
    "on-abnormal": frozenset(("signal", "timeout")),
    "on-abort": frozenset(("signal",)),
}
"""Which failures each Restart= value tries again (systemd.service(5)). The other values are about success or about a
watchdog that does not exist here: with them the budget alone decides."""

QUICK: Micros = 10 * SECOND
"""A kept-running unit whose attempt lasted less than this ended quickly: the pause doubles. systemd's
StartLimitIntervalSec."""

FIRST_PAUSE: Micros = SECOND // 10
"""The pause before a kept-running unit starts anew, when it names none: RestartSec's default."""


_EXACT = Context(prec=50)

LONGEST_REFUSAL: Micros = MINUTE
"""The longest pause before an execution is placed again that machines keep refusing."""

LONGEST_CROWDED: Micros = 2 * SECOND
"""The same where they do so for want of room alone: another scheduler was quicker each time. When there is room again
is known without asking, and who is unlucky time and again must not be passed over by everybody who comes later."""


class End(msgspec.Struct, frozen=True):
    """Nothing follows: the execution's outcome and why."""

    outcome: Outcome
    reason: Reason


class Again(msgspec.Struct, frozen=True):
    """Another attempt: not before `due_at`. It prefers machines that the execution has not been on (`placement`).

    `deadline` is the instant after which it is not started any more: StartDeadline bounds each wait for a machine
    anew, else a pause between attempts that is longer than the deadline would forbid every retry.
    """

    due_at: Instant
    reason: Reason
    deadline: Instant | None = None


def after_attempt(unit: Unit, execution: Execution, attempt: Attempt, now: Instant) -> End | Again:
    """Decide what follows an attempt that has ended. `execution.attempts` may or may not hold it already.

    Raises ValueError when the attempt has no outcome yet.
    """
    if attempt.outcome is None:
        raise ValueError(f"attempt {attempt.number} of {execution.id} has not ended")
    outcome, why = attempt.outcome, _because(attempt)
    earlier = [other for other in execution.attempts if other.number != attempt.number]
    if execution.stop_requested and outcome is not Outcome.SUCCEEDED:
        return End(Outcome.CANCELLED, because("asked", why=execution.stop_requested))
    if execution.stop_requested or outcome in (Outcome.CANCELLED, Outcome.SKIPPED, Outcome.MISSED):
        return End(outcome, Reason("attempt", attempt.reason))
    if outcome is Outcome.LOST:
        # Until it is known why a machine refuses what it is given, this must not go round and round.
        refusals, longest = _refused(earlier, attempt), LONGEST_CROWDED if attempt.crowded else LONGEST_REFUSAL
        wait = _doubled(FIRST_PAUSE, refusals, longest) if refusals > 1 else 0
        how = _lost_how(attempt)
        lost = because("attempt-lost", number=attempt.number, how=how, machine=attempt.machine, because=why)
        return _again(unit, now + wait, now, lost)
    if unit.keep_running:
        return _kept_running(unit, earlier, attempt, now)

    if not _wanted(unit, attempt):
        if outcome is Outcome.SUCCEEDED:
            return End(outcome, Reason("attempt", attempt.reason))
        return End(outcome, because("no-restart", ended=_verb(outcome), because=why))
    charged = 1 + sum(other.outcome is not Outcome.LOST for other in earlier)
    allowed = unit.retry.max_attempts
    if allowed and charged >= allowed:
        if outcome is Outcome.SUCCEEDED or allowed == 1:
            return End(outcome, Reason("attempt", attempt.reason))
        return End(outcome, _ended_as(charged, allowed, outcome, why))
    due_at = min(now, _ended(attempt, now)) + pause(unit, charged)
    return _again(unit, max(now, due_at), now, _ended_as(charged, allowed, outcome, why))


def _ended_as(number: int, allowed: int, outcome: Outcome, why: str) -> Reason:
    of = f"of {allowed} " if allowed else ""
    return because("attempt-ended", number=number, of=of, ended=_verb(outcome), because=why)


def past_deadline(execution: Execution, now: Instant, waited_for: str) -> End | None:
    """The end of an execution that waited for a machine beyond its deadline, or None while it may wait on.

    It was `missed` if it was never tried; else it ends as its last attempt did. `waited_for` says what was lacking.
    """
    if execution.deadline is None or now <= to_instant(execution.deadline):
        return None
    reason = because("deadline", waited_for=waited_for)
    if not execution.attempts:
        return End(Outcome.MISSED, reason)
    return End(execution.attempts[-1].outcome or Outcome.LOST, reason)


def pause(unit: Unit, failures: int) -> Micros:
    """The pause before the attempt that follows the `failures`-th failure, 1 for the first.

    TimeBetweenAttempts is constant, or doubles from failure to failure up to MaxTimeBetweenAttempts (an hour, unless
    the first pause is longer already). RestartSec grows to RestartMaxDelaySec in RestartSteps.
    """
    retry = unit.retry
    if retry.growth_steps:
        return _stepped(retry, failures)
    if retry.backoff == "constant":
        return retry.delay
    return _doubled(retry.delay, failures, retry.max_delay)


def _doubled(first: Micros, times: int, longest: Micros | None) -> Micros:
    cap = max(first, MAX_DELAY) if longest is None else longest
    # Past 60 doublings every pause is beyond its cap; the bound keeps the number small for a unit that fails for years.
    return min(first << min(times - 1, 60), cap)


def _stepped(retry: Retry, failures: int) -> Micros:
    """The pause as systemd works it out: the same factor in each step (`test_pauses_grow_as_in_systemd`)."""
    longest = retry.delay if retry.max_delay is None else retry.max_delay
    if failures <= 1 or retry.delay == 0 or retry.delay >= longest:
        return retry.delay
    if failures > retry.growth_steps:
        return longest
    # With floats the third root of 8 falls short of 2, and by how much is the machine's affair.
    share = _EXACT.divide(failures - 1, retry.growth_steps)
    grown = _EXACT.multiply(retry.delay, _EXACT.power(_EXACT.divide(longest, retry.delay), share))
    return int(round(grown, 9))


def _again(unit: Unit, due_at: Instant, now: Instant, reason: Reason) -> Again:
    deadline = None if unit.start_deadline is None else max(now, due_at) + unit.start_deadline
    return Again(due_at, reason, deadline)


def _kept_running(unit: Unit, earlier: list[Attempt], attempt: Attempt, now: Instant) -> End | Again:
    """Started anew whenever it ends, on the same machine if it can: a failing service backs off, it never gives up.

    With RestartSteps= the pause grows as in systemd, however long the attempts lasted.
    """
    outcome = attempt.outcome or Outcome.LOST
    main = _main(attempt)
    if main is not None and _lists(unit.service.restart_prevent, main):
        return End(outcome, because("restart-prevented", because=_because(attempt)))
    if unit.retry.growth_steps:
        # The oldest attempts of a long run are not kept, so the number counts, without those that were lost.
        wait = _stepped(unit.retry, attempt.number - sum(other.outcome is Outcome.LOST for other in earlier))
    else:
        wait = _doubled(unit.retry.delay or FIRST_PAUSE, _quick(earlier, attempt, now), unit.retry.max_delay)
    reason = because("started-anew", ended=_verb(outcome), because=_because(attempt))
    return _again(unit, max(now, min(now, _ended(attempt, now)) + wait), now, reason)


def _refused(earlier: list[Attempt], attempt: Attempt) -> int:
    """How many attempts in a row, this one included, were lost before they began, and as this one: crowded or not."""
    count = 0
    for other in reversed([*earlier, attempt]):
        if other.outcome is not Outcome.LOST or other.started_at is not None:
            break
        count += other.crowded is attempt.crowded
    return count


def _lost_how(attempt: Attempt) -> str:
    if attempt.leave:
        return "had to leave"
    return "was lost with" if attempt.started_at is not None else "was not begun on"


def _quick(earlier: list[Attempt], attempt: Attempt, now: Instant) -> int:
    """How many attempts in a row, this one included, ended quickly; at least 1."""
    count = 0
    for other in reversed([*earlier, attempt]):
        if not _was_quick(other, now):
            break
        count += 1
    return max(1, count)


def _was_quick(attempt: Attempt, now: Instant) -> bool:
    if attempt.started_at is None:
        return True
    return _ended(attempt, now) - to_instant(attempt.started_at) < QUICK


def _ended(attempt: Attempt, now: Instant) -> Instant:
    return now if attempt.ended_at is None else to_instant(attempt.ended_at)


def _wanted(unit: Unit, attempt: Attempt) -> bool:
    """Whether this end is one to try again after, budget aside."""
    service, main = unit.service, _main(attempt)
    if main is not None:
        if _lists(service.restart_prevent, main):
            return False
        if _lists(service.restart_force, main):
            return True
    if attempt.outcome is Outcome.SUCCEEDED:
        # A fire time that succeeded is done, whatever Restart= says: only a unit that is kept running starts anew.
        return False
    if unit.retry.forced_only:
        return False
    causes = RESTARTS.get(service.restart)
    return causes is None or _cause(attempt) in causes


def _cause(attempt: Attempt) -> FailureCause:
    if attempt.outcome is Outcome.TIMED_OUT:
        return "timeout"
    failed = next((step for step in attempt.steps if step.outcome == "failed"), None)
    return "signal" if failed is not None and failed.signal else "exit-code"


def _main(attempt: Attempt) -> StepResult | None:
    """The last ExecStart that ran: its status is what RestartPreventExitStatus= and RestartForceExitStatus= list."""
    return next((step for step in reversed(attempt.steps) if step.name.rpartition("-")[0] == "start"), None)


def _lists(statuses: ExitStatuses, step: StepResult) -> bool:
    if step.signal:
        return step.signal in statuses.signals
    return step.exit_code in statuses.codes


def _verb(outcome: Outcome) -> str:
    return {Outcome.SUCCEEDED: "succeeded", Outcome.TIMED_OUT: "timed out", Outcome.LOST: "was lost"}.get(
        outcome, "failed"
    )


def _because(attempt: Attempt) -> str:
    return f": {attempt.reason}" if attempt.reason else ""
