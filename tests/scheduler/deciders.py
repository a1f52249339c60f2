"""What the tests of the deciders are made of: a unit's executions, and machines."""

import msgspec

from tests.scheduler.schedule_builders import execution, s
from xchronos.clock import to_datetime
from xchronos.model.records import Attempt, Execution
from xchronos.scheduler.ranking import Ranking
from xchronos.scheduler.view import KnownExecution, filed

NOW = s(100)
MOMENT = to_datetime(NOW)


def ident(seconds: float = 0, copy: int = 0) -> str:
    """The id of an execution of `a.service`."""
    return execution(seconds, copy).id


def on(machine: str, seconds: float = 0, copy: int = 0, *, number: int = 1, state="running", **fields) -> Execution:
    """An execution that a machine has."""
    current = Attempt(number, machine, started_at=None if state == "placed" else to_datetime(s(seconds)))
    return execution(seconds, copy, state=state, current=current, **fields)


def seen(*executions: Execution, machines=(), revisions=None, **fields):
    """A view of one unit that has these executions, among these machines."""
    known = {
        one.id: KnownExecution(
            one, one.current.machine if one.current is not None else "", (revisions or {}).get(one.id, 1)
        )
        for one in executions
    }
    return filed(known, Ranking(machines), **fields)


def changed(execution: Execution, **fields) -> Execution:
    return msgspec.structs.replace(execution, **fields)
