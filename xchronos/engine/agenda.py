"""What is to be decided: the notes that the watches, the clock and the answers of the store leave for the next turn."""

import asyncio


class Agenda:
    """A set per kind of thing to decide. A turn takes what it can decide and leaves the rest.

    Attributes:
        changed: Units whose record is new or different.
        gone: Units whose record was deleted.
        look: Executions without a machine that have to be looked at.
        reported: Executions whose attempt has ended.
        freed: Units of which an execution is no longer active.
        lost_machines: Machines whose lease has ended, while something is still placed on them.
        cancels: Executions that must end, and why.
        retry_waiting: Machines or capacity have changed: who waits may go now.
        refused: Units whose cursor has to be read again.
        refusals: How many writes were refused since the last turn.
        stale: Why nothing in memory can be trusted any more; empty while it can.
    """

    def __init__(self) -> None:
        self.awake = asyncio.Event()
        self.changed: set[str] = set()
        self.gone: set[str] = set()
        self.look: set[str] = set()
        self.reported: set[str] = set()
        self.freed: set[str] = set()
        self.lost_machines: set[str] = set()
        self.cancels: dict[str, str] = {}
        self.retry_waiting = False
        self.refused: set[str] = set()
        self.refusals = 0
        self.stale = ""

    def wake(self) -> None:
        """Ask for another turn."""
        self.awake.set()
