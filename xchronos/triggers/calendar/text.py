"""The text of calendar events: systemd.time(7), as systemd 252 reads and prints it.

Where the manual page is silent, this follows what systemd-analyze 252 was seen to do: `1..3/5` is `1`, a range of
seconds must span at least a second, `-` separates weekdays as `..` does, and one comma may follow a list of weekdays.
Where 252 contradicts the page, the page decides: 252 refuses `*-*~13,27`, which is accepted here. The tests
`test_normalized` and `test_what_is_refused` pin these rules.
"""

import re
from typing import NamedTuple, NoReturn

from xchronos.clock import SECOND, to_datetime
from xchronos.errors import InvalidTrigger
from xchronos.triggers.zones import zone, zone_names

FIRST_EVENT_YEAR = 1970
LAST_EVENT_YEAR = 2199
"""The years that an event may name, as in systemd. Nothing elapses after the last one."""

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
EVERY_DAY = 0b1111111
"""All weekdays: bit 0 is Monday."""

_LONGEST_LIST = 241

SHORTHANDS = {
    "minutely": "*-*-* *:*:00",
    "hourly": "*-*-* *:00:00",
    "daily": "*-*-* 00:00:00",
    "weekly": "Mon *-*-* 00:00:00",
    "monthly": "*-*-01 00:00:00",
    "quarterly": "*-01,04,07,10-01 00:00:00",
} | {
    name: text
    for text, names in (
        ("*-01,07-01 00:00:00", ("semiannually", "semi-annually", "biannually", "bi-annually")),
        ("*-01-01 00:00:00", ("yearly", "annually", "anually")),
    )
    for name in names
}
"""The event that each name stands for. systemd's misspelt `anually` is one of the names."""

_WEEKDAY = re.compile(
    r"(mon)(?:day)?|(tue)(?:sday)?|(wed)(?:nesday)?|(thu)(?:rsday)?|(fri)(?:day)?|(sat)(?:urday)?|(sun)(?:day)?",
    re.IGNORECASE | re.ASCII,
)
_NUMBER = re.compile(r"0*([0-9]+)")
_DECIMAL = re.compile(r"0*([0-9]+)(?:\.([0-9]+))?")
_UNIX = re.compile(r"@[ \t]*\+?0*([0-9]+)")
_LARGEST = 2**31 - 1
"""The largest number in any field. systemd counts in C's int, even the microseconds of the seconds."""


class Component(NamedTuple):
    """One item of a list: the single value `start`, `start..stop/repeat`, or `start/repeat` up to the field's end.

    `stop` is -1 if there is none. `repeat` is 0 for a single value.
    """

    start: int
    stop: int
    repeat: int


Chain = tuple[Component, ...]
"""A list of components. An empty one means `*`."""


class CalendarField(NamedTuple):
    """A field: its name in errors and its range. `unit` is 1, or for seconds 1,000,000: they are in microseconds.

    `width` is the number of digits in the normal form.
    """

    name: str
    low: int
    high: int
    unit: int = 1
    width: int = 2


EVENT_YEAR = CalendarField("year", FIRST_EVENT_YEAR, LAST_EVENT_YEAR, width=4)
MONTH_OF_YEAR = CalendarField("month", 1, 12)
DAY_OF_MONTH = CalendarField("day", 1, 31)
LAST_DAY = CalendarField("day from the month's end", 1, 28)
HOUR_OF_DAY = CalendarField("hour", 0, 23)
MINUTE_OF_HOUR = CalendarField("minute", 0, 59)
SECOND_OF_MINUTE = CalendarField("second", 0, 60 * SECOND - 1, unit=SECOND)

_ZERO: Chain = (Component(0, -1, 0),)


