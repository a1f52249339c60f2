"""What a decision about one unit may read: values, gathered by whoever asks, that do not change while it is decided."""

from collections.abc import Collection, Mapping
from typing import Literal, Protocol

import msgspec

from xchronos.model.records import Execution
from xchronos.scheduler.ranking import Ranking
from xchronos.scheduler.reasons import Reason


class HeldExecution(Protocol):
    """An execution that has not ended."""

    @property
    def machine(self) -> str:
        """The machine that it is placed on; empty when it is on none."""
        ...

    @property
    def revision(self) -> int:
        """The store's revision of its record."""
        ...

    @property
    def execution(self) -> Execution:
        """The record."""
        ...


class KnownExecution(msgspec.Struct, frozen=True):
    """A `HeldExecution` that was read from the store, for who does not follow what is open."""

    execution: Execution
    machine: str = ""
    revision: int = 0


class View(msgspec.Struct):
    """One unit's executions that have not ended, and the machines.

    Attributes:
        ranking: Every machine that is alive, with what is placed on it.
        open: Executions by id; those of other units may be among them.
        active: Ids of the unit's executions that Concurrency= looks at: placed, or waiting for a machine or a moment.
        queued: Ids of those that wait for the active ones to end.
        undecided: Ids of starts of which nobody has asked yet what Concurrency= says of them.
        standing: Ids of starts of a Global unit that wait for machines to come. They hold nobody up.
        waiting: How many of the active ones wait for a machine.
        last_machine: Where LoadBalancing=round-robin went last.
        ended: By id, the last machine of each copy that has ended of the fire time that is decided about (see
            `placement.asks_history`).
        cancelled: Ids of executions that are to end, and why; nobody has asked their machines yet.
    """

    ranking: Ranking
    open: Mapping[str, HeldExecution]
    active: Collection[str] = ()
    queued: Collection[str] = ()
    undecided: Collection[str] = ()
    standing: Collection[str] = ()
    waiting: int = 0
    last_machine: str = ""
    ended: Mapping[str, str] = {}
    cancelled: Mapping[str, Reason] = {}

    def of_unit(self) -> list[str]:
        """The ids of all of them, sorted."""
        return sorted((*self.active, *self.queued, *self.undecided, *self.standing))

    def blocked(self, prefix: str) -> bool:
        """Whether something of another fire time than the one whose ids begin with `prefix` is active."""
        return any(not other.startswith(prefix) for other in self.active)

    def next_queued(self) -> list[str]:
        """All copies of the first fire time in the queue, once nothing else of the unit is active; sorted."""
        if not self.queued:
            return []
        prefix = fire_prefix(min(self.queued))
        return [] if self.blocked(prefix) else sorted(other for other in self.queued if other.startswith(prefix))

    def homes(self) -> set[str]:
        """The machines that have an execution of the unit, or had it last."""
        machines = set()
        for execution_id in self.of_unit():
            held = self.open[execution_id]
            if held.machine:
                machines.add(held.machine)
            elif held.execution.attempts:
                machines.add(held.execution.attempts[-1].machine)
        return machines


def fire_prefix(execution_id: str) -> str:
    """What the ids of all copies of the same fire time begin with."""
    return execution_id[: execution_id.rindex("/") + 1]


def undecided(execution: Execution) -> bool:
    """Whether nobody has asked yet what Concurrency= says of an execution.

    So it is with what no trigger of its own unit has started, until the scheduler has looked at it.
    """
    return execution.state == "delayed" and execution.trigger in ("manual", "chain") and not execution.attempts


def file_of(execution: Execution) -> Literal["active", "queued", "undecided", "standing"]:
    """Among which of a view's executions one is that no machine has."""
    if execution.stands:
        return "standing"
    if execution.state == "queued":
        return "queued"
    return "undecided" if undecided(execution) else "active"


def filed(executions: Mapping[str, HeldExecution], ranking: Ranking, **more: object) -> View:
    """A view of one unit made from all of its executions that have not ended. `more` are fields of the View."""
    files: dict[str, set[str]] = {"active": set(), "queued": set(), "undecided": set(), "standing": set()}
    waiting = 0
    for execution_id, held in executions.items():
        execution = held.execution
        waiting += not held.machine and execution.state == "waiting" and not execution.stands
        files["active" if held.machine else file_of(execution)].add(execution_id)
    return View(ranking, executions, **files, waiting=waiting, **more)  # type: ignore[arg-type]
