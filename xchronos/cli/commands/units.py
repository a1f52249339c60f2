"""The commands that ask about units: `list-units`, `cat`, `explain`."""

import sys

import click

from xchronos.cli.context import CliContext, complete_units, options, pass_session, unit_name
from xchronos.cli.text import clean


@click.command("list-units")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
@options(output=True)
@pass_session
def list_units(session: CliContext, limit: int | None) -> None:
    """List the units by name, with their next and last fire times."""
    units = list(session.client.units(limit=limit or 0))
    if session.json:
        session.print_json(units)
        return
    from xchronos.cli.tables import show

    titles = ("UNIT", "STATE", "ACTIVE", "NEXT", "LAST", "DESCRIPTION")
    show(session, titles, ((u.name, u.state, str(u.active), u.next, u.last, u.description) for u in units))


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
        return
    for position, line in enumerate(explanation.lines):
        session.print(clean(f"{explanation.unit}: {line}" if position == 0 else line))