class CalendarSpec(NamedTuple):
    """A calendar event in its normal form. `zone_name` is empty unless the text ends with a zone."""

    weekdays: int
    """A mask of 7 bits. Bit 0 is Monday."""
    year: Chain
    month: Chain
    day: Chain
    from_end: bool
    """Whether `day` counts from the month's end (`~`): 1 is the last day."""
    hour: Chain
    minute: Chain
    second: Chain
    zone_name: str

    def __str__(self) -> str:
        """The normalised text, as `systemd-analyze calendar` prints it."""
        days = "" if self.weekdays == EVERY_DAY else f"{_weekday_text(self.weekdays)} "
        mark = "~" if self.from_end else "-"
        date = f"{_text(EVENT_YEAR, self.year)}-{_text(MONTH_OF_YEAR, self.month)}{mark}{_text(DAY_OF_MONTH, self.day)}"
        clock = ":".join(
            (_text(HOUR_OF_DAY, self.hour), _text(MINUTE_OF_HOUR, self.minute), _text(SECOND_OF_MINUTE, self.second))
        )
        return f"{days}{date} {clock}" + (f" {self.zone_name}" if self.zone_name else "")


def parse_spec(text: str) -> CalendarSpec:
    """Read a calendar event.

    Raises:
        InvalidTrigger: the text is no event. The message names the field, its text and the allowed range.
    """
    body, zone_name = _split_zone(text)
    if not body:
        raise InvalidTrigger("it is empty: expected weekdays, a date or a time")
    return _Reader(SHORTHANDS.get(body.lower(), body)).spec(zone_name)


def _split_zone(text: str) -> tuple[str, str]:
    """The text without its time zone, and the zone's name."""
    body, blank, last = text.rpartition(" ")
    if not blank:
        return text, ""
    if last.lower() == "utc":
        return body, "UTC"
    if last in zone_names():
        return body, last
    if body.strip() and last[:1].isalpha() and not _WEEKDAY.match(last):
        zone(last)  # raises InvalidTrigger, because there is no such zone
    return text, ""


