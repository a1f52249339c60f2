r"""`[X-Fleet]`: where a unit may run, with the semantics of fleet 1.0.

There are two readings of the same options:

* `fleet_requirements` and `fleet_contradiction` read exactly as fleet did. A malformed pair is dropped silently, and an
  unknown key is only listed in `unknown`. They are what the reading of xchronos is tested against.
* `requirements` is the reading of xchronos. It gives the same values, but a pair that fleet would drop is a `Problem`
  with its line. It also knows the operators `!= >= <= > <`, which fleet did not have. The test
  `test_what_xchronos_accepts_fleet_reads_alike` pins that the two agree.

Both follow these rules:

* Of several `=` pairs with the same key, one must match. All keys must match. Grouping on lines does not matter.
* An empty assignment does not reset the lines before it.
* A value that starts and ends with `"` holds several values.
* `%n %N %p %i` are replaced by plain text.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Literal, Protocol, TypeAlias

import msgspec

from xchronos.errors import InvalidValue, Problem
from xchronos.unitfile.glob import glob_is_valid, glob_matches
from xchronos.unitfile.suggest import did_you_mean

Operator: TypeAlias = Literal["=", "!=", ">=", "<=", ">", "<"]

FLEET_SECTION = "X-Fleet"
MACHINE_ID_KEYS = ("MachineID", "X-ConditionMachineID", "X-ConditionMachineBootID")
"""Keys that name the machine, in the order of precedence. The first value of the first key present wins."""
MACHINE_OF_KEYS = ("X-ConditionMachineOf", "MachineOf")
METADATA_KEYS = ("X-ConditionMachineMetadata", "MachineMetadata")
CONFLICTS_KEYS = ("X-Conflicts", "Conflicts")
_KEYS_OF: dict[str, tuple[str, ...]] = {
    "MachineID": MACHINE_ID_KEYS,
    "Peers": MACHINE_OF_KEYS,
    "Conflicts": CONFLICTS_KEYS,
    "Global": ("Global",),
    "Replaces": ("Replaces",),
}
"""The keys of what fleet calls so in its contradictions."""
FLEET_KEYS = frozenset((*MACHINE_ID_KEYS, *MACHINE_OF_KEYS, *METADATA_KEYS, *CONFLICTS_KEYS, "Global", "Replaces"))

_TRUE = frozenset(("true", "yes", "1", "on", "t"))
_FALSE = frozenset(("false", "no", "0", "off", "f", ""))
# The blanks are those of Go's unicode.IsSpace. Python's str.split also splits at U+001C..U+001F.
_FIELD = re.compile("[^\t\n\v\f\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
_TERM = re.compile(r"([^=!<>]*)(!=|>=|<=|=|>|<)(.*)", re.DOTALL)
_QUOTED_WORD = re.compile(r'"([^"]*)"(?:[ \t]+|$)')


class AnyOption(Protocol):
    """The attributes of a unit file's option that this module reads."""

    @property
    def section(self) -> str: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def value(self) -> str: ...  # noqa: D102
    @property
    def line(self) -> int: ...  # noqa: D102
    @property
    def file(self) -> str: ...  # noqa: D102


class MetadataTerm(msgspec.Struct, frozen=True):
    """One pair of `MachineMetadata`: `region=us-east-1`, or with an operator `cores>=8`."""

    key: str
    operator: Operator
    value: str

    def __str__(self) -> str:
        return f"{self.key}{self.operator}{self.value}"


class FleetRequirements(msgspec.Struct, frozen=True):
    """What a unit requires of the machine that runs it."""

    machine_id: str | None = None
    """The id of the required machine or its first 8 characters. None if any machine will do."""
    peers: tuple[str, ...] = ()
    """`MachineOf`: names of units that must be on the same machine."""
    metadata: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    """`MachineMetadata` with `=`: the accepted values of each key, sorted. The machine must have one for every key."""
    terms: tuple[MetadataTerm, ...] = ()
    """`MachineMetadata` with another operator than `=`. Every one must hold."""
    conflicts: tuple[str, ...] = ()
    """Globs of unit names that may not be on the same machine."""
    replaces: tuple[str, ...] = ()
    """Globs of unit names that have to leave the machine."""
    is_global: bool = False
    """Whether the unit runs on every matching machine."""
    raw: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    """Every key of the section, known or not, with its values. Specifiers are expanded."""

    @property
    def unknown(self) -> tuple[str, ...]:
        """The keys that fleet does not know, in the order of the file."""
        return tuple(key for key in self.raw if key not in FLEET_KEYS)


def split_values(line: str) -> list[str]:
    """The values of one `[X-Fleet]` line: several if it starts and ends with a quote, else the line itself.

    The line is split at every single space outside quotes. Two spaces in a row give an empty value between them.
    """
    if not (line.startswith('"') and line.endswith('"')):
        return [line]
    values: list[str] = []
    inside, start = False, 0
    for position, character in enumerate(line):
        if character == '"':
            inside = not inside
        elif character == " " and not inside:
            values.append(line[start:position].replace('"', ""))
            start = position + 1
    values.append(line[start:].replace('"', ""))
    return values


