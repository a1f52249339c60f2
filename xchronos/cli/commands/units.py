"""The commands that ask about units: `list-units`, `cat`, `explain`."""

import sys
from itertools import islice

import click

from xchronos.cli import lists
from xchronos.cli.context import CliContext, complete_units, options, pass_session, unit_name
from xchronos.cli.patterns import matches
from xchronos.cli.text import clean


@click.command("list-units")
@click.argument("patterns", metavar="[PATTERN]...", nargs=-1)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
@options(output=True)
@pass_session
def list_units(session: CliContext, patterns: tuple[str, ...], limit: int | None) -> None:
    """List the units by name, with their next and last fire times: all, or those whose name matches a pattern."""
    wanted = (
        unit
        for unit in session.client.units(limit=0 if patterns else limit or 0)
        if not patterns or any(matches(unit.name, pattern) for pattern in patterns)
    )
    units = list(islice(wanted, limit))
    if session.json:
        session.print_json(units)
        return
    from xchronos.cli.tables import show

    show(session, lists.UNITS, lists.units(session, units), spare=("ACTIVE", "LAST", "DESCRIPTION"))


@click.command()
@click.argument("unit", shell_complete=complete_units)
@options()
@pass_session
def cat(session: CliContext, unit: str) -> None:
    """Print a unit's file, byte for byte."""
    import binascii

    record = session.client.unit(unit_name(unit), recent=0).record
    text = binascii.a2b_base64(record.text_base64) if record.text_base64 else record.text.encode()
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()


@click.command()
@click.argument("unit", shell_complete=complete_units)
@options(output=True)
@pass_session
def explain(session: CliContext, unit: str) -> None:
    """Say why a unit is, or is not, running: machine by machine, if it waits for one."""
    explanation = session.client.explain(unit_name(unit))
    if session.json:
        session.print_json(explanation)
    for position, line in enumerate(() if session.json else explanation.lines):
        session.print(clean(f"{explanation.unit}: {line}" if position == 0 else line))
    if explanation.refused:
        click.get_current_context().exit(1)
