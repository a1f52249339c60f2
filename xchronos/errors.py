"""Every exception of xchronos, and the `Problem` that tells a person what is wrong with a file.

The tree::

    XchronosError
    |-- InvalidValue            one value does not parse; says what was expected
    |   `-- InvalidTrigger      a cron, ISO 8601, calendar ... expression does not parse
    |-- UnitFileError           a unit file is refused: carries every Problem found in it
    |   `-- NotReadByAll        it is right, and a living scheduler cannot read it: it may be accepted later
    |-- ConfigError             a setting of the daemon or the client is wrong
    |-- NotFound                no such unit, execution or machine
    |-- Conflict                the thing exists already, or changed since it was read
    |-- StoreError              the job store could not do what was asked
    |   |-- StoreUnavailable    no answer for now; the same call may succeed later
    |   |-- Compacted           a watch asked for a revision that is gone: list again
    |   `-- LeaseLost           the lease has expired or was revoked
    |-- ExecutorError           a step could not be started, or its fate could not be learnt
    |   |-- ExecutorUnavailable the engine does not answer for now; what runs goes on
    |   `-- StartRefused        the engine refused to start the step; retrying as is cannot help
    `-- ApiError                the daemon's API answered with an error, or did not answer

Code raises the narrowest class. A message says what was wrong, where, and what to do about it.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

Severity = Literal["error", "warning"]


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is wrong with a unit file, and its place."""

    message: str
    """What is wrong, and what was expected."""

    file: str = ""
    """The file, as the one who gave it calls it; empty: there is none."""

    line: int = 0
    """The line, counted from 1; 0: the problem is one of the whole file."""

    section: str = ""
    """The section, without brackets; empty: the problem is in none."""

    key: str = ""
    """The option's key; empty: the problem is no option's."""

    severity: Severity = "error"
    """A file with an *error* is refused; a *warning* refuses nothing."""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        option = f"[{self.section}]" if self.section else ""
        if self.key:
            option = f"{option} {self.key}".strip()
        prefix = "warning: " if self.severity == "warning" else ""
        return ": ".join(part for part in (place, option, prefix + self.message) if part)


def quoted(text: str) -> str:
    """The text as a message quotes it. It is cut after 57 characters when it is long: it may be a megabyte."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


class XchronosError(Exception):
    """The base of every exception that xchronos raises on purpose."""


class InvalidValue(XchronosError, ValueError):  # noqa: N818 - reads as what it says
    """A value does not parse. The text says what is wrong and what was expected."""


class InvalidTrigger(InvalidValue):
    """A trigger expression does not parse. The text names the field, its text and the allowed range."""


class UnitFileError(XchronosError):
    """A unit file is refused. `problems` holds all that was found, warnings too, in the file's order."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class NotReadByAll(UnitFileError):  # noqa: N818
    """A unit file is right, and is not accepted while a living scheduler cannot read it. It may be later."""


class ConfigError(XchronosError):
    """A setting is wrong. The text names the setting and where it was given."""


class NotFound(XchronosError):  # noqa: N818
    """There is no such unit, execution or machine."""


class Conflict(XchronosError):  # noqa: N818
    """The thing exists already, or it changed after it was read. Read again and decide anew."""


class StoreError(XchronosError):
    """The job store could not do what was asked."""


class StoreUnavailable(StoreError):  # noqa: N818
    """The store does not answer for now. A write whose answer is missing may or may not have happened."""


class Compacted(StoreError):  # noqa: N818
    """A watch or a read asked for a revision that the store no longer has: list again, then watch.

    `revision` is the oldest revision from which one can still watch. The state before it can still be read.
    """

    def __init__(self, revision: int) -> None:
        self.revision = revision
        super().__init__(f"the store has compacted its history before revision {revision}: list again, then watch")


class LeaseLost(StoreError):  # noqa: N818
    """The lease has expired or was revoked. Every key that was bound to it is gone."""


class ExecutorError(XchronosError):
    """A step could not be started, or what became of it cannot be learnt."""


class ExecutorUnavailable(ExecutorError):  # noqa: N818
    """The engine that runs the step does not answer for now. What runs there goes on: ask again later."""


class StartRefused(ExecutorError):  # noqa: N818
    """The engine refused to start the step. To start the same thing again cannot help."""


class ApiError(XchronosError):
    """The daemon's API answered with an error, or did not answer.

    `status` is the answer's HTTP status; 0: there was no answer. `problems` are those of a unit file that was refused.
    """

    def __init__(self, message: str, status: int = 0, problems: Sequence[Problem] = ()) -> None:
        self.status = status
        self.problems = tuple(problems)
        super().__init__(message)
