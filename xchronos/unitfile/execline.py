"""`Exec*=` lines: prefixes, program, words, `;`, and at run time specifiers and variables (systemd.service(5)).

An `ExecLine` is what the file says, with the name's specifiers filled in when the name was given. `resolve` makes the
`Command` out of it on the machine that runs it.

An error refuses the unit. Behind a `-` prefix it only drops the rest of the value, with a warning; so does a first
word with an open quote, whatever its prefix (as systemd 252 does it).
"""

import re
from collections.abc import Mapping

import msgspec

from xchronos.errors import InvalidValue
from xchronos.unitfile.names import UnitName, is_too_long
from xchronos.unitfile.specifiers import HostFacts, expand, needs_host
from xchronos.unitfile.words import Escapes, next_word, split_words

_SPECIAL = re.compile(r"[\"'\\;]")
_SEPARATOR = re.compile(r";(?:[ \t\n\r]+|\Z)")
_LITERAL_SEMICOLON = re.compile(r"\\;(?:[ \t\n\r]+|\Z)")
_UNSAFE_IN_PATH = re.compile("[\x01-\x1f\x7f\"'\\\\]")
_BRACED = re.compile(r"\$(?:\$|\{([^}:]*)([}:]|\Z))")


class Command(msgspec.Struct, frozen=True):
    """What to execute: the program (absolute, or a plain name to look up in PATH) and its argv, argv[0] included."""

    path: str
    argv: tuple[str, ...]


class ExecLine(msgspec.Struct, frozen=True):
    """One command of an `Exec*=` value, before specifiers of the machine and before variables.

    `prefixes` are as written. `program` is the first word without them; `words` are argv, whose first one is the
    program unless `@` is given.
    """

    prefixes: str
    program: str
    words: tuple[str, ...]

    @property
    def ignore_failure(self) -> bool:
        """`-`: a failure counts as success."""
        return "-" in self.prefixes

    @property
    def sets_argv0(self) -> bool:
        """`@`: the word behind the program is its argv[0]."""
        return "@" in self.prefixes

    @property
    def no_variables(self) -> bool:
        """`:`: `$` means nothing."""
        return ":" in self.prefixes

    @property
    def privilege(self) -> str:
        """`+` (full privileges), `!`, `!!` (see systemd.service(5)), or empty."""
        return "+" if "+" in self.prefixes else "!" * self.prefixes.count("!")

    @property
    def path(self) -> str:
        """The program's path, normalised, as far as it is known before the machine's specifiers are."""
        return simplify_path(self.program)

    def specify(self, name: UnitName, host: HostFacts) -> Command:
        """Fill in the specifiers; variables stay. Raises InvalidValue when no valid command comes out."""
        program = expand(self.program, name, host)
        check_program(program)
        return Command(simplify_path(program), tuple(expand(word, name, host) for word in self.words))

    def resolve(self, name: UnitName, host: HostFacts, env: Mapping[str, str]) -> Command:
        """The command to execute on a machine, in an environment. Raises InvalidValue as `specify` does.

        Variables are not expanded in the program's path, only in argv.
        """
        command = self.specify(name, host)
        return command if self.no_variables else Command(command.path, expand_variables(command.argv, env))


class ExecLines(msgspec.Struct, frozen=True):
    """What one `Exec*=` value gives. `dropped` says that part of it was left out; the last warning says why."""

    lines: tuple[ExecLine, ...]
    warnings: tuple[str, ...] = ()
    dropped: bool = False


def parse_exec(value: str, name: UnitName | None = None) -> ExecLines:
    """Parse the value of an `Exec*=` assignment. It may hold several commands, or none when it is empty (a reset).

    With `name`, its specifiers are filled in and all others are checked (the first stage of `specifiers`). A program
    with specifiers of the machine can only be checked by `ExecLine.specify`.

    Raises InvalidValue when systemd would refuse the whole unit.
    """
    lines: list[ExecLine] = []
    warnings: list[str] = []
    position = 0
    while True:
        try:
            first, position = _word(value, position, warnings)
        except InvalidValue as error:
            warnings.append(f"{error}: ignored from here on: {value[position:]!r}")
            return ExecLines(tuple(lines), tuple(warnings), dropped=True)
        if first is None:
            return ExecLines(tuple(lines), tuple(warnings))
        if first == ";":
            continue
        prefixes, program = _prefixes(first)
        try:
            line, position = _command(value, position, prefixes, program, name, warnings)
        except InvalidValue as error:
            if "-" not in prefixes:
                raise
            warnings.append(f"{error}: the line is ignored, as its '-' prefix asks")
            return ExecLines(tuple(lines), tuple(warnings), dropped=True)
        lines.append(line)


