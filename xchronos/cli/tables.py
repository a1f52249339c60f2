"""Tables: drawn by rich for a person at a terminal, plain aligned text for programs, who get everything.

Names and ids stay on one line, so that they can be copied. Only the last column is folded: it holds sentences. Where a
table is wider than the terminal all the same, it says times by their distance alone, and then leaves out columns, those
first that matter least. What is left is never cut off, so lines may still be wider than the terminal
(`test_names_are_whole_however_narrow_the_terminal_is` in tests/cli/test_ctl_program.py). `--output wide` leaves nothing
out.
"""

import shutil
from collections.abc import Iterable, Sequence

import click

from xchronos.cli.context import CliContext
from xchronos.cli.plain import Cell, table_lines, texts
from xchronos.cli.text import STYLES
from xchronos.cli.times import distance, short_time

FOLDED = 24
"""The characters that the last column is never made narrower than."""

GAP = 3
"""The characters between two columns."""

WIDEST = 100_000
"""The characters in a line that is measured as if the terminal had no edge."""


def show(
    session: CliContext, titles: Sequence[str], rows: Iterable[Sequence[Cell]], *, spare: Sequence[str] = ()
) -> None:
    """Print a table. At a terminal, times are local, to the second, and say how far away they are; else RFC 3339.

    `spare` are the titles of columns that a narrow terminal may do without, those first that matter least.
    """
    table = list(rows)
    if not session.terminal:
        lines = table_lines(() if session.no_legend else titles, texts(table))
        if lines:
            click.echo("\n".join(lines))
        return
    now = session.now
    cells = texts(table, lambda moment: short_time(moment, now), whole=session.wide)
    if session.output != "wide":
        titles, cells = _fitting(session, titles, table, cells, spare)
    _show_rich(session, titles, cells)


def _fitting(
    session: CliContext,
    titles: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    cells: list[list[str]],
    spare: Sequence[str],
) -> tuple[Sequence[str], list[list[str]]]:
    """The table as it fits into the terminal, or else as narrow as it gets."""
    room = shutil.get_terminal_size().columns
    if _width(titles, cells) <= room:
        return titles, cells
    now = session.now
    cells = texts(rows, lambda moment: "-" if moment is None else distance(moment, now), whole=session.wide)
    for title in spare:
        if _width(titles, cells) <= room:
            break
        gone = list(titles).index(title)
        titles = [one for index, one in enumerate(titles) if index != gone]
        cells = [[cell for index, cell in enumerate(row) if index != gone] for row in cells]
    return titles, cells


def _width(titles: Sequence[str], cells: Iterable[Sequence[str]]) -> int:
    """The fewest characters that a line of the table has, its last column folded."""
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) for column in zip(titles, *cells, strict=True)]
    return sum(widths[:-1]) + min(widths[-1], FOLDED) + GAP * (len(titles) - 1)


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
