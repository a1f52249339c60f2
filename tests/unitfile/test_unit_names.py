import pytest
from hypothesis import given
from hypothesis import strategies as st

from xchronos.errors import InvalidValue
from xchronos.unitfile import (
    HostFacts,
    UnitName,
    dropin_directories,
    escape,
    expand,
    is_valid_name,
    mangle,
    merge,
    needs_host,
    parse,
    select_dropins,
    suggest,
    unescape,
)
from xchronos.unitfile.suggest import did_you_mean

HOST = HostFacts(hostname="h.example", os_image_version="7")


def name(text):
    return UnitName.parse(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a" * 248 + ".service", "longer than 255"),
        ("foo", "no known suffix"),
        ("foo.snapshot", "no known suffix"),
        (".service", "nothing before its suffix"),
        ("@a.service", "nothing before its @"),
        ("a b.service", "bad characters"),
        ("a.service\n", "no known suffix"),
        ("ä.service", "bad characters"),
    ],
)
def test_bad_names(text, why):
    assert not is_valid_name(text)
    with pytest.raises(InvalidValue, match=why):
        name(text)


# The names as systemd-escape --mangle writes them.
@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("größe.service", r"gr\xc3\xb6\xc3\x9fe.service"),
        ("a b@c d.service", r"a\x20b@c\x20d.service"),
        ("x@ü.service", r"x@\xc3\xbc.service"),
    ],
)
def test_a_name_that_has_to_be_escaped_is_told_escaped(text, escaped):
    with pytest.raises(InvalidValue) as caught:
        name(text)
    assert f"expected {escaped}, as systemd-escape --mangle writes it" in str(caught.value)
    assert name(escaped).full == mangle(text)


def test_a_name_that_is_too_long_when_it_is_escaped_is_only_wrong():
    with pytest.raises(InvalidValue) as caught:
        name("ä" * 100 + ".service")
    assert "expected" not in str(caught.value)


def test_names():
    plain, template, instance = name("a" * 247 + ".service"), name("a@.timer"), name("a@b@c.d.service")
    assert (plain.kind, plain.is_template, plain.is_instance, plain.template) == ("plain", False, False, None)
    assert (template.kind, template.is_template, template.is_instance) == ("template", True, False)
    assert (instance.kind, instance.is_instance, instance.prefix) == ("instance", True, "a")
    assert (instance.instance, instance.stem, instance.template) == ("b@c.d", "a@b@c.d", "a@.service")
    assert template.with_instance("x") == name("a@x.timer")
    with pytest.raises(InvalidValue):
        template.with_instance("x y")


@given(st.text())
def test_every_text_can_be_escaped(text):
    if "\0" in text:
        text = text.replace("\0", "")
    escaped = escape(text)
    assert unescape(escaped) == text
    assert not escaped or len(escaped) > 240 or is_valid_name(f"{escaped}.service")


@given(st.lists(st.text("ab.-\\ä", min_size=1, max_size=4).filter(lambda part: part not in {".", ".."}), max_size=4))
def test_every_path_can_be_escaped(parts):
    path = "/" + "/".join(parts)
    assert unescape(escape(path, path=True), path=True) == path
    assert escape(f"/.{path}//", path=True) == escape(path, path=True)


@pytest.mark.parametrize("text", ["/a/..", "../a", ".", "./."])
def test_paths_without_a_name(text):
    with pytest.raises(InvalidValue, match=r"'\.' alone and '\.\.'"):
        escape(text, path=True)


@pytest.mark.parametrize("text", ["", "-a", "a-", "a--b", "a-..-b", r"a\x", r"a\x2", "a\\", r"a-\x2e"])
def test_no_escaped_paths(text):
    with pytest.raises(InvalidValue):
        unescape(text, path=True)


def test_a_nul_ends_what_is_unescaped():
    assert unescape(r"a\x00b") == "a"
    assert unescape(r"\x00b", path=True) == "/"
    assert unescape(r"a\x00-", path=True) == "/a"


@pytest.mark.parametrize("path", ["a/" + "ä" * 127 + "x", "/a" * 2047])
def test_paths_of_any_length_that_a_file_system_takes_have_a_name(path):
    absolute = "/" + path.lstrip("/")
    assert unescape(escape(path, path=True), path=True) == absolute
    with pytest.raises(InvalidValue, match="too long for a path"):
        escape(path + "x/y", path=True)
    with pytest.raises(InvalidValue, match="too long for one"):
        unescape(escape(absolute[1:]) + "x-y", path=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("foo", "foo.service"),
        ("foo.timer", "foo.timer"),
        ("foo*", r"foo\x2a.service"),
        ("/dev//sda", "dev-sda.device"),
        ("/dev", "dev.mount"),
        ("/srv/./x", "srv-x.mount"),
        ("/a/../b", "-a-..-b.service"),
        ("/" + "a" * 250 + " ", None),
        ("a b.timer", r"a\x20b.timer"),
        ("@a.service", None),
        ("", None),
    ],
)
def test_mangle(text, expected):
    if expected is None:
        with pytest.raises(InvalidValue):
            mangle(text)
    else:
        assert mangle(text) == expected
    assert mangle("foo", ".timer") == "foo.timer"


