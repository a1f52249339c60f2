"""Triggers that users write: `TriggerClass=package.module:Class argument ...`.

The class is constructed with the arguments, which are strings. It must have a method `next_after(instant)` or
`next_after(instant, anchor)`. Both instants are microseconds since the epoch. The answer is such an int, an aware
datetime, or None for "never again". The class must be pure, because every machine has to compute the same answer.
"""

import importlib
import inspect
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from xchronos.clock import Instant, to_instant
from xchronos.errors import InvalidTrigger
from xchronos.triggers.base import Endless
from xchronos.triggers.limits import LATEST

COUNT_LIMIT = 100_000
"""The largest answer of `CustomTrigger.count_between`, which has to ask the class for one instant after the other."""

_SPEC = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*(?:\.[^\W\d]\w*)*)")

# A class that raises, or calls sys.exit(), must not end the daemon (`test_a_class_that_raises_kills_nothing`). A
# KeyboardInterrupt is not caught, because it comes from the operator.
_FAULTS = (Exception, SystemExit)


class CustomTrigger(Endless):
    """A trigger that asks a user's class. Whatever the class does wrong becomes an InvalidTrigger."""

    __slots__ = ("_next", "_takes_anchor", "spec")

    def __init__(self, spec: str, following: Callable[..., Any], *, takes_anchor: bool) -> None:
        self.spec = spec
        """`package.module:Class` and its arguments, separated by single blanks."""
        self._next = following
        self._takes_anchor = takes_anchor

    def __repr__(self) -> str:
        return f"CustomTrigger({self.spec!r})"

    @property
    def kind(self) -> str:
        """Always `class`."""
        return "class"

    def next_after(self, instant: Instant, anchor: Instant = 0) -> Instant | None:
        """The answer of the class as an instant.

        Raises:
            InvalidTrigger: the class raised, or its answer is no instant strictly after `instant`.
        """
        try:
            answer = self._next(instant, anchor) if self._takes_anchor else self._next(instant)
            moment = _instant(answer)
        except _FAULTS as error:
            raise InvalidTrigger(f"TriggerClass {self.spec}: next_after({instant}) raised {_told(error)}") from error
        if isinstance(moment, str):
            raise InvalidTrigger(
                f"TriggerClass {self.spec}: next_after({instant}) answered {moment}: "
                "expected an int (microseconds since the epoch), an aware datetime or None"
            )
        if moment is not None and not instant < moment <= LATEST:
            raise InvalidTrigger(
                f"TriggerClass {self.spec}: next_after({instant}) answered {moment}: "
                "expected a later instant, in microseconds, up to the year 9999"
            )
        return moment

    def count_between(self, after: Instant, until: Instant, anchor: Instant = 0) -> int:
        """The number of instants in (after, until], at most `COUNT_LIMIT`."""
        total = 0
        moment = self.next_after(after, anchor)
        while moment is not None and moment <= until and total < COUNT_LIMIT:
            total += 1
            moment = self.next_after(moment, anchor)
        return total


def _instant(answer: object) -> Instant | str | None:
    """The answer as an instant or None. A str says what the answer is if it is neither."""
    if answer is None:
        return None
    if isinstance(answer, int) and not isinstance(answer, bool):
        return int(answer)
    if isinstance(answer, datetime):
        return "a datetime without a zone" if answer.utcoffset() is None else to_instant(answer)
    return f"a {type(answer).__name__}"


def load_class(spec: str) -> CustomTrigger:
    """Import and construct a trigger class. `spec` is `package.module:Class`, followed by arguments after blanks.

    Raises:
        InvalidTrigger: the text is malformed, the import or the constructor fails, or there is no usable next_after.
    """
    words = spec.split()
    found = _SPEC.fullmatch(words[0]) if words else None
    if found is None:
        raise InvalidTrigger(f"TriggerClass {spec!r}: expected package.module:Class and, after blanks, its arguments")
    name, arguments = " ".join(words), words[1:]
    module_name, class_name = found.groups()
    try:
        made: object = importlib.import_module(module_name)
        for part in class_name.split("."):
            made = getattr(made, part, None)
    except _FAULTS as error:
        raise InvalidTrigger(f"TriggerClass {name}: cannot import {module_name}: {_told(error)}") from error
    if not isinstance(made, type):
        raise InvalidTrigger(f"TriggerClass {name}: {module_name} has no class {class_name}")
    try:
        following = getattr(made(*arguments), "next_after", None)
    except _FAULTS as error:
        raise InvalidTrigger(
            f"TriggerClass {name}: {class_name}({', '.join(arguments)}) raised {_told(error)}"
        ) from error
    if not callable(following):
        raise InvalidTrigger(f"TriggerClass {name}: {class_name} has no method next_after(instant, anchor)")
    return CustomTrigger(name, following, takes_anchor=_takes_anchor(name, following))


def _takes_anchor(name: str, following: Callable[..., Any]) -> bool:
    """Whether next_after takes the anchor as well. Raises InvalidTrigger if it fits neither form."""
    try:
        signature = inspect.signature(following)
    except (TypeError, ValueError):  # a method written in C may have no signature; it is called as the protocol says
        return True
    for arguments in ((0, 0), (0,)):
        try:
            signature.bind(*arguments)
        except TypeError:
            continue
        return len(arguments) == 2
    raise InvalidTrigger(
        f"TriggerClass {name}: next_after{signature} cannot be called as next_after(instant, anchor) "
        "or next_after(instant)"
    )


def _told(error: BaseException) -> str:
    """The exception as messages name it."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
