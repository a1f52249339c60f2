import pytest
from hypothesis import given
from hypothesis import strategies as st

from xchronos.errors import InvalidValue
from xchronos.unitfile import (
    Command,
    Escapes,
    HostFacts,
    UnitName,
    expand_variables,
    misread_variable,
    parse_env_file,
    parse_environment,
    parse_exec,
    parse_variable_names,
    split_words,
    unset_variables,
    variable_names,
)

NAME = UnitName.parse("job@a-b.service")
HOST = HostFacts(hostname="node-1.example", machine_id="m" * 32)


def argv(value, **env):
    parsed = parse_exec(value, NAME)
    assert not parsed.dropped
    return [list(line.resolve(NAME, HOST, env).argv) for line in parsed.lines]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" a\tb\r\nc ", ["a", "b", "c"]),
        ("a\u00a0b \x0bc", ["a\u00a0b", "\x0bc"]),
        ('a"b c"d \'\' ""', ["ab cd", "", ""]),
        (r"\a\b\f\n\r\t\v\\\"\'\s", ["\a\b\f\n\r\t\v\\\"' "]),
        (r"'\x41' \101 \u00e9 \U0001F600", ["A", "A", "é", "😀"]),
        (r"\xc3\xa4 \xff", ["ä", "\udcff"]),
        (r"\ud800", ["\udced\udca0\udc80"]),
    ],
)
def test_words(text, expected):
    assert split_words(text) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("'a", "' is opened"),
        ('a "', '" is opened'),
        ("a\\", "a backslash at the end"),
        (r"\z", r"unknown escape sequence \\z"),
        (r"\x0g", "unknown"),
        (r"\x00", "unknown"),
        (r"\000", "unknown"),
        (r"\400", "unknown"),
        (r"\u0000", "unknown"),
        (r"\U0000d800", "unknown"),
        (r"\U0000ffff", "unknown"),
        (r"\U00110000", "unknown"),
        (r"\?", "unknown"),
    ],
)
def test_words_refused(text, why):
    with pytest.raises(InvalidValue, match=why):
        split_words(text)


def test_words_in_other_modes():
    assert split_words(r"\z\x41 b\\"[:-1], Escapes.KEEP_UNKNOWN) == ["\\zA", "b\\"]
    with pytest.raises(InvalidValue):
        split_words("'b\\", Escapes.KEEP_UNKNOWN)
    assert split_words(r"\n\ x", Escapes.DROP) == ["n x"]
    with pytest.raises(InvalidValue):
        split_words("x\\", Escapes.DROP)
    assert split_words("'a b\\", Escapes.DROP_RELAXED) == ["a b"]


@pytest.mark.parametrize(
    ("prefixes", "flags"),
    [
        ("", (False, False, False, "")),
        ("-@:+", (True, True, True, "+")),
        ("!", (False, False, False, "!")),
        ("!-!", (True, False, False, "!!")),
    ],
)
def test_prefixes(prefixes, flags):
    (line,) = parse_exec(f"{prefixes}/bin/a b").lines
    assert line.prefixes == prefixes
    assert (line.ignore_failure, line.sets_argv0, line.no_variables, line.privilege) == flags
    assert line.words == (("b",) if "@" in prefixes else ("/bin/a", "b"))


@pytest.mark.parametrize("prefixes", ["--", "@@", "::", "++", "+!", "!+", "!!!"])
def test_prefix_twice_is_part_of_the_path(prefixes):
    value = f"{prefixes}/bin/a b"
    if "-" in prefixes:
        assert parse_exec(value).dropped
    else:
        with pytest.raises(InvalidValue, match="neither an absolute path nor a plain file name"):
            parse_exec(value)


# argv as systemd 262 gave it to the user's shell, which was /dump.
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (r"""|echo hi $V ${W} "${W}" $$HOME "a  b" | cat""", ["/dump", "-c", "echo hi val a b a b $HOME a  b | cat"]),
        ("@|echo one", ["-/dump", "-c", "echo one"]),
        ("|@echo one two", ["-/dump", "-c", "echo one two"]),
        ("|", ["/dump"]),
        ("@|", ["-/dump"]),
        (":|echo $V", ["/dump", "-c", "echo $V"]),
        ("-| echo spaced $V", ["/dump", "-c", "echo spaced val"]),
        ('|"echo in quotes; ls"', ["/dump", "-c", "echo in quotes; ls"]),
        ("|/a/b/../x y", ["/dump", "-c", "/a/b/../x y"]),
        ("|a//b/ x", ["/dump", "-c", "a//b/ x"]),
        ("|%n x", ["/dump", "-c", "%n x"]),
        ("|echo %p %%", ["/dump", "-c", "echo job %"]),
        ("|$V x", ["/dump", "-c", "val x"]),
        ("|| x", ["/dump", "-c", "| x"]),
        ("+|'a b' c", ["/dump", "-c", "a b c"]),
        ('|echo "$V" x$V ${V}y', ["/dump", "-c", "echo val x$V valy"]),
    ],
)
def test_a_shell_runs_the_line_as_systemd_262_does(line, expected):
    (parsed,) = parse_exec(line, NAME).lines
    assert parsed.via_shell
    words = parsed.specify(NAME, HOST).argv
    argv = words if parsed.no_variables else expand_variables(words, {"V": "val", "W": "a b"})
    command = parsed.in_shell(argv, "/dump")
    assert (command.path, list(command.argv)) == ("/dump", expected)


