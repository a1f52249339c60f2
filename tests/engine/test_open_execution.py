"""What memory holds of an execution while a write about it is under way: every transition, one by one."""

from datetime import UTC, datetime
from itertools import product
from typing import get_args

import msgspec
import pytest

from tests.engine.engine_cluster import AGENT, SCHEDULER, Cluster, run
from tests.services.links import Link
from xchronos.engine.state import open_execution
from xchronos.engine.state.open_execution import (
    TRANSITIONS,
    MemoryAction,
    MemoryEvent,
    MemoryState,
    OpenExecution,
    Place,
    transition,
)
from xchronos.model.lifecycle import IllegalEvent
from xchronos.model.records import Attempt, Execution, ExecutionState
from xchronos.registry.codec import encode
from xchronos.store.contract import KeyValue, Put, Txn

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)

TABLE = """
event           place      none            stored          assumed           leaving         uprooted

assume          here       !               leaving keep    !                 !               !
assume          source     !               !               !                 !               !
assume          elsewhere  assumed enter   assumed enter   !                 !               !

confirmed       here       .               .               .                 leaving keep    .
confirmed       source     .               .               stored revise     .               stored revise
confirmed       elsewhere  .               .               stored revise     .               .

refused         here       .               .               .                 stored return   .
refused         source     .               .               stored return     .               none drop
refused         elsewhere  .               .               none drop         .               .

unanswered      here       .               .               .                 stored return   .
unanswered      source     .               .               stored return     .               none drop
unanswered      elsewhere  .               .               none drop         .               .

watched put     here       .               stored update   stored update     stored update   stored update
watched put     source     .               .               stored enter      .               stored enter
watched put     elsewhere  stored enter    stored enter    stored enter      stored enter    stored enter

watched delete  here       .               none drop       none drop         none drop       none drop
watched delete  source     .               .               uprooted uproot   .               .
watched delete  elsewhere  .               .               .                 .               .
"""
"""The state after, and what is done, where the event counts; `.`: nothing changes, `!`: a defect of the caller."""


def _cells():
    header, *lines = [line for line in TABLE.splitlines() if line]
    columns = [header.index(name) for name in ("event", "place", *get_args(MemoryState))]
    for line in lines:
        event, place, *cells = [
            line[start:end].strip() for start, end in zip(columns, [*columns[1:], None], strict=True)
        ]
        for state, cell in zip(get_args(MemoryState), cells, strict=True):
            yield state, event, place, cell


def _told(event, known, *, newer):
    """A revision by which the event counts, when `newer`, or does not."""
    if event in ("watched put", "watched delete", "confirmed"):
        return known + newer
    return known if newer else known - 1


def test_the_table_speaks_of_every_state_event_and_place():
    assert sorted(cell[:3] for cell in _cells()) == sorted(
        product(get_args(MemoryState), get_args(MemoryEvent), get_args(Place))
    )
    assert {action for _, action in TRANSITIONS.values()} == set(get_args(MemoryAction))


@pytest.mark.parametrize(("state", "event", "place", "cell"), list(_cells()))
def test_every_transition(state, event, place, cell):
    known = 0 if state == "none" else 7
    told = _told(event, known, newer=True)
    if cell == "!":
        with pytest.raises(IllegalEvent, match=state):
            transition(state, event, place, known, told)
    else:
        after = (state, "keep") if cell == "." else tuple(cell.split())
        assert transition(state, event, place, known, told) == after


@pytest.mark.parametrize(("state", "event", "place", "cell"), list(_cells()))
def test_what_memory_knows_better_changes_nothing(state, event, place, cell):
    told = _told(event, 7, newer=False)
    if event == "assume":
        with pytest.raises(IllegalEvent, match="at 7 cannot be moved upon 6"):
            transition(state, event, place, 7, told)
    else:
        assert transition(state, event, place, 7, told) == (state, "keep")


@pytest.mark.parametrize("event", ["refused", "unanswered"])
def test_an_answer_that_comes_after_newer_news_changes_nothing(event):
    """The next write may be under way by then, upon what the news has told."""
    for state in get_args(MemoryState):
        assert transition(state, event, "here", 8, 7) == (state, "keep")


