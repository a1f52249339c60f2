from typing import Any

import msgspec
import pytest

from tests.scheduler.schedule_builders import asks, attempt, every, execution, job, s, unit, view
from xchronos.clock import DAY, HOUR, MINUTE, SECOND, to_datetime
from xchronos.model.policies import Outcome
from xchronos.scheduler.explain import as_it_waits, explain, nobody_decides, span
from xchronos.scheduler.timing.schedule import accept
from xchronos.triggers.cron.expression import parse_cron

NOW = s(100)
KEY = "a.service/20300101T000000.000000Z"


def told(it, *executions, views=(), schedule=None, now=NOW, ended=None):
    return explain(it, schedule or accept(it, s(0), 1), executions, views, now, ended=ended)


@pytest.mark.parametrize(
    ("it", "line"),
    [
        (unit(masked=True), "it is masked: its file is empty, so there is nothing to run"),
        (
            unit(name="job@.service", template=True),
            "it is a template and does not run itself: submit an instance, such as job@1.service",
        ),
        (unit(), "it has no trigger: it runs when it is started"),
        (unit(keep_running=True), "it is kept running"),
        (unit(every(1), not_after=s(0)), "no fire time is left up to NotAfter=2030-01-01T00:00:00+00:00"),
        (unit(parse_cron("0 0 2 * * *")), "its next fire time is 2030-01-01T02:00:00Z, in 1h 58min (cron)"),
        (
            unit(every(90)),
            "its fire time 2030-01-01T00:00:00Z has been due for 1min 40s: its scheduler has not taken its turn yet",
        ),
    ],
)
def test_the_unit(it, line):
    (found,) = told(it)
    assert found.removeprefix("its schedule is finished: ") == line


def test_what_is_kept_running_was_ended_if_it_has_begun_and_nothing_is_there():
    it = job(keep_running=True)
    begun = msgspec.structs.replace(accept(it, s(0), 1), fired=1)
    assert told(it, schedule=begun) == ["nothing of it runs: once it is started again, it is kept running"]
    assert told(it, execution(state="placed"), schedule=begun)[0] == "it is kept running"
    everywhere = job(keep_running=True, requirements=asks(is_global=True))
    assert told(everywhere, schedule=begun) == ["it is kept running"]


def test_schedules_that_are_not_there_or_paused():
    it = unit(every(10))
    assert explain(it, None, (), (), NOW) == ["no scheduler has accepted it yet"]
    assert told(it, schedule=accept(it, s(0), 1, paused=True))[0].startswith("it is paused: nothing fires until")


def test_a_bound_that_the_cursor_has_not_met_yet():
    it = unit(every(200), start_delay=200 * SECOND)
    cut = msgspec.structs.replace(it, not_after=s(150))
    assert told(cut, schedule=accept(it, s(0), 1)) == ["nothing follows: its triggers have no further fire time"]


def test_waiting_names_counts_and_every_reason_of_every_machine():
    it = job(requirements=asks(metadata={"disk": ("ssd",), "region": ("eu",)}))
    views = [view("a"), view("b", metadata={"region": "eu"}, cordoned=True)]
    lines = told(it, execution(state="waiting", deadline=to_datetime(s(160))), views=views)[1:]
    assert lines == [
        f"{KEY}/0 waits for a machine: 1 unplaced: 2 machines lack disk=ssd, 1 is cordoned, 1 lacks region=eu; it may wait for 1min more",
        "  a lacks disk=ssd, lacks region=eu",
        "  b is cordoned, lacks disk=ssd",
    ]


def test_waiting_beside_another_copy():
    first = execution(state="running", current=attempt(1, None, "a"))
    other = execution(5, state="running", current=attempt(1, None, "b"))
    lines = told(job(), execution(copy=1, state="waiting"), first, other, views=[view("a")])
    assert f"{KEY}/1 waits for a machine: 1 unplaced: 1 machine already runs a copy" in lines
    lines = told(job(), execution(copy=1, state="waiting"), first, views=[view("a"), view("b")])
    assert f"{KEY}/1 waits, though b could take it now: the next turn places it" in lines
    # Copies of what is kept running may have begun at different moments.
    lines = told(job(keep_running=True), execution(copy=1, state="waiting"), first, other, views=[view("a"), view("b")])
    assert f"{KEY}/1 waits for a machine: 1 unplaced: 2 machines already run a copy" in lines
    late = told(job(), execution(state="waiting", deadline=to_datetime(s(1))))
    assert late[1].endswith("no machine is alive; its StartDeadline has passed")


def test_a_copy_that_waits_for_its_own_machine():
    it = job(requirements=asks(is_global=True))
    waits = execution(state="waiting", attempts=(attempt(1, Outcome.FAILED, "a"),))
    lines = told(it, waits, views=[view("a", attempts=1, slots=1), view("b")])
    assert lines[1:] == [
        f"{KEY}/0 waits for a machine: a has no free slot (1 of 1 are taken)",
        "  a has no free slot (1 of 1 are taken)",
    ]
    assert told(it, waits, views=[view("b")])[1:] == [
        f"{KEY}/0 waits for nothing any more: the next turn ends it, as a is gone"
    ]


def test_the_machines_of_copies_that_have_ended_are_taken():
    # What the engine goes by: it gives no copy a machine that another copy of the same fire time has had.
    it = job(availability=2)
    waits = execution(copy=1, state="waiting")
    lines = told(it, waits, views=[view("a")], ended={execution().id: "a"})
    assert f"{KEY}/1 waits for a machine: 1 unplaced: 1 machine already runs a copy" in lines
    assert f"{KEY}/1 waits, though a could take it now: the next turn places it" in told(it, waits, views=[view("a")])


