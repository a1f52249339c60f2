"""What this scheduler cannot read. Nothing is decided about a unit while any of that concerns it.

A unit of which the text, the cursor or an execution cannot be read here, or whose trigger cannot compute here, has no
fence (`adoption.ShardAdoption.fence`). Every write of a scheduler carries one, so none is made: the unit is as it was
for a scheduler that can read it, which takes it over (`shards.ownership`), or for this one once it can.
"""

import asyncio

from xchronos.registry.units import UnitCache


class UnreadableRecords:
    """Notes what cannot be read, by unit.

    Attributes:
        changed: Set whenever something is noted.
    """

    def __init__(self, units: UnitCache) -> None:
        self._units = units.unreadable
        self._cursors: dict[str, str] = {}
        self._executions: dict[str, dict[str, str]] = {}
        self.changed = asyncio.Event()
        units.on_unreadable = self.changed.set

    def __contains__(self, unit: str) -> bool:
        """Whether something of the unit cannot be read."""
        return unit in self._units or unit in self._cursors or unit in self._executions

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self._units or self._cursors or self._executions)

    def schedule(self, unit: str, why: str) -> None:
        """The unit's cursor cannot be read, or what follows it cannot be computed here."""
        self._cursors[unit] = why
        self.changed.set()

    def execution(self, unit: str, execution_id: str, why: str) -> None:
        """An open execution of the unit cannot be read: how many of it run is not known."""
        self._executions.setdefault(unit, {})[execution_id] = why
        self.changed.set()

    def forget_execution(self, unit: str, execution_id: str) -> bool:
        """The execution's record is another one, or gone. Whether that was the last thing that was not readable."""
        known = self._executions.get(unit, {})
        if known.pop(execution_id, None) is None or known:
            return False
        del self._executions[unit]
        self.changed.set()
        return unit not in self

    def forget_schedule(self, unit: str) -> None:
        """The unit's cursor is read again, and what follows it computed."""
        if self._cursors.pop(unit, None) is not None:
            self.changed.set()

    def told(self) -> dict[str, str]:
        """Why each unit cannot be read, by name, in one sentence."""
        found = {unit: next(iter(executions.values())) for unit, executions in self._executions.items()}
        found.update(self._cursors)
        found.update((unit, one.why) for unit, one in self._units.items())
        return dict(sorted(found.items()))