def test_the_drawing_names_every_state_and_event():
    for word in (*get_args(MemoryState), *get_args(MemoryEvent)):
        assert word.removeprefix("watched ") in open_execution.__doc__


# -- an entry ---------------------------------------------------------------------------------------------------------


def record(state: ExecutionState) -> Execution:
    current = Attempt(1, "m1") if state in ("placed", "running", "reported") else None
    return Execution("a.service", MOMENT, state=state, current=current)


def item(execution: Execution | bytes, revision: int = 3) -> KeyValue:
    value = execution if isinstance(execution, bytes) else encode(execution)
    return KeyValue(f"/xchronos/var/placements/m1/{record('placed').id}", value, 1, revision)


def as_written_by_others(execution: Execution) -> bytes:
    """The same record with blanks, line breaks, an escape, its fields in another order, and one more of them."""
    fields = {"of another version": {"state": "ended"}, **dict(reversed(msgspec.to_builtins(execution).items()))}
    return msgspec.json.format(msgspec.json.encode(fields), indent=4).replace(b'"state"', b'"st\\u0061te"')


@pytest.mark.parametrize("write", [encode, as_written_by_others])
@pytest.mark.parametrize("state", get_args(ExecutionState))
def test_a_record_is_not_read_by_its_formatting(state, write):
    value = write(record(state))
    read, updated = OpenExecution("m1", item(value), 3), OpenExecution("m1", item(record("placed"), 1), 1)
    updated.update(item(value), "stored")
    for entry in (read, updated, OpenExecution("m1", record(state), 3)):
        assert entry.execution == record(state)
        assert entry.reported == (state == "reported")
        assert entry.begun == (state != "placed")
        assert entry.revision == 3


def test_what_was_begun_stays_begun():
    entry = OpenExecution("m1", item(record("running")), 3)
    entry.update(item(record("placed"), 4), "stored")
    assert entry.begun


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b'{"state": 1}', b'{"state": "reported"'])
def test_a_record_that_cannot_be_read_says_nothing(value):
    entry = OpenExecution("m1", item(record("placed")), 3)
    entry.update(item(value, 4), "stored")
    assert not entry.reported
    assert not entry.busy
    assert entry.revision == 4


def test_it_is_busy_in_every_state_but_stored():
    for state in get_args(MemoryState):
        assert OpenExecution("m1", record("placed"), 3, state=state).busy == (state != "stored")


@pytest.mark.parametrize(
    ("machine", "with_source", "other", "place"),
    [
        ("m1", False, "m1", "here"),
        ("m1", False, "m2", "elsewhere"),
        ("m1", False, "", "elsewhere"),
        ("m1", True, "", "source"),
        ("m1", True, "m2", "elsewhere"),
        ("", False, "", "here"),
        ("", True, "", "here"),
        ("", False, "m1", "elsewhere"),
    ],
)
def test_what_a_place_is_to_an_entry(machine, with_source, other, place):
    source = OpenExecution("", record("waiting"), 2) if with_source else None
    execution = record("placed" if machine else "waiting")
    assert OpenExecution(machine, execution, 2, source=source).place_of(other) == place


class Reformatting(Link):
    """A store in which other daemons' records of executions are written with blanks and line breaks."""

    async def commit_many(self, txns):
        return await super().commit_many([self._reformat(txn) for txn in txns])

    async def commit(self, txn):
        return await super().commit(self._reformat(txn))

    def _reformat(self, txn: Txn) -> Txn:
        return Txn(
            txn.guards,
            tuple(
                Put(operation.key, msgspec.json.format(operation.value, indent=2), operation.lease)
                if isinstance(operation, Put) and "/placements/" in operation.key
                else operation
                for operation in txn.operations
            ),
        )


def test_what_an_agent_hands_back_in_other_words_is_settled():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("s", roles=SCHEDULER)
        await cluster.start("m1", roles=AGENT, store=Reformatting(cluster.store))
        await cluster.submit("a.service", unit="OnSuccess=next.service")
        await cluster.submit("next.service")
        await cluster.registry.start("a.service", now=cluster.clock.now())
        await cluster.sleep(20)
        assert [str(execution.outcome) for execution in await cluster.history("a.service")] == ["succeeded"]
        assert [str(execution.outcome) for execution in await cluster.history("next.service")] == ["succeeded"]

    run(scenario)
