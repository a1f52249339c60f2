"""Where executions go: copies, global units, round robin, slots and priorities, and those that find no machine."""

import asyncio
from contextlib import suppress

import pytest

from tests.engine.engine_cluster import Cluster, lasting, run
from tests.engine.late_links import Late
from tests.engine.machines_world import FOR_EVER, kept, where
from tests.services.links import Link
from xchronos.clock import SECOND
from xchronos.store.contract import Committed


def test_availability_and_global_units():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("m1")
        await cluster.submit("three.service", "TriggerRepeatInterval=1h\nAvailability=3")
        await cluster.submit("everywhere.service", "TriggerRepeatInterval=1h", fleet="Global=true")
        await cluster.submit("later.service", "TriggerRepeatInterval=1h\nRandomizedDelay=1s", fleet="Global=true")
        await cluster.sleep(5)
        assert len(cluster.started("three.service")) == 1
        waiting = await cluster.registry.open_executions("three.service")
        assert [execution.state for execution in waiting] == ["running", "waiting", "waiting"]
        assert waiting[1].reason == "1 unplaced: 1 machine already runs a copy"
        await cluster.start("m2", roles={"agent"})
        await cluster.start("m3", roles={"agent"})
        await cluster.sleep(1)
        assert {machine for *_, machine in cluster.log if _[1].startswith("three")} == {"m1", "m2", "m3"}
        await cluster.registry.start("everywhere.service", now=cluster.clock.now())
        await cluster.sleep(3600)
        for name, copies in (("three", [3, 3]), ("everywhere", [1, 3, 3]), ("later", [1, 3])):
            history = await cluster.history(f"{name}.service")
            fires = {}
            for execution in history:
                fires.setdefault(execution.fire_time, []).append(execution.attempts[0].machine)
            assert [len(machines) for machines in fires.values()][: len(copies)] == copies[: len(fires)]
            assert all(len(set(machines)) == len(machines) for machines in fires.values())

    run(scenario, lasting(60))


class SlowAnswers(Late):
    """Writes happen at once, and what they set off is over, long before anything of it is heard."""

    async def commit_many(self, txns):
        self.going.clear()
        answers = await super().commit_many(txns)
        await asyncio.sleep(0.3)
        self.going.set()
        return answers


async def all_distinct(cluster: Cluster, name: str, fires: int, copies: int) -> None:
    machines: dict[object, list[str]] = {}
    for execution in await cluster.history(name):
        machines.setdefault(execution.fire_time, []).append(execution.attempts[0].machine)
    assert [len(found) for found in machines.values()] == [copies] * fires
    assert [sorted(set(found)) for found in machines.values()] == [sorted(found) for found in machines.values()]


def test_copies_for_which_one_txn_is_too_small_are_on_distinct_machines_all_the_same():
    async def scenario(cluster: Cluster) -> None:
        for machine in ("m1", "m2", "m3"):
            await cluster.start(machine, roles={"agent"})
        await cluster.start("s", roles={"scheduler"})
        await cluster.submit(
            "a.service",
            "TriggerRepeatInterval=1s\nAvailability=2\nLoadBalancing=random\nHistoryLimit=999\n"
            "MisfirePolicy=IGNORE_MISFIRE_POLICY\nMisfireLimit=999",
        )
        await cluster.registry.set_desired("a.service", "paused")
        await cluster.sleep(300.5)
        await cluster.registry.set_desired("a.service", "active")
        await cluster.sleep(0.2)
        await cluster.registry.set_desired("a.service", "paused")
        await cluster.sleep(5)
        await all_distinct(cluster, "a.service", 301, 2)

    run(scenario)


@pytest.mark.parametrize("how", ["fired", "delayed", "everywhere"])
def test_copies_that_end_before_the_others_are_written_still_have_their_machines(how):
    async def scenario(cluster: Cluster) -> None:
        cluster.store.max_operations = 8
        names = [f"m{number}" for number in range(9)]
        for machine in names:
            await cluster.start(machine, roles={"agent"})
        await cluster.start("s", roles={"scheduler"}, store=SlowAnswers(cluster.store))
        if how == "fired":
            await cluster.submit("a.service", "TriggerRepeatInterval=10s\nAvailability=9\nLoadBalancing=random")
        elif how == "delayed":
            await cluster.submit("a.service", "TriggerRepeatInterval=10s\nAvailability=9\nRandomizedDelay=1s")
        else:
            await cluster.submit("a.service", "TriggerRepeatInterval=10s\nRandomizedDelay=1s", fleet="Global=true")
        await cluster.sleep(27)
        await all_distinct(cluster, "a.service", 3, 9)

    run(scenario)


