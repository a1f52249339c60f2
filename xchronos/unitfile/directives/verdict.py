"""The verdict on one assignment, and the type of the functions that give it."""

from collections.abc import Callable
from typing import Literal, TypeAlias

import msgspec

from xchronos.unitfile.names import UnitName
from xchronos.unitfile.specifiers import HostFacts, expand

DirectiveOutcome: TypeAlias = Literal["ok", "warned", "ignored", "refused"]


class DirectiveVerdict(msgspec.Struct, frozen=True):
    """How systemd judges one `Key=value`.

    - *ok*: the value is accepted.
    - *warned*: the value is accepted, with the warning in `message`.
    - *ignored*: the value is not accepted, or only a part of it, with the reason in `message`. The unit is loaded.
    - *refused*: the unit cannot be loaded, for the reason in `message`.
    """

    outcome: DirectiveOutcome = "ok"
    message: str = ""
    effect: tuple[str, ...] = ()
    """The lines `Name: value`, as systemd prints them, in which the unit's settings now differ from the defaults."""


OK = DirectiveVerdict()


def shown(*lines: str) -> DirectiveVerdict:
    """The value is accepted; `lines` are its effect."""
    return DirectiveVerdict("ok", "", lines)


def warned(message: str, *lines: str) -> DirectiveVerdict:
    """The value is accepted with a warning; `lines` are its effect."""
    return DirectiveVerdict("warned", message, lines)


def ignored(message: str, *lines: str) -> DirectiveVerdict:
    """The value is not accepted, except for the part whose effect is `lines`."""
    return DirectiveVerdict("ignored", message, lines)


def refused(message: str) -> DirectiveVerdict:
    """The whole unit is refused."""
    return DirectiveVerdict("refused", message)


class Scope(msgspec.Struct, frozen=True):
    """The unit whose values are judged and, if it is known, the machine."""

    name: UnitName
    version: int
    """The version of systemd that judges."""
    host: HostFacts | None = None
    """If it is None, specifiers of the machine stay in the effect as they are written."""

    def expand(self, value: str) -> str:
        """The value with its specifiers expanded. Raises InvalidValue for a specifier that does not exist."""
        return expand(value, self.name, self.host) if "%" in value else value


Kind: TypeAlias = Callable[[str, str, Scope], DirectiveVerdict]
"""Judges a value, given key, value and scope. Raises InvalidValue for what systemd ignores with a warning."""