class _Reader:
    """Reads a text from left to right. `at` is the index of the next character."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def spec(self, zone_name: str) -> CalendarSpec:
        weekdays = self.weekdays()
        unix = _UNIX.match(self.text, self.at)
        if unix:
            self.at = unix.end()
            return self.unix(unix[1], weekdays)
        (year, month, day), from_end = self.date()
        hour, minute, second = self.time()
        return CalendarSpec(
            weekdays or EVERY_DAY,
            _normalized(EVENT_YEAR, tuple(map(_full_year, year))),
            _normalized(MONTH_OF_YEAR, month),
            _normalized(LAST_DAY if from_end else DAY_OF_MONTH, day),
            from_end and bool(day),
            _normalized(HOUR_OF_DAY, hour),
            _normalized(MINUTE_OF_HOUR, minute),
            _normalized(SECOND_OF_MINUTE, second),
            zone_name,
        )

    def fail(self, expected: str) -> NoReturn:
        found = self.text[self.at : self.at + 20]
        place = f"at {found!r}" if found else "at its end"
        raise InvalidTrigger(f"{place}, expected {expected}")

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def blanks(self) -> None:
        while self.peek() == " ":
            self.at += 1

    def weekdays(self) -> int:
        """The mask of the weekdays at the beginning, or 0 if there are none."""
        mask = 0
        opened = -1
        while True:
            found = _WEEKDAY.match(self.text, self.at)
            if not found or self.text[found.end() : found.end() + 1] not in ("", " ", ",", "-", "."):
                if not mask:
                    return 0
                self.fail("a weekday (Mon..Sun)")
            assert found.lastindex is not None
            day = found.lastindex - 1
            if opened > day:
                raise InvalidTrigger(
                    f"the weekdays {WEEKDAYS[opened]}..{WEEKDAYS[day]} are reversed: a week goes from Mon to Sun"
                )
            mask |= (2 << day) - (1 << (day if opened < 0 else opened))
            self.at = found.end()
            separator = self.peek()
            if opened >= 0 and separator in ("-", "."):
                self.fail("',' or ' ' after a range of weekdays")
            opened = -1
            if separator == "-" or self.text.startswith("..", self.at):
                opened = day
                self.at += 1 if separator == "-" else 2
            elif separator == ",":
                self.at += 1
            elif separator == ".":
                self.fail("'..'")
            if self.peek() in ("", " "):
                if opened >= 0:
                    self.fail("the weekday that ends the range")
                self.blanks()
                return mask

    def date(self) -> tuple[tuple[Chain, Chain, Chain], bool]:
        """Year, month and day, and whether days count from the month's end. Without a date, all are `*`."""
        if not self.peek():
            return ((), (), ()), False
        begin = self.at
        first = self.chain(DAY_OF_MONTH)
        separator = self.peek()
        if separator in ("", ":"):
            self.at = begin
            return ((), (), ()), False
        if separator not in ("-", "~"):
            self.fail("'-', '~' or ':'")
        from_end = separator == "~"
        self.at += 1
        parts = [first, self.chain(DAY_OF_MONTH)]
        if self.peek() not in ("", " "):
            if from_end or self.peek() not in ("-", "~"):
                self.fail("' '" if from_end else "'-', '~' or ' '")
            from_end = self.peek() == "~"
            self.at += 1
            parts.append(self.chain(DAY_OF_MONTH))
            if self.peek() not in ("", " "):
                self.fail("' ' after the date")
        self.blanks()
        year, month, day = parts if len(parts) == 3 else [(), *parts]
        return (year, month, day), from_end

    def time(self) -> tuple[Chain, Chain, Chain]:
        """Hour, minute and second. Without a time, it is midnight."""
        if not self.peek():
            return _ZERO, _ZERO, _ZERO
        hour = self.chain(HOUR_OF_DAY)
        if self.peek() != ":":
            self.fail("':' after the hour")
        self.at += 1
        minute = self.chain(MINUTE_OF_HOUR)
        second = _ZERO
        if self.peek() == ":":
            self.at += 1
            second = self.chain(SECOND_OF_MINUTE)
        if self.peek():
            self.fail("the end")
        return hour, minute, second

    def unix(self, digits: str, weekdays: int) -> CalendarSpec:
        """The event of `@seconds`. It is in UTC, even if the text names a zone."""
        if self.peek():
            self.fail("the end after @seconds")
        seconds = int(digits[:11])
        if seconds >= 7_258_118_400:
            raise InvalidTrigger(f"@{_cut(digits)} lies after the year {LAST_EVENT_YEAR}")
        moment = to_datetime(seconds * SECOND)
        fields = (moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second * SECOND)
        year, month, day, hour, minute, second = (((Component(value, -1, 0)),) for value in fields)
        return CalendarSpec(weekdays or EVERY_DAY, year, month, day, False, hour, minute, second, "UTC")

    def chain(self, field: CalendarField) -> Chain:
        """The list of one field. `*` gives the empty list, except for seconds, where it gives every whole second."""
        if self.peek() == "*":
            self.at += 1
            return (Component(0, -1, SECOND),) if field is SECOND_OF_MINUTE else ()
        found = [self.component(field)]
        while self.peek() == ",":
            self.at += 1
            found.append(self.component(field))
            if len(found) > _LONGEST_LIST:
                raise InvalidTrigger(f"a list has more than {_LONGEST_LIST} items")
        return tuple(found)

    def component(self, field: CalendarField) -> Component:
        begin = self.at
        start, stop, repeat = self.number(field), -1, 0
        if self.text.startswith("..", self.at):
            self.at += 2
            stop = self.number(field)
            repeat = field.unit
        if self.peek() == "/":
            self.at += 1
            repeat = self.number(field)
            if not repeat:
                raise InvalidTrigger(f"{self.text[begin : self.at]!r} has the step 0: expected at least 1")
        elif field is SECOND_OF_MINUTE and repeat and stop - start < SECOND:
            raise InvalidTrigger(
                f"the seconds {self.text[begin : self.at]!r} span less than a second: expected a step behind ('/0.1')"
            )
        if self.peek() not in ("", " ", ",", "-", "~", ":"):
            self.fail("',', '..', '/' or the field's end")
        return Component(start, stop, repeat)

    def number(self, field: CalendarField) -> int:
        """A number. Seconds may have a fraction, which is rounded to microseconds (halves are rounded up)."""
        found = (_DECIMAL if field is SECOND_OF_MINUTE else _NUMBER).match(self.text, self.at)
        if not found:
            self.fail("a number")
        self.at = found.end()
        # A number of more than eleven digits is too large anyway.
        value = int(found[1][:11]) * field.unit
        if field is SECOND_OF_MINUTE:
            digits = (found[2] or "").ljust(7, "0")
            value += int(digits[:6]) + (digits[6] >= "5")
        if value > _LARGEST:
            raise InvalidTrigger(f"the number {_cut(found[0])} is too large: at most {_LARGEST // field.unit}")
        return value


