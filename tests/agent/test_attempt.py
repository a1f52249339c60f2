"""The walk through an attempt: limits, stops in every phase, and going on after a crash with the same memory."""

import asyncio
import functools
from collections.abc import Mapping

import pytest

from tests.agent.worlds import FIRE, OK, Plan, Remembers, World, WorldSteps, service
from xchronos.agent.attempt.interfaces import AttemptEnd
from xchronos.agent.attempt.journal import ForgetfulMemory
from xchronos.agent.attempt.run import AttemptRun
from xchronos.clock import SECOND
from xchronos.durable import Strength
from xchronos.executors.contract import StepExit
from xchronos.model.policies import Outcome
from xchronos.model.records import StepResult
from xchronos.testing.clock import VirtualClock, run_virtual

FULL = """
ExecCondition=/bin/c
ExecStartPre=/bin/p
ExecStart=/bin/s
ExecStartPost=/bin/q
ExecStop=/bin/t
ExecStopPost=/bin/u
"""
NEVER = 10_000.0
LONG: Plan = (NEVER, OK)


def exits(code: int | None, length: float = 0.0, **more: object) -> Plan:
    return (length, StepExit(code, started_at=FIRE, **more))  # type: ignore[arg-type]


class Seen:
    """One walk in a world, and what came of it."""

    def __init__(
        self, text: str, plans: Mapping[str, Plan], stop_at: float | None = None, deaf: tuple[str, ...] = ()
    ) -> None:
        self.took = 0.0

        async def main(clock: VirtualClock) -> AttemptEnd:
            self.world = World(clock, plans)
            self.world.deaf |= set(deaf)
            run = AttemptRun(service(text), WorldSteps(self.world), Remembers(clock), clock)
            if stop_at == 0:
                run.stop("by hand")
            elif stop_at is not None:
                asyncio.get_running_loop().call_later(stop_at, run.stop, "by hand")
            end = await run.run()
            self.took = clock.monotonic() / SECOND
            assert run.phase == "done"
            return end

        self.end = run_virtual(main)

    @property
    def steps(self) -> dict[str, str]:
        return {step.name: step.outcome for step in self.end.steps}


def test_all_goes_well() -> None:
    seen = Seen(FULL, {})
    assert seen.world.starts == ["condition-0", "start-pre-0", "start-0", "start-post-0", "stop-0", "stop-post-0"]
    assert (seen.end.outcome, seen.end.reason, seen.end.result) == (Outcome.SUCCEEDED, "", "success")
    assert seen.world.env["stop-post-0"] == {"SERVICE_RESULT": "success", "EXIT_CODE": "exited", "EXIT_STATUS": "0"}
    assert seen.world.env["start-0"] == {}


@pytest.mark.parametrize(
    ("step", "limit", "reason", "after"),
    [
        ("condition-0", 90, "condition-0: TimeoutStartSec=1min 30s expired", ["stop-post-0"]),
        ("start-pre-0", 90, "start-pre-0: TimeoutStartSec=1min 30s expired", ["stop-post-0"]),
        ("start-post-0", 90, "start-post-0: TimeoutStartSec=1min 30s expired", ["stop-post-0"]),
        ("stop-0", 90, "stop-0: TimeoutStopSec=1min 30s expired", ["stop-post-0"]),
        ("stop-post-0", 90, "stop-post-0: TimeoutStopSec=1min 30s expired", []),
    ],
)
def test_every_phase_has_its_limit(step: str, limit: int, reason: str, after: list[str]) -> None:
    seen = Seen(FULL, {step: LONG})
    assert (seen.end.outcome, seen.end.reason, seen.end.result) == (Outcome.TIMED_OUT, reason, "timeout")
    assert seen.took == limit
    assert seen.steps[step] == "timed_out"
    assert seen.world.starts[seen.world.starts.index(step) + 1 :] == after
    assert seen.world.signals == [(step, "SIGTERM")]


