import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xchronos.errors import UnitFileError
from xchronos.unitfile import Header, Option, merge, parse, parse_fleet
from xchronos.unitfile.syntax import LINE_LIMIT


def pairs(text):
    return [(option.name, option.value) for option in parse(text).options]


def warnings(text):
    return [(problem.line, problem.message) for problem in parse(text, "x.service").problems]


def refusals(text, read=parse):
    with pytest.raises(UnitFileError) as caught:
        read(text, "x.service")
    return [str(problem) for problem in caught.value.problems]


def test_options_know_their_place():
    unit = parse("# c\n[Unit]\n\nAfter=a \\\n b\n[Service]\nType = oneshot\n", "/u/x.service")
    assert unit.options == (
        Option("Unit", "After", "a   b", 4, "/u/x.service"),
        Option("Service", "Type", "oneshot", 7, "/u/x.service"),
    )
    assert unit.headers == (Header("Unit", 2, "/u/x.service"), Header("Service", 6, "/u/x.service"))


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\n\r", "\0", "\n\0", "\r\n\0", "\n\r\0"])
def test_line_ends(end):
    text = end.join(["[Unit]", "A=1\\", "2", "", "B=2"])
    assert pairs(text) == [("A", "1 2"), ("B", "2")]
    assert [option.line for option in parse(text).options] == [2, 5]


def test_nothing_follows_a_nul_in_one_line_end():
    assert [option.line for option in parse("[U]\0\nA=1").options] == [3]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[U]\nA=1\\\n# comment \\\n; too\n2\n", [("A", "1 2")]),
        ("[U]\nA=1\\ \nB=2\n", [("A", "1\\"), ("B", "2")]),
        ("[U]\nA=1\\\\\nB=2\n", [("A", "1\\\\"), ("B", "2")]),
        ("[U]\nA=1\\\n\nB=2\n", [("A", "1"), ("B", "2")]),
        ("[U]\nA=1\\\n[V]\nB=2\\", [("A", "1 [V]"), ("B", "2")]),
        ("[U]\n\\\n\nA=1\n\\", [("A", "1")]),
        ("[U]\nA=1\\\n\ufeff2\n\ufeffB=3", [("A", "1 2"), ("\ufeffB", "3")]),
        ("[U]\n#x\n\ufeff#y=1\n", [("#y", "1")]),
        ("[U]\nA=\x0b1\x0c\n", [("A", "\x0b1\x0c")]),
    ],
)
def test_edges(text, expected):
    assert pairs(text) == expected


def test_warnings_do_not_refuse():
    assert warnings("A=1\n[U]\nnonsense\n=x\nB=2\n") == [
        (1, "assignment outside of a section, ignored"),
        (3, "missing '=', line ignored"),
        (4, "missing key name before '=', line ignored"),
    ]


def test_every_bad_line_is_reported_at_once():
    assert refusals("x\n[U\nA=1\n[a\x07]\n[ok]\n[\n") == [
        "x.service:1: warning: assignment outside of a section, ignored",
        "x.service:2: invalid section header '[U': expected [Name] alone on its line",
        "x.service:4: bad characters in section header '[a\\x07]': no quotes, backslashes or control characters",
        "x.service:6: invalid section header '[': expected [Name] alone on its line",
    ]


def test_bytes_that_are_no_text():
    data = b"[U]\n# \xff\xfe \xef\xb7\x90\n\xef\xbb\xbfA=\xc3\xa4\\\n; \xff\n1\n"
    unit = parse(data)
    assert [(option.name, option.value) for option in unit.options] == [("A", "ä 1")]
    assert parse(unit.text).data == data
    assert refusals(b"[U]\nA=\xff\nB=1\n=x\n[V\n") == [
        "x.service:2: not valid UTF-8",
        "x.service:4: [U]: warning: missing key name before '=', line ignored",
        "x.service:5: invalid section header '[V': expected [Name] alone on its line",
    ]
    assert refusals("[U]\nA=\uffff\n") == ["x.service:2: not valid UTF-8: holds a code point that is no character"]
    assert refusals("[U]\nA=\ud800\n") == ["x.service:2: not valid text: a lone surrogate"]
    assert pairs("[U]\n# \ufdd0 in a comment\nA=é") == [("A", "é")]


