"""Reading one section of a unit file: typed values, and every problem with its file and line."""

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec

from xchronos.errors import InvalidValue, Problem, Severity
from xchronos.unitfile import Option, UnitFile

T = TypeVar("T")
C = TypeVar("C", bound=str)

_MARK = re.compile(r"[ \t]+\(\*\)\Z")


def unmarked(value: str) -> str:
    """The value without the footnote mark ` (*)`, which old example files have after some values."""
    return _MARK.sub("", value) if value.endswith("(*)") else value


class OptionReader:
    """Reads the options of one section. Problems are appended to the list `problems`.

    With `marks`, footnote marks are removed from values; see `unmarked`.
    """

    def __init__(self, unit: UnitFile, section: str, problems: list[Problem], *, marks: bool = False) -> None:
        self.unit = unit
        self.section = section
        self._problems = problems
        self._marks = marks

    def report(self, option: Option, message: str, severity: Severity = "error") -> None:
        """Report a problem at the file and line of an option."""
        self._problems.append(problem_at(option, message, severity))

    def warn(self, key: str, message: str) -> None:
        """Report a warning at the assignment that counts for a key. Without such an assignment, do nothing."""
        option = self.last(key)
        if option is not None:
            self.report(option, message, "warning")

    def last(self, key: str) -> Option | None:
        """The assignment that counts for a key with one value. None if there is none, or if it is empty."""
        option = self.unit.last(self.section, key)
        return self._unmarked(option) if option is not None and option.value else None

    def all(self, key: str) -> list[Option]:
        """The assignments that count for a key that takes a list, in order."""
        return [self._unmarked(option) for option in self.unit.values(self.section, key)]

    def get(self, key: str, parse: Callable[[str], T], default: T) -> T:
        """The parsed value of a key, or the default if it is absent. A bad value is an error and gives the default."""
        option = self.last(key)
        if option is None:
            return default
        try:
            return parse(option.value)
        except InvalidValue as error:
            self.report(option, str(error))
            return default

    def lenient(self, key: str, parse: Callable[[str], T], default: T, *, resets: bool = False) -> T:
        """The parsed value of a key, read as systemd reads it: a bad value is ignored, and an earlier good one counts.

        `directives.check` warns about the bad value. With `resets`, an empty value means the default; otherwise it is a
        bad value.
        """
        found = default
        for option in self.unit.get_all(self.section, key):
            if resets and not option.value:
                found = default
                continue
            try:
                found = parse(option.value)
            except InvalidValue:
                continue
        return found

    def texts(self, key: str) -> list[str]:
        """The values of a key that takes a list."""
        return [option.value for option in self.all(key)]

    def _unmarked(self, option: Option) -> Option:
        if not self._marks or not option.value.endswith("(*)"):
            return option
        return msgspec.structs.replace(option, value=unmarked(option.value))


def problem_at(option: Option, message: str, severity: Severity = "error") -> Problem:
    """A problem at the file and line of an option."""
    return Problem(message, option.file, option.line, option.section, option.name, severity)


def one_of(*choices: C) -> Callable[[str], C]:
    """A parser that accepts exactly these words, and raises InvalidValue for others."""
    table: dict[str, C] = {choice: choice for choice in choices}

    def parse(text: str) -> C:
        found = table.get(text)
        if found is None:
            raise InvalidValue(f"{text!r}: expected one of {', '.join(choices)}")
        return found

    return parse


def whole(low: int, high: int = 2**31 - 1, meaning: str = "") -> Callable[[str], int]:
    """A parser of whole numbers from `low` to `high`, which raises InvalidValue. `meaning` is added to its errors."""

    def parse(text: str) -> int:
        digits = text[1:] if text[:1] in ("+", "-") else text
        if not (digits.isascii() and digits.isdigit()):
            raise InvalidValue(f"{text!r} is not a whole number: expected {low} to {high}{meaning}")
        # Python refuses to convert thousands of digits.
        if len(digits) > 18 or not low <= int(text) <= high:
            raise InvalidValue(f"{text[:40]!r} is out of range: expected {low} to {high}{meaning}")
        return int(text)

    return parse


def in_order(problems: Iterable[Problem], files: Iterable[str]) -> tuple[Problem, ...]:
    """The problems, each once, in the order of `files` and lines. Problems without a line come last."""
    found = tuple(dict.fromkeys(problems))
    if len(found) < 2:
        return found
    places = {file: place for place, file in reversed(list(enumerate(files)))}
    return tuple(sorted(found, key=lambda problem: (not problem.line, places[problem.file], problem.line)))
