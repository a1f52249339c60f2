"""Whole daemons in made-up time: what fires when, and what becomes of what was missed."""

import asyncio

import pytest

from tests.engine.engine_cluster import START, Cluster, run, unit_text
from xchronos.clock import HOUR, MINUTE, SECOND
from xchronos.model.compile.unit import compile_unit
from xchronos.registry.codec import encode
from xchronos.registry.units import record_of
from xchronos.store.contract import Put, Txn


def test_hours_of_a_cron_schedule():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start()
        await cluster.submit("a.service", "TriggerCron=0 */10 * * * *")
        await cluster.sleep(6 * 3600)
        assert await cluster.outcomes("a.service") == [(200 + 600 * n, "succeeded") for n in range(36)]
        assert all(count == 1 for count in cluster.starts.values())
        late = [at - (200 + 600 * n) for n, at in enumerate(cluster.started("a.service"))]
        assert max(late) <= 0.001
        assert min(late) >= 0

    run(scenario)


DOWN = {
    "IGNORE_MISFIRE_POLICY": [0, 2, 13, 13, 13, 13, 13, 14, 16, 18],
    "RESCHEDULE_NOW_WITH_EXISTING_REPEAT_COUNT": [0, 2, 13, 15, 17, 19, 21, 23, 25, 27],
    "RESCHEDULE_NEXT_WITH_EXISTING_COUNT": [0, 2, 14, 16, 18, 20, 22, 24, 26, 28],
    "RESCHEDULE_NEXT_WITH_REMAINING_COUNT": [0, 2, 14, 16, 18],
    "RESCHEDULE_NOW_WITH_REMAINING_REPEAT_COUNT": [0, 2, 13, 15, 17, 19],
    "FIRE_NOW": [0, 2, 13, 15, 17, 19],
    "SMART_POLICY": [0, 2, 13, 15, 17, 19, 21, 23, 25, 27],
}


@pytest.mark.parametrize("policy", DOWN)
def test_the_worked_example_of_every_misfire_policy(policy):
    # TIME.md 5: interval 2 s, RepeatCount 9, down from t=3 to t=13, threshold 1 s.
    async def scenario(cluster: Cluster) -> None:
        await cluster.start()
        begin = cluster.at()
        await cluster.submit(
            "a.service",
            f"TriggerRepeatInterval=2s\nTriggerRepeatCount=9\nMisfireThreshold=1s\nMisfirePolicy={policy}",
        )
        await cluster.sleep(begin + 3 - cluster.at())
        await cluster.stop()
        await cluster.sleep(begin + 13 - cluster.at())
        await cluster.start()
        await cluster.sleep(60)
        assert [round(at - begin) for at in cluster.started("a.service")] == DOWN[policy]
        history = await cluster.history("a.service")
        missed = [execution for execution in history if execution.missed is not None]
        if policy == "IGNORE_MISFIRE_POLICY":
            assert missed == []
            nominal = [round(at - begin) for at, _ in await cluster.outcomes("a.service")]
            assert nominal == list(range(0, 20, 2))
        else:
            (record,) = missed
            assert (record.copy, record.missed.count, record.outcome) == (-1, 5, "missed")
            assert round(record.missed.first.timestamp() - START / SECOND - begin) == 4
            assert round(record.missed.last.timestamp() - START / SECOND - begin) == 12
            assert (await cluster.registry.execution(record.id)).id == record.id
        assert (await cluster.registry.unit("a.service")).schedule.finished

    run(scenario)


def test_more_missed_fires_than_a_txn_holds_are_all_written_and_the_limit_is_granted_once():
    async def scenario(cluster: Cluster) -> None:
        for machine in ("m1", "m2", "m3"):
            await cluster.start(machine)
        await cluster.submit(
            "a.service",
            "TriggerRepeatInterval=1s\nMisfireThreshold=1s\nMisfirePolicy=IGNORE_MISFIRE_POLICY\n"
            "MisfireLimit=200\nAvailability=3\nHistoryLimit=5000",
        )
        await cluster.sleep(5)
        for machine in ("m1", "m2", "m3"):
            await cluster.stop(machine)
        await cluster.sleep(1000)
        for machine in ("m1", "m2", "m3"):
            await cluster.start(machine)
        await cluster.sleep(0.5)
        history = await cluster.history("a.service")
        missed = [execution for execution in history if execution.missed]
        assert [execution.missed.count for execution in missed] == [800]
        fires = {execution.fire_time for execution in history if not execution.missed}
        assert len(fires) == 206
        assert len(history) == 3 * 206 + 1
        assert (await cluster.registry.unit("a.service")).schedule.owed == ()

    run(scenario)


