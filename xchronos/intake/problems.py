"""What is wrong with the directories and their files, for as long as it is wrong."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
import structlog

from xchronos.intake.files import Listing, printable
from xchronos.intake.selection import Selection
from xchronos.unitfile.names import what_instead

log = structlog.get_logger(__name__)


class IntakeProblem(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file that is not taken in, or a directory that cannot be read."""

    path: str
    """The file or the directory, as text that every log takes."""

    messages: tuple[str, ...]
    """What is wrong, a line for each reason."""

    since: datetime
    """When this was first found, in UTC."""

    unit: str = ""
    """The unit that it concerns; empty: none."""

    revision: str = ""
    """The revision of that unit that stays in force; empty: there is none."""


class Problems:
    """The problems that there are now, by what they are about: a unit's name, or a path. Each change is logged once."""

    def __init__(self) -> None:
        self._known: dict[str, IntakeProblem] = {}
        self._noted: set[str] = set()

    def report(
        self, about: str, path: str, messages: tuple[str, ...], now: datetime, *, unit: str = "", revision: str = ""
    ) -> None:
        """Note that there is this problem now, instead of the one before it about the same thing."""
        before = self._known.get(about)
        if before is not None and before.messages == messages:
            return
        problem = IntakeProblem(printable(path), messages, now, unit, revision)
        self._known[about] = problem
        force = f"revision {revision[:12]} stays in force" if revision else ""
        log.warning("not taken in", path=problem.path, unit=unit, problems=list(messages), in_force=force)

    def solve(self, about: str) -> None:
        """Note that there is no problem about this any more."""
        problem = self._known.pop(about, None)
        if problem is not None:
            log.info("problem solved", path=problem.path, unit=problem.unit)

    def solve_others(self, kind: str, about: set[str]) -> None:
        """Note that, of the problems about what begins with `kind`, only those in `about` are left."""
        for key in [key for key in self._known if key.startswith(kind) and key not in about]:
            self.solve(key)

    def note(self, selection: Selection, listings: Sequence[Listing], now: datetime) -> None:
        """Report what can belong to no unit, and log once what is no unit of its own."""
        for path, message in selection.bad_names.items():
            self.report(f"/name{path}", path, (message,), now)
        self.solve_others("/name", {f"/name{path}" for path in selection.bad_names})
        for name, target in selection.aliases.items():
            if name not in self._noted:
                log.info("a second name of a unit is no unit of its own", alias=name, unit=target)
        others = {f"{listing.directory}/{name}" for listing in listings for name in listing.others}
        for path in sorted(others - self._noted):
            instead = what_instead(path)
            log.info(
                "only .service units are taken in", path=printable(path), **{"instead": instead} if instead else {}
            )
        self._noted = others | set(selection.aliases)

    def __contains__(self, about: str) -> bool:
        return about in self._known

    def all(self) -> list[IntakeProblem]:
        """Every problem, by path."""
        return sorted(self._known.values(), key=lambda problem: (problem.path, problem.unit))
