"""All orders of answers, watched puts and watched deletes, over the protocol in memory: memory never leaves the truth.

The machine decides, lets writes arrive or be lost, answers them, lets others write, and brings news late, in any order.
After each step everything is compared that must hold at any time; at the end, with every answer and all news there, memory
must be the store. Three races of this protocol have been mended in the past. The last tests take each of these mends out
and have the machine find the race:

- 60ce520: an answer that was lost put back what the watch had told better, while another write was under way;
- f71daef: what somebody else had ended was put back when our write about it was refused;
- b20c1cb: what had been seen to leave its source was held to be gone for good, though it was seen where it went.
"""

import logging
from typing import Any

import msgspec
import pytest
import structlog
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.engine.memory_protocol import MACHINES, MEANING, UNIT, Protocol, StillClock, moved, read
from xchronos.engine.state import cluster_state, open_execution
from xchronos.engine.state.cluster_state import ClusterState
from xchronos.engine.state.open_execution import TRANSITIONS, OpenExecution, transition
from xchronos.model.lifecycle import IllegalEvent
from xchronos.model.records import Machine

pytestmark = pytest.mark.untraced  # measuring would double its time, and what it drives has tests of its own

EXAMPLES, STEPS = 300, 60
"""How many orders of events are tried where none is bad, and how many events there are in each. (One race in a few
hundred orders is found on average, so that ten times as many leave nothing to chance.)"""


MOST = 3
"""So many executions at most: races are about one of them, or about what is new with it."""

PLACES = st.sampled_from(["waiting", "queued", "delayed", *MACHINES])
PICK = st.integers(0, 11)


def at(execution, place):
    """The execution on a machine, or in a state without one."""
    return moved(execution, "placed", place) if place in MACHINES else moved(execution, place)


class MemoryMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = Protocol()
        self.cluster, self.store = self.world.cluster, self.world.store
        self.highest: dict[str, int] = {}

    @initialize(places=st.lists(st.sampled_from(["waiting", "queued", *MACHINES]), min_size=1, max_size=2))
    def some_are_there(self, places):
        for place in places:
            self.world.begin(at(self.world.new("waiting"), place))

    # -- decisions ----------------------------------------------------------------------------------------------------

    def ours(self) -> bool:
        return self.world.fence(UNIT) is not None

    def idle(self) -> bool:
        return self.ours() and any(not entry.busy for entry in self.cluster.open.values())

    def claims(self):
        return [write for write in self.world.under_way if all(upon == 0 for upon in write.upon.values())]

    @precondition(lambda self: self.ours() and len(self.cluster.open) < MOST and not self.claims())
    @rule(places=st.lists(PLACES, min_size=1, max_size=2))
    def a_fire_time_is_due(self, places):
        self.world.claim([at(self.world.new("waiting"), place) for place in places])

    @precondition(idle)
    @rule(pick=PICK, what=st.sampled_from(["end", "stop", *MACHINES, *MACHINES, "waiting", "delayed"]), new=PLACES)
    def something_is_decided(self, pick, what, new):
        self.nothing_is_decided_about_what_is_busy()
        ids = sorted(execution_id for execution_id, entry in self.cluster.open.items() if not entry.busy)
        execution_id = ids[pick % len(ids)]
        execution = self.cluster.open[execution_id].execution
        also = [at(self.world.new("waiting"), new)] if pick % 3 == 0 and len(self.cluster.open) < MOST else []
        if what == "end":
            self.world.move(execution_id, moved(execution, "ended"), also)
        elif what == "stop" and execution.current is not None:
            self.world.move(execution_id, stopped(execution), [])
        elif execution.current is None:
            self.world.move(execution_id, at(execution, "queued" if what == "stop" else what), also)
        else:
            self.world.move(execution_id, at(execution, "waiting" if what in (*MACHINES, "stop") else what), also)

    def nothing_is_decided_about_what_is_busy(self):
        for execution_id, entry in self.cluster.open.items():
            if entry.busy:
                state, writes = entry.state, len(self.world.under_way)
                with pytest.raises(IllegalEvent):
                    self.world.move(execution_id, moved(entry.execution, "ended"), [])
                assert (entry.state, len(self.world.under_way)) == (state, writes)

    # -- the store, and the way to it and back ------------------------------------------------------------------------

    @precondition(lambda self: self.on_the_way())
    @rule(pick=PICK)
    def a_write_arrives(self, pick):
        writes = self.on_the_way()
        self.world.carry_out(writes[pick % len(writes)])

    @precondition(lambda self: self.under_way())
    @rule(pick=PICK)
    def a_write_arrives_and_is_answered(self, pick):
        write = self.under_way()[pick % len(self.under_way())]
        self.world.carry_out(write)
        self.world.answer(write)

    @precondition(lambda self: self.under_way())
    @rule(pick=PICK)
    def a_write_arrives_and_the_news_of_it_is_first(self, pick):
        self.world.carry_out(self.under_way()[pick % len(self.under_way())])
        self.world.watch(self.store.revision)

    @precondition(lambda self: self.to_be_answered())
    @rule(pick=PICK)
    def an_answer_comes(self, pick):
        writes = self.to_be_answered()
        self.world.answer(writes[pick % len(writes)])

    @precondition(lambda self: self.world.under_way)
    @rule(pick=PICK)
    def an_answer_is_lost(self, pick):
        self.world.lose(self.world.under_way[pick % len(self.world.under_way)])

    @precondition(lambda self: self.world.watched < self.store.revision)
    @rule(revisions=st.integers(1, 3), backwards=st.booleans())
    def news_comes(self, revisions, backwards):
        self.world.watch(min(self.world.watched + revisions, self.store.revision), backwards=backwards)

    @precondition(lambda self: not self.world.sure)
    @rule()
    def the_shard_is_taken_anew(self):
        self.world.take_shard("s1")

    def on_the_way(self):
        return [write for write in (*self.world.under_way, *self.world.late) if write.result is None]

    def under_way(self):
        return [write for write in self.world.under_way if write.result is None]

    def to_be_answered(self):
        return [write for write in self.world.under_way if write.result is not None]

    # -- others -------------------------------------------------------------------------------------------------------

    def there(self):
        """What the store holds of executions; where a write of ours is under way, only of those: there are the races."""
        found = sorted(self.store.open_at(self.store.revision).items())
        ours = {execution_id for write in self.world.under_way for execution_id in write.upon}
        return [one for one in found if one[0] in ours] or found

    @precondition(lambda self: any(machine for _, (machine, _) in self.there()))
    @rule(pick=PICK, ends=st.booleans())
    def an_agent_goes_on(self, pick, ends):
        placed = [read(row) for _, (machine, row) in self.there() if machine]
        execution = placed[pick % len(placed)]
        machine = execution.current.machine
        following: Any = {"placed": "running", "running": "reported", "reported": "ended"}[execution.state]
        self.world.write(
            moved(execution, "ended") if ends or following == "ended" else moved(execution, following, machine)
        )

    @precondition(lambda self: self.there())
    @rule(pick=PICK, seen=st.booleans())
    def a_person_asks_for_an_end(self, pick, seen):
        _, (_, row) = self.there()[pick % len(self.there())]
        self.world.write(stopped(read(row)))
        if seen:
            self.world.watch(self.store.revision)

    @precondition(lambda self: self.there())
    @rule(pick=PICK, what=st.sampled_from(["ended", "waiting", *MACHINES]), seen=st.booleans())
    def another_scheduler_decides(self, pick, what, seen):
        """It has taken the shard, which this one has not heard of yet."""
        _, (machine, row) = self.there()[pick % len(self.there())]
        self.world.take_shard("s2")
        if machine and what in MACHINES:
            what = "waiting"
        self.world.write(moved(read(row), "ended") if what == "ended" else at(read(row), what))
        if seen:
            self.world.watch(self.store.revision)

    # -- what must hold -----------------------------------------------------------------------------------------------

    @invariant()
    def memory_is_true(self):
        watched = self.store.open_at(self.world.watched)
        for execution_id, (_, row) in watched.items():
            assert execution_id in self.cluster.open, "what the watch has told of is nowhere in memory"
            assert self.cluster.open[execution_id].revision >= row.mod_revision, "memory is older than the news"
        for execution_id, entry in self.cluster.open.items():
            if entry.state == "stored":
                machine, row = self.store.open_at(entry.revision)[execution_id]
                assert (machine, row.mod_revision, read(row)) == (entry.machine, entry.revision, entry.execution)
            ours = any(write.upon.get(execution_id) == entry.revision for write in self.world.under_way)
            assert entry.busy or not ours, "it may be decided upon while a write about it is under way"
            assert ours or entry.state not in ("assumed", "uprooted"), (
                "it is assumed, and no write about it is under way"
            )
            assert execution_id in watched or ours or entry.revision > self.world.watched, (
                "what is nowhere in the store is in memory"
            )

    @invariant()
    def no_revision_goes_back(self):
        for execution_id, entry in self.cluster.open.items():
            assert entry.revision >= self.highest.get(execution_id, 0), "memory has gone back"
        self.highest = {execution_id: entry.revision for execution_id, entry in self.cluster.open.items()}

    def teardown(self):
        """Every write has arrived or never will, every answer is there, and all news."""
        for write in self.on_the_way():
            self.world.carry_out(write)
        for write in list(self.world.under_way):
            self.world.answer(write)
        assert self.world.committer.in_flight == 0
        self.world.watch(self.store.revision)
        self.memory_is_true()
        assert filed(self.cluster) == filed(as_read(self.store))
        assert not any(entry.busy for entry in self.cluster.open.values()), "it is held to be busy for ever"