def _cut(digits: str) -> str:
    """A number as errors quote it, shortened if it is long."""
    return digits if len(digits) <= 30 else digits[:27] + "..."


def _full_year(component: Component) -> Component:
    """The component with its two-digit years completed: 12 is 2012, 89 is 1989."""
    start, stop = (
        year + 2000 if 0 <= year < 70 else year + 1900 if 70 <= year < 100 else year for year in component[:2]
    )
    return Component(start, stop, component.repeat)


def _normalized(field: CalendarField, chain: Chain) -> Chain:
    """The chain sorted, with each component once, and with each `stop` the last value that the steps reach."""
    found = set()
    for start, stop, repeat in chain:
        end = stop - (stop - start) % repeat if stop > start else stop
        component = Component(start, -1, 0) if start == end else Component(start, end, repeat)
        _check(field, component)
        found.add(component)
    return tuple(sorted(found))


def _check(field: CalendarField, component: Component) -> None:
    start, stop, repeat = component
    low, high = field.low, field.high
    shown = _text(field, (component,))
    allowed = f"expected {low} to {high // field.unit}"
    if not low <= start <= high or (stop >= 0 and not low <= stop <= high):
        raise InvalidTrigger(f"the {field.name} {shown} is out of range: {allowed}")
    if 0 <= stop < start:
        raise InvalidTrigger(f"the {field.name} {shown} is reversed: expected the smaller one first")
    if not repeat:
        return
    # Days that count from the month's end step towards that end: `~07/2` is the seventh-last day, then the fifth-last.
    reach = high - start if field is not LAST_DAY else start - low
    if repeat > high - low or (stop < 0 and repeat > reach):
        raise InvalidTrigger(f"the {field.name} {shown} has a step that leaves the range at once: {allowed}")


def _weekday_text(mask: int) -> str:
    """The weekdays as text: `Mon..Thu,Sat,Sun`. Three or more in a row are a range."""
    runs: list[list[int]] = []
    for day in range(7):
        if mask >> day & 1:
            if runs and runs[-1][-1] == day - 1:
                runs[-1].append(day)
            else:
                runs.append([day])
    parts = []
    for run in runs:
        first, last = WEEKDAYS[run[0]], WEEKDAYS[run[-1]]
        parts.append(first if len(run) == 1 else f"{first}{'..' if len(run) > 2 else ','}{last}")
    return ",".join(parts)


def _text(field: CalendarField, chain: Chain) -> str:
    """The chain as systemd prints it: numbers padded, microseconds as six decimals, and no step of one."""
    unit = field.unit
    if not chain or (unit > 1 and any(component == (0, -1, unit) for component in chain)):
        return "*"
    parts = []
    for start, stop, repeat in chain:
        text = _padded(start, unit, field.width)
        if stop > 0:
            text += f"..{_padded(stop, unit, field.width)}"
        if repeat and not (stop > 0 and repeat == unit):
            text += f"/{_padded(repeat, unit, 0)}"
        parts.append(text)
    return ",".join(parts)


def _padded(value: int, unit: int, width: int) -> str:
    whole, rest = divmod(value, unit)
    return f"{whole:0{width}d}" + (f".{rest:06d}" if rest else "")
