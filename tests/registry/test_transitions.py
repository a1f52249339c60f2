"""Decisions as Txns: which keys, which guards, nothing else."""

from datetime import UTC, datetime

import pytest

from xchronos.errors import InvalidValue
from xchronos.model.compile.unit import compile_unit
from xchronos.model.records import Attempt, Execution, Machine, Schedule
from xchronos.registry.codec import decode, encode
from xchronos.registry.keys import SHARDS, Keys, shard_of, unit_of
from xchronos.registry.transitions import (
    amend,
    begin,
    claim,
    destination,
    expire_unit,
    finish,
    forget_unit,
    machine_record,
    move,
    report,
)
from xchronos.scheduler.reasons import Reason
from xchronos.scheduler.starts import off_the_grids, started
from xchronos.store.contract import Delete, DeleteRange, Guard, KeyValue, Put, Txn

KEYS = Keys()
FENCE = Guard(KEYS.shard(3), 7, "create")
AT = datetime(2030, 1, 1, 10, tzinfo=UTC)
ID = "a.service/20300101T100000.000000Z/0"
PLACED = Execution("a.service", AT, state="placed", current=Attempt(1, "m1"))


def written(txn):
    return {operation.key for operation in txn.operations if isinstance(operation, Put)}


def test_where_an_execution_lives():
    assert destination(KEYS, Execution("a.service", AT)) == f"/xchronos/var/pending/{ID}"
    for state in ("placed", "running", "reported"):
        there = Execution("a.service", AT, state=state, current=Attempt(1, "m1"))
        assert destination(KEYS, there) == f"/xchronos/var/placements/m1/{ID}"
    assert destination(KEYS, Execution("a.service", AT, state="ended")) == f"/xchronos/var/executions/{ID}"
    with pytest.raises(ValueError, match="without a current attempt"):
        destination(KEYS, Execution("a.service", AT, state="running"))


def test_a_claim_is_guarded_by_all_that_it_was_decided_upon():
    schedule = Schedule("a.service", 5, "f", AT, AT)
    txn = claim(KEYS, FENCE, schedule, 6, [PLACED], 5)
    assert set(txn.guards) == {FENCE, Guard(KEYS.schedule("a.service"), 6), Guard(KEYS.job("a.service"), 5)}
    assert written(txn) == {KEYS.schedule("a.service"), KEYS.placement("m1", ID)}
    assert isinstance(txn.operations[0], Put)
    assert decode(KeyValue("k", txn.operations[0].value, 0, 0), Schedule) == schedule
    anew = claim(KEYS, FENCE, schedule, 6, [], 5, fresh_history=True)
    assert anew.operations[-1] == DeleteRange(KEYS.history("a.service"))


def test_a_move_leaves_an_execution_in_one_place():
    ended = Execution("a.service", AT, state="ended")
    source = KEYS.placement("m1", ID)
    extra = Guard(KEYS.machine("m1"), 0)
    txn = move(KEYS, FENCE, source, 9, ended, [Execution("b.service", AT)], [extra])
    assert txn.guards == (FENCE, Guard(source, 9), extra)
    assert txn.operations[0] == Delete(source)
    assert written(txn) == {KEYS.execution(ID), KEYS.pending_execution(ID.replace("a.", "b."))}
    stays = move(KEYS, FENCE, source, 9, PLACED)
    assert [type(operation) for operation in stays.operations] == [Put]


def test_the_agents_writes_are_guarded_by_the_revision_of_the_placement():
    key = KEYS.placement("m1", ID)
    assert begin(key, b"{}", 4) == Txn((Guard(key, 4),), (Put(key, b"{}"),))
    assert report(key, b"{}", 5) == Txn((Guard(key, 5),), (Put(key, b"{}"),))
    ended = Execution("a.service", AT, state="ended")
    txn = finish(KEYS, key, ended, 4)
    assert txn.guards == (Guard(key, 4),)
    assert txn.operations == (Delete(key), Put(KEYS.execution(ID), encode(ended)))


def test_a_late_result_is_not_written_over_what_has_changed():
    txn = amend(KEYS, PLACED, 4)
    assert txn == Txn((Guard(KEYS.placement("m1", ID), 4),), (Put(KEYS.placement("m1", ID), encode(PLACED)),))


def test_the_end_of_a_unit():
    txn = forget_unit(KEYS, FENCE, "a.service")
    assert txn.guards == (FENCE, Guard(KEYS.job("a.service"), 0))
    assert txn.operations == (
        Delete(KEYS.schedule("a.service")),
        DeleteRange(KEYS.pending + "a.service/"),
        DeleteRange(KEYS.history("a.service")),
    )
    txn = expire_unit(KEYS, FENCE, "a.service", 3)
    assert txn.guards == (FENCE, Guard(KEYS.job("a.service"), 3))
    assert txn.operations == (Delete(KEYS.job("a.service")),)


def test_a_machines_record_is_bound_to_its_lease():
    txn = machine_record(KEYS, Machine("m1"), 12, 3, 4)
    assert txn.guards == (Guard(KEYS.machine("m1"), 3), Guard(KEYS.wish("m1"), 4))
    (operation,) = txn.operations
    assert isinstance(operation, Put)
    assert (operation.key, operation.lease) == (KEYS.machine("m1"), 12)


def test_keys_there_and_back():
    keys = Keys("team-a")
    assert keys.job("a.service") == "/xchronos/ns/team-a/etc/jobs/a.service"
    for machine in ("", "m1"):
        assert keys.locate(keys.location(machine, ID)) == (machine, ID)
        assert keys.location(machine, ID).startswith(keys.live)
    for other in (keys.execution(ID), keys.schedule("a.service"), keys.job("a.service")):
        assert not other.startswith(keys.live)
    assert unit_of(ID) == "a.service"
    assert {shard_of(f"u{n}.service") for n in range(1000)} == set(range(SHARDS))
    for bad in ("a/b", "-a", "x" * 64, "ä"):
        with pytest.raises(InvalidValue, match="namespace"):
            Keys(bad)


def test_the_shard_of_a_unit_never_changes():
    assert [shard_of(name) for name in ("a.service", "backup@db1.service", "ü.service")] == [6, 8, 4]


def test_a_start_has_one_execution_per_copy():
    text = b"[Service]\nExecStart=/bin/true\n[X-Fleet]\n%s\n[X-Chronos]\nExecutor=process\nAvailability=%d\nStartDeadline=1min\n"
    executions = started(compile_unit("a.service", text % (b"", 3)), 1, 0, "manual", Reason("asked", "why"))
    assert [execution.copy for execution in executions] == [0, 1, 2]
    assert {execution.deadline.minute for execution in executions} == {1}
    assert off_the_grids(1_000_000) == 1_000_001
    assert off_the_grids(1_000_001) == 1_000_001
