"""`Exec*=` lines: prefixes, program, words, `;`, and at run time specifiers and variables (systemd.service(5)).

`parse_exec` reads a value into `ExecLine`s when the unit is submitted. If it is given the unit's name, it fills in the
specifiers of the name. `ExecLine.resolve` makes a `Command` from a line on the machine that runs it.

An error refuses the unit, with two exceptions in which the rest of the value is dropped with a warning:

- The command has a `-` prefix.
- The first word of a command has an open quote, whatever its prefix. systemd 252 does the same, and the test
  `test_an_open_quote_in_the_first_word_only_drops` pins it.
"""

import re
from collections.abc import Mapping

import msgspec

from xchronos.errors import InvalidValue
from xchronos.limits import EXPANDED_CHARACTERS
from xchronos.unitfile.names import UnitName, is_too_long
from xchronos.unitfile.specifiers import HostFacts, expand, needs_host
from xchronos.unitfile.words import Escapes, next_word, split_words

LOCAL = "./"
"""How a program in the working directory is written. systemd takes none; a unit with an artifact may run it so."""

_SPECIAL = re.compile(r"[\"'\\;]")
_SEPARATOR = re.compile(r";(?:[ \t\n\r]+|\Z)")
_LITERAL_SEMICOLON = re.compile(r"\\;(?:[ \t\n\r]+|\Z)")
_UNSAFE_IN_PATH = re.compile("[\x01-\x1f\x7f\"'\\\\]")
_NAME_AND_MORE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)([^A-Za-z0-9_].*)", re.DOTALL)
_BRACED = re.compile(r"\$(?:\$|\{([^}:]*)([}:]|\Z))")


class Command(msgspec.Struct, frozen=True):
    """What to execute: the program (an absolute path, or a plain name looked up in PATH), and argv with argv[0]."""

    path: str
    argv: tuple[str, ...]


SHELL = "/bin/sh"
"""The shell of the prefix `|` for a user who has none."""


class ExecLine(msgspec.Struct, frozen=True):
    """One command of an `Exec*=` value. Specifiers of the machine and variables are not filled in yet.

    `prefixes` are as written. `program` is the first word without the prefixes. `words` is argv: its first word is the
    program, or with `@` the word after the program. With `|` the program is `SHELL`, and `words` are what it is given;
    `in_shell` makes the command of them.
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
        """`@`: the word after the program becomes its argv[0]. With `|` it asks for a login shell instead."""
        return "@" in self.prefixes

    @property
    def via_shell(self) -> bool:
        """`|`: the user's shell runs the line (systemd 258 and later)."""
        return "|" in self.prefixes

    @property
    def no_variables(self) -> bool:
        """`:`: variables are not expanded, and `$` is a plain character."""
        return ":" in self.prefixes

    @property
    def privilege(self) -> str:
        """`+` (full privileges), `!`, `!!` (which has no effect), or empty."""
        return "+" if "+" in self.prefixes else "!" * self.prefixes.count("!")

    @property
    def path(self) -> str:
        """The program's normalised path. Specifiers of the machine are still in it."""
        return simplify_path(self.program)

    def specify(self, name: UnitName, host: HostFacts) -> Command:
        """Fill in the specifiers; variables stay as written. Raises InvalidValue if the program is then not valid."""
        program = expand(self.program, name, host)
        check_program(program, local=self.program.startswith(LOCAL))
        return Command(simplify_path(program), tuple(expand(word, name, host) for word in self.words))

    def resolve(self, name: UnitName, host: HostFacts, env: Mapping[str, str]) -> Command:
        """The command to execute on the machine `host` with the variables `env`. Raises InvalidValue as `specify` does.

        Variables are expanded in argv only, not in the program's path.
        """
        command = self.specify(name, host)
        argv = command.argv if self.no_variables else expand_variables(command.argv, env)
        return self.in_shell(argv, SHELL) if self.via_shell else Command(command.path, argv)

    def in_shell(self, argv: tuple[str, ...], shell: str) -> Command:
        """With `|`: the command by which a shell runs the line, whose words `argv` have their variables filled in.

        The words are joined with a blank each, so quotes of the unit file have gone: `|echo "a  b"` is `echo a  b`.
        Without a word it is the shell alone. The test `test_a_shell_runs_the_line_as_systemd_262_does` pins this.
        """
        login = "-" if self.sets_argv0 else ""
        return Command(shell, (login + shell, *(("-c", " ".join(argv)) if self.words else ())))


class ExecLines(msgspec.Struct, frozen=True):
    """The commands of one `Exec*=` value. `dropped` is True if part of the value was left out.

    The last of the `warnings` then says why.
    """

    lines: tuple[ExecLine, ...]
    warnings: tuple[str, ...] = ()
    dropped: bool = False


