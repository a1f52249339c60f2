"""What is to be decided: the notes that the watches, the clock and the answers of the store leave for the next turn."""

import asyncio

from xchronos.engine.state.cluster_state import ClusterState
from xchronos.scheduler.reasons import Reason


class WorkQueue:
    """A set per kind of thing to decide. A turn takes what it can decide and leaves the rest.

    The watches tell of all units, also of other schedulers': a turn drops what is not its own to decide. Whoever begins
    to decide about a shard notes everything anew.

    Attributes:
        changed: Units whose record is new or different, in the order in which that became known.
        gone: Units whose record was deleted.
        look: Executions without a machine that have to be looked at.
        reported: Executions whose attempt has ended.
        freed: Units of which an execution is no longer active.
        changed_machines: Machines that have come, or whose record has changed.
        spread: Units that are kept running on every machine, and may lack a copy anywhere.
        short: Such units of which a machine lacks a copy for a reason that passes, like a slot that is taken.
        short_of_room: Starts that stand, and were refused somewhere for a reason that passes.
        lost_machines: Machines whose lease has ended, while something is still placed on them.
        cancels: Executions that must end, and why.
        retry_waiting: Machines or capacity have changed: who waits may go now.
        refused: Units whose cursor has to be read again.
        again: Units about which everything has to be read again, as they can be read, or may be, where they could not.
        refusals: How many writes were refused since the last turn.
    """

    def __init__(self) -> None:
        self.awake = asyncio.Event()
        self.changed: dict[str, None] = {}
        self.gone: set[str] = set()
        self.look: set[str] = set()
        self.reported: set[str] = set()
        self.freed: set[str] = set()
        self.changed_machines: set[str] = set()
        self.spread: set[str] = set()
        self.short: set[str] = set()
        self.short_of_room: set[str] = set()
        self.lost_machines: set[str] = set()
        self.cancels: dict[str, Reason] = {}
        self.retry_waiting = False
        self.refused: set[str] = set()
        self.again: set[str] = set()
        self.refusals = 0

    def note(self, execution_id: str, cluster: ClusterState) -> None:
        """An execution is new where memory has it: whatever that asks for is to be decided."""
        entry = cluster.open.get(execution_id)
        if entry is not None and not entry.machine:
            self.look.add(execution_id)
        elif entry is not None and entry.reported:
            self.reported.add(execution_id)

    def left(self, unit: str, cluster: ClusterState) -> None:
        """An execution of the unit is no longer where memory had it: who waits for that, or for the room, may go now.

        A machine that was refused only because it had a copy of a unit that is kept running everywhere lacks one now.
        """
        if unit in cluster.queued:
            self.freed.add(unit)
            self.wake()
        if cluster.waiting:
            self.retry_waiting = True
            self.wake()
        if self.short:
            self.spread |= self.short
            self.short = set()
            self.wake()
        self.short_of_room &= cluster.open.keys()
        again = self.short_of_room | cluster.standing.get(unit, set())
        if again:
            self.short_of_room = set()
            self.look |= again
            self.wake()
        if unit in cluster.cursors.everywhere:
            self.spread.add(unit)
            self.wake()

    def wake(self) -> None:
        """Ask for another turn."""
        self.awake.set()