def test_many_fires_within_the_threshold_are_taken_in_portions():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start()
        await cluster.submit("a.service", "TriggerRepeatInterval=1s\nMisfireThreshold=1d\nHistoryLimit=5000")
        await cluster.sleep(1)
        await cluster.stop()
        await cluster.sleep(2500)
        await cluster.start()
        await cluster.sleep(0.5)
        outcomes = await cluster.outcomes("a.service")
        assert len(outcomes) == 2502
        assert set(cluster.starts.values()) == {1}

    run(scenario)


@pytest.mark.parametrize("jump", [3 * HOUR, -3 * HOUR], ids=["forward", "backward"])
def test_a_jump_of_the_clock_neither_refires_nor_loses(jump):
    async def scenario(cluster: Cluster) -> None:
        await cluster.start()
        await cluster.submit("a.service", "TriggerCron=0 * * * * *")
        await cluster.sleep(600)
        before = await cluster.outcomes("a.service")
        cluster.clock.jump(jump)
        await cluster.sleep(600)
        after = await cluster.outcomes("a.service")
        assert set(cluster.starts.values()) == {1}
        assert after[: len(before)] == before
        if jump < 0:
            assert after == before
            return
        (gap,) = [execution for execution in await cluster.history("a.service") if execution.missed]
        # One fire now for all that was missed (SMART, cron).
        assert gap.missed.count >= 179
        assert len(after) == len(before) + 2 + 10

    run(scenario)


def test_pause_and_resume():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start()
        await cluster.submit(
            "a.service", "TriggerRepeatInterval=10s\nMisfirePolicy=RESCHEDULE_NEXT_WITH_REMAINING_COUNT"
        )
        await cluster.sleep(25)
        await cluster.registry.set_desired("a.service", "paused")
        await cluster.sleep(600)
        assert len(cluster.log) == 3
        await cluster.registry.set_desired("a.service", "active")
        await cluster.sleep(20)
        outcomes = [outcome for _, outcome in await cluster.outcomes("a.service")]
        assert outcomes == ["succeeded"] * 3 + ["missed"] + ["succeeded"] * 2

    run(scenario)


@pytest.mark.parametrize(
    ("how", "then", "missed"),
    [
        ({}, ["succeeded"] * 3, "(FIRE_NOW)"),
        ({"skip_missed": True}, ["succeeded"] * 2, "(skip-missed)"),
    ],
)
def test_a_short_pause_is_one_gap(how, then, missed):
    async def scenario(cluster: Cluster) -> None:
        await cluster.start()
        await cluster.submit("a.service", "TriggerCron=*/10 * * * * *\nMisfireThreshold=1h")
        await cluster.sleep(15)
        before = len(cluster.log)
        await cluster.registry.set_desired("a.service", "paused")
        await cluster.sleep(45)
        await cluster.registry.set_desired("a.service", "active", now=cluster.clock.now(), **how)
        await cluster.sleep(20)
        after = (await cluster.history("a.service"))[before:]
        (gap,) = [execution for execution in after if execution.missed]
        assert 4 <= gap.missed.count <= 5
        assert gap.reason == f"{gap.missed.count} fire times were in a pause of the unit {missed}"
        assert [execution.outcome.value for execution in after if not execution.missed] == then

    run(scenario)


def test_a_pause_while_no_scheduler_ran_is_a_gap_as_well():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start()
        await cluster.submit("a.service", "TriggerCron=*/10 * * * * *\nMisfireThreshold=1h")
        await cluster.sleep(15)
        await cluster.stop()
        await cluster.registry.set_desired("a.service", "paused")
        await cluster.sleep(30)
        await cluster.registry.set_desired("a.service", "active", now=cluster.clock.now())
        await cluster.registry.submit(
            "a.service", (await cluster.registry.unit("a.service")).record.text.encode() + b"# new\n", now=0
        )
        before = len(cluster.log)
        await cluster.start()
        await cluster.sleep(2)
        assert len(cluster.log) == before + 1
        (gap,) = [execution for execution in await cluster.history("a.service") if execution.missed]
        assert (gap.missed.count, gap.missed.paused) == (3, True)

    run(scenario)