def test_the_main_process_has_no_limit_but_runtime_max() -> None:
    assert Seen(FULL, {"start-0": LONG}).took == NEVER
    seen = Seen(FULL + "RuntimeMaxSec=1h", {"start-0": LONG})
    assert (seen.end.outcome, seen.end.reason) == (Outcome.TIMED_OUT, "start-0: RuntimeMaxSec=1h expired")
    assert seen.took == 3600
    assert seen.world.starts[-2:] == ["stop-0", "stop-post-0"]


@pytest.mark.parametrize(("start", "run", "setting"), [("10", "20", "TimeoutStartSec"), ("20", "10", "RuntimeMaxSec")])
def test_the_tighter_limit_bounds_a_oneshot(start: str, run: str, setting: str) -> None:
    text = f"Type=oneshot\nExecStart=/bin/s\nTimeoutStartSec={start}\nRuntimeMaxSec={run}"
    seen = Seen(text, {"start-0": LONG})
    assert (seen.took, seen.end.reason) == (10, f"start-0: {setting}=10s expired")
    assert Seen("Type=oneshot\nExecStart=/bin/s", {"start-0": LONG}).took == NEVER


def test_a_limit_starts_anew_for_each_command() -> None:
    text = "Type=oneshot\nTimeoutStartSec=6\nExecStart=/bin/a\nExecStart=/bin/b"
    seen = Seen(text, {"start-0": (5.0, OK), "start-1": (5.0, OK)})
    assert (seen.end.outcome, seen.took) == (Outcome.SUCCEEDED, 10)


def test_type_exec_bounds_only_the_start() -> None:
    seen = Seen("Type=exec\nExecStart=/bin/s\nTimeoutStartSec=5", {"start-0": (60.0, OK)})
    assert (seen.end.outcome, seen.took) == (Outcome.SUCCEEDED, 60)


def test_what_does_not_obey_is_killed() -> None:
    seen = Seen("ExecStart=/bin/s\nTimeoutStopSec=7", {"start-0": LONG}, stop_at=3, deaf=("start-0",))
    assert seen.world.signals == [("start-0", "SIGTERM"), ("start-0", "SIGKILL")]
    assert seen.took == 10
    reason = "by hand; start-0: it did not end within TimeoutStopSec=7s after SIGTERM and was killed"
    assert (seen.end.outcome, seen.end.reason, seen.end.result) == (Outcome.CANCELLED, reason, "timeout")


def test_a_command_that_does_not_obey_is_killed_too() -> None:
    text = "Type=oneshot\nExecStart=/bin/s\nTimeoutStartSec=5\nTimeoutStopSec=7"
    seen = Seen(text, {"start-0": LONG}, deaf=("start-0",))
    assert seen.took == 12
    assert seen.end.outcome is Outcome.TIMED_OUT
    assert seen.end.reason.startswith("start-0: TimeoutStartSec=5s expired; start-0: it did not end within")


@pytest.mark.parametrize(("mode", "spared"), [("KillMode=none", "KillMode=none"), ("SendSIGKILL=no", "SendSIGKILL=no")])
@pytest.mark.parametrize("kind", ["simple", "oneshot"])
def test_what_must_not_be_killed_is_left(mode: str, spared: str, kind: str) -> None:
    text = f"Type={kind}\nExecStart=/bin/s\nExecStopPost=/bin/u\n{mode}\nTimeoutStopSec=5"
    seen = Seen(text, {"start-0": LONG}, stop_at=3, deaf=("start-0",))
    assert seen.end.outcome is Outcome.CANCELLED
    assert seen.world.starts == ["start-0", "stop-post-0"]
    assert f"left running: {spared}" in next(step.reason for step in seen.end.steps if step.name == "start-0")
    assert ("start-0", "SIGKILL") not in seen.world.signals
    assert seen.took == (3 if spared == "KillMode=none" else 8)


@pytest.mark.parametrize(
    ("running", "then"),
    [
        ("condition-0", ["stop-post-0"]),
        ("start-pre-0", ["stop-post-0"]),
        ("start-post-0", ["stop-post-0"]),
        ("start-0", ["stop-0", "stop-post-0"]),
    ],
)
def test_a_stop_in_every_phase(running: str, then: list[str]) -> None:
    seen = Seen(FULL, {"start-0": LONG, running: LONG}, stop_at=5)
    assert (seen.end.outcome, seen.end.reason) == (Outcome.CANCELLED, "by hand")
    assert seen.took == 5
    assert [name for name in seen.world.starts if name.startswith("stop")] == then
    assert seen.steps[running] == "cancelled"


