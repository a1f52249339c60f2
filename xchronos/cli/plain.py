"""Tables as programs get them: plain aligned text that leaves nothing out.

The quick lists (`cli/quick.py`) need this, so it imports little, `typing` not either.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from xchronos.cli.text import clean
from xchronos.cli.times import machine_time


class ShortId:
    """An id, and as much of its beginning as a command takes for it; a person at a terminal sees that."""

    __slots__ = ("short", "whole")

    def __init__(self, whole: str, short: str) -> None:
        self.whole = whole
        self.short = short


Cell = str | datetime | ShortId | None

_DRAWN = re.compile("[0-9a-f]{32}")


def short_ids(ids: Sequence[str]) -> dict[str, ShortId]:
    """Executions' ids, each with the shortest beginning that tells it from the others: to the second, if that does."""
    beginnings = Counter(part for whole in ids for part in {*_beginnings(whole)})
    return {
        whole: ShortId(whole, next((part for part in _beginnings(whole) if beginnings[part] == 1), whole))
        for whole in ids
    }


def short_machine(machine: str) -> ShortId:
    """A machine's id. Of a drawn one the first 8 characters suffice, for MachineID= and for the commands."""
    return ShortId(machine, machine[:8] if _DRAWN.fullmatch(machine) else machine)


def _beginnings(whole: str) -> tuple[str, ...]:
    unit, fire, _ = whole.split("/")
    return f"{unit}/{fire.partition('.')[0]}", f"{unit}/{fire}"


def texts(
    rows: Iterable[Sequence[Cell]], time: Callable[[datetime | None], str] = machine_time, *, whole: bool = True
) -> list[list[str]]:
    """Every cell as text: times by `time`, ids whole or short; `-` for what is empty."""

    def text(cell: Cell) -> str:
        if isinstance(cell, ShortId):
            return clean(cell.whole if whole else cell.short) or "-"
        return clean(cell) or "-" if isinstance(cell, str) else time(cell)

    return [[text(cell) for cell in row] for row in rows]


def table_lines(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table, its columns aligned; without headings if there are no titles."""
    lines = [titles, *rows] if titles else rows
    if not lines:
        return []
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    form = "  ".join(f"{{:<{width}}}" for width in widths[:-1]) + "  {}" if len(widths) > 1 else "{}"
    return [form.format(*line).rstrip() for line in lines]
