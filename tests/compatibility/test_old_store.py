"""A store that the commit 89caaa6 left, opened by the roles of today: on every store, from the moment when it was left.

The keys are those of a cluster of two machines that was killed in the middle of its life. Both come back; their steps
have outlived them. What each unit was in the middle of, and how it goes on (`k` is the moment of the kill):

| unit | was | goes on |
|---|---|---|
| adopted | running, ExecStartPre done | its step is found, not started again; ExecStopPost runs once; succeeded |
| finishing | running | its step is found, exits with 4: failed |
| twice | two copies running, on m1 and m2 | both found: succeeded |
| everywhere, kept | kept running | found, and not started again; `kept` stays on m2, which is cordoned |
| forbid | running, a fire time skipped | its last fire time is skipped too while the step is found; then succeeded |
| queue | running, two queued | one after the other, in their order: succeeded |
| replace | running, had replaced another one | succeeded |
| stopping | running, its stop was asked for | gets its signal: cancelled |
| given | placed, not begun | begun once: succeeded |
| crunch | success reported, not settled | succeeded; `load` is started by that once, and succeeds |
| reported | failure reported, not settled | attempt 2 waits for m2, which stays cordoned; succeeded when that is lifted |
| stubborn | failed once, in the pause after that | attempt 2 when the pause ends, not before: succeeded |
| delayed | RandomizedDelay | starts at its due time, not before: succeeded |
| waits | waiting for zone=nowhere | waits; when a machine gets that zone, it runs there: succeeded |
| simple, iso, several, bounded, gap, cron | some fire times over | each fire time of the grid, once; ends with its count |
| paused | paused | no fire time; resumed, it goes on on its grid |
| ttl | accepted `k` - 9 s | is removed when its two minutes are over |
| past, future, report@eu, latin, masked, report@ | nothing under way | their cursors stay as they are, and name the zone rules that they hold by |
"""

import asyncio
import itertools
import re
from base64 import b64decode
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.compatibility.old_cluster import FOR_EVER, KILLED, OLD, Later, executions_of, moment, old
from tests.compatibility.old_data import QuickClock, replay
from tests.services.consul import ConsulCluster
from tests.services.etcd import EtcdCluster
from xchronos.clock import SECOND, to_datetime
from xchronos.model.records import Execution
from xchronos.registry.keys import Keys
from xchronos.registry.registry import Registry
from xchronos.registry.units import text_of
from xchronos.store.consul.access import ConsulAccess
from xchronos.store.consul.store import ConsulStore
from xchronos.store.contract import Store
from xchronos.store.etcd.access import EtcdAccess
from xchronos.store.etcd.store import EtcdStore
from xchronos.store.memory import MemoryStore
from xchronos.store.sqlite.store import SqliteStore
from xchronos.testing.clock import VirtualClock, run_virtual

ENDLESS = {"gap": 2, "cron": 15}
COUNTED = {"simple": (5, 20), "bounded": (6, 16)}
"""Seconds between fire times, and how many there are in all."""


# -- what has to hold -------------------------------------------------------------------------------------------------