def test_queued_names_what_is_ahead():
    it = unit(concurrency="queue")
    waits = execution(60, state="queued")
    ahead = told(it, waits, execution(state="running"))[-1]
    assert ahead == f"a.service/20300101T000100.000000Z/0 is queued after {KEY}/0 (Concurrency=queue)"
    assert told(it, waits)[-1] == "a.service/20300101T000100.000000Z/0 is queued (Concurrency=queue)"
    between = [execution(second, state="queued") for second in (20, 40)]
    last = told(it, waits, execution(state="running"), *between)[-1]
    assert last == f"a.service/20300101T000100.000000Z/0 is queued after {KEY}/0 and 2 more (Concurrency=queue)"


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (
            execution(state="delayed", due_at=to_datetime(s(160)), reason="attempt 1 of 3 failed"),
            "starts in 1min, not before 2030-01-01T00:02:40Z: attempt 1 of 3 failed",
        ),
        (execution(state="delayed", due_at=to_datetime(s(60))), "is to be placed now"),
        (execution(state="delayed"), "is to be placed now"),
        (
            execution(state="placed", current=attempt(1, None, "m7")),
            "is placed on m7, whose agent has not started it yet",
        ),
        (execution(state="running", current=attempt(1, None, "m7")), "has been running on m7 for 1min"),
        (
            execution(state="running", current=attempt(1, None, "m7", revision="0" * 64)),
            "has been running on m7 for 1min, as the unit was before it changed",
        ),
        (
            execution(state="running", stop_requested="stopped by ann"),
            "has been running on a machine; it is being stopped: stopped by ann",
        ),
        (
            execution(state="running", current=attempt(1, None, "m7", leave="m7 is being drained")),
            "has been running on m7 for 1min; it has to leave: m7 is being drained",
        ),
        (
            execution(state="reported", current=attempt(1, None, "m7")),
            "has ended an attempt on m7: the scheduler decides what follows",
        ),
    ],
)
def test_an_execution(found, line):
    assert told(job(), found)[1:] == [f"{KEY}/0 {line}"]


def test_what_has_ended_is_not_told():
    assert told(job(), execution(state="ended")) == ["it has no trigger: it runs when it is started"]


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (-5, "0s"),
        (1_500_000, "1.5s"),
        (MINUTE - 1, "60s"),
        (MINUTE, "1min"),
        (3 * MINUTE + 20 * SECOND, "3min 20s"),
        (2 * HOUR + 5 * MINUTE, "2h 5min"),
        (DAY, "1d"),
        (400 * DAY + 3 * HOUR, "400d 3h"),
    ],
)
def test_span(length, text):
    assert span(length) == text


@pytest.mark.parametrize("field", ["waits_since", "claimed_at"])
def test_a_clock_that_was_set_back_puts_nothing_off(field):
    since: dict[str, Any] = {field: to_datetime(s(1_000))}
    it = execution(state="delayed", due_at=to_datetime(s(1_010)), **since)
    assert explain(unit(), None, [it], (), s(1_004))[1] == f"{KEY}/0 starts in 6s, not before 2030-01-01T00:16:50Z"
    assert explain(unit(), None, [it], (), s(100))[1] == f"{KEY}/0 starts in 10s, not before 2030-01-01T00:01:50Z"
    waiting = execution(state="waiting", deadline=to_datetime(s(1_060)), **since)
    assert "it may wait for 1min more" in explain(unit(), None, [waiting], (), s(100))[1]


def test_what_is_known_of_no_moment_is_as_it_is():
    assert as_it_waits(it := execution(due_at=to_datetime(s(50))), s(0)) is it
    assert as_it_waits(it := execution(claimed_at=to_datetime(s(5))), s(5)) is it
    assert as_it_waits(execution(claimed_at=to_datetime(s(5))), s(0)).due_at is None


def test_the_last_execution_when_nothing_is_under_way():
    failed = execution(state="ended", outcome=Outcome.FAILED, reason="start-0: exited with 7")
    lines = explain(unit(), None, (), (), NOW, failed)
    assert lines[1:] == [f"{KEY}/0 was its last execution: failed: start-0: exited with 7"]
    lost = execution(state="ended", outcome=Outcome.TIMED_OUT)
    assert explain(unit(), None, (), (), NOW, lost)[1:] == [f"{KEY}/0 was its last execution: timed_out"]
    assert len(explain(unit(), None, [execution(state="running")], (), NOW, failed)) == 2
    for well in (None, execution(state="ended", outcome=Outcome.SUCCEEDED)):
        assert len(explain(unit(), None, (), (), NOW, well)) == 1


def test_no_turn_is_blamed_where_none_comes():
    it = unit(every(10))
    held_up = nobody_decides(7, "", ["it takes no writes: it is full"])
    assert held_up == [
        "the job store: it takes no writes: it is full",
        "no scheduler owns its shard, 7: none is alive, or none reaches the job store",
    ]
    assert nobody_decides(7, "m1", ()) == []
    waits = execution(state="waiting", reason="x")
    due = execution(5, state="delayed")
    found = explain(it, accept(it, s(0), 1), [waits, due], [view("a")], NOW, held_up=held_up)
    assert found == [
        "its fire time 2030-01-01T00:00:00Z has been due for 1min 40s",
        *[f"nothing is decided about it just now: {why}" for why in held_up],
        f"{waits.id} waits, though a could take it now",
        f"{due.id} is to be placed",
    ]