def test_a_stop_before_everything() -> None:
    seen = Seen(FULL, {}, stop_at=0)
    assert (seen.end.outcome, seen.world.starts) == (Outcome.CANCELLED, ["stop-post-0"])
    assert Seen("ExecStart=/bin/s", {}, stop_at=0).world.starts == []


@pytest.mark.parametrize("step", ["stop-0", "stop-post-0"])
def test_a_stop_while_it_ends_changes_nothing(step: str) -> None:
    seen = Seen(FULL, {step: (10.0, OK)}, stop_at=5)
    assert (seen.end.outcome, seen.took) == (Outcome.SUCCEEDED, 10)


def test_a_stop_ends_what_remains() -> None:
    for text in ("RemainAfterExit=yes\nExecStart=/bin/s", "Type=oneshot\nRemainAfterExit=yes\nExecStart=/bin/s"):
        seen = Seen(text + "\nExecStop=/bin/t", {}, stop_at=50)
        assert (seen.end.outcome, seen.took) == (Outcome.CANCELLED, 50)
        assert seen.world.starts == ["start-0", "stop-0"]


@pytest.mark.parametrize(
    ("plan", "outcome", "result", "reason"),
    [
        (exits(3), Outcome.FAILED, "exit-code", "start-0: exited with 3"),
        (exits(None, signal="SIGKILL"), Outcome.FAILED, "signal", "start-0: killed by SIGKILL"),
        (
            exits(137, oom_killed=True), Outcome.FAILED, "oom-kill",
            "start-0: out of memory: the kernel killed it at its memory limit",
        ),
        ((0.0, StepExit(203, reason="executable file not found")), Outcome.FAILED, "exit-code", "start-0: executable file not found"),
        ((0.0, StepExit(reason="EnvironmentFile=/x: no")), Outcome.FAILED, "resources", "start-0: EnvironmentFile=/x: no"),
        ((0.0, StepExit()), Outcome.FAILED, "resources", "start-0: it did not run"),
        ((0.0, StepExit(lost=True)), Outcome.LOST, "lost", "start-0: what became of it cannot be known"),
        (exits(None, signal="SIGTERM"), Outcome.SUCCEEDED, "success", ""),
    ],
)  # fmt: skip
def test_how_the_main_process_ended(plan: Plan, outcome: Outcome, result: str, reason: str) -> None:
    seen = Seen(FULL, {"start-0": (1.0, plan[1])})
    assert (seen.end.outcome, seen.end.result, seen.end.reason) == (outcome, result, reason)
    assert ("stop-0" in seen.world.starts) == (outcome is Outcome.SUCCEEDED)


def test_the_first_failure_is_the_reason() -> None:
    seen = Seen(FULL, {"start-pre-0": exits(4), "stop-post-0": exits(5)})
    assert seen.end.reason == "start-pre-0: exited with 4"
    assert seen.steps == {"condition-0": "succeeded", "start-pre-0": "failed", "stop-post-0": "failed"}


def test_what_dash_excuses() -> None:
    text = "Type=oneshot\nExecStart=-/bin/s\nExecStart=/bin/t"
    assert Seen(text, {"start-0": exits(9)}).steps == {"start-0": "ignored", "start-1": "succeeded"}
    assert Seen(text, {"start-0": (0.0, StepExit(reason="no"))}).end.result == "resources"
    assert Seen(text, {"start-0": (0.0, StepExit(lost=True))}).end.outcome is Outcome.LOST


def test_a_condition_that_the_engine_refused_has_said_nothing() -> None:
    assert Seen(FULL, {"condition-0": exits(125)}).end.outcome is Outcome.SKIPPED
    seen = Seen(FULL, {"condition-0": (0.0, StepExit(125, reason="no such image"))})
    assert (seen.end.outcome, seen.end.reason) == (Outcome.FAILED, "condition-0: no such image")