def stopped(execution):
    """The same with a wish that it end."""
    return msgspec.structs.replace(execution, stop_requested=f"{execution.stop_requested}!")


def as_read(store):
    """What a scheduler has in memory that has just read the store."""
    cluster = ClusterState(StillClock())
    for machine in MACHINES:
        cluster.set_machine(Machine(machine))
    for execution_id, (machine, row) in store.open_at(store.revision).items():
        cluster.put(execution_id, OpenExecution(machine, row, row.mod_revision, MEANING))
    return cluster


def filed(cluster):
    """Everything in memory about executions."""
    return {
        "open": {id_: (entry.machine, entry.revision, entry.execution) for id_, entry in cluster.open.items()},
        "files": (cluster.active, cluster.queued, cluster.undecided, cluster.waiting),
        "machines": {name: (view.attempts, set(view.running)) for name, view in cluster.machines.items()},
        "on machines": {name: [id_ for id_, _ in cluster.on_machine(name)] for name in MACHINES},
        "not begun": (cluster.backpressure._machines, cluster.backpressure._units),
    }


@pytest.fixture(autouse=True)
def silent():
    """What is logged at every step would take longer than the steps."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


def search(examples: int) -> None:
    """Have the machine look for what must not be: the same examples each time."""
    run_state_machine_as_test(
        MemoryMachine,
        settings=settings(
            derandomize=True,
            database=None,
            max_examples=examples,
            stateful_step_count=STEPS,
            phases=[Phase.generate],
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_memory_never_leaves_the_truth():
    search(EXAMPLES)


def test_what_is_expected_to_be_new_and_is_there_stays_as_it_is():
    world = Protocol()
    execution = at(world.new("waiting"), "m1")
    world.begin(execution)
    world.claim([at(execution, "m2")])
    assert filed(world.cluster) == filed(as_read(world.store))
    (write,) = world.under_way
    world.take_shard("s2")
    world.carry_out(write)
    world.answer(write)
    assert filed(world.cluster) == filed(as_read(world.store))


def test_a_former_entry_is_not_decided_upon():
    world = Protocol()
    execution = world.new("waiting")
    world.begin(execution)
    former = world.cluster.open[execution.id]
    world.move(execution.id, at(execution, "m1"), [])
    world.carry_out(world.under_way[0])
    world.answer(world.under_way[0])
    assert former.busy
    with pytest.raises(IllegalEvent):
        world.committer.move(execution.id, former, at(execution, "m2"))
    assert not world.under_way
    assert world.cluster.open[execution.id].machine == "m1"


# -- the races that were mended ----------------------------------------------------------------------------------------


def believe_every_answer(patch):
    """60ce520: a refusal, or an answer that is lost, counts whatever the watch has told since the write was decided."""

    def believing(state, event, place, known, told):
        return transition(state, event, place, known, known if event in ("refused", "unanswered") else told)

    patch.setattr(cluster_state, "transition", believing)


def see_nobody_leave_its_source(patch):
    """f71daef: that what is being moved was ended by somebody else is not noticed."""
    forgetful = {**TRANSITIONS, ("assumed", "watched delete", "source"): ("assumed", "keep")}
    patch.setattr(open_execution, "TRANSITIONS", forgetful)


def hold_it_to_be_gone_for_good(patch):
    """b20c1cb: that it was seen where it went is not noticed: the next write about it that is refused drops it."""
    gone = {state: f"{state}, and held to be gone" for state in ("stored", "leaving")}
    table: dict[Any, tuple[Any, str]] = dict(TRANSITIONS)
    for (state, event, place), (after, action) in TRANSITIONS.items():
        if state in gone:
            table[gone[state], event, place] = gone.get(after, after) if action in ("keep", "update") else after, action
        elif state == "uprooted" and action in ("update", "revise"):
            table[state, event, place] = gone["stored"], action
    for event in ("refused", "unanswered"):
        table[gone["leaving"], event, "here"] = "none", "drop"
    patch.setattr(open_execution, "TRANSITIONS", table)
    patch.setattr(OpenExecution, "busy", property(lambda self: self.state not in ("stored", gone["stored"])))


RACES = {
    believe_every_answer: "it may be decided upon while a write about it is under way",
    see_nobody_leave_its_source: "what is nowhere in the store is in memory",
    hold_it_to_be_gone_for_good: "what the watch has told of is nowhere in memory",
}


@pytest.mark.parametrize("mend", RACES, ids=lambda mend: mend.__name__)
def test_without_its_mend_a_race_is_found(mend, monkeypatch):
    mend(monkeypatch)
    with pytest.raises(AssertionError, match=RACES[mend]):
        search(10 * EXAMPLES)
