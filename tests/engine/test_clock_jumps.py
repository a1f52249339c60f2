"""What lasts a while lasts no longer when somebody sets a clock back: pauses, deadlines, TTLs, drains."""

import asyncio
from random import Random

import pytest

from tests.engine.engine_cluster import Cluster, run
from tests.engine.faulty_store import FaultyStore
from tests.engine.late_links import DiesBehind
from xchronos.clock import DAY, HOUR, SECOND, to_datetime
from xchronos.engine.reconcile.evictions import Evictions
from xchronos.executors.contract import StepExit
from xchronos.model.policies import Outcome

AGENT = frozenset(("agent",))
SCHEDULER = frozenset(("scheduler",))
FIRST = "TriggerAt=2030-03-17T17:46:45Z\nMisfireThreshold=7d"


async def fails(spec, machine):
    return StepExit(3)


def seconds(cluster: Cluster) -> float:
    return cluster.clock.monotonic() / SECOND


def timed(scenario, body=None) -> None:
    """Run a scenario with the monotonic instants of all starts."""
    starts: list[float] = []

    async def main(cluster: Cluster) -> None:
        async def noted(spec, machine):
            starts.append(seconds(cluster))
            return await body(spec, machine) if body is not None else 0

        cluster.body = noted
        await scenario(cluster, starts)

    run(main)


RETRIES = f"{FIRST}\nMaxAttempts=3\nTimeBetweenAttempts=1min"


@pytest.mark.parametrize("jump", [-DAY, -2 * SECOND, HOUR], ids=["a day back", "a little back", "forward"])
def test_a_pause_between_attempts_is_never_longer_than_it_was_to_be(jump):
    async def scenario(cluster: Cluster, starts: list[float]) -> None:
        await cluster.start()
        await cluster.submit("a.service", RETRIES)
        await cluster.sleep(20)
        assert len(starts) == 1
        cluster.clock.jump(jump)
        await cluster.sleep(180)
        assert len(starts) == 3
        first, second, third = starts
        if jump < 0:
            assert 60 <= second - first < 60.1
        else:
            assert second - first < 60.1
        assert 60 <= third - second < 60.1, "the next pause is by the clock as it is now"

    timed(scenario, fails)


def test_after_a_restart_it_begins_anew_at_most():
    async def scenario(cluster: Cluster, starts: list[float]) -> None:
        await cluster.start()
        await cluster.submit("a.service", RETRIES)
        await cluster.sleep(20)
        await cluster.stop()
        cluster.clock.jump(-DAY)
        await cluster.sleep(20)
        await cluster.start()
        back = seconds(cluster)
        await cluster.sleep(70)
        first, second = starts
        assert second - first >= 60
        assert back + 60 <= second < back + 61

    timed(scenario, fails)


def test_without_a_jump_a_restart_costs_nothing():
    async def scenario(cluster: Cluster, starts: list[float]) -> None:
        await cluster.start()
        await cluster.submit("a.service", RETRIES)
        await cluster.sleep(20)
        await cluster.stop()
        await cluster.sleep(20)
        await cluster.start()
        await cluster.sleep(40)
        assert 60 <= starts[1] - starts[0] < 60.1

    timed(scenario, fails)


def test_one_who_takes_over_waits_no_longer_either():
    async def scenario(cluster: Cluster, starts: list[float]) -> None:
        await cluster.start("m1", roles=AGENT)
        await cluster.start("s1", roles=SCHEDULER, store=FaultyStore(cluster.store, cluster.clock, Random(1)))
        await cluster.submit("a.service", RETRIES)
        await cluster.sleep(20)
        await cluster.start("s2", roles=SCHEDULER)
        await cluster.sleep(5)
        cluster.clock.jump(-DAY)
        await cluster.kill("s1")
        await cluster.sleep(180)
        first, second, third = starts
        assert 60 <= second - first < 61, "s2 has followed it all the time"
        assert 60 <= third - second < 60.1

    timed(scenario, fails)


def test_what_is_kept_running_starts_again():
    async def scenario(cluster: Cluster, starts: list[float]) -> None:
        await cluster.start()
        text = b"[Service]\nExecStart=/bin/true\nRestart=always\nRestartSec=30\n[X-Chronos]\nExecutor=python\n"
        await cluster.registry.submit("a.service", text, now=cluster.clock.now())
        await cluster.sleep(1)
        cluster.clock.jump(-DAY)
        await cluster.sleep(40)
        assert len(starts) == 2
        assert 30 <= starts[1] - starts[0] < 30.1

    timed(scenario, fails)


