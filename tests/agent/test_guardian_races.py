"""A guardian strikes while its agent is starved: whatever the order in which the agent hears of it, nobody is charged."""

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

import pytest

from tests.agent.worlds import FIRE, OK, Hand, Plan, Remembers, World, WorldSteps, service
from xchronos.agent.attempt.interfaces import AttemptEnd
from xchronos.agent.attempt.run import AttemptRun
from xchronos.agent.lease.lease_clock import LeaseClock
from xchronos.agent.lease.partition import CUT_OFF, Partition
from xchronos.clock import SECOND
from xchronos.executors.contract import StepExit
from xchronos.model.policies import Outcome
from xchronos.testing.clock import VirtualClock, run_virtual

TTL = 10 * SECOND
ONE = "Type=oneshot\nExecStart=/bin/work\nExecStopPost=/bin/after\n"
LONG = {"start-0": (3600.0, OK)}

Act: TypeAlias = Literal["mark", "kill", "renew", "lapse", "crash"]
"""The guardian has found the step and leaves its mark, the step is killed; the store has confirmed the lease (which puts
the guardian's deadline off), the store says that the lease is over; another agent takes the place of this one."""


class Life:
    """One attempt, the agents that mind it one after the other, and their guardian."""

    def __init__(self, clock: VirtualClock, text: str, plans: dict[str, Plan]) -> None:
        self.clock = clock
        self.text = text
        self.world = World(clock, plans)
        self.memory = Remembers(clock)
        self.hand = Hand()
        self.tasks: list[asyncio.Task[None]] = []

    def boot(self, *, resumed: bool = False) -> None:
        self.lease_clock = LeaseClock(self.clock, TTL)
        self.lease_clock.renewed(self.clock.monotonic())
        partition = Partition(self.clock, self.lease_clock, self.hand)
        self.tasks.append(asyncio.create_task(partition.run()))
        run = AttemptRun(service(self.text), WorldSteps(self.world), self.memory, self.clock)
        self.end = asyncio.create_task(partition.carry_out(run, None, self.memory, self.kill_all, resumed=resumed))

    async def kill_all(self) -> bool:
        await asyncio.sleep(0)
        self.world.send("start-0", "start-0", "SIGKILL")
        return False

    async def act(self, act: Act) -> None:
        match act:
            case "mark":
                self.hand.marked = self.clock.monotonic()
            case "kill":
                self.world.send("start-0", "start-0", "SIGKILL")
            case "renew":
                self.lease_clock.renewed(self.clock.monotonic())
            case "lapse":
                self.lease_clock.lapse()
            case "crash":
                for task in (self.end, *self.tasks):
                    task.cancel()
                await asyncio.wait({self.end, *self.tasks})
                self.tasks.clear()
                self.clock.advance(SECOND // 2)
                self.boot(resumed=True)

    async def over(self) -> AttemptEnd:
        try:
            return await self.end
        finally:
            for task in self.tasks:
                task.cancel()
            await asyncio.wait(self.tasks)


async def live(
    clock: VirtualClock,
    acts: Sequence[tuple[int, Act]],
    *,
    starved: int = round(0.85 * TTL),
    text: str = ONE,
    plans: dict[str, Plan] | None = None,
) -> AttemptEnd:
    """Begin, starve, then let each act happen after so many turns of the agent's loop."""
    life = Life(clock, text, LONG if plans is None else plans)
    life.boot()
    await clock.sleep(SECOND)
    clock.advance(starved)
    for gap, act in acts:
        for _ in range(gap):
            await asyncio.sleep(0)
        await life.act(act)
    return await life.over()


def orders(*acts: Act) -> Iterator[list[Act]]:
    """Every order that is possible: a strike begins before anything is put off, and its mark precedes what it does."""
    for order in itertools.permutations(acts):
        if all("mark" not in order or order.index("mark") < order.index(act) for act in order if act != "mark"):
            yield list(order)


def turns(acts: int) -> Iterator[tuple[int, ...]]:
    """How many turns the agent's loop gets before each act, in every combination."""
    return itertools.product((0, 1, 2, 3, 5, 8) if acts < 4 else (0, 1, 3, 8), repeat=acts)


SETS: list[tuple[Act, ...]] = [
    ("mark", "kill"),
    ("mark", "kill", "renew"),
    ("mark", "kill", "lapse"),
    ("mark", "kill", "renew", "lapse"),
]


@pytest.mark.parametrize("more", ["", "SuccessExitStatus=SIGKILL\n"], ids=["a failure", "a success by its unit"])
@pytest.mark.parametrize("acts", SETS, ids="-".join)
def test_what_a_guardian_has_killed_is_lost(acts: tuple[Act, ...], more: str) -> None:
    async def main(clock: VirtualClock) -> None:
        for order in orders(*acts):
            for gaps in turns(len(order)):
                end = await live(clock, list(zip(gaps, order, strict=True)), text=ONE + more)
                assert end.outcome is Outcome.LOST, (order, gaps, end)
                assert end.reason.startswith(CUT_OFF)

    run_virtual(main)


@pytest.mark.parametrize("asleep", [0, SECOND], ids=["by the machine's sleep alone", "a little later"])
def test_a_guardian_whose_clock_is_ahead_charges_nobody(asleep: int) -> None:
    """It counts the time in which the machine sleeps, and it may strike for what was begun as it looked round."""

    async def main(clock: VirtualClock) -> None:
        for order in orders("mark", "kill", "renew"):
            for gaps in turns(len(order)):
                end = await live(clock, list(zip(gaps, order, strict=True)), starved=asleep)
                assert end.outcome is Outcome.LOST, (order, gaps, end)

    run_virtual(main)


def test_nor_is_it_charged_when_the_agent_dies_before_it_has_heard_of_it() -> None:
    async def main(clock: VirtualClock) -> None:
        for order in orders("mark", "kill", "renew", "crash"):
            for gaps in turns(len(order)):
                end = await live(clock, list(zip(gaps, order, strict=True)))
                assert end.outcome is Outcome.LOST, (order, gaps, end)

    run_virtual(main)


@pytest.mark.parametrize("crash", [False, True])
def test_what_ends_by_itself_is_what_it_is(crash: bool) -> None:
    async def main(clock: VirtualClock) -> None:
        acts: list[tuple[int, Act]] = [(0, "renew"), *([(3, "crash")] if crash else []), (3, "kill")]  # type: ignore[list-item]
        end = await live(clock, acts, starved=SECOND)
        assert end.outcome is Outcome.FAILED, "somebody else has killed it"
        end = await live(clock, acts[:-1], starved=SECOND, plans={"start-0": (2.0, StepExit(7, started_at=FIRE))})
        assert (end.outcome, end.reason) == (Outcome.FAILED, "start-0: exited with 7")
        # Nothing is taken away from a success for having been in time, be it only just.
        end = await live(clock, [(0, "mark"), (0, "renew")], plans={"start-0": (2.0, OK)})
        assert end.outcome is Outcome.SUCCEEDED

    run_virtual(main)
