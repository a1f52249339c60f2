"""Command-line options, read as the docker client reads them (by the rules of Go's pflag), plus old spellings.

- A value follows as `--name=value` or `--name value`. A boolean takes a value only with `=`.
- One-letter options may be joined: `-it`, `-p80:80`, `-eA=1`, `-e=A=1`, `-itp 80:80`.
- `--` ends the options. The first word that is no option ends them too, unless the verb is *interspersed*.

Docker before 1.0 wrote long options with one dash (`-rm`, `-name x`, `-volumes-from=y`). Today's client refuses most of
them and misreads the others: `-link a:b` is `-l ink`, a label. Here, a word of one dash and the name of a long option
is read as that option, with a warning. The tests `test_old_spelling` and `test_clusters_are_clusters` pin this and its
exceptions.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from xchronos.dockercli.values import parse_bool
from xchronos.errors import InvalidValue

Kind = Literal["bool", "one", "many"]

# Names of long options that are never old spellings: the options are younger than the one-dash form, and the word is a
# valid row of today's letters (`-ip 80:80` is `-i -p 80:80`).
_CLUSTERS = frozenset(("ip", "ip6"))


class Flag(NamedTuple):
    """One option of a verb."""

    name: str
    """The long name, without its dashes."""
    letter: str = ""
    """The one-letter name, or empty."""
    kind: Kind = "one"
    """`bool`, `one` (the last value wins) or `many` (every value counts)."""
    parse: Callable[[str], Any] | None = None
    """Reads one value, and raises InvalidValue. None: the value is the text."""
    refuse: str = ""
    """If not empty, the option is an error: why it is not supported, and what to do instead."""
    note: str = ""
    """If not empty, the use of the option gives this warning; a boolean's only if it is true."""

    @property
    def shown(self) -> str:
        """The option as errors name it: `-l, --long` or `--long`."""
        return f"-{self.letter}, --{self.name}" if self.letter else f"--{self.name}"


class FlagTable(NamedTuple):
    """The options of one verb. The function `table` builds it, at import."""

    command: str
    """The name of the verb in errors, such as `docker run`."""
    long: Mapping[str, Flag]
    """The options by long name, synonyms included."""
    letters: Mapping[str, Flag]
    """The options by letter."""
    interspersed: bool
    """Whether options may follow the first word that is none."""


class Parsed(NamedTuple):
    """A parsed command line: the values by option name, the words that are no options, and warnings."""

    values: dict[str, Any]
    words: list[str]
    warnings: list[str]

    def get(self, name: str, default: Any = None) -> Any:
        """The value of an option, or the default if it is not given. For a repeatable option the value is a list."""
        return self.values.get(name, default)

    def many(self, name: str) -> list[Any]:
        """The values of a repeatable option. The list is empty if the option is not given."""
        values: list[Any] = self.values.get(name, [])
        return values


def table(
    verb: str, options: Sequence[Flag], synonyms: Mapping[str, str] | None = None, *, interspersed: bool = True
) -> FlagTable:
    """Index the options of a verb. `synonyms` maps other long names to the name of an option."""
    by_name = {option.name: option for option in options}
    long = {**by_name, **{other: by_name[name] for other, name in (synonyms or {}).items()}}
    return FlagTable(
        f"docker {verb}".rstrip(), long, {option.letter: option for option in options if option.letter}, interspersed
    )


def parse_flags(options: FlagTable, arguments: Sequence[str]) -> Parsed:
    """Read the arguments of a verb.

    Raises InvalidValue, which names the option. If the docker client has words for the error, they are used.
    """
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
    if option.note and parsed.values[option.name] is not False:
        note = f"--{option.name}: {option.note}"
        if note not in parsed.warnings:
            parsed.warnings.append(note)