async def check_nothing_is_begun_twice_or_early(later: Later) -> None:
    """Over both machines, and with what ran before: each step of each attempt was started once at most."""
    began = sum((steps.began for steps in later.steps.values()), Counter())
    alive = set().union(*(steps.alive for steps in later.steps.values()))
    assert set(began.values()) == {1}
    assert not set(began) & alive
    assert set().union(*(steps.found for steps in later.steps.values())) == alive
    over = {(identity, attempt["number"]) for identity, attempt in _ended_attempts()}
    assert not {key[:2] for key in began} & over
    due = {identity: moment(one["due_at"]) for identity, one in executions_of("pending").items() if "due_at" in one}
    for steps in later.steps.values():
        for (identity, _, _), at in steps.began_at.items():
            fire = datetime.strptime(identity.split("/")[1], "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)
            # What was placed in the last moment before the kill is 23 microseconds after the time noted for the kill.
            assert at >= min(due.get(identity, fire), max(to_datetime(KILLED), fire - timedelta(milliseconds=1)))


def _ended_attempts() -> list[tuple[str, dict[str, Any]]]:
    everything = {where: executions_of(where) for where in ("executions", "pending", "placements")}
    found = [
        (key, attempt)
        for part in everything.values()
        for key, one in part.items()
        for attempt in one.get("attempts", ())
    ]
    reported = [(key, one["current"]) for key, one in everything["placements"].items() if one["state"] == "reported"]
    return found + reported


async def check_history_stays(later: Later) -> None:
    """What had ended is what it was, byte for byte; of `cron` its HistoryLimit lets the newest stay."""
    for identity, before in executions_of("executions").items():
        if identity.startswith(("cron.service/", "ttl.service/")):
            continue
        item = await later.store.get(f"/xchronos/var/executions/{identity}")
        assert msgspec.json.decode(item.value) == before


async def check_grids(later: Later, late: float = 0) -> None:
    """No fire time is lost and none is added: what there is of a unit is its grid from its acceptance on.

    Those of the last `late` seconds may be on their way.
    """
    for unit, every in {**ENDLESS, **{unit: every for unit, (every, _) in COUNTED.items()}, "forbid": 8}.items():
        found = [one.fire_time for one in await later.all_of(unit)]
        now = to_datetime(later.clock.now())
        anchor = moment(old(f"var/schedules/{unit}.service")["anchor"])
        if unit == "cron":
            anchor = found[0].replace(second=0)
        count = 3 if unit == "forbid" else COUNTED.get(unit, (0, 10_000))[1]
        grid = [anchor + timedelta(seconds=n * every) for n in range(count)]
        due = [at for at in grid if at < now - timedelta(seconds=late)]
        # Of the endless ones the history keeps the newest, up to this moment.
        kept = [at for at in due if at >= found[0]] if unit in ENDLESS else due
        assert set(kept) <= set(found) <= {at for at in grid if at <= now}, unit
        assert len(found) == len(set(found)), unit
    for unit in ("simple", "bounded", "gap", "several", "iso"):
        since = to_datetime(later.clock.now()) - timedelta(seconds=late)
        assert {one.outcome for one in await later.all_of(unit) if one.fire_time < since} == {"succeeded"}, unit


async def check_everything_can_be_read(registry: Registry) -> None:
    """Before any role has touched it: each unit, execution and machine is found, and is what it was."""
    everything = {where: executions_of(where) for where in ("executions", "pending", "placements")}
    for identity, before in [item for part in everything.values() for item in part.items()]:
        assert msgspec.to_builtins(await registry.execution(identity)) == msgspec.to_builtins(_execution(before))
    open_ones = everything["pending"] | everything["placements"]
    assert {one.id for one in await registry.open_executions()} == set(open_ones)
    names = {row.key.removeprefix("/xchronos/etc/jobs/") for row in OLD if row.key.startswith("/xchronos/etc/jobs/")}
    assert {stored.name: stored.schedule is not None async for stored in registry.units()} == dict.fromkeys(names, True)
    for name in names:
        stored = await registry.unit(name)
        assert text_of(stored.record).decode("latin-1") == _text(name)
        assert [one.id for one in await registry.open_executions(name)] == sorted(
            identity for identity in open_ones if identity.startswith(f"{name}/")
        )
        ended = [identity for identity in everything["executions"] if identity.startswith(f"{name}/")]
        assert [one.id for one in await registry.history(name)] == sorted(ended)
    assert {machine.id: machine.cordoned for machine in await registry.machines()} == {"m1": False, "m2": True}
    assert [(share.machine, len(share.shards)) for share in await registry.schedulers()] == [("m1", 8), ("m2", 8)]


def _execution(record: dict[str, Any]) -> Execution:
    return msgspec.convert(record, Execution)


def _text(name: str) -> str:
    record = old(f"etc/jobs/{name}")
    return b64decode(record["text_base64"]).decode("latin-1") if "text_base64" in record else record.get("text", "")


async def check_what_ran_ends(later: Later) -> None:
    """The table above, for what has an end within half a minute."""
    only = later.only
    adopted = await only("adopted")
    assert (adopted.outcome, [step.name for step in adopted.attempts[0].steps]) == (
        "succeeded", ["start-pre-0", "start-0", "stop-post-0"],
    )  # fmt: skip
    assert [step for _, _, step in later.begun("adopted")] == ["stop-post-0"]
    finishing = await only("finishing")
    assert (finishing.outcome, finishing.attempts[0].steps[0].exit_code) == ("failed", 4)
    assert await later.outcomes("twice") == ["succeeded", "succeeded"]
    assert {one.attempts[0].machine for one in await later.all_of("twice")} == {"m1", "m2"}
    for unit in FOR_EVER:
        before = executions_of("placements", unit)
        assert {one.id: (one.state, one.current.number) for one in await later.all_of(unit)} == dict.fromkeys(
            before, ("running", 1)
        )
    assert await later.outcomes("forbid") == ["succeeded", "skipped", "skipped"]
    queue = await later.all_of("queue")
    assert [one.outcome for one in queue] == ["succeeded"] * 3
    assert [one.attempts[0].number for one in queue] == [1] * 3
    for earlier, one in itertools.pairwise(queue):
        assert earlier.ended_at <= one.attempts[0].started_at
    assert await later.outcomes("replace") == ["cancelled", "succeeded"]
    stopping = await only("stopping")
    assert (stopping.outcome, stopping.reason) == ("cancelled", "stopped while its machine was away")
    assert [signal for steps in later.steps.values() for key, signal in steps.signals if "stopping" in key] == [
        "SIGTERM"
    ]
    given = await only("given")
    assert (given.outcome, given.attempts[0].machine, later.begun("given")) == (
        "succeeded", "m1", [(given.id, 1, "start-0")],
    )  # fmt: skip
    crunch, load = await only("crunch"), await only("load")
    assert (crunch.outcome, load.outcome, load.trigger) == ("succeeded", "succeeded", "chain")
    assert later.begun("crunch") == []
    for unit in ("adopted", "finishing", "twice", "forbid", "replace", "stopping", *FOR_EVER):
        assert not [step for _, _, step in later.begun(unit) if step.startswith("start")], unit


async def check_what_waits(later: Later) -> None:
    """What has to wait for people, who come now: they lift the cordon, and give m1 what `waits` asks for."""
    reported, waits = await later.only("reported"), await later.only("waits")
    assert (reported.state, [attempt.outcome for attempt in reported.attempts]) == ("waiting", ["failed"])
    assert waits.state == "waiting"
    assert "zone=nowhere" in waits.reason
    machines = {machine.id: machine for machine in await later.registry.machines()}
    assert (machines["m2"].cordoned, machines["m2"].cordon_reason) == (True, "its disk is old")
    assert machines["m1"].metadata == {"zone": "a", "rack": "7"}
    await later.registry.wishes.uncordon("m2")
    await later.registry.wishes.set_metadata("m1", {"zone": "nowhere"})
    await later.clock.sleep(6 * SECOND)
    reported, waits = await later.only("reported"), await later.only("waits")
    assert [(a.number, a.outcome, a.machine) for a in reported.attempts] == [
        (1, "failed", "m2"), (2, "succeeded", "m2"),
    ]  # fmt: skip
    assert (waits.outcome, waits.attempts[0].machine) == ("succeeded", "m1")


async def check_pauses_and_quiet_cursors(later: Later) -> None:
    assert await later.all_of("paused") == [_execution(one) for one in executions_of("executions", "paused").values()]
    assert (await later.cursor("paused"))["paused"]
    for unit in ("past", "future", "report@eu", "report@", "latin", "masked", "dropped", "waits"):
        cursor = await later.cursor(unit)
        cursor.pop("rules", None)  # what no cursor of that time said is noted now
        assert cursor == old(f"var/schedules/{unit}.service"), unit


async def check_the_first_minute(later: Later, late: float = 0) -> None:
    """Everything that is over half a minute after the kill; `late`: later, where the roles' clock is a real one."""
    await later.after(38)
    while sum(one.unit == "queue.service" for one in await later.registry.open_executions()):
        await later.clock.sleep(SECOND)
    await check_what_ran_ends(later)
    await check_pauses_and_quiet_cursors(later)
    await check_grids(later, late)
    await check_what_waits(later)
    await check_history_stays(later)
    await check_nothing_is_begun_twice_or_early(later)


# -- on every store ---------------------------------------------------------------------------------------------------


def in_made_up_time(play: Callable[[Later], Any], directory: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        store = MemoryStore(clock)
        try:
            await replay(store, OLD)
            await check_everything_can_be_read(Registry(store, Keys()))
            async with Later(clock, store, directory) as later:
                await play(later)
        finally:
            await store.close()

    run_virtual(main, KILLED)


def test_in_memory(tmp_path: Path) -> None:
    in_made_up_time(check_the_first_minute, tmp_path)


def test_in_memory_to_the_end(tmp_path: Path) -> None:
    """What is a matter of minutes: long pauses and delays, counts that are used up, a TTL, a pause that is ended."""

    async def play(later: Later) -> None:
        stubborn_due, delayed_due = (
            moment(executions_of("pending", unit).popitem()[1]["due_at"]) for unit in ("stubborn", "delayed")
        )
        expires = moment(old("var/schedules/ttl.service")["expires_at"])
        await later.after((expires - to_datetime(KILLED)).total_seconds() - 1)
        assert await later.store.get("/xchronos/etc/jobs/ttl.service") is not None
        await later.clock.sleep(2 * SECOND)
        assert not [item.key for item in (await later.store.range("/xchronos/")).items if "/ttl.service" in item.key]
        await later.after(120)
        await check_grids(later)
        for unit in ("gap", "cron"):
            await later.registry.set_desired(f"{unit}.service", "paused")
        await later.after(700)
        stubborn, delayed = await later.only("stubborn"), await later.only("delayed")
        assert [attempt.outcome for attempt in stubborn.attempts] == ["failed", "succeeded"]
        assert later.began_at("stubborn") == [stubborn_due]
        assert delayed.outcome == "succeeded"
        assert later.began_at("delayed") == [delayed_due]
        for unit, (_, count) in COUNTED.items():
            assert await later.outcomes(unit) == ["succeeded"] * count
            assert (await later.cursor(unit))["finished"]
        assert len(await later.all_of("iso")) == 12
        await check_several(later)
        await check_nothing_is_begun_twice_or_early(later)
        await later.registry.set_desired("paused.service", "active")
        await later.clock.sleep(10 * SECOND)
        anchor = moment(old("var/schedules/paused.service")["anchor"])
        resumed = [one for one in await later.all_of("paused") if one.outcome == "succeeded"][2:]
        assert len(resumed) >= 3
        assert {(one.fire_time - anchor) % timedelta(seconds=3) for one in resumed} == {timedelta(0)}

    in_made_up_time(play, tmp_path)


async def check_several(later: Later) -> None:
    """The union of its triggers, each of which has its own part of the cursor."""
    found = {one.fire_time for one in await later.all_of("several")}
    schedule = old("var/schedules/several.service")
    anchor, accepted = moment(schedule["anchor"]), moment(schedule["accepted_at"])
    assert anchor - accepted == timedelta(seconds=2)
    once = moment(re.search(r"TriggerAt=(\S+)", _text("several.service"))[1])
    simple = {anchor + timedelta(seconds=30 * n) for n in range(4)}
    minutes = [anchor.replace(second=0, microsecond=0) + timedelta(minutes=n) for n in range(15)]
    cron = {at for minute in minutes for second in (10, 40) if (at := minute + timedelta(seconds=second)) >= anchor}
    assert found == {at for at in {once, *simple, *cron} if at <= to_datetime(later.clock.now())}


def test_when_only_one_of_the_machines_comes_back(tmp_path: Path) -> None:
    """What the other one had is lost with it, when its lease has ended, and tried again: not charged, and once."""

    async def main(clock: VirtualClock) -> None:
        store = MemoryStore(clock)
        await replay(store, OLD)
        later = Later(clock, store, tmp_path)
        later.roles = later.roles[:1]
        async with later:
            await later.after(200)
            there = {
                identity for identity, one in executions_of("placements").items() if one["current"]["machine"] == "m2"
            }
            replaced = (await later.all_of("replace"))[-1]
            assert replaced.id in there
            assert [(a.machine, a.outcome) for a in replaced.attempts] == [("m2", "lost")]
            twice = {one.id in there: one for one in await later.all_of("twice")}
            assert (twice[False].outcome, twice[True].state) == ("succeeded", "waiting")
            assert [a.outcome for a in twice[True].attempts] == ["lost"]
            assert await later.outcomes("queue") == ["succeeded"] * 3
            # A success that was reported is a success, whatever has become of its machine.
            assert [a.machine for a in (await later.only("crunch")).attempts] == ["m2"]
            assert (await later.only("load")).outcome == "succeeded"
            kept = await later.only("kept")
            assert (kept.state, [a.outcome for a in kept.attempts]) == ("waiting", ["lost"])
            shares = await later.registry.schedulers()
            assert [(share.machine, len(share.shards), share.leads) for share in shares] == [("m1", 16, True)]
            await check_history_stays(later)
        await store.close()

    run_virtual(main, KILLED)


async def in_real_time(store: Store, directory: Path) -> None:
    try:
        await replay(store, OLD)
        await check_everything_can_be_read(Registry(store, Keys()))
        async with Later(QuickClock(KILLED, SPEED), store, directory) as later:
            await check_the_first_minute(later, late=20)
    finally:
        await store.close()


SPEED = 4
"""How many times as fast as the machine's the clock of the roles goes on the stores of real processes."""


@pytest.mark.slow
async def test_on_sqlite(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db")
    await in_real_time(store, tmp_path)


@pytest.mark.etcd
@pytest.mark.slow
async def test_on_etcd(make_etcd: Callable[..., EtcdCluster], tmp_path: Path) -> None:
    server = await asyncio.to_thread(make_etcd)
    store = await EtcdStore.open(EtcdAccess(endpoints=(server.endpoints[0].partition("//")[2],)))
    await in_real_time(store, tmp_path)


@pytest.mark.consul
@pytest.mark.slow
async def test_on_consul(make_consul: Callable[..., ConsulCluster], tmp_path: Path) -> None:
    server = await asyncio.to_thread(make_consul)
    store = await ConsulStore.open(ConsulAccess(agents=(server.addresses[0].partition("//")[2],), timeout=30.0))
    await in_real_time(store, tmp_path)
