"""A parsed unit file: its options in the order of the file, each with its line, and the bytes of the file unchanged."""

from dataclasses import dataclass, field
from hashlib import sha256

import msgspec

from xchronos.errors import Problem


class Option(msgspec.Struct, frozen=True, gc=False):
    """One assignment. `value` is verbatim: quotes, escapes, `%` and `$` are untouched. An empty value means "reset".

    `line` counts from 1. It is the line on which the assignment begins, even if continuation lines follow.
    """

    section: str
    name: str
    value: str
    line: int
    file: str = ""


class Header(msgspec.Struct, frozen=True, gc=False):
    """One `[section]` line. It is kept because a section may have no options."""

    name: str
    line: int
    file: str = ""


@dataclass(frozen=True, slots=True)
class UnitFile:
    """A parsed unit file, alone or merged with its drop-ins.

    `data` holds the bytes of the file itself. `options` and `headers` are in the order in which they are read: first
    the file's own, then those of each of the `dropins`. `problems` holds warnings only, because a file with an error
    is refused and never becomes a `UnitFile`.
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
        """The file as text. Nothing is lost: `parse(unit.text)` has the same bytes.

        Bytes that are not UTF-8 become lone surrogates, as in PEP 383. Such bytes occur in comments only. The test
        `test_cat_gives_back_every_byte` pins this.
        """
        return self.data.decode("utf-8", "surrogateescape")

    @property
    def masked(self) -> bool:
        """Whether the file has no bytes at all. In systemd, such a unit must not be started."""
        return not self.data

    @property
    def revision(self) -> str:
        """SHA-256 of the bytes, in hex. With drop-ins, it is the SHA-256 of the file's digest and of each drop-in's."""
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
        """The last assignment to a key, which is the one that counts for a key with one value. None without any.

        Its value is empty when that assignment resets the key to its default.
        """
        found = self._index.get((section, name))
        return found[-1] if found else None

    def values(self, section: str, name: str) -> tuple[Option, ...]:
        """The assignments that count for a key that takes a list: those after the last empty assignment."""
        kept: list[Option] = []
        for option in self._index.get((section, name), ()):
            if option.value:
                kept.append(option)
            else:
                kept.clear()
        return tuple(kept)
