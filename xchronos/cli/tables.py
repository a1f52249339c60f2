"""Tables: drawn by rich for a person at a terminal, plain aligned text for programs. Neither cuts anything off.

Names and ids stay on one line, so that they can be copied. Only the last column is folded: it holds sentences. When
that does not make a table narrow enough, its lines are wider than the terminal
(`test_names_are_whole_however_narrow_the_terminal_is` in tests/cli/test_ctl_program.py).
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

import click

from xchronos.cli.context import CliContext
from xchronos.cli.text import STYLES, clean
from xchronos.cli.times import machine_time, short_time

Cell = str | datetime | None

FOLDED = 24
"""The characters that the last column is never made narrower than."""

WIDEST = 100_000
"""The characters in a line that is measured as if the terminal had no edge."""


def show(session: CliContext, titles: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Print a table. At a terminal, times are local, to the second, and say how far away they are; else RFC 3339."""
    now, terminal = session.now, session.terminal
    cells = [
        [_text(cell, now, terminal=terminal) for cell in row]
        for row in rows
    ]  # fmt: skip
    if terminal:
        _show_rich(session, titles, cells)
    else:
        _show_plain(titles if not session.no_legend else (), cells)


def _text(cell: Cell, now: datetime, *, terminal: bool) -> str:
    if isinstance(cell, str):
        return clean(cell) or "-"
    return short_time(cell, now) if terminal else machine_time(cell)


def _show_plain(titles: Sequence[str], rows: list[list[str]]) -> None:
    lines = [list(titles), *rows] if titles else rows
    if not lines:
        return
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    form = "  ".join(f"{{:<{width}}}" for width in widths[:-1]) + "  {}" if len(widths) > 1 else "{}"
    click.echo("\n".join(form.format(*line).rstrip() for line in lines))


def _show_rich(session: CliContext, titles: Sequence[str], rows: list[list[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.cells import cell_len
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, show_header=not session.no_legend, pad_edge=False, show_edge=False)
    for title in titles[:-1]:
        table.add_column(title, no_wrap=True)
    table.add_column(titles[-1], overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
    console = Console(no_color=session.no_color, highlight=False)
    longest = max((cell_len(row[-1]) for row in rows), default=0)
    whole = Measurement.get(console, console.options.update(max_width=WIDEST), table).maximum
    console.width = max(console.width, whole - max(longest - FOLDED, 0))
    console.print(table)
