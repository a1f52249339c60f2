import pytest

from xchronos.unitfile import lint, parse


def findings(body, **options):
    return [problem.message for problem in lint(parse(f"[Service]\n{body}\n", "x.service"), **options)]


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ("Restart=no # never", "'#' begins no comment here: put the comment on a line of its own; all of 'no # never'"),
        ("Restart=no #never", "'#never' begins no comment"),
        ("Restart=no ; never", "';' begins no comment"),
        ("ExecStart=/bin/a # x", "'#' begins no comment"),
        ("Description=it's # x", "'#' begins no comment"),
        ("ExecStart=/bin/sh -c 'date +%s'", "%s is expanded as a specifier before the command runs: write %%s for %s"),
        ("ExecStart=/bin/sh -c 'date -u +%%Y-%m | cat'", "%m is expanded"),
        ("ExecStart=/usr/bin/printf 'x %s'", "%s is expanded"),
        ("ExecStart=$JAVA -jar x", "variables are not expanded in the program '$JAVA'"),
    ],
)
def test_found(body, part):
    assert part in findings(body)[0]


@pytest.mark.parametrize(
    "body",
    [
        "Restart=no",
        "Description=a; b #12 c",
        "Environment=\"A=1 # 2\" 'B=;'",
        "ExecStart=/bin/echo #1",
        "ExecStart=/bin/a ; /bin/b",
        "ExecStart=/bin/sh -c 'x # y'",
        "ExecStart=/bin/sh -c 'date +%%s'",
        "ExecStart=/bin/date +x ; /bin/echo %p",
        "ExecStart=/bin/sh -c 'echo $X'",
        "ExecStart=/bin/a 'b $c",
        "ExecStart=",
    ],
)
def test_not_found(body):
    assert findings(body) == []


def test_comments_can_be_left_to_others():
    assert findings("Restart=no # never", comments=False) == []


def test_findings_know_their_place():
    unit = parse("[Unit]\nAfter=a # b\n[Service]\nExecStart=$A # c\n", "x.service")
    assert [(str(problem).split(": ")[0], problem.section, problem.key) for problem in lint(unit)] == [
        ("x.service:2", "Unit", "After"),
        ("x.service:4", "Service", "ExecStart"),
        ("x.service:4", "Service", "ExecStart"),
    ]
    assert {problem.severity for problem in lint(unit)} == {"warning"}
