"""Reading one section of a unit file: typed values, every problem with its place."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from xchronos.errors import InvalidValue, Problem, Severity
from xchronos.unitfile import Option, UnitFile

T = TypeVar("T")


class Reader:
    """Reads the options of one section; what is wrong collects in `problems`."""

    def __init__(self, unit: UnitFile, section: str, problems: list[Problem], *, marks: bool = False) -> None:
        self.unit = unit
        self.section = section
        self._problems = problems
        self._marks = marks

    def report(self, option: Option, message: str, severity: Severity = "error") -> None:
        """Note a problem at an option's place."""
        self._problems.append(Problem(message, option.file, option.line, option.section, option.name, severity))

    def last(self, key: str) -> Option | None:
        """The assignment that counts for a key with one value; None when there is none, or an empty one."""
        option = self.unit.last(self.section, key)
        return self._unmarked(option) if option is not None and option.value else None

    def all(self, key: str) -> list[Option]:
        """The assignments that count for a key that takes a list."""
        return [self._unmarked(option) for option in self.unit.values(self.section, key)]

    def get(self, key: str, parse: Callable[[str], T], default: T) -> T:
        """The parsed value of a key; the default when it is absent or wrong (which is an error)."""
        option = self.last(key)
        if option is None:
            return default
        try:
            return parse(option.value)
        except InvalidValue as error:
            self.report(option, str(error))
            return default

    def lenient(self, key: str, parse: Callable[[str], T], default: T) -> T:
        """As systemd reads its own keys: a wrong value is ignored (`check` has warned), an earlier right one counts."""
        found = default
        for option in self.unit.get_all(self.section, key):
            if not option.value:
                found = default
                continue
            try:
                found = parse(option.value)
            except InvalidValue:
                continue
        return found

    def texts(self, key: str) -> list[str]:
        """The values of a list key."""
        return [option.value for option in self.all(key)]

    def words(self, key: str) -> tuple[str, ...]:
        """The blank-separated words of a list key."""
        return tuple(word for option in self.all(key) for word in option.value.split())

    def _unmarked(self, option: Option) -> Option:
        """Old example files carry the footnote mark ` (*)` behind some values."""
        if not self._marks or not option.value.endswith(" (*)"):
            return option
        return Option(option.section, option.name, option.value[:-4].rstrip(), option.line, option.file)


def one_of(*choices: str) -> Callable[[str], str]:
    """A parser for a closed vocabulary."""

    def parse(text: str) -> str:
        if text not in choices:
            raise InvalidValue(f"{text!r}: expected one of {', '.join(choices)}")
        return text

    return parse


def whole(low: int, high: int = 2**31 - 1, meaning: str = "") -> Callable[[str], int]:
    """A parser for a whole number in a range."""

    def parse(text: str) -> int:
        digits = text[1:] if text[:1] in "+-" else text
        if not (digits.isascii() and digits.isdigit()):
            raise InvalidValue(f"{text!r} is not a whole number")
        number = int(text)
        if not low <= number <= high:
            raise InvalidValue(f"{text!r} is out of range: expected {low} to {high}{meaning}")
        return number

    return parse


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """As they stand in the file."""
    return tuple(sorted(problems, key=lambda problem: (problem.file, problem.line)))