def test_the_main_process_that_fails_beside_a_post_command() -> None:
    seen = Seen(FULL, {"start-0": exits(3, 1.0), "start-post-0": (5.0, OK)})
    assert (seen.end.outcome, seen.end.reason) == (Outcome.FAILED, "start-0: exited with 3")
    assert seen.world.starts[-2:] == ["start-post-0", "stop-post-0"]


def test_a_stop_that_finds_the_main_process_lost() -> None:
    seen = Seen(
        "ExecStart=/bin/s\nExecStop=/bin/t", {"start-0": (6.0, StepExit(lost=True)), "stop-0": (5.0, OK)}, stop_at=5
    )
    assert seen.end.outcome is Outcome.LOST


# -- preparing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("trouble", "stop"), [("", False), ("no file", False), ("", True)])
def test_what_comes_before_the_first_step(trouble: str, stop: bool) -> None:
    async def main(clock: VirtualClock) -> tuple[AttemptEnd, list[str]]:
        world = World(clock)
        run = AttemptRun(service(FULL), WorldSteps(world), ForgetfulMemory(clock), clock)

        async def prepare() -> str:
            await clock.sleep(10 * SECOND)
            return trouble

        if stop:
            asyncio.get_running_loop().call_later(5, run.stop, "by hand")
        return await run.run(prepare), world.starts

    end, starts = run_virtual(main)
    if stop:
        assert (end.outcome, end.reason, starts) == (Outcome.CANCELLED, "by hand", [])
    elif trouble:
        assert (end.outcome, end.reason, end.result, starts) == (Outcome.FAILED, "no file", "resources", [])
    else:
        assert (end.outcome, len(starts)) == (Outcome.SUCCEEDED, 6)


# -- crashes ----------------------------------------------------------------------------------------------------------

SCRIPTS: dict[str, tuple[str, dict[str, Plan], float | None]] = {
    "all goes well": (FULL, {"start-0": (30.0, OK)}, None),
    "a oneshot": ("Type=oneshot" + FULL, {"start-0": (30.0, OK)}, None),
    "a failing start": (FULL, {"start-0": (30.0, exits(3)[1])}, None),
    "a failing post": (FULL, {"start-0": LONG, "start-post-0": exits(3, 10.0)}, None),
    "a limit": (FULL + "RuntimeMaxSec=20", {"start-0": LONG, "stop-0": (5.0, OK)}, None),
    "a start limit": (FULL, {"start-pre-0": LONG}, None),
    "a condition": (FULL, {"condition-0": exits(1, 5.0)}, None),
    "a stop": (FULL, {"start-0": LONG, "stop-0": (5.0, OK), "stop-post-0": (5.0, OK)}, 20.0),
    "a stop before the start": (FULL, {"start-pre-0": LONG, "stop-post-0": (5.0, OK)}, 20.0),
}


def walk(script: str, crashes: tuple[float, ...], *, ticks: int = 0) -> tuple[AttemptEnd, World]:
    """Walk through a script, with a crash and a new start at each of the instants given."""
    text, plans, stop_at = SCRIPTS[script]

    async def main(clock: VirtualClock) -> tuple[AttemptEnd, World]:
        world, memory = World(clock, plans), Remembers(clock)
        asked = False

        def begin() -> tuple[AttemptRun, asyncio.Task[AttemptEnd]]:
            run = AttemptRun(service(text), WorldSteps(world), memory, clock)
            if asked:
                run.stop("by hand")  # the store remembers that
            return run, asyncio.create_task(run.run())

        run, task = begin()
        events = sorted([*((at, "crash") for at in crashes), *([(stop_at, "stop")] if stop_at is not None else [])])
        for at, what in events:
            await clock.sleep(round(at * SECOND) - clock.monotonic())
            if what == "stop":
                asked = True
                run.stop("by hand")
            else:
                for _ in range(ticks):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait({task})
                if not task.cancelled():
                    continue
                run, task = begin()
        return await task, world

    return run_virtual(main)


