import pytest

from xchronos.unitfile import lint, parse


def findings(body):
    return [problem.message for problem in lint(parse(f"[Service]\n{body}\n", "x.service"))]


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ("Restart=no # never", "'#' begins no comment here: all of 'no # never' is the value"),
        ("Restart=no #never", "'#never' begins no comment"),
        ("Restart=no ; never", "';' begins no comment"),
        ("ExecStart=/bin/a # x", "'#' begins no comment"),
        ("Description=it's # x", "'#' begins no comment"),
        ("ExecStart=/bin/sh -c 'date +%s'", "%s is expanded as a specifier before the command runs: write %%s for %s"),
        ("ExecStart=/bin/sh -c 'date -u +%%Y-%m | cat'", "%m is expanded"),
        ("ExecStart=/usr/bin/printf 'x %s'", "%s is expanded"),
        ("ExecStart=$JAVA -jar x", "variables are not expanded in the program '$JAVA'"),
        ("ExecStart=/bin/docker run -d i", "docker run -d returns at once"),
        ("ExecStart=/bin/docker run --name a -itd i", "docker run -itd returns at once"),
        ("Type=simple\nExecStart=docker run -p80:80 -e=A=1 --detach=true i", "docker run --detach=true returns"),
        ("ExecStop=-/bin/docker rm -link x", "docker does not know -link (any more): write --link"),
        ("ExecStart=docker run -rm -name=x i", "write --rm"),
        ("ExecStart=docker run --rm -name x -net host -privileged i -rm", "write --name"),
        ("ExecStart=/bin/a\nExecStart=/bin/b", "several ExecStart lines need Type=oneshot"),
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
        "ExecStart=docker run --rm i -d",
        "ExecStart=docker run -e -d i",
        "ExecStart=docker run - -d",
        "ExecStart=docker rm -d",
        "ExecStartPre=docker run -d i",
        "Type=oneshot\nExecStart=docker run -d i\nExecStart=/bin/b",
        "ExecStart=/bin/a\nExecStart=\nExecStart=/bin/b",
        "ExecStart=/bin/a 'b",
        "ExecStart=",
    ],
)
def test_not_found(body):
    assert findings(body) == []


def test_findings_know_their_place():
    unit = parse("[Unit]\nAfter=a # b\n[Service]\nExecStart=docker run -rm -d i\nExecStart=$A\n", "x.service")
    assert [(str(problem).split(": ")[0], problem.section, problem.key) for problem in lint(unit)] == [
        ("x.service:2", "Unit", "After"),
        ("x.service:4", "Service", "ExecStart"),
        ("x.service:4", "Service", "ExecStart"),
        ("x.service:5", "Service", "ExecStart"),
        ("x.service:5", "Service", "ExecStart"),
    ]
    assert {problem.severity for problem in lint(unit)} == {"warning"}