def test_line_limits():
    long = "x" * (LINE_LIMIT - 1)
    assert pairs(f"[U]\n{long[2:]}=1\n") == [(long[2:], "1")]
    assert refusals(f"[U]\n#{long}\n") == ["x.service:2: line too long: the limit is 1 MiB"]
    half = "x" * (LINE_LIMIT // 2)
    assert refusals(f"[U]\n{half}\\\n#\n{half}\n") == ["x.service:4: continued line too long: the limit is 1 MiB"]
    assert pairs(f"[U]\nA={half[3:]}\\\n{half}\nB=1\n")[1] == ("B", "1")


def test_accessors():
    unit = parse("[A]\nK=1\nL=\nK=\n[B]\n[A]\nK=2\nK=3\n[C]\nK=9\n")
    assert unit.sections == ("A", "B", "C")
    assert [option.value for option in unit.section("A")] == ["1", "", "", "2", "3"]
    assert unit.section("B") == ()
    assert [option.value for option in unit.get_all("A", "K")] == ["1", "", "2", "3"]
    assert [option.value for option in unit.values("A", "K")] == ["2", "3"]
    assert unit.values("A", "L") == unit.values("A", "none") == unit.get_all("X", "K") == ()
    assert unit.last("A", "K").line == 8
    assert unit.last("B", "K") is None


def test_masked_and_revision():
    assert parse("").masked
    assert not parse("\n").masked
    assert parse(b"[U]\n").revision == hashlib.sha256(b"[U]\n").hexdigest()
    main, dropin = parse("[U]\nA=1\n"), parse("[U]\nA=2\n")
    assert merge(main, []).revision == main.revision
    assert len({main.revision, dropin.revision, merge(main, [dropin]).revision, merge(dropin, [main]).revision}) == 4


@given(st.binary(max_size=200))
def test_cat_gives_back_every_byte(data):
    try:
        unit = parse(data)
    except UnitFileError:
        return
    assert unit.data == data
    assert parse(unit.text) == unit


KEYS = st.text("abcXYZ-_09 ä", min_size=1).map(str.strip).filter(bool)
VALUES = st.text("ab =[]#;\"'%$ä\u00a0", max_size=20).map(lambda value: value.strip(" "))


@given(st.lists(st.tuples(KEYS, VALUES)), st.sampled_from(["\n", "\r\n", "\0"]))
def test_what_is_written_is_read(options, end):
    text = end.join(["[S]", *(f"{key}={value}" for key, value in options)])
    assert pairs(text) == options


@given(st.text("[]=ab\\#; \n\r\0\ufeff\uffffä", max_size=60))
def test_the_exact_and_the_quick_way_agree(text):
    """A comment that is not UTF-8 sends the same lines the exact way."""
    data = text.encode()
    if text.endswith("\\") or data.endswith((b"\n", b"\r")) or not data:
        text += "."
        data = text.encode()

    def read(data):
        try:
            return [(option.name, option.value, option.line) for option in parse(data).options]
        except UnitFileError as error:
            return [problem.line for problem in error.problems]

    assert read(data) == read(data + b"\0# \xff")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("junk\n# c \\\n[no]\n[U]\nA=1\n", [("U", "A", "1")]),
        ("[U]\n; c\\ \n[no]\nA=1", [("U", "A", "1")]),
        ("[U]\nA=1\\\n# no comment\\", [("U", "A", "1\\\n# no comment\\")]),
        ("[U]\r\nA=1\\\r\nB=2\r\n", [("U", "A", "1\\"), ("U", "B", "2")]),
        ("[U]\n\u3000Kä\u00a0=\u2003v\n", [("U", "Kä", "v")]),
        (b"[U]\nA\xff=\xffb\n", [("U", "A\ufffd", "\ufffdb")]),
        ("[U]\nA=\\\n\n", [("U", "A", "\\\n")]),
    ],
)
def test_fleet(text, expected):
    assert [(option.section, option.name, option.value) for option in parse_fleet(text).options] == expected


def test_fleet_refuses():
    assert refusals("[U]\nab", parse_fleet) == ["x.service:2: unexpected end of file while parsing option name"]
    assert refusals("[U]\nab\r\n", parse_fleet) == [
        "x.service:2: unexpected newline encountered while parsing option name"
    ]
    assert refusals("[U] x\n", parse_fleet) == ["x.service:2: found garbage after section name: 'x'"]
    assert refusals("\n[U\n", parse_fleet) == ["x.service:2: unable to find end of section"]
    assert refusals("[U]\nA=" + "x" * 2046 + "\n", parse_fleet) == ["x.service:2: line too long (max 2048 bytes)"]


def test_fleet_sees_a_line_only_as_far_as_its_buffer():
    """A name may be as long as it likes when the buffer holds less than the limit of it."""
    comment = "#" + "c" * 2045 + "\n"
    assert parse_fleet(f"[U]\n{comment}{'k' * 2040}={'v' * 9000}").options[0].value == "v" * 9000
    wide = parse_fleet("[U]\n" + "#\n" * 2045 + "é=1\n")
    assert wide.options[0].name == "é"
