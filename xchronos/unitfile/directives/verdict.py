"""What systemd 252 makes of one assignment."""

from collections.abc import Callable
from typing import Literal, TypeAlias

import msgspec

from xchronos.unitfile.names import UnitName
from xchronos.unitfile.specifiers import HostFacts, expand

Outcome: TypeAlias = Literal["ok", "warned", "ignored", "refused"]


class DirectiveVerdict(msgspec.Struct, frozen=True):
    """The judgement of one `Key=value`.

    *ok*: taken. *warned*: taken, and there is something to say. *ignored*: not taken, or only in part; the unit goes on
    with what it had. *refused*: the unit cannot be loaded.
    """

    outcome: Outcome = "ok"
    message: str = ""
    effect: tuple[str, ...] = ()
    """The lines `Name: value` in which the unit's settings now differ from the defaults, in systemd's normal form."""


OK = DirectiveVerdict()


def shown(*lines: str) -> DirectiveVerdict:
    """Taken, with these lines of effect."""
    return DirectiveVerdict("ok", "", lines)


def warned(message: str, *lines: str) -> DirectiveVerdict:
    """Taken, with something to say."""
    return DirectiveVerdict("warned", message, lines)


def ignored(message: str, *lines: str) -> DirectiveVerdict:
    """Not taken, or only as far as `lines` tell."""
    return DirectiveVerdict("ignored", message, lines)


def refused(message: str) -> DirectiveVerdict:
    """The whole unit is refused."""
    return DirectiveVerdict("refused", message)


class Scope(msgspec.Struct, frozen=True):
    """Whose values are judged: the unit's name and, where it is known, the machine."""

    name: UnitName
    host: HostFacts | None = None
    """Without it, the specifiers of the machine stay in the effect as they are written."""

    def expand(self, value: str) -> str:
        """The value with its specifiers filled in. Raises InvalidValue for one that does not exist."""
        return expand(value, self.name, self.host) if "%" in value else value


Kind: TypeAlias = Callable[[str, str, Scope], DirectiveVerdict]
"""Judges the value of a key. Raises InvalidValue for what systemd ignores with a warning."""