def ends(end: AttemptEnd) -> list[tuple[str, str]]:
    return sorted((step.name, step.outcome) for step in end.steps)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_crash_at_any_time_changes_nothing(script: str) -> None:
    end, world = walk(script, ())
    for at in (0.0, 4.0, 5.0, 10.0, 19.0, 20.0, 21.0, 24.0, 25.0, 26.0, 29.0, 30.0, 31.0, 89.0, 90.0):
        for ticks in range(0, 24, 2):
            again, same = walk(script, (at,), ticks=ticks)
            assert same.starts == world.starts, (at, ticks)
            assert (again.outcome, again.result) == (end.outcome, end.result), (at, ticks, again)
            assert ends(again) == ends(end), (at, ticks)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_crash_every_few_seconds_changes_nothing(script: str) -> None:
    end, world = walk(script, ())
    again, same = walk(script, tuple(float(at) for at in range(0, 100, 3)), ticks=3)
    assert same.starts == world.starts
    assert (again.outcome, again.result) == (end.outcome, end.result)


@pytest.mark.parametrize(("text", "step"), [(FULL + "RuntimeMaxSec=1h", "start-0"), (FULL, "start-pre-0")])
@pytest.mark.parametrize("over", [True, False])
def test_what_has_ended_before_its_daemon_came_back_is_not_late(text: str, step: str, over: bool) -> None:
    """The engine takes a moment to tell; what runs on is ended then."""

    async def main(clock: VirtualClock) -> tuple[AttemptEnd, int]:
        world, memory = World(clock, {step: (1.0, OK) if over else LONG}), Remembers(clock)
        memory.begun_at[step] = -7200 * SECOND
        end = await AttemptRun(service(text), WorldSteps(world), memory, clock).run()
        return end, clock.monotonic()

    end, took = run_virtual(main)
    assert (end.outcome, took / SECOND) == ((Outcome.SUCCEEDED, 1) if over else (Outcome.TIMED_OUT, 5))


TURNS = {
    "before everything": (FULL, ""),
    "before a command": (FULL, "condition-0"),
    "before the main process": (FULL, "start-pre-0"),
    "before a oneshot's first command": ("Type=oneshot" + FULL, "start-pre-0"),
    "before its second": ("Type=oneshot" + FULL + "ExecStart=/bin/v", "start-0"),
    "while it runs": (FULL, "start-post-0"),
    "while it remains": ("Type=oneshot\nRemainAfterExit=yes" + FULL, "start-post-0"),
}


@pytest.mark.parametrize("turn", TURNS)
def test_a_stop_that_nobody_repeats_is_not_forgotten(turn: str) -> None:
    text, behind = TURNS[turn]
    plans = {"stop-0": (4.0, OK), "stop-post-0": (4.0, OK)} | ({} if "oneshot" in text else {"start-0": LONG})

    async def main(clock: VirtualClock, crash: float) -> tuple[AttemptEnd, list[str]]:
        class Notices(Remembers):
            async def record(self, result: StepResult, strength: Strength = "file") -> bool:
                kept = await super().record(result, strength)
                if result.name == behind:
                    run.stop("the daemon ends")
                return kept

        world, memory = World(clock, plans), Notices(clock)
        run = AttemptRun(service(text), WorldSteps(world), memory, clock)
        if not behind:
            run.stop("the daemon ends")
        task = asyncio.create_task(run.run())
        if crash:
            await clock.sleep(round(crash * SECOND))
            task.cancel()
            await asyncio.wait({task})
            task = asyncio.create_task(AttemptRun(service(text), WorldSteps(world), memory, clock).run())
        return await task, world.starts

    end, starts = run_virtual(functools.partial(main, crash=0.0))
    assert (end.outcome, end.reason) == (Outcome.CANCELLED, "the daemon ends")
    assert starts[-1] == "stop-post-0"
    for crash in (1.0, 3.0, 5.0, 7.0) if "stop-0" in starts else (1.0, 3.0):
        again, same = run_virtual(functools.partial(main, crash=crash))
        assert (same, again.outcome) == (starts, end.outcome), crash
        assert (again.reason, ends(again)) == (end.reason, ends(end)), crash