def test_a_shell_is_sh_unless_the_machine_knows_better():
    first, second = parse_exec("|echo a ; /bin/next b", NAME).lines
    assert first.resolve(NAME, HOST, {}) == Command("/bin/sh", ("/bin/sh", "-c", "echo a"))
    assert second.resolve(NAME, HOST, {}).argv == ("/bin/next", "b")


def test_the_prefix_that_systemd_dropped_has_no_effect():
    parsed = parse_exec("!!/bin/a")
    assert "systemd 262 dropped it" in parsed.warnings[0]
    assert not parse_exec("!/bin/a").warnings


def test_a_program_of_the_working_directory_is_taken_where_that_is_asked_for():
    (line,) = parse_exec("-./x y", local=True).lines
    assert (line.path, line.words) == ("./x", ("./x", "y"))
    command = line.specify(UnitName.parse("a.service"), HostFacts())
    assert (command.path, command.argv) == ("./x", ("./x", "y"))
    assert parse_exec("./%p", UnitName.parse("a.service"), local=True).lines[0].path == "./a"
    for program in ("./", "./.", "./..", "./a/b", "../x", "a/b", "./x\\x01"):
        with pytest.raises(InvalidValue):
            parse_exec(program, local=True)


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("@", "no program"),
        ("/bin/", "is a directory"),
        ("./x", "neither"),
        ("..", "neither"),
        (r"/a\x01", "control characters"),
        ("/" + "x" * 256, "too long"),
        ("x" * 256, "too long"),
        ("/" + "x/" * 2050 + "x", "too long"),
        ("/bin/%i/", "is a directory"),
        ("/bin/%%/", "is a directory"),
        ("/bin/%z", "unknown specifier %z"),
        ("@/bin/x", "no argv"),
        ("/bin/x 'a", "unbalanced"),
        ("/bin/x %z", "unknown specifier %z"),
    ],
)
def test_refused_or_dropped(program, why):
    with pytest.raises(InvalidValue, match=why):
        parse_exec(f"{program}", NAME)
    parsed = parse_exec(f"/bin/ok ; -{program}", NAME)
    assert parsed.dropped
    assert [line.program for line in parsed.lines] == ["/bin/ok"]
    assert why in parsed.warnings[-1]


def test_an_open_quote_in_the_first_word_only_drops():
    parsed = parse_exec('/bin/a ; "/bin/b')
    assert parsed.dropped
    assert len(parsed.lines) == 1
    assert parsed.warnings == ("unbalanced quoting: \" is opened and never closed: ignored from here on: '\"/bin/b'",)


def test_unknown_escape_is_kept_with_a_warning():
    parsed = parse_exec(r"/bin/a s/\//x\x41/")
    assert parsed.lines[0].words == ("/bin/a", r"s/\//xA/")
    assert parsed.warnings == (r"unknown escape sequence \/ in 's/\\//xA/': kept as written",)


def test_a_long_path_of_short_names():
    path = "/x" * 200
    assert parse_exec(path).lines[0].path == path


def test_program_of_the_machine_is_checked_there():
    (line,) = parse_exec("/opt/%i//%l/%% %H", NAME).lines
    assert line.path == "/opt/a-b/%l/%%"
    assert line.specify(NAME, HOST) == Command("/opt/a-b/node-1/%", ("/opt/a-b//node-1/%", "node-1.example"))
    (line,) = parse_exec("/bin/%H", NAME).lines
    with pytest.raises(InvalidValue, match="is a directory"):
        line.specify(NAME, HostFacts(hostname="x/"))
    (line,) = parse_exec("a%i", None).lines
    assert line.program == "a%i"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", []),
        (" ; ; ", []),
        ("a b ; c", [["a", "b"], ["c"]]),
        ("a ;", [["a"]]),
        ("a;b ;c x;", [["a;b", ";c", "x;"]]),
        (r"a \; \;b '\;' ';' \073 \;", [["a", ";", r"\;b", r"\;", ";", ";", ";"]]),
        ("a $A ${A}x $$A '${B}' $", [["a", "x", "y z", "x 'y z'x", "$A", ""]]),
        (": a", None),
        (":a $A $$", [["a", "$A", "$$"]]),
        ("a %%i %i %I", [["a", "%i", "a-b", "a/b"]]),
        ("a 'b' %l ", [["a", "b", "node-1"]]),
    ],
)
def test_argv(value, expected):
    if expected is None:
        with pytest.raises(InvalidValue, match="no program"):
            parse_exec(value)
    else:
        assert argv(value, A="x 'y z'") == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("$FOO", ["a b", "c"]),
        ("$FOO-x", []),
        ("x$FOO", ["x$FOO"]),
        ("${FOO}", ["'a b' c"]),
        ("${NONE}", [""]),
        ("$NONE", []),
        ("$$FOO", ["$FOO"]),
        ("a$$", ["a$"]),
        ("${FOO", ["${FOO"]),
        ("${FOO$$", ["${FOO$$"]),
        ("${A:-${B}}", ["${A:-$$}"]),
        ("${}", [""]),
        ("$OPEN", ["a b"]),
    ],
)
def test_variables(word, expected):
    env = {"FOO": "'a b' c", "B": "$$", "OPEN": '"a b\\'}
    assert list(expand_variables((word,), env)) == expected


