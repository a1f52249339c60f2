"""What is left over of attempts: containers, scratch directories, output."""

from collections.abc import Callable

from tests.agent.worlds import KEYS, LONG, OK, ONE, Cluster
from xchronos.clock import HOUR, MINUTE, SECOND
from xchronos.executors.contract import Leftover
from xchronos.store.contract import Delete, Txn


def test_leftovers_go_and_what_is_placed_here_stays(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE)
        execution = await c.place()
        mine = Leftover(execution.id, 1, "start-0", running=True, what="mine")
        older = Leftover(execution.id, 0, "start-0", running=False, what="an earlier attempt's")
        other = Leftover("x.service/20300317T174640.000000Z/0", 1, "start-0", running=True, what="other")
        c.executor.left = [mine, older, other]
        c.executor.away = 2
        stray = c.directory / "attempts/x.service/20300317T174640.000000Z-0-1/scratch"
        stray.mkdir(parents=True)
        c.boot()
        await c.clock.sleep(10 * SECOND)
        assert c.executor.removed == [older, other]
        assert not stray.exists()
        assert stray.parent.exists()
        assert (c.directory / "attempts/job.service/20300317T174640.000000Z-0-1/scratch").exists()

    play(test, LONG)


def test_what_was_begun_while_an_executor_was_away_is_no_leftover(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE)
        c.executor.away = 1_000
        c.boot()
        await c.clock.sleep(SECOND)
        execution = await c.place()
        await c.clock.sleep(SECOND)
        c.executor.left = [Leftover(execution.id, 1, "start-0", running=True, what="mine")]
        c.executor.away = 0
        await c.clock.sleep(20 * SECOND)
        assert c.world.starts == ["start-0"]
        assert c.executor.removed == []

    play(test, LONG)


def test_output_is_kept_for_as_many_attempts_as_history(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE, "HistoryLimit=2")
        c.boot()
        for number in range(1, 6):
            execution = await c.place(number)
            await c.ended(execution)
            await c.memory.commit(Txn((), (Delete(KEYS.execution(execution.id)),)))
        await c.clock.sleep(SECOND)
        kept = sorted(path.name[-1] for path in (c.directory / "attempts/job.service").iterdir())
        assert kept == ["4", "5"]

    play(test)


def test_output_goes_with_its_unit(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        root = c.directory / "attempts"
        for name in ("job.service", "stays.service", "runs.service", "other.service"):
            await c.submit(ONE, name=name)
        for name in ("job.service", "stays.service"):
            execution = await c.place(name=name)
            if name == "job.service":
                c.boot()
            await c.ended(execution)
        c.world.plans["start-0"] = (2 * 3600.0, OK)
        runs = await c.place(name="runs.service")
        (root / "away.service/20200101T000000.000000Z-0-1").mkdir(parents=True)
        (root / "stray").write_text("no unit's")
        await c.clock.sleep(SECOND)
        assert sorted(path.name for path in root.iterdir()) == [
            "away.service", "job.service", "runs.service", "stays.service", "stray",
        ]  # fmt: skip
        for name in ("job.service", "runs.service"):
            await c.memory.commit(Txn((), (Delete(KEYS.job(name)),)))
        c.store.take_down()
        await c.clock.sleep(HOUR)
        assert (root / "job.service").exists(), "nobody knows what is gone while the store does not answer"
        c.store.bring_up()
        await c.clock.sleep(30 * MINUTE)
        assert sorted(path.name for path in root.iterdir()) == ["runs.service", "stays.service", "stray"]
        await c.ended(runs)
        await c.clock.sleep(30 * MINUTE)
        assert sorted(path.name for path in root.iterdir()) == ["stays.service", "stray"]

    play(test)


def test_a_unit_that_comes_back_soon_keeps_its_output(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        home = c.directory / "attempts/job.service"
        home.mkdir(parents=True)
        c.boot()
        await c.clock.sleep(SECOND)
        await c.submit(ONE)
        await c.clock.sleep(HOUR)
        assert home.exists()

    play(test)
