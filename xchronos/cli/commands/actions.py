"""The commands that act on units: `start`, `stop`, `pause`, `resume`, `destroy`."""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from xchronos.cli.commands.submit import identity
from xchronos.cli.context import (
    ASK_AGAIN_SECONDS,
    CliContext,
    ask_each,
    complete_units,
    execution_id,
    expanded,
    options,
    outlast,
    pass_session,
    request_each,
    request_each_of,
    unit_name,
)
from xchronos.cli.text import clean, styled
from xchronos.errors import ApiError, InvalidValue, XchronosError
from xchronos.limits import UNITS_DESTROYED

if TYPE_CHECKING:
    from xchronos.model.records import Execution
    from xchronos.wire.messages import Asked, ExecutionIds

NOT_KNOWN_YET = (404, 405)
"""The HTTP statuses with which a daemon of an older version answers a request that it does not know."""


@click.command()
@click.argument("units", metavar="UNIT...", nargs=-1, required=True, shell_complete=complete_units)
@click.option("--wait", is_flag=True, help="Follow to the end; exit code 0 when everything succeeded, else 1.")
@click.option("--payload", default="", help="Instead of the unit's own XCHRONOS_PAYLOAD.")
@options(output=True)
@pass_session
def start(session: CliContext, units: tuple[str, ...], wait: bool, payload: str) -> None:
    """Run units once, now, beside their schedules. Prints the ids of the executions.

    A unit that is kept running and runs already is left alone.
    """

    def tell(_: str, begun: "ExecutionIds") -> None:
        for execution in begun.executions:
            session.print(execution)
        if begun.note:
            session.print(begun.note, err=True)

    begun = ask_each(
        session, units, lambda unit: session.client.start(unit_name(unit), payload=payload, by=identity()), tell
    )
    # Each execution is followed to its end, also when the one before it has failed.
    succeeded = [_follow(session, execution) for ids in begun for execution in ids.executions] if wait else []
    if not all(succeeded):
        click.get_current_context().exit(1)


def _follow(session: CliContext, execution_id: str) -> bool:
    """Print each change of an execution's state until it has ended; return whether it succeeded."""
    told = ""
    while True:
        # While the store is away, what runs goes on, and so does whoever waits for it
        # (`test_start_waits_on_through_an_outage` in tests/cli/test_ctl_store_away.py).
        execution = outlast(session, execution_id, lambda: session.client.execution(execution_id))
        news = f"{execution_id}: {styled(_word(execution))}{clean(_details(execution))}"
        if news != told:
            session.print(news, err=True)
            told = news
        if execution.state == "ended":
            return execution.outcome is not None and execution.outcome.value == "succeeded"
        time.sleep(ASK_AGAIN_SECONDS)


def _word(execution: "Execution") -> str:
    return execution.outcome.value if execution.outcome is not None else execution.state


def _details(execution: "Execution") -> str:
    attempt = execution.current or (execution.attempts[-1] if execution.attempts else None)
    where = f" on {attempt.machine}, attempt {attempt.number}" if attempt is not None else ""
    return where + (f": {execution.reason}" if execution.reason else "")


@click.command()
@click.argument("targets", metavar="UNIT|EXECUTION...", nargs=-1, required=True, shell_complete=complete_units)
@click.option("--reason", default="", help="For the record.")
@options(output=True)
@pass_session
def stop(session: CliContext, targets: tuple[str, ...], reason: str) -> None:
    """Stop executions, or everything that runs of units. Schedules go on: see `pause`.

    What is kept running stays stopped until it is started; with Global=, only if it is paused. A start of any other
    Global unit is over with it: machines that come to fit later get no copy.
    """

    def tell(target: str, stopped: "ExecutionIds") -> None:
        for execution in stopped.executions:
            session.print(f"{execution}: stopping")
        if not stopped.executions:
            session.print(f"{target}: nothing to stop", err=True)
        if stopped.note:
            session.print(stopped.note, err=True)

    ask_each(
        session,
        targets,
        lambda target: session.client.stop(execution_id(session, target), reason=reason, by=identity()),
        tell,
    )


@click.command()
@click.argument("units", metavar="UNIT...", nargs=-1, required=True, shell_complete=complete_units)
@options(output=True)
@pass_session
def pause(session: CliContext, units: tuple[str, ...]) -> None:
    """Let nothing of these units fire until they are resumed; what runs goes on."""
    request_each(session, units, lambda unit: session.client.pause(unit_name(unit)))


@click.command()
@click.argument("units", metavar="UNIT...", nargs=-1, required=True, shell_complete=complete_units)
@click.option("--skip-missed", is_flag=True, help="Start nothing for the gap: record it as missed.")
@options(output=True)
@pass_session
def resume(session: CliContext, units: tuple[str, ...], skip_missed: bool) -> None:
    """Let paused units fire again; their misfire policies decide what becomes of the gap."""
    request_each(session, units, lambda unit: session.client.resume(unit_name(unit), skip_missed=skip_missed))


@click.command()
@click.argument("units", metavar="UNIT...", nargs=-1, required=True, shell_complete=complete_units)
@click.option("--keep-file", is_flag=True, help="Also what comes from a file of a directory, which may bring it back.")
@click.option("--unreadable", is_flag=True, help="UNIT is the key of a record that cannot be read, as a list shows it.")
@options(output=True)
@pass_session
def destroy(session: CliContext, units: tuple[str, ...], keep_file: bool, unreadable: bool) -> None:
    """Remove units, with their history; what runs of them is stopped."""
    if unreadable:
        request_each(session, units, session.client.remove_unreadable)
        return
    found: list[str] = []
    names: list[str] = []
    failure: XchronosError | None = None
    try:
        for unit in expanded(session, units):
            found.append(unit)
            with suppress(InvalidValue):  # it is told in its turn
                names.append(unit_name(unit))
    except XchronosError as error:
        failure = error
    answers = _destroyed(session, names, keep_file=keep_file)

    def targets() -> Iterator[str]:
        yield from found
        if failure is not None:
            raise failure

    def ask(unit: str) -> "Asked":
        unit_name(unit)
        answer = next(answers)
        if isinstance(answer, ApiError):
            raise answer
        return answer

    request_each_of(session, targets(), ask)


def _destroyed(session: CliContext, names: Sequence[str], *, keep_file: bool) -> "Iterator[Asked | ApiError]":
    """Destroy units, and yield what each request about one of them answers or raises: many are one request."""
    from xchronos.wire.messages import Asked

    for first in range(0, len(names), UNITS_DESTROYED):
        part = names[first : first + UNITS_DESTROYED]
        try:
            together = session.client.destroy_many(part, keep_file=keep_file).units if len(part) > 1 else ()
        except ApiError as error:
            if error.status not in NOT_KNOWN_YET:
                yield from [error] * len(part)
                continue
            together = ()
        if together:
            yield from (
                ApiError(one.error, one.status) if one.error else Asked(one.unit, "destroyed", one.note)
                for one in together
            )
            continue
        for name in part:
            try:
                answer = session.client.destroy(name, keep_file=keep_file)
            except ApiError as error:
                yield error
            else:
                yield answer
