"""The simulation finds what it is there to find: with a guard broken on purpose, a promise is broken soon.

Each mutation takes one protection away, as a careless change would; `MUTATIONS` says which promise must be seen broken,
and within how many seeds.
"""

import asyncio
import heapq
import re
from collections.abc import Callable

import msgspec
import pytest

from xchronos.agent import admission, placement_record, placement_runner
from xchronos.agent.lease import lease_clock
from xchronos.clock import SECOND
from xchronos.engine import committer
from xchronos.engine.reconcile import fires, turn, units
from xchronos.engine.state import timers
from xchronos.registry import transitions
from xchronos.registry.keys import Keys
from xchronos.scheduler import completion
from xchronos.scheduler.policies import retry
from xchronos.store import memory, transactions
from xchronos.store.contract import Put, Txn
from xchronos.testing.simulation import machines, simulate

KEYS = Keys()


def without(txn: Txn, *numbers: int) -> Txn:
    """A Txn that lacks some of its guards."""
    return Txn(tuple(guard for number, guard in enumerate(txn.guards) if number not in numbers), txn.operations)


def unfenced(patch, which):
    """The fence of some of the schedulers' writes is not looked at."""
    carry_out = transactions.apply

    def apply(txn, *args):
        written = [operation.key for operation in txn.operations if isinstance(operation, Put)]
        if not any(key.startswith(KEYS.scheduling) for key in written) and which(written):
            fences = [n for n, guard in enumerate(txn.guards) if guard.key.startswith(KEYS.shards)]
            txn = without(txn, *fences)
        return carry_out(txn, *args)

    patch.setattr(memory, "apply", apply)


def claims(written):
    return any(key.startswith(KEYS.schedules) for key in written)


def no_fence_on_claims(patch):
    """A deposed scheduler's claims are carried out."""
    unfenced(patch, claims)


def no_fence_on_moves(patch):
    """A deposed scheduler's other decisions are carried out."""
    unfenced(patch, lambda written: not claims(written))


def claims_of_nobody(patch):
    """Claims look neither at the fence nor at the cursor."""
    unfenced(patch, claims)
    for claiming in (fires, units):
        patch.setattr(claiming, "claim", lambda *args, **more: without(transitions.claim(*args, **more), 1))


def launch_before_claim(patch):
    """The agent starts first, and writes down later that it has."""
    begin = placement_runner.PlacementRunner._begin

    async def begin_later(self, placement, unit):
        placement.begin_later = asyncio.create_task(begin(self, placement, unit))
        return True

    patch.setattr(placement_runner.PlacementRunner, "_begin", begin_later)


def begin_whatever_changed(patch):
    """The agent's claim does not look at what it was decided upon."""
    patch.setattr(placement_record, "begin", lambda *args: without(transitions.begin(*args), 0))


def finish_whatever_changed(patch):
    """The agent records an end although the placement was taken away from it."""
    patch.setattr(placement_record, "finish", lambda *args: without(transitions.finish(*args), 0))


def report_whatever_changed(patch):
    """The agent hands back what was taken away from it."""

    def unguarded(self, attempt):
        return Txn((), original(self, attempt).operations)

    original = placement_record.PlacementRecord._end
    patch.setattr(placement_record.PlacementRecord, "_end", unguarded)


def a_clock_that_is_ahead(patch):
    """Turns are taken for two seconds later than it is."""
    run = turn.Reconciler.run
    patch.setattr(turn.Reconciler, "run", lambda self, now: run(self, now + 2 * SECOND))


def forgetful_claims(patch):
    """The cursor moves, and what it has passed is not written."""

    def claim(keys, fence, schedule, known, executions, unit_known, **more):
        return transitions.claim(keys, fence, schedule, known, [], unit_known, **more)

    for claiming in (fires, units):
        patch.setattr(claiming, "claim", claim)


def attempts_are_not_counted(patch):
    """A retry has the number of the attempt before it."""
    after = committer.Committer.move

    def move(self, execution_id, entry, target, *args, **more):
        if target.current is not None and target.attempts:
            current = msgspec.structs.replace(target.current, number=target.attempts[-1].number)
            target = msgspec.structs.replace(target, current=current)
        after(self, execution_id, entry, target, *args, **more)

    patch.setattr(committer.Committer, "move", move)


def pauses_by_the_wall_clock_alone(patch):
    """What is to last a while lasts longer when the clock is set back."""

    def add(self, name, moment, lead, after=None):
        if after is None or moment > after:
            heapq.heappush(self._wall, (moment, name))

    patch.setattr(timers.Timers, "add", add)
    patch.setattr(timers.Timers, "reached", lambda self, lead, now: now)


def no_lease_margin(patch):
    """What has OnPartition=stop goes on until well behind the end of the machine's lease."""
    patch.setattr(lease_clock, "STOP_AT", 1.5)
    patch.setattr(lease_clock, "KILL_AT", 1.7)


def no_guardian(patch):
    """Nobody kills in the place of an agent that is dead or stopped."""
    patch.setattr(machines.SimulatedGuardian, "put_off", lambda self, left: None)


def machines_that_judge_nothing(patch):
    """An agent begins whatever is placed on it, however full its machine is by then."""
    patch.setattr(admission.Admission, "refusals", lambda self, unit: ("", ""))


def retries_at_once(patch):
    """Nobody waits between attempts."""
    patch.setattr(
        completion,
        "after_attempt",
        lambda unit, execution, attempt, now: at_once(retry.after_attempt(unit, execution, attempt, now), now),
    )


def at_once(verdict, now):
    """The same without a pause."""
    return msgspec.structs.replace(verdict, due_at=now) if isinstance(verdict, retry.Again) else verdict


MUTATIONS: dict[Callable, tuple[str, int]] = {
    no_fence_on_claims: ("I5", 100),
    no_fence_on_moves: ("I5", 200),
    claims_of_nobody: ("I[25]", 100),
    launch_before_claim: ("I1", 10),
    begin_whatever_changed: ("I2", 200),
    finish_whatever_changed: ("I2", 200),
    report_whatever_changed: ("I2", 200),
    a_clock_that_is_ahead: ("I3", 10),
    forgetful_claims: ("I2", 10),
    attempts_are_not_counted: ("I1", 10),
    pauses_by_the_wall_clock_alone: ("was to pause", 100),
    no_lease_margin: ("OnPartition=stop", 40),
    no_guardian: ("OnPartition=stop", 300),
    machines_that_judge_nothing: ("slots are taken|in conflict", 100),
    retries_at_once: ("before its pause is over", 30),
}


@pytest.mark.untraced  # measuring would double its time, and every room has tests of its own
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_a_broken_guard_is_caught(mutation, monkeypatch):
    promise, seeds = MUTATIONS[mutation]
    mutation(monkeypatch)
    for seed in range(seeds):
        violations = simulate(seed).violations
        if any(re.search(promise, violation) for violation in violations):
            print(f"{mutation.__name__}: {promise} after {seed + 1} seeds")
            return
        assert not violations, f"another promise was broken first: {violations}"
    pytest.fail(f"{seeds} seeds have not shown that {promise} is broken")
