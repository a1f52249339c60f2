"""What only a shell would understand is told in lines that no shell reads, and nothing else is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xchronos.unitfile import lint, parse
from xchronos.unitfile.shell_syntax import shell_syntax


@pytest.mark.parametrize(
    ("line", "fragment"),
    [
        ("/bin/a | /bin/b", "| is an argument"),
        ("/bin/a && /bin/b", "&& is an argument"),
        ("/bin/a || /bin/b", "|| is an argument"),
        ("/bin/a&&/bin/b x", ""),
        ("echo a&&echo b", "a&&echo is an argument"),
        ("/bin/a > /tmp/x", "> is an argument"),
        ("/bin/a >/tmp/x", ">/tmp/x is an argument"),
        ("/bin/a >> /tmp/x", ">> is an argument"),
        ("/bin/a 2>&1", "2>&1 is an argument"),
        ("/bin/a 2>/dev/null", "2>/dev/null is an argument"),
        ("/bin/a &>/dev/null", "&>/dev/null is an argument"),
        ("/bin/a < /etc/x", "< is an argument"),
        ("/bin/a </etc/x", "</etc/x is an argument"),
        ("/bin/sleep 5 &", "& is an argument"),
        ("/bin/sleep 5&", "5& is one word"),
        ("/bin/echo $(date)", "$(date) is not replaced by the output of a command"),
        ("/bin/echo `date`", "`date` is not replaced by the output of a command"),
        ("A=1 /bin/a", "A=1 is the program, and no variable"),
        ('-A="x y" /bin/a', "A=x y is the program"),
        ("PATH=/x /bin/a", "PATH=/x is the program"),
        ("cd /x", "cd is no program (WorkingDirectory="),
        ("cd /x && make", "&& is an argument"),
        ("export A=1", "export is no program"),
        ("echo a; echo b", "a; is one word"),
        ("/bin/a ; /bin/b | /bin/c", "| is an argument"),
        ("docker run --rm box cat /etc/x | wc", "| is an argument"),
        ("-docker run --rm box cat > /x", "> is an argument"),
        ("/usr/bin/env A=1 cat > /x", "> is an argument"),
        ("/bin/sh script.sh > /x", "> is an argument"),
        ("/bin/a '|' | b", "| is an argument"),
    ],
)
def test_it_is_told(line, fragment):
    found = shell_syntax(line)
    assert fragment in found
    assert bool(found) == bool(fragment)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "/bin/true",
        "/bin/sh -c 'cd /x && A=1 make > /y 2>&1; sleep 5 &'",
        '/bin/bash -lc "a | b"',
        "/usr/bin/env bash -ec 'a || b'",
        "/bin/sh -c echo hi > /x",
        "docker run --rm box sh -c 'a | b'",
        "|a | b > /x",
        "-@|A=1 b",
        "ssh host a | b",
        '/bin/a "|" "&&" \'>\' \\| "$(date)" "2>&1"',
        r"/usr/bin/find /x -exec rm {} \;",
        "/bin/a ; /bin/b ;",
        "/usr/bin/curl http://x/?a=1&b=2",
        "/usr/bin/curl http://x/?a=1&",
        "/bin/a --filter=x>5 a->b <tag> =>",
        "/usr/bin/env A=1 /bin/a",
        "/bin/a A=1 cd",
        "/bin/grep -E a|b /x",
        "/bin/a $HOME ${X} %n",
        "/opt/cd /x",
        "'open",
    ],
)
def test_it_is_not_told(line):
    assert shell_syntax(line) == ""


def test_only_so_much_is_told_of_one_line():
    assert shell_syntax("a " + " ".join(f">{number}" for number in range(1000))).count("is an argument") == 4


@given(st.text(alphabet="ab =|&<>;`$()'\"\\-@:/\n", max_size=60))
def test_any_line_is_looked_at(line):
    assert isinstance(shell_syntax(line), str)


def test_the_lines_of_a_file_that_are_looked_at():
    text = "[Service]\nExecStart=/bin/echo a | b\nDescription=a | b\n[Container]\nExec=echo a | b\nLabel=a | b\n"
    assert [problem.line for problem in lint(parse(text, "a.service"))] == [2, 5]
