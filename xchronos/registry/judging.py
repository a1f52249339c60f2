"""What is said to a unit file that compiles, before it is stored: one judgement for `submit`, directories and `verify`.

The compiler knows the file alone. Here is what also depends on the moment, on the store and on the machines: a trigger
that is over, a store that the unit does not expect, an executor that nobody has.
"""

from collections.abc import Iterable

import msgspec

from xchronos.clock import Instant
from xchronos.errors import Problem, UnitFileError
from xchronos.model.records import Machine
from xchronos.model.unit import Unit, executor_missing
from xchronos.scheduler.feasibility import executors_needed
from xchronos.scheduler.timing.outlook import outlook


def depends_on_machines(unit: Unit) -> bool:
    """Whether it has to be known which executors the machines have: containers run on every machine."""
    return not unit.masked and executors_needed(unit) not in ([], ["docker"])


def offered_by(machines: Iterable[Machine]) -> frozenset[str] | None:
    """The kinds of executor that these machines have. None if there is no machine: nobody knows yet."""
    found = [machine.executors for machine in machines]
    return frozenset().union(*found) if found else None


def judge(
    unit: Unit, path: str, *, now: Instant, store: str, offered: frozenset[str] | None = None, offline: bool = False
) -> tuple[Problem, ...]:
    """The warnings for a unit that is taken in.

    Args:
        unit: The unit, compiled.
        path: What problems call its file; empty: its name.
        now: The moment.
        store: The kind of the cluster's store.
        offered: The kinds of executor that machines have. None: it is not known.
        offline: Nobody can be asked. What only an unusual cluster would take is refused then.

    Raises:
        UnitFileError: no machine can run it. The exception carries the warnings as well.
    """
    missing = executor_missing(unit.executor)
    found: list[Problem] = []
    refused = False
    for problem in unit.warnings_on(store):
        if problem.key != "Executor" or problem.message != missing:
            found.append(problem)
        elif unit.executor not in (offered or ()):
            refused = offered is not None or offline
            found.append(msgspec.structs.replace(problem, severity="error" if refused else "warning"))
    found += outlook(unit, now)
    if not unit.masked and executors_needed(unit) == ["process"]:
        if offered is not None and "process" not in offered:
            found.append(_nobodys_process(unit, path, "no machine allows that"))
        elif offline:
            found.append(_nobodys_process(unit, path, "a machine does not allow that unless it is told to"))
    if refused:
        raise UnitFileError(found)
    return tuple(found)


def _nobodys_process(unit: Unit, path: str, why: str) -> Problem:
    message = (
        f"it runs as a process of the machine, and {why}: set allow_process on a machine, or give the unit a "
        "[Container] with Image="
    )
    return Problem(message, path or unit.name, severity="warning")