@pytest.mark.parametrize(
    ("text", "directories"),
    [
        ("a.service", ["a.service.d", "service.d"]),
        ("a-b.timer", ["a-b.timer.d", "a-.timer.d", "timer.d"]),
        ("a--b-.service", ["a--b-.service.d", "a--.service.d", "a-.service.d", "service.d"]),
        ("-a.service", ["-a.service.d", "service.d"]),
        ("a-b@.service", ["a-b@.service.d", "a-@.service.d", "service.d"]),
        ("a-b@i.service", ["a-b@i.service.d", "a-b@.service.d", "a-@i.service.d", "a-@.service.d", "service.d"]),
    ],
)
def test_dropin_directories(text, directories):
    assert dropin_directories(name(text)) == directories


def test_select_dropins():
    files = {
        "/etc/s/service.d": ["10-all.conf", "same.conf"],
        "/etc/s/a-.service.d": ["same.conf", "30.conf"],
        "/run/s/a-b.service.d": ["same.conf", "20.conf", "20.txt", ".hidden.conf"],
        "/run/s/service.d": ["10-all.conf", "05.conf"],
        "/run/s/other.service.d": ["00.conf"],
    }
    assert select_dropins(name("a-b.service"), files) == [
        "/run/s/service.d/05.conf",
        "/etc/s/service.d/10-all.conf",
        "/run/s/a-b.service.d/20.conf",
        "/etc/s/a-.service.d/30.conf",
        "/etc/s/a-.service.d/same.conf",
    ]
    assert select_dropins(name("x.timer"), {"x.timer.d": ["a.conf"]}) == ["x.timer.d/a.conf"]


def test_merge():
    main = parse("[Service]\nExecStart=/bin/a\nx\n", "x.service")
    first, masked = parse("[Service]\nExecStart=\nExecStart=/bin/b\ny\n", "x.service.d/1.conf"), parse("", "2.conf")
    unit = merge(main, [first, masked])
    assert [(o.value, o.file, o.line) for o in unit.values("Service", "ExecStart")] == [
        ("/bin/b", "x.service.d/1.conf", 3)
    ]
    assert unit.text == main.text
    assert not unit.masked
    assert [str(problem) for problem in unit.problems] == [
        "x.service:3: [Service]: warning: missing '=', line ignored",
        "x.service.d/1.conf:4: [Service]: warning: missing '=', line ignored",
    ]
    assert merge(main, []) is main
    assert merge(parse(""), [first]).masked


@pytest.mark.parametrize(
    ("unit", "text", "expected"),
    [
        ("a-b@c-d.service", "%n %N %p %P %i %I %j %J %f", "a-b@c-d.service a-b@c-d a-b a/b c-d c/d b b /c/d"),
        ("a-b.service", "%i|%I|%f|%j", "||/a/b|b"),
        (r"a@x\x25H.service", "%i %I", r"x\x25H x%H"),
        ("a.service", "%l %H %q %A %B", "h h.example h.example 7 "),
        ("a.service", "100% %-i %é %", "100% %-i %é %"),
        ("a.service", "%%%p%%p", "%a%p"),
    ],
)
def test_specifiers(unit, text, expected):
    assert expand(text, name(unit), HOST) == expected
    assert expand(expand(text, name(unit)), name(unit), HOST) == expected


def test_pretty_hostname():
    assert expand("%q", name("a.service"), HostFacts(hostname="h", pretty_hostname="My H")) == "My H"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("%z", "unknown specifier %z in '%z': write %%z for a literal %z"),
        ("%0", "unknown specifier %0"),
        ("x%c", "has no meaning here"),
        ("%f", "is no escaped path"),
        ("%I", "bad escape"),
    ],
)
def test_bad_specifiers(text, why):
    for host in (None, HOST):
        with pytest.raises(InvalidValue) as caught:
            expand(text, name(r"a-@\y.service") if text == "%I" else name("a-.service"), host)
        assert why in str(caught.value)


INSTANCES = st.text("ab-.:@", max_size=5).map(lambda text: text + r"\x25n\x25\x25H")


@given(st.text("%nNpiIjJPHlmqé -z%", max_size=12), INSTANCES)
def test_two_stages_never_expand_twice(text, instance):
    unit = name(f"a-b@{instance}.service")
    try:
        whole = expand(text, unit, HOST)
    except InvalidValue:
        with pytest.raises(InvalidValue):
            expand(text, unit)
        return
    staged = expand(text, unit)
    assert expand(staged, unit, HOST) == whole
    assert expand(staged, unit) == staged
    assert needs_host(staged) == (expand(staged, unit, HostFacts(hostname="X", machine_id="X")) != whole)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("execstart", "ExecStart"),
        ("ExecStrat", "ExecStart"),
        ("ExceStart", "ExecStart"),
        ("TimeBeetweenAttempts", "TimeBetweenAttempts"),
        ("Exec", None),
        ("", None),
        ("TTl", "TTL"),
        ("TL", "TTL"),
        ("Completely", None),
    ],
)
def test_suggest(word, expected):
    known = ["ExecStart", "ExecStop", "TimeBetweenAttempts", "TTL", "Type"]
    assert suggest(word, known) == expected
    assert did_you_mean(word, known) == (f", did you mean {expected}?" if expected else "")