def parse_exec(value: str, name: UnitName | None = None, *, local: bool = False) -> ExecLines:
    """Parse the value of an `Exec*=` assignment. It may hold several commands, or none if it is empty (a reset).

    With `name`, the specifiers of the name are filled in and all others are checked. That is the first stage of the
    module `specifiers`. A program with specifiers of the machine is checked later, by `ExecLine.specify`; the test
    `test_program_of_the_machine_is_checked_there` pins that.

    `local`: a program of the working directory (`./name`) is accepted, too.

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
        if "!!" in prefixes:
            warnings.append("the prefix '!!' has no effect, and systemd 262 dropped it: leave it out")
        try:
            if "|" not in prefixes:
                program = _checked_program(program, name, local=local)
            line, position = _command(value, position, prefixes, program, name, warnings)
        except InvalidValue as error:
            if "-" not in prefixes:
                raise
            warnings.append(f"{error}: the line is ignored, as its '-' prefix asks")
            return ExecLines(tuple(lines), tuple(warnings), dropped=True)
        lines.append(line)


def _word(value: str, position: int, warnings: list[str]) -> tuple[str | None, int]:
    """The next word and where to go on. An unknown escape is kept as written, with a warning.

    Raises InvalidValue for an open quote.
    """
    try:
        return next_word(value, position, Escapes.C)
    except InvalidValue as error:
        word, after = next_word(value, position, Escapes.KEEP_UNKNOWN)
        warnings.append(f"{error} in {word!r}: kept as written")
        return word, after


def _prefixes(word: str) -> tuple[str, str]:
    """Split the first word into its prefixes and the rest. Each prefix may stand once, and of `+ ! !!` only one.

    A character that may not stand there ends the prefixes and belongs to the program
    (`test_prefix_twice_is_part_of_the_path`).
    """
    taken = ""
    for char in word:
        if char in "-@:|":
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
    """Read one command. `position` is after its first word; the second value returned is where the next one begins."""
    if "|" in prefixes:
        # systemd fills in no specifiers in the first word, and does not look whether it is a program.
        words = [program.replace("%", "%%")] if program else []
        program = SHELL
    else:
        words = [] if "@" in prefixes else [program]
    end = len(value)
    if not _SPECIAL.search(value, position):
        more = split_words(value[position:])
        words += more if name is None or "%" not in value else [expand(word, name) for word in more]
        position = end
    while position < end:
        # An unquoted `;` separates commands and an unquoted `\;` is a literal one. In any other form it is plain text.
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
        assert word is not None, "blanks after a word are skipped with it, so there is another word here"
        words.append(word if name is None else expand(word, name))
    if not words and "|" not in prefixes:
        raise InvalidValue(f"no argv[0] behind {prefixes}{program}: '@' takes the next word for it")
    return ExecLine(prefixes, program, tuple(words)), position


def _checked_program(program: str, name: UnitName | None, *, local: bool) -> str:
    if "%" not in program:
        check_program(program, local=local)
    elif name is not None:
        program = expand(program, name)
        if not needs_host(program):
            check_program(program.replace("%%", "%"), local=local)
    return program


def check_program(path: str, *, local: bool = False) -> None:
    """Raise InvalidValue unless systemd accepts this as a program: an absolute path or a plain file name.

    `local`: a file of the working directory, `./name`, is accepted as well, which systemd does not.
    """
    if local and path.startswith(LOCAL) and path.removeprefix(LOCAL) not in {"", ".", ".."}:
        path = path.removeprefix(LOCAL)
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
    """The path without doubled slashes and `.` parts. `..` stays, because the part before it may be a symbolic link.

    A `./` at the beginning stays, too: without it, the program would be looked up in PATH.
    """
    if ("//" not in path and "/." not in path) or path.startswith(LOCAL):
        return path
    parts = [part for part in path.split("/") if part not in {"", "."}]
    return ("/" if path.startswith("/") else "") + "/".join(parts)


def expand_variables(argv: tuple[str, ...], env: Mapping[str, str]) -> tuple[str, ...]:
    """Expand `$NAME`, `${NAME}` and `$$` in argv, as systemd does between fork and exec.

    `$NAME` is expanded only as a whole word. Its value is split into words, with quotes honoured; an unset variable
    gives no word. `${NAME}` is expanded anywhere in a word, to the value as it is. `$$` is a literal `$`. Values are
    not expanded again. The test `test_variables` pins these rules.

    Raises InvalidValue when there are more than EXPANDED_CHARACTERS then. The kernel would start no such command.
    """
    expanded: list[str] = []
    length = 0
    for word in argv:
        length += _grown(word, env)
        if length > EXPANDED_CHARACTERS:
            raise InvalidValue(
                f"the command is longer than {EXPANDED_CHARACTERS} characters when its variables are filled in"
            )
        if "$" not in word:
            expanded.append(word)
        elif word[0] == "$" and word[1:2] not in {"{", "$"}:
            expanded += split_words(env.get(word[1:], ""), Escapes.DROP_RELAXED)
        else:
            expanded.append(_substitute(word, env))
    return tuple(expanded)


def _grown(word: str, env: Mapping[str, str]) -> int:
    """The most characters that a word has when its variables are filled in. Nothing is filled in to count them."""
    if "$" not in word:
        return len(word)
    if word[0] == "$" and word[1:2] not in {"{", "$"}:
        return len(env.get(word[1:], ""))
    return len(word) + sum(len(env.get(match[1], "")) for match in _BRACED.finditer(word) if match[2] == "}")


def variable_names(word: str) -> tuple[str, ...]:
    """The variables that `expand_variables` looks up for a word, each once."""
    if "$" not in word:
        return ()
    if word[0] == "$" and word[1:2] not in {"{", "$"}:
        return (word[1:],)
    return tuple(dict.fromkeys(match[1] for match in _BRACED.finditer(word) if match[2] == "}"))


def misread_variable(word: str) -> str:
    """The word as its author seems to mean it, if it is `$NAME` and more; otherwise "".

    systemd reads all of `$DATA:/data` as the name of one variable, which nobody sets, and so drops the word. It does
    read `${DATA}:/data`. The test `test_a_misread_variable` pins what is taken for such a word.
    """
    match = _NAME_AND_MORE.fullmatch(word)
    return f"${{{match[1]}}}{match[2]}" if match else ""


def _substitute(word: str, env: Mapping[str, str]) -> str:
    def replace(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        # systemd has no `${NAME:...}`: the text up to the colon is left alone, and what follows is searched again.
        # A `${` that is never closed leaves the whole rest alone.
        return env.get(match[1], "") if match[2] == "}" else match[0]

    return _BRACED.sub(replace, word)
