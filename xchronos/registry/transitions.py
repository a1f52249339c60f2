"""Decisions as Txns: pure functions from records to guards and operations.

Every move of an execution is one Txn that removes it from where it was and writes it where it goes, so that it is
always in exactly one place; and every Txn is guarded by what it was decided upon:

- the scheduler's writes by the *fence* (its shard's term) and by the revision of what it read;
- the agent's writes by the revision of the placement that it has: an attempt that was taken away from a machine cannot
  be recorded by it any more, and nothing that others have written into the record meanwhile is written over.
"""

from collections.abc import Iterable, Sequence

from xchronos.model.records import Execution, Machine, Schedule
from xchronos.registry.codec import encode
from xchronos.registry.keys import Keys
from xchronos.store.contract import Delete, DeleteRange, Guard, Operation, Put, Txn


def destination(keys: Keys, execution: Execution) -> str:
    """The key under which an execution in its state lives."""
    if execution.state == "ended":
        return keys.execution(execution.id)
    if execution.state in ("placed", "running", "reported"):
        if execution.current is None:
            raise ValueError(f"{execution.id} is {execution.state} without a current attempt")
        return keys.placement(execution.current.machine, execution.id)
    return keys.pending_execution(execution.id)


def put(keys: Keys, execution: Execution) -> Put:
    """The write that records an execution where its state says it lives."""
    return Put(destination(keys, execution), encode(execution))


def claim(
    keys: Keys,
    fence: Guard,
    schedule: Schedule,
    known: int,
    executions: Iterable[Execution],
    unit_known: int,
    *,
    fresh_history: bool = False,
) -> Txn:
    """Move a unit's cursor and write what its fire times became: the durable claim that precedes every launch.

    `known` is the cursor's modification revision (0: there is none yet) and `unit_known` that of the unit's record.
    `fresh_history` removes the history that a former unit of the same name has left.
    """
    key = keys.schedule(schedule.unit)
    return Txn(
        (fence, Guard(key, known), Guard(keys.job(schedule.unit), unit_known)),
        (
            Put(key, encode(schedule)),
            *[put(keys, execution) for execution in executions],
            *([DeleteRange(keys.history(schedule.unit))] if fresh_history else ()),
        ),
    )


def move(
    keys: Keys,
    fence: Guard,
    source: str,
    known: int,
    target: Execution,
    also: Sequence[Execution] = (),
    guards: Sequence[Guard] = (),
) -> Txn:
    """Take an execution from `source` (at revision `known`) to where its new state lives; `also` are new executions.

    `guards` are what else must hold: that a lost machine is not back, that what is new is not there already.
    """
    where = put(keys, target)
    operations: list[Operation] = [where] if where.key == source else [Delete(source), where]
    operations += [put(keys, execution) for execution in also]
    return Txn((fence, Guard(source, known), *guards), tuple(operations))


def begin(placement: str, running: bytes, known: int) -> Txn:
    """The agent records that it starts the attempt; refused when the placement changed after it was read."""
    return Txn((Guard(placement, known),), (Put(placement, running),))


def report(placement: str, reported: bytes, known: int) -> Txn:
    """The agent hands an ended attempt back to the scheduler.

    Not over a request to stop that came meanwhile: the scheduler would try again what was to stop.
    """
    return Txn((Guard(placement, known),), (Put(placement, reported),))


def finish(keys: Keys, placement: str, ended: Execution, known: int) -> Txn:
    """The agent records an execution's outcome: nothing is left to decide.

    Not over the late result of an earlier attempt, which nobody would tell again.
    """
    history = keys.execution(keys.split_placement(placement)[1])
    return Txn((Guard(placement, known),), (Delete(placement), Put(history, encode(ended))))


def amend(keys: Keys, told: Execution, known: int) -> Txn:
    """Complete a record where it is; refused when it has changed since it was read at revision `known`."""
    written = put(keys, told)
    return Txn(guards=(Guard(written.key, known),), operations=(written,))


def forget_unit(keys: Keys, fence: Guard, unit: str) -> Txn:
    """Remove what a destroyed unit leaves, its history included; refused when it has been submitted again."""
    return Txn(
        guards=(fence, Guard(keys.job(unit), 0)),
        operations=(
            Delete(keys.schedule(unit)),
            DeleteRange(f"{keys.pending}{unit}/"),
            DeleteRange(keys.history(unit)),
        ),
    )


def expire_unit(keys: Keys, fence: Guard, unit: str, known: int) -> Txn:
    """Destroy a unit whose TTL has ended; refused when its record is not the one that the cursor was made for."""
    key = keys.job(unit)
    return Txn(guards=(fence, Guard(key, known)), operations=(Delete(key),))


def machine_record(keys: Keys, machine: Machine, lease: int, known: int, wish_known: int) -> Txn:
    """Advertise a machine; refused when the record, or what people want of the machine, was written since."""
    key = keys.machine(machine.id)
    guards = (Guard(key, known), Guard(keys.wish(machine.id), wish_known))
    return Txn(guards, (Put(key, encode(machine), lease),))
