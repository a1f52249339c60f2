"""What an intake is told."""

from dataclasses import dataclass
from pathlib import Path

from xchronos.clock import MILLISECOND, SECOND, Micros


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeOptions:
    """What an intake is told. Nothing of it changes while the intake runs."""

    machine: str = ""
    """The machine whose intake this is. Units of the same directory on another machine are not taken away."""

    settle: Micros = 200 * MILLISECOND
    """How long a file must be left alone before it is read, in microseconds."""

    rescan: Micros = 30 * SECOND
    """How often all files are looked at although nothing was noticed, in microseconds."""

    notes: Path | None = None
    """The file that remembers over a restart what was taken in; None: every file is read again."""


USUAL_OPTIONS = IntakeOptions()