@given(st.lists(st.text("ab \t\n'\"\\;$%ä\x07", min_size=0, max_size=8), max_size=5))
def test_quoted_words_come_back(words):
    def quote(word):
        return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'

    value = " ".join(["/bin/x", *map(quote, words)])
    assert parse_exec(value).lines[0].words == ("/bin/x", *words)


@given(st.text("ab '\"\\;-@:+!/%$.xu01", max_size=30))
def test_no_line_breaks_the_parser(value):
    try:
        parsed = parse_exec(value, NAME)
    except InvalidValue:
        return
    assert all(line.words for line in parsed.lines)
    assert bool(parsed.warnings) or not parsed.dropped


def test_environment():
    lines = ["GONE=1", "", "A=%i%%%H B=%z C='x y' =1 1D=x E", "A=2", r"F=1 G=\z H=1", r"I=\xff J=\x41", "K=é"]
    found = parse_environment(lines, NAME)
    assert found.values == {"A": "2", "C": "x y", "F": "1", "J": "A", "K": "é"}
    assert found.dropped == ("B=%z", "=1", "1D=x", "E", r"G=\z H=1", "I=\udcff")
    assert parse_environment(["A=%i%%%H"], NAME).values == {"A": "a-b%%%H"}
    assert parse_environment(["A=%i%%%l"], NAME, HOST).values == {"A": "a-b%node-1"}
    assert parse_environment(["A=%i"]).values == {"A": "%i"}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("A=1\n;c\n B = 2 \nC\n", {"A": "1", "B": "2"}),
        ("A=a b \\ \n", {"A": "a b  "}),
        ("A=a\\\nb\\\r\nB=1", {"A": "ab", "B": "1"}),
        ("A='x\n\\y' z \n", {"A": "x\n\\yz"}),
        ('A="x\\"\\$\\n\\\ny" \t"2"', {"A": 'x"$\\ny2'}),
        ("A=\\", {"A": ""}),
        ("A='open", {"A": "open"}),
        ('A="open\\', {"A": "open"}),
        ("A=\nB=x ", {"A": "", "B": "x"}),
        ("#c\\\nA=1\nB=2", {"B": "2"}),
        ("A=1\nB=1\nA=2", {"A": "2", "B": "1"}),
        ("A", {}),
        ("#", {}),
        (b"A=\xc3\xa4", {"A": "ä"}),
    ],
)
def test_env_file(text, values):
    found = parse_env_file(text)
    assert found.values == values
    assert list(found.values) == list(values)
    assert found.dropped == ()


def test_env_file_drops_and_refuses():
    assert parse_env_file("export A=1\n1=2\n=x").dropped == ("export A=1", "1=2")
    for bad in (b"A=\xff", "A=\uffff", "A=1\0"):
        with pytest.raises(InvalidValue):
            parse_env_file(bad)


def test_names_to_pass_and_unset():
    assert parse_variable_names(["X", "", "A 'B' A-B C=1", r"D 'E"]) == (("A", "B", "D"), ("A-B", "C=1", "'E"))
    assert parse_variable_names([r"A=\x41\sb C=\q D"], assignments=True) == (("A=A b",), (r"C=\q D",))
    patterns, dropped = parse_variable_names(["A B=1 C=2 1X=1"], assignments=True)
    assert dropped == ("1X=1",)
    assert parse_variable_names(["A%p B%z A%%"], NAME, HOST) == (("Ajob",), ("B%z", "A%"))
    assert parse_variable_names(["A=%l B=%%H C=\\xff"], NAME, HOST, assignments=True)[0] == ("A=node-1", "B=%H")
    assert unset_variables({"A": "x", "B": "1", "C": "1", "D": ""}, patterns) == {"C": "1", "D": ""}


@pytest.mark.parametrize(
    "word", ["$A", "${A}", "$$A", "a$A", "$", "$1", "$A-x:y", "${A:-b}", "${A}${B}", "x${A", "plain"]
)
def test_the_names_are_those_that_are_looked_up(word):
    asked = set()

    class Asked(dict):
        def get(self, key, default=None):
            asked.add(key)
            return default

    expand_variables((word,), Asked())
    assert set(variable_names(word)) == asked


@pytest.mark.parametrize(
    ("word", "meant"),
    [("$DATA:/data", "${DATA}:/data"), ("$A/x", "${A}/x"), ("$A", ""), ("${A}:x", ""), ("$$A:x", ""), ("x$A:y", ""),
     ("$1:x", ""), ("$(cmd)", "")],
)  # fmt: skip
def test_a_misread_variable(word, meant):
    assert misread_variable(word) == meant
