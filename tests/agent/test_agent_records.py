"""What the agent does with an attempt from end to end, and what it records of it."""

from collections.abc import Callable

import msgspec

from tests.agent.worlds import FIRE, KEYS, LONG, ONE, Cluster
from xchronos.clock import SECOND
from xchronos.executors.contract import StepExit
from xchronos.model.policies import Outcome
from xchronos.model.records import Execution
from xchronos.registry.codec import encode
from xchronos.store.contract import Delete, Put, Txn


def test_a_success_is_recorded_by_the_agent_itself(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE)
        execution = await c.place()
        c.boot()
        attempt = await c.ended(execution)
        assert (attempt.outcome, attempt.reason) == (Outcome.SUCCEEDED, "")
        assert [step.name for step in attempt.steps] == ["start-0"]
        assert await c.placed(execution) is None
        await c.clock.sleep(SECOND)
        assert c.executor.released == [(execution.id, 1)]
        assert c.registry.get_sample_value("xchronos_attempts_started_total") == 1
        assert c.registry.get_sample_value("xchronos_attempts_total", {"outcome": "succeeded"}) == 1
        assert c.registry.get_sample_value("xchronos_attempts_running") == 0

    play(test)


def test_a_failure_goes_back_to_the_scheduler(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE)
        execution = await c.place()
        c.boot()
        attempt = await c.ended(execution)
        assert (attempt.outcome, attempt.reason) == (Outcome.FAILED, "start-0: exited with 3")
        now = await c.placed(execution)
        assert now is not None
        assert now.state == "reported"

    play(test, {"start-0": (1.0, StepExit(3, started_at=FIRE))})


def test_a_success_is_handed_back_when_a_chain_needs_it(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE)
        execution = await c.place(report=True)
        c.boot()
        assert (await c.ended(execution)).outcome is Outcome.SUCCEEDED
        assert await c.history(execution) is None

    play(test)


def test_a_destroyed_unit_is_not_begun(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE)
        execution = await c.place()
        await c.memory.commit(Txn((), (Delete(KEYS.job("job.service")),)))
        c.boot()
        attempt = await c.ended(execution)
        assert (attempt.outcome, attempt.reason) == (Outcome.CANCELLED, "the unit was destroyed")

    play(test)


def test_a_changed_unit_runs_as_it_is_now(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE)
        c.boot()
        await c.ended(await c.place())
        await c.submit("Type=oneshot\nExecStartPre=/bin/new\nExecStart=/bin/work")
        await c.memory.commit(Txn((), (Delete(KEYS.execution(f"job.service/{KEYS and '20300317T174640.000000Z'}/0")),)))
        await c.ended(await c.place(2))
        assert c.world.starts == ["start-0", "start-pre-0", "start-0"]

    play(test)


def test_an_unmet_condition_skips(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE + "\n[Unit]\nConditionPathExists=/nonexistent")
        execution = await c.place()
        c.boot()
        attempt = await c.ended(execution)
        assert (attempt.outcome, attempt.reason) == (
            Outcome.SKIPPED, "condition not met: ConditionPathExists=/nonexistent",
        )  # fmt: skip
        assert c.world.starts == []

    play(test)


def test_progress_and_output_of_what_runs(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        execution = await c.begin("Type=oneshot\nExecStartPre=/bin/a\nExecStart=/bin/work")
        seen = await c.agent.progress(execution.id)
        assert seen is not None
        assert [step.name for step in seen.steps] == ["start-pre-0"]
        assert await c.agent.progress("other") is None
        assert c.logs(execution, 1) == []
        where = c.directory / "attempts/job.service/20300317T174640.000000Z-0-1"
        for name in ("stop-post-0", "start-10", "start-2", "start-pre-0", "notes", "artifact-0"):
            (where / f"{name}.log").touch()
        assert [name for name, _ in c.logs(execution, 1)] == [
            "start-pre-0", "start-2", "start-10", "stop-post-0",
        ]  # fmt: skip
        assert c.logs(execution, 2) == []

    play(test, LONG)


def test_a_record_that_cannot_be_read_harms_nobody(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE)
        await c.memory.commit(Txn((), (Put(KEYS.placement("m1", "bad.service/20300317T174640.000000Z/0"), b"{"),)))
        odd = Execution("odd.service", FIRE, state="placed")
        await c.memory.commit(Txn((), (Put(KEYS.placement("m1", odd.id), encode(odd)),)))
        execution = await c.place()
        c.boot()
        assert (await c.ended(execution)).outcome is Outcome.SUCCEEDED

    play(test)


def test_a_record_in_a_state_that_leads_nowhere_is_left_as_it_is(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        execution = await c.begin()
        now = await c.placed(execution)
        assert now is not None
        wrong = encode(msgspec.structs.replace(now, state="queued"))
        key = KEYS.placement("m1", execution.id)
        await c.memory.commit(Txn((), (Put(key, wrong),)))
        await c.clock.sleep(10 * SECOND)
        left = await c.memory.get(key)
        assert left is not None
        assert left.value == wrong
        await c.submit(ONE, name="other.service")
        assert (await c.ended(await c.place(name="other.service"), 60)).outcome is Outcome.FAILED

    play(test, {"start-0": (2.0, StepExit(3, started_at=FIRE))})


def test_a_defect_fails_the_attempt_and_no_other(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE)

        async def broken(spec: object) -> StepExit:
            raise RuntimeError("a defect")

        c.executor.run = broken  # type: ignore[method-assign]
        execution = await c.place()
        c.boot()
        attempt = await c.ended(execution)
        assert (attempt.outcome, attempt.reason) == (
            Outcome.FAILED, "this agent could not carry out the attempt: see its log",
        )  # fmt: skip

    play(test)