def test_copies_of_a_former_life_are_not_counted_among_those_of_the_new_one():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("s", roles={"scheduler"}, store=SlowAnswers(cluster.store))
        for machine in ("m1", "m2"):
            await cluster.start(machine, roles={"agent"})
        await kept(cluster, "a.service", chronos="Availability=2")
        await cluster.sleep(5)
        await cluster.registry.destroy("a.service")
        await kept(cluster, "a.service", chronos="Availability=2")
        await cluster.sleep(10)
        assert await where(cluster) == {"a.service": ["m1", "m2"]}

    run(scenario, FOR_EVER)


class Refusing(Link):
    """Writes of what contains `what` are refused, as if somebody else had been quicker each time."""

    def __init__(self, store, what: bytes) -> None:
        super().__init__(store)
        self.what = what

    async def commit_many(self, txns):
        mine = [txn for txn in txns if not any(self.what in getattr(one, "value", b"") for one in txn.operations)]
        answers = iter(await super().commit_many(mine))
        return [next(answers) if txn in mine else Committed(False, 1) for txn in txns]


def test_fewer_copies_are_not_accepted_before_the_others_were_asked_to_end():
    """A scheduler that dies in between leaves no more copies than are wanted."""

    async def scenario(cluster: Cluster) -> None:
        await cluster.start("s1", roles={"scheduler"}, store=Refusing(cluster.store, b"Availability=1 now"))
        for machine in ("m1", "m2"):
            await cluster.start(machine, roles={"agent"})
        await kept(cluster, "a.service", chronos="Availability=2")
        await cluster.sleep(5)
        await kept(cluster, "a.service", chronos="Availability=1")
        await cluster.sleep(5)
        assert await where(cluster) == {"a.service": ["m1", "m2"]}
        await cluster.kill("s1")
        await cluster.start("s2", roles={"scheduler"})
        await cluster.sleep(30)
        assert await where(cluster) == {"a.service": ["m1"]}

    run(scenario, FOR_EVER)


def test_more_copies_are_begun_by_their_acceptance_even_if_somebody_starts_the_unit_before():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("s1", roles={"scheduler"})
        for machine in ("m1", "m2", "m3", "m4"):
            await cluster.start(machine, roles={"agent"})
        await kept(cluster, "a.service", chronos="Availability=2")
        await cluster.sleep(5)
        await cluster.kill("s1")
        await kept(cluster, "a.service", chronos="Availability=3")
        assert await cluster.registry.start("a.service", now=cluster.clock.now()) == []
        await cluster.start("s2", roles={"scheduler"})
        await cluster.sleep(30)
        assert await where(cluster) == {"a.service": ["m1", "m2", "m3"]}
        # All of it was stopped: a start begins all that the new text asks for, accepted or not.
        await cluster.registry.stop("a.service", "by hand")
        await cluster.sleep(5)
        await cluster.kill("s2")
        await kept(cluster, "a.service", chronos="Availability=4")
        assert len(await cluster.registry.start("a.service", now=cluster.clock.now())) == 4
        await cluster.start("s3", roles={"scheduler"})
        await cluster.sleep(30)
        assert await where(cluster) == {"a.service": ["m1", "m2", "m3", "m4"]}

    run(scenario, FOR_EVER)


def test_round_robin_goes_on_after_a_restart():
    async def scenario(cluster: Cluster) -> None:
        for machine in ("m1", "m2", "m3"):
            await cluster.start(machine, roles={"agent"})
        await cluster.start("s", roles={"scheduler"})
        await cluster.submit("a.service", "TriggerRepeatInterval=10s\nLoadBalancing=round-robin")
        await cluster.sleep(15)
        await cluster.stop("s")
        await cluster.start("s", roles={"scheduler"})
        await cluster.sleep(20)
        assert [machine for *_, machine in cluster.log] == ["m1", "m2", "m3", "m1"]

    run(scenario)


def test_slots_are_given_by_priority_as_soon_as_they_are_free():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start(slots=2)
        for name, priority in (("low", 0), ("high", 10)):
            await cluster.submit(f"{name}.service", f"Priority={priority}")
        for n in range(4):
            for name in ("low", "high"):
                await cluster.registry.start(f"{name}.service", now=cluster.clock.now() + 50 * n)
        await cluster.sleep(45)
        order = [(round(at / 10), execution.partition(".")[0]) for at, execution, *_ in cluster.log]
        assert sorted(order[:2]) == [(0, "high"), (0, "low")] or order[:2] == [(0, "high"), (0, "high")]
        names = [name for _, name in order]
        assert names[2:4] in (["high", "high"], ["high", "low"])
        assert len(order) == 8
        assert [sum(1 for at, _ in order if at == slot) for slot in range(4)] == [2] * 4

    run(scenario, lasting(10))


