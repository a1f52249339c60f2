"""What careless changes of the engine and of the scheduler's room would take away, each as a patch.

`FENCES` are of what the store guards, `DECISIONS` of what is decided, and the others of the parts of the engine that they
are named after. Each says which promise must be seen broken, and within how many seeds.
"""

import heapq

import msgspec

from tests.simulation.mutant import Mutants, without
from xchronos.clock import SECOND
from xchronos.engine import adoption, committer, informer
from xchronos.engine.reconcile import fires, turn, units
from xchronos.engine.shards import ownership
from xchronos.engine.state import cluster_state, open_execution, timers
from xchronos.errors import Compacted
from xchronos.registry import transitions
from xchronos.registry import units as stored_units
from xchronos.registry.keys import Keys
from xchronos.scheduler import completion
from xchronos.scheduler.policies import retry
from xchronos.scheduler.timing import cursor, schedule
from xchronos.store import memory, transactions
from xchronos.store.contract import Put, Txn

KEYS = Keys()


# -- what the store guards --------------------------------------------------------------------------------------------


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


# -- what is decided --------------------------------------------------------------------------------------------------


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


def pauses_are_lateness(patch):
    """What fell into a pause of its unit is late like anything else."""
    patch.setattr(schedule, "_gap", lambda *_, **__: {})


def a_grid_that_begins_anew_in_full(patch):
    """What has fired before a gap is not counted when the grid begins anew after it."""
    restart_at = cursor.TriggerCursor.restart_at

    def restart(self, now):
        if self.trigger.count is not None:
            self.remaining = self.trigger.count - 1
        return restart_at(self, now)

    patch.setattr(cursor.TriggerCursor, "restart_at", restart)


def a_gap_that_tells_too_much(patch):
    """The record of a gap begins with the fire time before it."""
    gap = cursor.TriggerCursor.gap

    def told(self, now):
        first, last, count = gap(self, now)
        return self.last or first, last, count

    patch.setattr(cursor.TriggerCursor, "gap", told)


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


# -- shards -----------------------------------------------------------------------------------------------------------


def takes_what_others_have(patch):
    """A scheduler that finds a shard free takes it, although another one may have been sooner."""
    take = ownership.Ownership._take
    patch.setattr(ownership.Ownership, "_take", lambda self, key, lease: Txn((), take(self, key, lease).operations))


def never_lets_go(patch):
    """A scheduler decides nothing more about a shard that another one should have, and keeps its key."""
    delete = ownership.Ownership._delete

    async def keep(self, held):
        given_up = {(self._keys.shard(number), term) for number, term in self._given_up}
        await delete(self, [one for one in held if one not in given_up])

    patch.setattr(ownership.Ownership, "_delete", keep)


# -- sessions ---------------------------------------------------------------------------------------------------------


def a_failed_turn_is_over(patch):
    """What a turn had taken up before the store failed it is noted nowhere any more, and is not read again.

    Turns that need nothing of the store cannot be failed by it, so here no unit is at hand. That alone breaks nothing.
    """
    patch.setattr(stored_units.UnitCache, "peek", lambda self, name: None)
    patch.setattr(adoption.ShardAdoption, "again", lambda self: None)


def sessions_that_skip(patch):
    """A watch that is too far behind goes on from now: the session does not begin anew."""
    follow = informer.Informer._follow

    async def skip(self, prefix, revision, take):
        while True:
            try:
                await follow(self, prefix, revision, take)
            except Compacted:
                revision = (await self._store.range(prefix)).revision + 1

    patch.setattr(informer.Informer, "_follow", skip)


# -- adoption ---------------------------------------------------------------------------------------------------------


def adopts_without_a_look(patch):
    """Nobody notes what a former owner has left to do about the executions of a shard."""
    patch.setattr(adoption.ShardAdoption, "_note_executions", lambda self, units, revision: None)


def adopts_what_was_accepted(patch):
    """Units that have come, or have changed, while nobody owned their shard are not looked for."""
    enter = adoption.ShardAdoption._enter

    async def enter_and_forget(self, gained, found):
        mine = await enter(self, gained, found)
        self._work.changed.clear()
        return mine

    patch.setattr(adoption.ShardAdoption, "_enter", enter_and_forget)


# -- what memory holds ------------------------------------------------------------------------------------------------


def no_roll_back(patch):
    """A move that was refused stays assumed."""
    patch.setattr(committer.Committer, "_take_back", lambda self, *args: None)


def no_answer_is_a_yes(patch):
    """A write without an answer is held to have happened."""
    unanswered = {
        key: ("stored", "revise") for key in open_execution.TRANSITIONS if key[:2] == ("assumed", "unanswered")
    }
    patch.setattr(open_execution, "TRANSITIONS", {**open_execution.TRANSITIONS, **unanswered})


def room_that_is_free_too_soon(patch):
    """What is asked to leave its machine is held to have left it."""
    assume = cluster_state.ClusterState.assume

    def gone(self, execution_id, entry, target, unit):
        assumed = assume(self, execution_id, entry, target, unit)
        if entry.machine:
            self.drop(execution_id)
        return assumed

    patch.setattr(cluster_state.ClusterState, "assume", gone)


FENCES: Mutants = {
    no_fence_on_claims: ("I5", 100),
    no_fence_on_moves: ("I5", 200),
    claims_of_nobody: ("I[25]", 100),
}
DECISIONS: Mutants = {
    a_clock_that_is_ahead: ("I3", 10),
    forgetful_claims: ("I2", 10),
    attempts_are_not_counted: ("I1", 10),
    pauses_by_the_wall_clock_alone: ("was to pause", 100),
    pauses_are_lateness: ("fell into a pause", 60),
    a_grid_that_begins_anew_in_full: ("I2.*is no fire time of its unit", 60),
    a_gap_that_tells_too_much: ("I2.*and tells of", 60),
    retries_at_once: ("before its pause is over", 30),
}
OWNERSHIP: Mutants = {takes_what_others_have: ("I5", 250), never_lets_go: ("no rest", 20)}
SESSIONS: Mutants = {a_failed_turn_is_over: ("no rest", 120), sessions_that_skip: ("no rest", 100)}
ADOPTION: Mutants = {adopts_without_a_look: ("no rest", 20), adopts_what_was_accepted: ("no rest", 20)}
MEMORY: Mutants = {
    no_roll_back: ("no rest", 100),
    no_answer_is_a_yes: ("I2", 50),
    room_that_is_free_too_soon: ("no rest", 50),
}
