"""Decisions as Txns: pure functions from records to guards and operations.

Every move of an execution is one Txn, which removes it from its old key and writes it under its new one. So it is
always under exactly one key (`test_a_move_leaves_an_execution_in_one_place`). Every Txn is guarded by the facts that
the decision was based on:

- A scheduler's Txn has the *fence*, which is the term of its shard, and the revisions of the records that it read.
- An agent's Txn has the revision of its placement. So a machine cannot record an attempt that was taken away from it,
  and cannot overwrite what others have written into the record meanwhile.
"""

from collections.abc import Iterable, Sequence

from xchronos.model.records import Execution, Machine, Schedule
from xchronos.registry.codec import encode
from xchronos.registry.keys import Keys
from xchronos.store.contract import Delete, DeleteRange, Guard, Operation, Put, Txn


def destination(keys: Keys, execution: Execution) -> str:
    """The key of an execution, which follows from its state.

    Raises ValueError for a placed execution without a current attempt.
    """
    if execution.state == "ended":
        return keys.execution(execution.id)
    if execution.state in ("placed", "running", "reported"):
        if execution.current is None:
            raise ValueError(f"{execution.id} is {execution.state} without a current attempt")
        return keys.placement(execution.current.machine, execution.id)
    return keys.pending_execution(execution.id)


def put(keys: Keys, execution: Execution) -> Put:
    """The operation that writes an execution under its key."""
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
    """Move a unit's cursor and write the executions of its fire times. This durable claim precedes every start.

    `known` is the modification revision of the cursor, 0 if there is none yet. `unit_known` is that of the unit's
    record. `fresh_history` removes the history of a former unit with the same name.
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
    """Move an execution from the key `source`, at revision `known`, to the key of its new state.

    `also` are new executions, written in the same Txn. `guards` are further conditions: for example, that a lost
    machine is not back, or that a new execution does not exist already.
    """
    where = put(keys, target)
    operations: list[Operation] = [where] if where.key == source else [Delete(source), where]
    operations += [put(keys, execution) for execution in also]
    return Txn((fence, Guard(source, known), *guards), tuple(operations))


def begin(placement: str, running: bytes, known: int) -> Txn:
    """The agent records that it starts the attempt. The Txn fails if the placement has changed since it was read."""
    return Txn((Guard(placement, known),), (Put(placement, running),))


def report(placement: str, reported: bytes, known: int) -> Txn:
    """The agent hands an ended attempt back to the scheduler.

    The Txn fails if a request to stop has come meanwhile. Otherwise the scheduler would not see the request, and might
    start another attempt.
    """
    return Txn((Guard(placement, known),), (Put(placement, reported),))


def finish(keys: Keys, placement: str, ended: Execution, known: int) -> Txn:
    """The agent records the outcome of an execution about which nothing is left to decide.

    The Txn fails if the late result of an earlier attempt has been written into the record meanwhile. Otherwise that
    result would be lost, because nobody reports it again.
    """
    history = keys.execution(keys.split_placement(placement)[1])
    return Txn((Guard(placement, known),), (Delete(placement), Put(history, encode(ended))))


def amend(keys: Keys, told: Execution, known: int) -> Txn:
    """Complete a record under its key. The Txn fails if it has changed since it was read at revision `known`.

    `test_a_late_result_is_not_written_over_what_has_changed` pins that.
    """
    written = put(keys, told)
    return Txn(guards=(Guard(written.key, known),), operations=(written,))


def forget_unit(keys: Keys, fence: Guard, unit: str) -> Txn:
    """Remove what a destroyed unit leaves, history included. The Txn fails if the unit has been submitted again."""
    return Txn(
        guards=(fence, Guard(keys.job(unit), 0)),
        operations=(
            Delete(keys.schedule(unit)),
            DeleteRange(f"{keys.pending}{unit}/"),
            DeleteRange(keys.history(unit)),
        ),
    )


def expire_unit(keys: Keys, fence: Guard, unit: str, known: int) -> Txn:
    """Destroy a unit whose TTL has ended. The Txn fails if its record is not the one that the cursor was made for."""
    key = keys.job(unit)
    return Txn(guards=(fence, Guard(key, known)), operations=(Delete(key),))


def machine_record(keys: Keys, machine: Machine, lease: int, known: int, wish_known: int) -> Txn:
    """Advertise a machine. The Txn fails if its record or its wish has been written since the given revisions."""
    key = keys.machine(machine.id)
    guards = (Guard(key, known), Guard(keys.wish(machine.id), wish_known))
    return Txn(guards, (Put(key, encode(machine), lease),))