def expand(text: str, name: str) -> str:
    """Replace %n, %N, %p and %i, one after the other, by the unit's name and its parts.

    Nothing is escaped, and nothing is an error.
    """
    stem, dot, _ = name.rpartition(".")
    if not dot or "%" not in text:
        return text
    prefix, _, instance = stem.partition("@")
    return text.replace("%n", name).replace("%N", stem).replace("%p", prefix).replace("%i", instance)


def _collect(name: str, options: Iterable[AnyOption]) -> dict[str, tuple[str, ...]]:
    collected: dict[str, tuple[str, ...]] = {}
    for option in options:
        if option.section == FLEET_SECTION:
            values = tuple(expand(value, name) for value in split_values(option.value))
            collected[option.name] = collected.get(option.name, ()) + values
    return collected


def _build(raw: dict[str, tuple[str, ...]], terms: Iterable[MetadataTerm]) -> FleetRequirements:
    metadata: dict[str, set[str]] = {}
    others: list[MetadataTerm] = []
    for term in terms:
        if term.operator == "=":
            metadata.setdefault(term.key, set()).add(term.value)
        elif term not in others:
            others.append(term)
    flags = raw.get("Global", ())
    return FleetRequirements(
        machine_id=next((raw[key][0] for key in MACHINE_ID_KEYS if key in raw), None),
        peers=tuple(value for key in MACHINE_OF_KEYS for value in raw.get(key, ())),
        metadata={key: tuple(sorted(values)) for key, values in metadata.items()},
        terms=tuple(others),
        conflicts=tuple(word for key in CONFLICTS_KEYS for value in raw.get(key, ()) for word in _FIELD.findall(value)),
        replaces=raw.get("Replaces", ()),
        is_global=bool(flags) and flags[-1].lower() in _TRUE,
        raw=raw,
    )


def fleet_requirements(name: str, options: Iterable[AnyOption]) -> FleetRequirements:
    """Fleet's own reading of a unit's `[X-Fleet]` options. It drops what it does not understand."""
    raw = _collect(name, options)
    terms: list[MetadataTerm] = []
    for key in METADATA_KEYS:
        for pair in raw.get(key, ()):
            parts = pair.split("=")
            if len(parts) == 2 and all(parts):
                terms.append(MetadataTerm(parts[0], "=", parts[1]))
    return _build(raw, terms)


def fleet_contradiction(requirements: FleetRequirements) -> str | None:
    """Why fleet refuses these options at submit, or None. It is the first contradiction, in fleet's order and words."""
    unmeetable = _unmeetable(requirements)
    if unmeetable is not None:
        peer, key, pattern = unmeetable
        kind = "conflict" if key == "Conflicts" else "replace"
        return f"unresolvable requirements: peer {go_quote(peer)} matches {kind} {go_quote(pattern)}"
    pair = _exclusive(requirements)
    return f"{pair[0]} cannot be used with {pair[1]}" if pair is not None else None


def _unmeetable(asked: FleetRequirements) -> tuple[str, str, str] | None:
    """A peer that a glob excludes, with the key and the text of the glob."""
    for peer in asked.peers:
        for key, globs in (("Conflicts", asked.conflicts), ("Replaces", asked.replaces)):
            for pattern in globs:
                if glob_matches(pattern, peer):
                    return peer, key, pattern
    return None


def _exclusive(asked: FleetRequirements) -> tuple[str, str] | None:
    """The first two things asked for that exclude each other, in fleet's words."""
    has_target = asked.machine_id is not None
    for first, second, present in (
        ("MachineID", "Peers", has_target and asked.peers),
        ("MachineID", "Conflicts", has_target and asked.conflicts),
        ("MachineID", "Global", has_target and asked.is_global),
        ("MachineID", "Replaces", has_target and asked.replaces),
        ("Global", "Peers", asked.is_global and asked.peers),
        ("Global", "Replaces", asked.is_global and asked.replaces),
        ("Conflicts", "Replaces", asked.conflicts and asked.replaces),
    ):
        if present:
            return first, second
    return None


def parse_metadata(value: str) -> list[MetadataTerm]:
    """The pairs of one `MachineMetadata=` line as xchronos reads it.

    The line holds one unquoted pair (`region=us-east-1`), or several pairs, each in double quotes.

    Raises InvalidValue for what fleet would drop silently: an unquoted second pair, two `=` in a pair, an empty key or
    value, a stray quote.
    """
    if '"' not in value:
        return [_parse_term(value, quoted=False)] if value else []
    terms: list[MetadataTerm] = []
    position = 0
    while position < len(value):
        word = _QUOTED_WORD.match(value, position)
        if word is None:
            raise InvalidValue(
                f"{value!r} mixes quoted and unquoted text: expected every pair in double quotes of its own, "
                'such as "region=eu" "disk=ssd"'
            )
        terms.append(_parse_term(word[1], quoted=True))
        position = word.end()
    return terms


