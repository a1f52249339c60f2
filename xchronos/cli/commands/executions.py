"""The commands about what ran: `list-executions` and `logs`."""

import sys
import time
from collections.abc import Iterator

import click

from xchronos.cli import lists
from xchronos.cli.context import (
    ASK_AGAIN_SECONDS,
    CliContext,
    complete_units,
    execution_id,
    options,
    outlast,
    pass_session,
    unit_name,
)
from xchronos.cli.text import clean
from xchronos.errors import ApiError
from xchronos.limits import MOST_LISTED

LOOKED_AT = 20
"""The newest executions of a unit among which `logs` looks for one that has run."""


@click.command("list-executions")
@click.argument("unit", required=False, shell_complete=complete_units)
@click.option(
    "--all", "everything", is_flag=True, help=f"Up to {MOST_LISTED}, instead of the newest {lists.EXECUTIONS_SHOWN}."
)
@click.option("--failed", is_flag=True, help="Only those that failed, timed out, were lost or were missed.")
@click.option("--limit", type=click.IntRange(1, MOST_LISTED), help=f"The newest so many ({lists.EXECUTIONS_SHOWN}).")
@options(output=True)
@pass_session
def list_executions(session: CliContext, unit: str | None, everything: bool, failed: bool, limit: int | None) -> None:
    """List executions of a unit, or of all, the newest first."""
    found = session.client.executions(
        unit_name(unit) if unit else "",
        states=lists.FAILURES if failed else (),
        limit=limit or (MOST_LISTED if everything else lists.EXECUTIONS_SHOWN),
    )
    if session.json:
        session.print_json(found.executions)
        return
    from xchronos.cli.tables import show

    rows = lists.executions(session, found)
    show(session, lists.EXECUTIONS, rows, spare=("TRIGGER", "ATTEMPTS", "TOOK", "MACHINE", "STARTED"))
    if found.more:
        session.print(lists.MORE, err=True)


@click.command()
@click.argument("target", metavar="UNIT|EXECUTION", shell_complete=complete_units)
@click.option("--follow", "-f", is_flag=True, help="Go on until the execution has ended, from attempt to attempt.")
@click.option("--step", default="", help="Only this step's (start-0, start-pre-0, ...).")
@click.option("--attempt", type=click.IntRange(min=1), help="This attempt's, instead of the latest one's.")
@click.option("--tail", "-n", type=click.IntRange(min=0), help="Only the last so many lines.")
@options()
@pass_session
def logs(session: CliContext, target: str, follow: bool, step: str, attempt: int | None, tail: int | None) -> None:
    """Print what an execution printed, or the latest execution of a unit that has run."""
    execution = execution_id(session, target)
    if "/" not in execution:
        execution = _latest(session, execution, follow=follow)
        if sys.stderr.isatty():
            session.print(execution, err=True)
    printed = tail == 0
    if follow and not attempt:
        parts = _following(session, execution, step, tail)
    else:
        parts = session.client.logs(execution, step=step, attempt=attempt or 0, tail=tail, follow=follow)
    for part in parts:
        sys.stdout.buffer.write(part)
        sys.stdout.buffer.flush()
        printed = True
    if not printed:
        session.print(f"({execution} has no output)", err=True)


def _following(session: CliContext, execution_id: str, step: str, tail: int | None) -> Iterator[bytes]:
    """What an execution prints, from its latest attempt on to its end.

    A retry, or a move to another machine, is another attempt: the output goes on there.
    """
    last = 0
    while True:
        execution = outlast(session, execution_id, lambda: session.client.execution(execution_id))
        attempts = (*execution.attempts, *([execution.current] if execution.current is not None else ()))
        coming = [attempt for attempt in attempts if attempt.number > last]
        if not coming and execution.state == "ended":
            if not last:
                yield from session.client.logs(execution_id)  # says why there is nothing
            return
        if not coming:
            time.sleep(ASK_AGAIN_SECONDS)
            continue
        attempt = coming[0] if last else coming[-1]
        if last:
            session.print(f"({execution_id}: attempt {attempt.number}, on {attempt.machine})", err=True)
        try:
            yield from session.client.logs(
                execution_id, step=step, attempt=attempt.number, tail=None if last else tail, follow=True
            )
        except ApiError as error:
            if execution.state == "ended":
                raise
            # A machine that is lost takes the output of its attempt with it, and the next attempt may run elsewhere.
            # When it is our own daemon that does not answer, the next question ends the command.
            session.print(f"{execution_id}: {clean(str(error))}; waiting for the next attempt", err=True)
        last = attempt.number


def _latest(session: CliContext, unit: str, *, follow: bool) -> str:
    """The id of the unit's newest execution that has run; with `follow`, also of one that has not run yet.

    Raises:
        ApiError: there is none (status 404).
    """
    found = session.client.executions(unit, limit=LOOKED_AT).executions
    for execution in found:
        if execution.attempts or execution.current is not None or (follow and execution.state != "ended"):
            return execution.id
    if not found:
        raise ApiError(f"{unit} has no executions yet", 404)
    raise ApiError(f"none of the last {len(found)} executions of {unit} has run: see list-executions {unit}", 404)