def test_a_randomized_delay():
    async def scenario(cluster: Cluster, starts: list[float]) -> None:
        await cluster.start()
        await cluster.submit("a.service", f"{FIRST}\nRandomizedDelay=10min")
        await cluster.sleep(6)
        (delayed,) = await cluster.registry.open_executions()
        left = (delayed.due_at - delayed.claimed_at).total_seconds()
        assert 10 < left <= 600
        cluster.clock.jump(-DAY)
        await cluster.sleep(600)
        assert starts == [pytest.approx(5 + left, abs=0.1)]

    timed(scenario)


def test_a_start_deadline():
    async def scenario(cluster: Cluster, starts: list[float]) -> None:
        await cluster.start()
        await cluster.submit("a.service", f"{FIRST}\nStartDeadline=1min", fleet='MachineMetadata="disk=fast"')
        await cluster.sleep(20)
        cluster.clock.jump(-DAY)
        await cluster.sleep(20)
        # Another reason for the same wait: it does not begin anew.
        await cluster.start("m2", roles=AGENT)
        await cluster.sleep(24)
        (waiting,) = await cluster.registry.open_executions()
        assert waiting.state == "waiting"
        await cluster.sleep(2)
        (missed,) = await cluster.history("a.service")
        assert missed.outcome is Outcome.MISSED
        assert starts == []

    timed(scenario)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_ttl(restarted):
    async def scenario(cluster: Cluster) -> None:
        await cluster.start()
        await cluster.submit("a.service", "TTL=10min\nTriggerCron=@hourly")
        await cluster.sleep(300)
        if restarted:
            await cluster.stop()
            cluster.clock.jump(-DAY)
            await cluster.start()
        else:
            cluster.clock.jump(-DAY)
        await cluster.sleep(298)
        assert await cluster.registry.unit_names() == ["a.service"]
        await cluster.sleep(303 if restarted else 3)
        assert await cluster.registry.unit_names() == []

    run(scenario)


def test_a_machine_that_is_drained_is_still_looked_at_every_second(monkeypatch):
    looks: list[str] = []
    look_at = Evictions._look_at

    def noted(self, view, now):
        looks.append(view.machine.id)
        look_at(self, view, now)

    monkeypatch.setattr(Evictions, "_look_at", noted)

    async def scenario(cluster: Cluster) -> None:
        await cluster.start()
        await cluster.registry.wishes.drain("m1", to_datetime(cluster.clock.now() + HOUR))
        await cluster.sleep(5)
        cluster.clock.jump(-DAY)
        await cluster.sleep(2)
        looks.clear()
        await cluster.sleep(10)
        assert 9 <= looks.count("m1") <= 11

    run(scenario)


def test_a_unit_that_comes_back_under_a_clock_behind_claims_no_fire_time_again():
    async def long(spec, machine):
        await asyncio.sleep(40)
        return 0

    async def scenario(cluster: Cluster) -> None:
        await cluster.start("m1")
        await cluster.submit("a.service", "TriggerCron=* * * * * *")
        await cluster.sleep(6)
        await cluster.kill("m1")
        # Nobody sees that the unit was away; what it has begun ends behind its return.
        await cluster.registry.destroy("a.service")
        await cluster.submit("a.service", "TriggerCron=* * * * * *")
        await cluster.sleep(1)
        cluster.clock.jump(-15 * SECOND)
        await cluster.start("m1")
        await cluster.sleep(30)
        assert set(cluster.starts.values()) == {1}
        assert len(cluster.starts) >= 15

    run(scenario, long)


def test_what_was_put_off_by_a_clock_that_was_ahead_is_not_claimed_before_its_time():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("s1", roles=SCHEDULER)
        await cluster.submit("a.service", "TriggerRepeatInterval=1s\nTriggerRepeatCount=20\nMisfireThreshold=1h")
        await cluster.sleep(2)
        await cluster.kill("s1")
        await cluster.sleep(20)
        link = DiesBehind(cluster.store, cluster.keys.schedule("a.service"))
        link.max_operations = 8
        await cluster.start("s2", roles=SCHEDULER, store=link)
        await cluster.sleep(15)
        assert link.over
        await cluster.kill("s2")
        cluster.clock.jump(-HOUR)
        await cluster.start("s3")
        await cluster.sleep(60)
        history = await cluster.history("a.service")
        assert len(history) == 21
        assert all(execution.claimed_at >= execution.fire_time for execution in history)

    run(scenario)