def _parse_term(pair: str, *, quoted: bool) -> MetadataTerm:
    found = _TERM.fullmatch(pair)
    key, operator, value = found.groups() if found else ("", "", "")
    key, value = key.strip(), value.strip()
    if not quoted and re.search(r"[ \t][^ \t]*[=<>]", value):
        raise InvalidValue(f"{pair!r} holds more than one pair: expected quotes around each, {_requoted(pair)}")
    if "=" in value:
        raise InvalidValue(f"{pair!r} has more than one '=': expected one pair, such as region=eu")
    if not key or not value or value[0] in "<>":
        raise InvalidValue(f"{pair!r} is not a pair: expected key=value, or one of != >= <= > < instead of =")
    return MetadataTerm(key, operator, value)  # type: ignore[arg-type]  # one of the alternatives of _TERM


def _requoted(pairs: str) -> str:
    return " ".join(f'"{pair}"' for pair in pairs.split())


def requirements(name: str, options: Sequence[AnyOption]) -> tuple[FleetRequirements, list[Problem]]:
    """The reading of xchronos: what the unit requires, and every problem with its options.

    Use the requirements only if no problem is an error.
    """
    problems: list[Problem] = []
    terms: list[MetadataTerm] = []
    for option in options:
        if option.section == FLEET_SECTION:
            problems.extend(_option_problems(name, option, terms, len(problems)))
    asked = _build(_collect(name, options), terms)
    problems.extend(_contradiction(name, asked, options))
    return asked, problems


def _contradiction(name: str, asked: FleetRequirements, options: Sequence[AnyOption]) -> list[Problem]:
    """What fleet refuses, told of the keys as they are written, at the line of one and with the line of the other."""

    def written(kind: str, value: str = "") -> AnyOption:
        keys = _KEYS_OF[kind]
        found = [option for option in options if option.section == FLEET_SECTION and option.name in keys]
        return next((one for one in found if value and value in expand(one.value, name)), found[-1])

    unmeetable = _unmeetable(asked)
    if unmeetable is not None:
        peer, kind, pattern = unmeetable
        if not peer:
            return []  # an empty value has a problem of its own
        place, other = written(kind, pattern), written("Peers", peer)
        message = (
            f"{pattern!r} matches {peer}, which {other.name} in line {other.line} asks for: no machine can have both"
        )
        return [Problem(message, place.file, place.line, FLEET_SECTION, place.name)]
    pair = _exclusive(asked)
    if pair is None:
        return []
    place, other = written(pair[0]), written(pair[1])
    message = f"cannot be used with {other.name}, which is in line {other.line}: expected one of them"
    return [Problem(message, place.file, place.line, FLEET_SECTION, place.name)]


def _option_problems(name: str, option: AnyOption, terms: list[MetadataTerm], told: int) -> list[Problem]:
    """The problems of one option, at most one; `told` come before it. Its metadata pairs are appended to `terms`."""
    key, value = option.name, expand(option.value, name)
    message, severity = "", "error"
    if key not in FLEET_KEYS:
        message = f"unknown key{_nearest(key, told)}"
    elif not value and key != "Global":
        if key in MACHINE_ID_KEYS or key in MACHINE_OF_KEYS:
            message = "the value is empty, so no machine can match: expected a machine's id or a unit's name"
        else:
            message, severity = (
                "an empty value does not reset the lines before it (fleet's rule); it does nothing",
                "warning",
            )
    elif key in MACHINE_OF_KEYS and name in split_values(value):
        message, severity = "it would wait for itself, so no machine can match: expected another unit's name", "warning"
    elif key in METADATA_KEYS:
        try:
            terms.extend(parse_metadata(value))
        except InvalidValue as problem:
            message = str(problem)
    elif key == "Global" and split_values(value)[-1].lower() not in _TRUE | _FALSE:
        message = f"{value!r} is not a boolean: expected true or false"
    elif key in CONFLICTS_KEYS or key == "Replaces":
        bad = [word for part in split_values(value) for word in _FIELD.findall(part) if not glob_is_valid(word)]
        if bad:
            message = f"{bad[0]!r} is a malformed glob and would match nothing: expected each [ to have its ]"
    if not message:
        return []
    place = Problem(message=message, file=option.file, line=option.line, section=FLEET_SECTION, key=key)
    return [msgspec.structs.replace(place, severity=severity)]


def _nearest(key: str, told: int) -> str:
    plain = ("MachineID", "MachineOf", "MachineMetadata", "Conflicts", "Replaces", "Global")
    return did_you_mean(key.removeprefix("X-"), plain, told) or ": expected " + ", ".join(plain)


def go_quote(text: str) -> str:
    """Go's %q, for the characters that a unit file can hold."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t")
    return f'"{escaped}"'
