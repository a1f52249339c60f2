"""How a view files a unit's executions."""

from tests.scheduler.deciders import ident, on, seen
from tests.scheduler.schedule_builders import attempt, execution
from xchronos.model.policies import Outcome
from xchronos.scheduler.view import fire_prefix, undecided

START = execution(50, state="delayed", trigger="manual")


def test_each_execution_has_its_file():
    there = seen(on("m"), execution(10, state="waiting"), execution(20, state="queued"), START)
    assert there.active == {ident(0), ident(10)}
    assert there.queued == {ident(20)}
    assert there.undecided == {START.id}
    assert there.waiting == 1
    assert there.of_unit() == [ident(0), ident(10), ident(20), ident(50)]


def test_the_queue_moves_when_nothing_else_is_active():
    queued = [execution(20, copy, state="queued") for copy in (1, 0)]
    later = execution(30, state="queued")
    assert seen().next_queued() == []
    assert seen(*queued, later).next_queued() == [ident(20, 0), ident(20, 1)]
    assert seen(on("m"), *queued).next_queued() == []
    assert seen(on("m", 20, 2), *queued).next_queued() == [ident(20, 0), ident(20, 1)]


def test_where_a_unit_is_at_home():
    tried = execution(10, state="waiting", attempts=(attempt(1, Outcome.FAILED, "a"), attempt(2, Outcome.FAILED, "b")))
    assert seen(on("m"), tried, execution(20, state="queued")).homes() == {"m", "b"}


def test_a_start_is_undecided_until_it_is_looked_at():
    assert undecided(START)
    assert not undecided(execution(state="delayed", trigger="cron"))
    assert not undecided(execution(state="queued", trigger="manual"))
    assert not undecided(execution(state="delayed", trigger="chain", attempts=(attempt(1, Outcome.FAILED),)))
    assert fire_prefix(START.id) == "a.service/20300101T000050.000000Z/"
