"""What a unit file says, losslessly: its options in order, each with its place, and its bytes."""

from dataclasses import dataclass, field
from hashlib import sha256

import msgspec

from xchronos.errors import Problem


class Option(msgspec.Struct, frozen=True, gc=False):
    """One assignment. `value` is verbatim: quotes, escapes, `%` and `$` are untouched; empty means "reset".

    `line` is 1-based: the line on which the assignment begins, however many continuation lines follow.
    """

    section: str
    name: str
    value: str
    line: int
    file: str = ""


class Header(msgspec.Struct, frozen=True, gc=False):
    """One `[section]` line, kept because a section may be there without any option."""

    name: str
    line: int
    file: str = ""


@dataclass(frozen=True, slots=True)
class UnitFile:
    """A parsed unit file, alone or merged with its drop-ins.

    `data` are the bytes of the file itself; `options` and `headers` are in the order in which they count, those of
    the `dropins` last. `problems` holds warnings only: an error has refused the file.
    """

    path: str
    data: bytes
    options: tuple[Option, ...]
    headers: tuple[Header, ...] = ()
    problems: tuple[Problem, ...] = ()
    dropins: tuple["UnitFile", ...] = ()
    _index: dict[tuple[str, str], list[Option]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        index = self._index
        for option in self.options:
            key = (option.section, option.name)
            known = index.get(key)
            if known is None:
                index[key] = [option]
            else:
                known.append(option)

    @property
    def text(self) -> str:
        """The file as text. Lossless: `parse(unit.text)` has the same bytes.

        Bytes that are not UTF-8 (they can only stand in comments) become lone surrogates, as in PEP 383.
        """
        return self.data.decode("utf-8", "surrogateescape")

    @property
    def masked(self) -> bool:
        """Whether the file has no bytes at all: systemd's way to say that the unit must not be started."""
        return not self.data

    @property
    def revision(self) -> str:
        """SHA-256 of the bytes, in hex. With drop-ins: over the digest of the file and of each drop-in."""
        digest = sha256(self.data)
        if self.dropins:
            parts = (self.data, *(dropin.data for dropin in self.dropins))
            digest = sha256(b"".join(sha256(part).digest() for part in parts))
        return digest.hexdigest()

    @property
    def sections(self) -> tuple[str, ...]:
        """The names of the sections, each once, in the order of their first header; empty sections included."""
        return tuple(dict.fromkeys(header.name for header in self.headers))

    def section(self, name: str) -> tuple[Option, ...]:
        """The options of one section, in order; empty when there is no such section."""
        return tuple(option for option in self.options if option.section == name)

    def get_all(self, section: str, name: str) -> tuple[Option, ...]:
        """Every assignment to a key, in order, the empty ones too."""
        return tuple(self._index.get((section, name), ()))

    def last(self, section: str, name: str) -> Option | None:
        """The assignment that counts for a key that takes one value; None when there is none.

        Its value is empty when the last assignment resets the key to its default.
        """
        found = self._index.get((section, name))
        return found[-1] if found else None

    def values(self, section: str, name: str) -> tuple[Option, ...]:
        """The assignments that count for a key that takes a list: those after the last empty one."""
        kept: list[Option] = []
        for option in self._index.get((section, name), ()):
            if option.value:
                kept.append(option)
            else:
                kept.clear()
        return tuple(kept)