def _word(value: str, position: int, warnings: list[str]) -> tuple[str | None, int]:
    """The next word; an unknown escape is kept as written, with a warning. Raises InvalidValue for an open quote."""
    try:
        return next_word(value, position, Escapes.C)
    except InvalidValue as error:
        word, after = next_word(value, position, Escapes.KEEP_UNKNOWN)
        warnings.append(f"{error} in {word!r}: kept as written")
        return word, after


def _prefixes(word: str) -> tuple[str, str]:
    """Split the first word into its prefixes and the rest. Each counts once, `+ ! !!` exclude each other."""
    taken = ""
    for char in word:
        if char in "-@:":
            valid = char not in taken
        elif char == "+":
            valid = "+" not in taken and "!" not in taken
        elif char == "!":
            valid = "+" not in taken and taken.count("!") < 2
        else:
            break
        if not valid:
            break
        taken += char
    return taken, word[len(taken) :]


def _command(
    value: str, position: int, prefixes: str, program: str, name: UnitName | None, warnings: list[str]
) -> tuple[ExecLine, int]:
    """One command from behind its first word to its end, and where the next one begins."""
    program = _checked_program(program, name)
    words = [] if "@" in prefixes else [program]
    end = len(value)
    if not _SPECIAL.search(value, position):
        more = split_words(value[position:])
        words += more if name is None or "%" not in value else [expand(word, name) for word in more]
        position = end
    while position < end:
        # Only here is `;` or `\;` a word of its own: quoted or escaped otherwise it is plain text.
        char = value[position]
        if char == ";":
            match = _SEPARATOR.match(value, position)
            if match:
                position = match.end()
                break
        elif char == "\\":
            match = _LITERAL_SEMICOLON.match(value, position)
            if match:
                words.append(";")
                position = match.end()
                continue
        word, position = _word(value, position, warnings)
        assert word is not None, "blanks behind a word are skipped with it, so here always is another one"
        words.append(word if name is None else expand(word, name))
    if not words:
        raise InvalidValue(f"no argv[0] behind {prefixes}{program}: '@' takes the next word for it")
    return ExecLine(prefixes, program, tuple(words)), position


def _checked_program(program: str, name: UnitName | None) -> str:
    if "%" not in program:
        check_program(program)
    elif name is not None:
        program = expand(program, name)
        if not needs_host(program):
            check_program(program.replace("%%", "%"))
    return program


def check_program(path: str) -> None:
    """Raise InvalidValue unless systemd would accept this as a program: an absolute path or a plain file name."""
    if not path:
        raise InvalidValue("no program: expected an absolute path or a file name")
    if _UNSAFE_IN_PATH.search(path):
        raise InvalidValue(f"program {path!r} holds quotes, backslashes or control characters")
    if path.startswith("/"):
        if path.endswith("/"):
            raise InvalidValue(f"program {path!r} is a directory")
    elif "/" in path or path in {".", ".."}:
        raise InvalidValue(f"program {path!r} is neither an absolute path nor a plain file name")
    if is_too_long(path):
        raise InvalidValue(f"program {path[:32]!r}... is too long for a path")


def simplify_path(path: str) -> str:
    """The path without doubled slashes and `.` parts; `..` stays, as a symbolic link may stand before it."""
    if "//" not in path and "/." not in path:
        return path
    parts = [part for part in path.split("/") if part not in {"", "."}]
    return ("/" if path.startswith("/") else "") + "/".join(parts)


def expand_variables(argv: tuple[str, ...], env: Mapping[str, str]) -> tuple[str, ...]:
    """Expand `$NAME`, `${NAME}` and `$$` in argv, as systemd does between fork and exec.

    `$NAME` counts only as a whole word and gives as many words as its value has (quotes in it are honoured), none
    when it is unset. `${NAME}` counts anywhere and is the value itself. Values are not expanded again.
    """
    expanded: list[str] = []
    for word in argv:
        if "$" not in word:
            expanded.append(word)
        elif word[0] == "$" and word[1:2] not in {"{", "$"}:
            expanded += split_words(env.get(word[1:], ""), Escapes.DROP_RELAXED)
        else:
            expanded.append(_substitute(word, env))
    return tuple(expanded)


def _substitute(word: str, env: Mapping[str, str]) -> str:
    def replace(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        # `${NAME:...}` is no syntax of systemd's: left alone, but what follows the colon is looked at again. Without
        # an end, all the rest is left alone.
        return env.get(match[1], "") if match[2] == "}" else match[0]

    return _BRACED.sub(replace, word)