def test_start_deadline():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("s", roles={"scheduler"})
        await cluster.submit("a.service", "TriggerRepeatInterval=1h\nStartDeadline=30s", unit="OnFailure=b.service")
        await cluster.submit("q.service", "Concurrency=queue\nStartDeadline=30s\nTriggerRepeatInterval=1h")
        await cluster.sleep(29)
        assert await cluster.history("a.service") == []
        await cluster.sleep(2)
        (execution,) = await cluster.history("a.service")
        assert execution.outcome == "missed"
        assert execution.reason.startswith("StartDeadline passed while it waited")
        assert "no machine is alive" in execution.reason

    run(scenario)


def test_copies_never_share_a_machine_even_when_one_has_ended():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("m1")
        await cluster.submit("two.service", "TriggerRepeatInterval=1h\nAvailability=2")
        await cluster.sleep(60)
        (waiting,) = await cluster.registry.open_executions("two.service")
        assert waiting.state == "waiting"
        assert waiting.reason == "1 unplaced: 1 machine already runs a copy"
        # A scheduler that was not there when the first copy ran knows it from the history.
        await cluster.stop("m1")
        await cluster.start("m1")
        await cluster.sleep(60)
        assert [execution.state for execution in await cluster.registry.open_executions("two.service")] == ["waiting"]
        await cluster.start("m2", roles={"agent"})
        await cluster.sleep(60)
        assert await cluster.registry.open_executions("two.service") == []
        machines = [execution.attempts[0].machine for execution in await cluster.history("two.service")]
        assert machines == ["m1", "m2"]

    run(scenario, lasting(5))


def test_a_copy_that_is_tried_again_does_not_keep_its_own_machine_from_itself():
    async def failing(spec, machine):
        return 1

    async def scenario(cluster: Cluster) -> None:
        await cluster.start("m1")
        await cluster.submit(
            "two.service", "TriggerRepeatInterval=1h\nAvailability=2\nMaxAttempts=3\nTimeBetweenAttempts=10s"
        )
        await cluster.sleep(60)
        (ended,) = await cluster.history("two.service")
        assert [attempt.machine for attempt in ended.attempts] == ["m1", "m1", "m1"]
        (waiting,) = await cluster.registry.open_executions("two.service")
        assert (waiting.copy, waiting.state) == (1, "waiting")

    run(scenario, failing)


def test_the_rest_of_many_copies_knows_the_machines_of_all_others_whatever_their_numbers():
    async def deaf(spec, machine):
        for _ in range(2):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
        return 0

    async def scenario(cluster: Cluster) -> None:
        link = Link(cluster.store)
        link.max_operations = 8
        await cluster.start("s", roles={"scheduler"}, store=link)
        for number in range(8):
            await cluster.start(f"m{number}", roles={"agent"})
        when = f"TriggerAt={cluster.clock.now() // SECOND + 5}\nAvailability="
        await cluster.submit("many.service", f"{when}7")
        await cluster.sleep(10)
        # What runs cannot be ended at once, and holds the numbers 0 to 6 of the very same fire time.
        await cluster.registry.destroy("many.service")
        await cluster.submit("many.service", f"{when}9")
        await cluster.sleep(5)
        new = [one for one in await cluster.registry.open_executions("many.service") if not one.stop_requested]
        assert sorted(one.copy for one in new) == list(range(7, 16))
        machines = [one.current.machine for one in new if one.current is not None]
        assert len(machines) == len(set(machines)) == 7

    run(scenario, deaf)


def test_what_no_machine_takes_does_not_pile_up_without_end():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("m1")
        await cluster.submit("far.service", "TriggerRepeatInterval=1s", fleet="MachineMetadata=region=moon")
        await cluster.sleep(150)
        open_ = await cluster.registry.open_executions("far.service")
        assert len(open_) == 100
        missed = await cluster.history("far.service")
        assert len(missed) == 51
        assert {str(execution.outcome) for execution in missed} == {"missed"}
        assert "100 executions of the unit wait for a machine already" in missed[0].reason
        await cluster.start("m2", roles={"agent"}, metadata={"region": "moon"})
        await cluster.sleep(5)
        assert len(cluster.started("far.service")) >= 100

    run(scenario)


def test_the_most_urgent_of_many_units_gets_each_slot():
    order = [2, 0, 4, 1, 3]

    async def scenario(cluster: Cluster) -> None:
        await cluster.start("m1", slots=1)
        await cluster.submit("first.service")
        await cluster.registry.start("first.service", now=cluster.clock.now())
        await cluster.sleep(1)
        for priority in order:
            name = f"p{priority}.service"
            await cluster.submit(name, f"Priority={priority}")
            await cluster.registry.start(name, now=cluster.clock.now())
            await cluster.sleep(1)
        await cluster.sleep(100)
        began = [execution.partition(".")[0] for _, execution, *_ in cluster.log]
        assert began == ["first", "p4", "p3", "p2", "p1", "p0"]

    run(scenario, lasting(10))