@pytest.mark.timeout(1800)  # they only compute, beside whatever else does
def test_ten_thousand_one_shots_and_a_restart():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start()
        for n in range(10_000):
            await cluster.registry.submit(
                f"u{n}.service",
                b"[Service]\nType=oneshot\nExecStart=/bin/true\n[X-Chronos]\nExecutor=python\nTriggerAt=%d\n"
                % (START // SECOND + 3600 + n % 100),
                now=cluster.clock.now(),
            )
        await cluster.sleep(1)
        await cluster.stop()
        await cluster.sleep(60)
        await cluster.start()
        await cluster.sleep(3800)
        assert len(cluster.starts) == 10_000
        assert set(cluster.starts.values()) == {1}

    run(scenario)


def test_max_runs_and_ttl():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start()
        await cluster.submit("runs.service", "TriggerRepeatInterval=1s\nMaxRuns=3")
        await cluster.submit("ttl.service", "TriggerRepeatInterval=1s\nTTL=5s")
        await cluster.sleep(4.5)
        assert len(cluster.started("runs.service")) == 3
        assert (await cluster.registry.unit("runs.service")).schedule.finished.startswith("MaxRuns")
        assert len(cluster.started("ttl.service")) == 5
        await cluster.sleep(2)
        assert await cluster.registry.unit_names() == ["runs.service"]
        assert len(cluster.started("ttl.service")) == 5
        assert await cluster.left_over("runs.service") == []

    run(scenario)


def test_a_ttl_that_a_change_brings_or_moves_counts():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start()
        await cluster.submit("a.service", "TriggerRepeatInterval=1s")
        await cluster.submit("a.service", "TriggerRepeatInterval=1s\nTTL=5s")
        await cluster.submit("a.service", "TriggerRepeatInterval=1s\nTTL=20s")
        await cluster.sleep(10)
        assert await cluster.registry.unit_names() == ["a.service"]
        await cluster.sleep(11)
        assert await cluster.registry.unit_names() == []
        assert await cluster.left_over() == []

    run(scenario)


def test_a_ttl_that_ended_while_nobody_was_there():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start()
        await cluster.submit("a.service", "TriggerCron=0 0 0 1 1 *\nTTL=1h")
        await cluster.stop()
        await cluster.sleep(2 * 3600)
        await cluster.start()
        await cluster.sleep(1)
        assert await cluster.registry.unit_names() == []
        assert await cluster.left_over() == []

    run(scenario)


class Moody:
    """A trigger class of a user: answers, until it does not."""

    fails = False

    def next_after(self, instant, anchor):
        if Moody.fails:
            raise RuntimeError("the moon is in the wrong house")
        return instant + SECOND


def test_a_trigger_class_that_fails_here_ends_nothing(monkeypatch):
    async def scenario(cluster: Cluster) -> None:
        await cluster.start()
        name = f"{Moody.__module__}:Moody"
        await cluster.submit("good.service", "TriggerRepeatInterval=1s")
        await cluster.submit("bad.service", f"TriggerClass={name}")
        await cluster.submit("worse.service", f"TriggerClass={name}\nNotBefore=2030-03-17T17:47:00Z")
        await cluster.sleep(3)
        assert len(cluster.started("bad.service")) == 3
        monkeypatch.setattr(Moody, "fails", True)
        await cluster.sleep(3)
        before = (await cluster.registry.unit("bad.service")).schedule
        assert before.finished == ""
        await cluster.submit("bad.service", f"TriggerClass={name}\nTTL=1h", unit="Description=changed")
        await cluster.submit("late.service", f"TriggerClass={name}")
        await cluster.sleep(1)
        for broken in ("bad.service", "late.service"):
            (scheduler,) = await cluster.registry.schedulers()
            assert "the moon is in the wrong house" in scheduler.cannot_read[broken]
        assert (await cluster.registry.unit("bad.service")).schedule == before
        assert (await cluster.registry.unit("late.service")).schedule is None
        assert len(cluster.started("good.service")) >= 7
        # It is tried again, and what was missed meanwhile is late like anything else.
        monkeypatch.setattr(Moody, "fails", False)
        await cluster.sleep(62)
        (gap,) = [one for one in await cluster.history("bad.service") if one.outcome == "missed"]
        assert gap.missed.count > 50
        assert cluster.started("bad.service")[-1] >= cluster.at() - 2
        assert cluster.started("late.service")
        (scheduler,) = await cluster.registry.schedulers()
        assert scheduler.cannot_read == {}

    run(scenario)


def test_a_stored_unit_that_does_not_compile_says_so():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start()
        await cluster.submit("good.service", "TriggerRepeatInterval=1s")
        key = cluster.keys.job("bad.service")
        await cluster.store.commit(Txn((), (Put(key, b'{"text":"[Service]\\nNonsense","revision":"x"}'),)))
        await cluster.store.commit(Txn((), (Put(cluster.keys.job("ugly.service"), b"{"),)))
        await cluster.sleep(2.5)
        (scheduler,) = await cluster.registry.schedulers()
        assert list(scheduler.cannot_read) == ["bad.service", "ugly.service"]
        for name in ("bad.service", "ugly.service"):
            assert await cluster.store.get(cluster.keys.schedule(name)) is None
        for key in (
            cluster.keys.schedule("x.service"),
            cluster.keys.machine("m9"),
            cluster.keys.pending_execution("x.service/20300101T000000.000000Z/0"),
        ):
            await cluster.store.commit(Txn((), (Put(key, b"{"),)))
        await cluster.stop()
        await cluster.start()
        await cluster.sleep(2)
        assert len(cluster.started("good.service")) >= 4

    run(scenario)


def test_history_is_cut_to_its_limit():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start()
        await cluster.submit("a.service", "TriggerRepeatInterval=1s\nHistoryLimit=10")
        await cluster.submit(
            "skips.service", "TriggerRepeatInterval=1s\nHistoryLimit=10\nConcurrency=forbid", service=""
        )
        await cluster.sleep(200)
        for name in ("a.service", "skips.service"):
            history = await cluster.history(name)
            assert 10 <= len(history) <= 15
            assert (cluster.clock.now() / SECOND) - history[-1].fire_time.timestamp() < 2
            last = await cluster.registry.history(name, limit=3)
            assert last == history[-3:]
        assert await cluster.registry.history("nothing.service", limit=3) == []

    run(scenario)


def test_the_history_of_what_never_runs_is_cut_too():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start()
        await cluster.submit("a.service", "TriggerRepeatInterval=1s\nHistoryLimit=10\nConcurrency=forbid")
        await cluster.sleep(400)
        assert 10 <= len(await cluster.history("a.service")) <= 15
        await cluster.submit("a.service", "TriggerRepeatInterval=1s\nHistoryLimit=2\nConcurrency=forbid")
        await cluster.sleep(20)
        assert len(await cluster.history("a.service")) <= 15

    async def endless(spec, machine):
        await asyncio.sleep(10 * MINUTE)

    run(scenario, endless)


def test_a_crowd_of_new_units_does_not_hold_up_what_is_due():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("m1")
        await cluster.submit("a.service", "TriggerRepeatInterval=1s")
        await cluster.sleep(3.5)
        puts = []
        for number in range(300):
            name, text = f"u{number}.service", unit_text("TriggerStartDelay=1h")
            puts.append(Put(cluster.keys.job(name), encode(record_of(text, compile_unit(name, text.decode())))))
        # The news is there in the turn in which `a` is due.
        cluster.clock.jump(SECOND)
        await cluster.store.commit_many([Txn((), puts[begin : begin + 100]) for begin in range(0, 300, 100)])
        await cluster.sleep(0.2)
        schedules = (await cluster.store.range(cluster.keys.schedules)).items
        assert len(schedules) == 301
        fired = {item.key: item.mod_revision for item in schedules}.pop(cluster.keys.schedule("a.service"))
        assert sum(item.mod_revision < fired for item in schedules) < 100

    run(scenario)
