"""Command-line options read as the docker client reads them (the rules of Go's pflag), plus the old one-dash spellings.

- `--name=value`, `--name value`; a boolean takes its value only with `=`.
- One-letter options cluster: `-it`, `-p80:80`, `-eA=1`, `-e=A=1`, `-itp 80:80`.
- `--` ends the options. Unless a verb is *interspersed*, so does the first other word.

Docker before 1.0 wrote long options with one dash (`-rm`, `-name x`, `-volumes-from=y`). Today's client refuses most of
them and misreads the rest (`-link a:b` is `-l ink`, a label). A word that spells a long option behind one dash is
therefore read as that option, with a warning, except where the word is a proper cluster (`-ip 80:80` is `-i -p 80:80`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from xchronos.dockercli.values import parse_bool
from xchronos.errors import InvalidValue

Kind = Literal["bool", "one", "many"]

# Long options that came after the one-dash form had gone, and whose names are proper clusters of today's letters.
_CLUSTERS = frozenset(("ip", "ip6"))


class Flag(NamedTuple):
    """One option of a verb.

    `kind`: `bool`, `one` (the last one wins) or `many` (repeats add up). `parse` reads one value. `refuse`: why we
    do not support it, and what to do instead. `note`: a warning for whoever uses it.
    """

    name: str
    letter: str = ""
    kind: Kind = "one"
    parse: Callable[[str], Any] | None = None
    refuse: str = ""
    note: str = ""

    @property
    def shown(self) -> str:
        """The option as error texts name it."""
        return f"-{self.letter}, --{self.name}" if self.letter else f"--{self.name}"


class FlagTable(NamedTuple):
    """The options of one verb, by spelling. Built once, by `table`. `command` is what errors call it: `docker run`."""

    command: str
    long: Mapping[str, Flag]
    letters: Mapping[str, Flag]
    interspersed: bool


class Parsed(NamedTuple):
    """What a command line says: values by option name, the words that are no options, and warnings."""

    values: dict[str, Any]
    words: list[str]
    warnings: list[str]

    def get(self, name: str, default: Any = None) -> Any:
        """The value of an option (a list for a repeatable one), or the default when it was not given."""
        return self.values.get(name, default)

    def many(self, name: str) -> list[Any]:
        """The values of a repeatable option, empty when it was not given."""
        values: list[Any] = self.values.get(name, [])
        return values


def table(
    verb: str, options: Sequence[Flag], synonyms: Mapping[str, str] | None = None, *, interspersed: bool = True
) -> FlagTable:
    """Index the options of a verb; `synonyms` maps further long spellings to the option's name."""
    by_name = {option.name: option for option in options}
    long = {**by_name, **{other: by_name[name] for other, name in (synonyms or {}).items()}}
    return FlagTable(
        f"docker {verb}".rstrip(), long, {option.letter: option for option in options if option.letter}, interspersed
    )


def parse_flags(options: FlagTable, arguments: Sequence[str]) -> Parsed:
    """Read the arguments of a verb. Raises InvalidValue naming the option, in the client's words where it has any."""
    parsed = Parsed({}, [], [])
    position, count = 0, len(arguments)
    while position < count:
        word = arguments[position]
        position += 1
        if len(word) < 2 or word[0] != "-":
            parsed.words.append(word)
            if not options.interspersed:
                parsed.words.extend(arguments[position:])
                break
        elif word == "--":
            parsed.words.extend(arguments[position:])
            break
        elif word[1] == "-":
            position = _long(options, word, arguments, position, parsed)
        elif _is_old_spelling(options, word):
            shown = word.partition("=")[0]
            parsed.warnings.append(f"{shown}: single-dash form, read as -{shown}")
            position = _long(options, "-" + word, arguments, position, parsed)
        else:
            position = _letters(options, word[1:], arguments, position, parsed)
    return parsed


def _is_old_spelling(options: FlagTable, word: str) -> bool:
    name = word[1:].partition("=")[0]
    return len(name) > 1 and name not in _CLUSTERS and (name in options.long or name == "help")


def _long(options: FlagTable, word: str, arguments: Sequence[str], position: int, parsed: Parsed) -> int:
    name, equals, value = word[2:].partition("=")
    if not name or name[0] == "-":
        raise InvalidValue(f"{options.command}: bad flag syntax: {word}")
    option = options.long.get(name)
    if option is None:
        if name == "help":
            raise InvalidValue(f"{options.command}: --help only prints text and runs nothing: leave it out")
        raise InvalidValue(f"{options.command}: unknown flag: --{name}")
    if not equals:
        if option.kind == "bool":
            value = "true"
        elif position < len(arguments):
            value = arguments[position]
            position += 1
        else:
            raise InvalidValue(f"{options.command}: flag needs an argument: --{name}")
    _set(options, option, value, parsed)
    return position


def _letters(options: FlagTable, letters: str, arguments: Sequence[str], position: int, parsed: Parsed) -> int:
    while letters:
        option = options.letters.get(letters[0])
        if option is None:
            raise InvalidValue(f"{options.command}: unknown shorthand flag: {letters[0]!r} in -{letters}")
        rest = letters[1:]
        if len(rest) > 1 and rest[0] == "=":
            value, rest = rest[1:], ""
        elif option.kind == "bool":
            value = "true"
        elif rest:
            value, rest = rest, ""
        elif position < len(arguments):
            value = arguments[position]
            position += 1
        else:
            raise InvalidValue(f"{options.command}: flag needs an argument: {letters[0]!r} in -{letters}")
        _set(options, option, value, parsed)
        letters = rest
    return position


def _set(options: FlagTable, option: Flag, value: str, parsed: Parsed) -> None:
    if option.refuse:
        raise InvalidValue(f"{options.command}: --{option.name} is not supported: {option.refuse}")
    try:
        if option.kind == "bool":
            parsed.values[option.name] = parse_bool(value)
        else:
            read = value if option.parse is None else option.parse(value)
            if option.kind == "one":
                parsed.values[option.name] = read
            else:
                parsed.values.setdefault(option.name, []).append(read)
    except InvalidValue as error:
        raise InvalidValue(
            f'{options.command}: invalid argument "{value}" for "{option.shown}" flag: {error}'
        ) from None
    if option.note:
        note = f"--{option.name}: {option.note}"
        if note not in parsed.warnings:
            parsed.warnings.append(note)
