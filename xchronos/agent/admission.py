"""Whether this machine may begin one attempt more: what it runs, what people want of it, whether it is shutting down.

The scheduler has judged the same by the same predicates (`scheduler/feasibility`), of what it knew. Another scheduler
may have placed something here meanwhile, or the machine may have changed: so the machine judges once more, right before
it begins. Judging and taking the room are two calls without an `await` in between; else two attempts could both be told
that the last slot is free. Pinned by
`test_two_schedulers_that_did_not_know_of_each_other`.
"""

import asyncio
from collections.abc import Awaitable, Callable

from xchronos.agent import outcomes
from xchronos.agent.attempt.interfaces import AttemptEnd
from xchronos.agent.retrying import patiently
from xchronos.agent.steps.resolved_unit import HostContext
from xchronos.clock import Clock
from xchronos.model.records import Machine
from xchronos.model.unit import Unit
from xchronos.registry.units import CACHED
from xchronos.scheduler.feasibility import MachineView, crowded, unfit
from xchronos.scheduler.rejections import words_of


class Admission:
    """What one machine runs, and what speaks against one attempt more.

    Attributes:
        closed: Why nothing new is begun here any more; "" while something is.
    """

    def __init__(
        self, clock: Clock, host: HostContext, machine: Callable[[], Machine], refresh: Callable[[], Awaitable[None]]
    ) -> None:
        """`machine` gives the machine as it is advertised; `refresh` looks up what people want of it."""
        self.closed = ""
        self._clock = clock
        self._host = host
        self._machine = machine
        self._refresh = refresh
        self._view = MachineView(machine())
        self._resuming: set[object] = set()
        self._all_resumed = asyncio.Event()
        self._judged: dict[str, tuple[Machine, Unit, str]] = {}

    # -- room ---------------------------------------------------------------------------------------------------------

    def take(self, unit: Unit) -> None:
        """Count one attempt of the unit among what this machine runs."""
        self._view.take(unit)

    def release(self, unit: Unit) -> None:
        """Count it no longer. Others may come from now on."""
        self._view.release(unit)

    def expect(self, placement: object) -> None:
        """An earlier agent began a placement. While it is not known how much room that needs, nothing is judged."""
        self._resuming.add(placement)
        self._all_resumed.clear()

    def settle(self, placement: object) -> None:
        """It is known by now what a placement needs: it has taken its room, or needs none."""
        if self._resuming:
            self._resuming.discard(placement)
            if not self._resuming:
                self._all_resumed.set()

    # -- judging ------------------------------------------------------------------------------------------------------

    @property
    def resuming(self) -> bool:
        """Whether it is not known yet what this machine runs. Nothing can be judged before `all_resumed`."""
        return bool(self._resuming)

    async def all_resumed(self) -> None:
        """Wait until it is known what this machine runs."""
        await self._all_resumed.wait()

    async def refresh(self) -> None:
        """Look up what people want of this machine: the scheduler may have heard sooner of that."""
        await patiently(self._clock, self._refresh, what="store")

    def refusal(self, unit: Unit) -> AttemptEnd | None:
        """How an attempt ends for which this machine has no room now, or which it cannot run: another may (`lost`).

        None: `take` may follow immediately.
        """
        misfits, crowd = self.refusals(unit)
        if misfits or crowd:
            reasons = ", ".join(words for words in (misfits, crowd) if words)
            return outcomes.lost(f"{self._host.machine} {reasons}", crowded=not misfits)
        return None

    def refusals(self, unit: Unit) -> tuple[str, str]:
        """What speaks against the unit: the machine as it is advertised now, and what it runs. Both empty: nothing."""
        machine = self._machine()
        self._view.machine = machine
        crowd = crowded(unit, self._view)
        known = self._judged.get(unit.name)
        if known is None or known[0] is not machine or known[1] is not unit:
            # Judged once for as long as both are what they were.
            if len(self._judged) >= CACHED:
                self._judged.clear()
            known = self._judged[unit.name] = (machine, unit, words_of(unfit(unit, machine)))
        return known[2], words_of(crowd)
