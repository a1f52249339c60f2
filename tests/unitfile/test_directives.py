"""The typed readers of values, unknown keys, meanings, and what the measured table does not hold."""

import errno
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xchronos.errors import InvalidValue
from xchronos.unitfile import directives
from xchronos.unitfile.directives import (
    Amount,
    DirectiveVerdict,
    Rlimit,
    Signal,
    check,
    is_known,
    meaning,
    parse_bool,
    parse_capabilities,
    parse_cpu_quota,
    parse_exit_status,
    parse_exit_statuses,
    parse_integer,
    parse_memory,
    parse_mode,
    parse_percent,
    parse_rlimit,
    parse_signal,
    parse_size,
    parse_tasks,
)
from xchronos.unitfile.directives.forms import names_in
from xchronos.unitfile.directives.meanings import _CONTAINER, _USED
from xchronos.unitfile.directives.table import INSTALL, SECTIONS, SERVICE, UNIT
from xchronos.unitfile.names import UnitName
from xchronos.unitfile.specifiers import HostFacts


def refused(function, *arguments):
    with pytest.raises(InvalidValue) as caught:
        function(*arguments)
    message = str(caught.value)
    assert "expected" in message
    return message


def test_every_public_name_is_there():
    assert all(hasattr(directives, name) for name in directives.__all__)


def test_booleans():
    assert all(parse_bool(text) for text in ("1", "yes", "Y", "TRUE", "t", "on"))
    assert not any(parse_bool(text) for text in ("0", "no", "N", "False", "f", "OFF"))
    assert "'enable'" in refused(parse_bool, "enable")
    refused(parse_bool, "")


@pytest.mark.parametrize(
    ("text", "number"),
    [("5", 5), ("+5", 5), ("-5", -5), (" 5", 5), ("0x1f", 31), ("0b101", 5), ("0o17", 15), ("017", 15), ("0", 0)],
)
def test_integers(text, number):
    assert parse_integer(text, -10, 100, "a number") == number


@pytest.mark.parametrize("text", ["", "5 ", "5x", "1.5", "08", "101", "-11", "\u0665", "1_0", "0x", "--1"])
def test_integers_refused(text):
    refused(parse_integer, text, -10, 100, "a number")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1024", 1024),
        ("1B", 1),
        ("1K", 1024),
        ("1.5K", 1536),
        ("1 G", 2**30),
        ("1G 512M", 2**30 + 2**29),
        ("1G1M", 2**30 + 2**20),
        ("1M 5", 2**20 + 5),
        ("2.", 2),
        ("1B5", 6),
        ("1.5555555555555G", 1670265059),
        ("15E", 15 * 2**60),
        ("+1T", 2**40),
    ],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "512m",
        "1KB",
        "K",
        "1M 1G",
        "5 5",
        "5 5M",
        "1K1K",
        "1..5",
        ".5G",
        "-1",
        "16E",
        "1e3",
        "0x10",
        "50%",
        "infinity",
        "1,5G",
    ],
)
def test_sizes_refused(text):
    refused(parse_size, text)


def test_sizes_of_traffic_count_in_thousands():
    assert parse_size("1M", 1000) == 1_000_000


@given(st.integers(0, 2**43), st.sampled_from(["", "B", "K", "M"]))
def test_whole_sizes_scale(number, unit):
    assert parse_size(f"{number}{unit}") == number * {"": 1, "B": 1, "K": 2**10, "M": 2**20}[unit]


def test_percentages():
    assert parse_percent("50%") == 5000
    assert parse_percent("12.5%") == 1250
    assert parse_percent("0.01%") == 1
    assert parse_percent("150%", None) == 15_000
    assert "up to 100%" in refused(parse_percent, "101%")
    for text in ("", "%", "50", "50 %", "1.234%", ".5%", "-1%", "5.%"):
        refused(parse_percent, text)
    refused(parse_percent, "99999999999%", None)


def test_modes():
    assert parse_mode("0022") == 0o22
    assert parse_mode("7777") == 0o7777
    for text in ("", "8", "10000", "0x1", "+22", "rw"):
        refused(parse_mode, text)


@pytest.mark.parametrize(
    ("name", "text", "limit"),
    [
        ("NOFILE", "1024", Rlimit(1024, 1024)),
        ("NOFILE", "1024:4096", Rlimit(1024, 4096)),
        ("NOFILE", "infinity", Rlimit(None, None)),
        ("NOFILE", "5:infinity", Rlimit(5, None)),
        ("FSIZE", "1M:2M", Rlimit(2**20, 2**21)),
        ("CPU", "1min", Rlimit(60, 60)),
        ("CPU", "1500ms", Rlimit(2, 2)),
        ("RTTIME", "5", Rlimit(5, 5)),
        ("RTTIME", "5s", Rlimit(5_000_000, 5_000_000)),
        ("RTTIME", "1 2s 3.9", Rlimit(2_000_004, 2_000_004)),
        ("NICE", "-5", Rlimit(25, 25)),
        ("NICE", "+5", Rlimit(15, 15)),
        ("NICE", "30", Rlimit(30, 30)),
    ],
)
def test_resource_limits(name, text, limit):
    assert parse_rlimit(name, text) == limit


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("NOFILE", "1K"),
        ("NOFILE", "5:4"),
        ("NOFILE", "infinity:5"),
        ("NOFILE", "1:2:3"),
        ("NOFILE", ""),
        ("NOFILE", ":"),
        ("NICE", "+20"),
        ("NICE", "infinity"),
        ("CPU", " infinity"),
        ("RTTIME", "infinity "),
        ("FSIZE", "18446744073709551615"),
    ],
)
def test_resource_limits_refused(name, text):
    refused(parse_rlimit, name, text)


@pytest.mark.parametrize(
    ("text", "name", "number"),
    [
        ("SIGTERM", "SIGTERM", 15),
        ("TERM", "SIGTERM", 15),
        ("9", "SIGKILL", 9),
        ("RTMIN", "SIGRTMIN+0", 34),
        ("SIGRTMIN+3", "SIGRTMIN+3", 37),
        ("RTMAX-1", "SIGRTMIN+29", 63),
        ("64", "SIGRTMIN+30", 64),
        ("33", "SIG33", 33),
    ],
)
def test_signals(text, name, number):
    assert parse_signal(text) == Signal(name, number)


@pytest.mark.parametrize(
    "text", ["", "0", "65", "sigterm", "SIGFOO", "SIG9", "RTMIN-1", "RTMAX+1", "RTMIN+31", "RTMIN+"]
)
def test_signals_refused(text):
    refused(parse_signal, text)


def test_exit_statuses():
    assert parse_exit_status("TEMPFAIL") == 75
    assert parse_exit_status("0") == 0
    found = parse_exit_statuses("TEMPFAIL 250 SIGKILL TERM")
    assert found.codes == {75, 250}
    assert found.signals == {9, 15}
    assert parse_exit_statuses("") == (frozenset(), frozenset())
    assert "'256'" in refused(parse_exit_statuses, "1 256")
    refused(parse_exit_status, "SIGKILL")


def test_capabilities():
    assert parse_capabilities("CAP_KILL cap_sys_admin") == {"cap_kill", "cap_sys_admin"}
    assert parse_capabilities("") == frozenset()
    assert len(parse_capabilities("~")) == 41
    assert parse_capabilities("~") - parse_capabilities("~CAP_CHOWN 5") == {"cap_chown", "cap_kill"}
    assert parse_capabilities("50") == {"0x32"}
    assert "'CAP_FOO'" in refused(parse_capabilities, "CAP_FOO")


def test_memory():
    assert parse_memory("512M") == Amount(512 * 2**20)
    assert parse_memory("50%") == Amount(share=5000)
    assert parse_memory("infinity") is None
    assert parse_memory("") is None
    assert parse_memory("0", zero=True) == Amount(0)
    assert "out of range" in refused(parse_memory, "0")
    assert "out of range" in refused(parse_memory, "0%")
    assert "out of range" in refused(parse_memory, "18446744073709551615")


def test_amounts():
    assert str(Amount(share=1250)) == "12.5%"
    assert str(Amount(5)) == "5"
    assert Amount(5) != Amount(share=5)
    assert Amount(5) != cast("object", 5)
    assert len({Amount(5), Amount(5), Amount(share=5)}) == 2
    assert "share=5" in repr(Amount(share=5))


def test_tasks():
    assert parse_tasks("100") == Amount(100)
    assert parse_tasks("10%") == Amount(share=1000)
    assert parse_tasks("infinity") is None
    refused(parse_tasks, "0")
    refused(parse_tasks, "1K")


def test_cpu_quota():
    assert parse_cpu_quota("150%") == 1_500_000
    assert parse_cpu_quota("0.01%") == 100
    assert parse_cpu_quota("") is None
    assert "no CPU time" in refused(parse_cpu_quota, "0%")
    refused(parse_cpu_quota, "100")


def test_unknown_keys_come_with_a_suggestion():
    assert check("Service", "MemoryMx", "1G").message == "unknown key 'MemoryMx' in [Service], did you mean MemoryMax?"
    assert check("Service", "execstart", "/x").message.endswith("did you mean ExecStart?")
    assert check("Service", "Zzzzzzzzzzzzzzzzzz", "x") == DirectiveVerdict(
        "ignored", "unknown key 'Zzzzzzzzzzzzzzzzzz' in [Service]"
    )
    assert check("Service", "Wants", "x").message == "unknown key 'Wants' in [Service]: expected it in [Unit]"
    assert check("Service", "Capabilities", "x").message.startswith("Capabilities= has been removed")
    assert check("Servce", "Type", "x") == DirectiveVerdict("ignored", "unknown section [Servce]")
    assert check("Service", "X-Mine", "x") == DirectiveVerdict()
    assert check("X-Fleet", "Anything", "x") == DirectiveVerdict()


def test_known():
    assert is_known("Service", "ExecStart")
    assert not is_known("Service", "Wants")
    assert not is_known("X-Fleet", "MachineID")
    assert (len(UNIT), len(SERVICE), len(INSTALL)) == (125, 299, 6)


def test_specifiers_of_the_machine_stay_as_written():
    assert check("Service", "WorkingDirectory", "%h/x").effect == ("WorkingDirectory: %h/x",)
    assert check("Service", "WorkingDirectory", "%h/x", host=HostFacts()).effect == ("WorkingDirectory: /root/x",)
    assert check("Service", "User", "%i", name=UnitName.parse("a@bob.service")).effect == ("User: bob",)
    assert check("Service", "User", "%Q").outcome == "refused"


def test_a_path_too_long():
    assert check("Service", "ReadOnlyPaths", "/x" * 2047).outcome == "ok"
    assert "4095 bytes" in check("Service", "ReadOnlyPaths", "/x" * 2048).message
    assert check("Service", "ReadOnlyPaths", "/" + "x" * 255).outcome == "ok"
    assert "255 in each part" in check("Service", "ReadOnlyPaths", "/" + "x" * 256).message
    assert check("Service", "ReadOnlyPaths", "/" + "ä" * 127).outcome == "ok"
    assert check("Service", "ReadOnlyPaths", "/" + "ä" * 128).outcome == "ignored"


@pytest.mark.parametrize(
    ("key", "value", "effect"),
    [
        # An open quote takes the rest of the line only.
        ("ReadOnlyPaths", '/a x "/b', ("ReadOnlyPaths: /a",)),
        ("ReadOnlyPaths", '"/a b" /c\\', ("ReadOnlyPaths: /a b",)),
        ("PassEnvironment", 'A 1B "C', ("PassEnvironment: A",)),
        ("PassEnvironment", "%j %z C", ("PassEnvironment: v", "PassEnvironment: C")),
        ("UnsetEnvironment", "A=%p 'B", ("UnsetEnvironment: A=v",)),
        ("RestrictNetworkInterfaces", 'eth0 "lo', ("RestrictNetworkInterfaces: eth0",)),
        ("IPAddressDeny", "x 10.0.0.1 10.0.0.0/33", ("IPAddressDeny: 10.0.0.1/32",)),
        ("SystemCallArchitectures", "x x86", ("SystemCallArchitectures: x86",)),
        ("StateDirectory", "a:b c .", ("StateDirectory: a", "StateDirectory: c", "StateDirectorySymlink: a:b")),
        ("StateDirectory", "a:/b c", ("StateDirectory: c",)),
        ("ConfigurationDirectory", "a:b c", ("ConfigurationDirectory: c",)),
    ],
)
def test_what_is_good_of_a_list_counts(key, value, effect):
    verdict = check("Service", key, value)
    assert (verdict.outcome, verdict.effect) == ("ignored", effect)
    assert verdict.message


def test_messages_say_what_was_expected():
    for section, table in SECTIONS.items():
        for key in table:
            verdict = check(section, key, "%Q \t\x01/../:")
            if verdict.outcome != "ok":
                assert verdict.message, key


def test_a_oneshot_may_not_be_restarted_after_success():
    assert check("Service", "Restart", "always", service_type="oneshot").outcome == "refused"
    assert check("Service", "Restart", "always", service_type="exec").outcome == "ok"
    assert check("Service", "Restart", "on-failure", service_type="oneshot").outcome == "ok"


def test_what_no_measurement_holds():
    assert "less than 584 years" in check("Service", "TimerSlackNSec", "18446744073709551615").message
    assert check("Service", "TimerSlackNSec", "infinity") == DirectiveVerdict()
    assert check("Service", "StandardInput", "file:/x").effect == ("StandardInput: file", "StandardInputFile: /x")
    assert check("Service", "StandardInput", "fd:x:y").outcome == "ignored"
    assert check("Service", "CoredumpFilter", "all 1").effect == ("CoredumpFilter: 0xffffffff",)
    assert check("Service", "CoredumpFilter", "shared-huge default").effect == ("CoredumpFilter: 0x73",)
    assert "64 bits" in check("Service", "CoredumpFilter", "f" * 16).message
    assert "norbind" in check("Service", "BindPaths", "/x:/y:foo").message
    assert check("Service", "UnsetEnvironment", '"A').outcome == "ignored"


@pytest.mark.parametrize("number", ["9" * 5000, "1." + "9" * 5000, "RTMIN+" + "9" * 5000, "9" * 5000 + "%"])
def test_a_number_of_thousands_of_digits_is_only_wrong(number):
    for key in ("Nice", "MemoryMax", "CPUQuota", "TasksMax", "KillSignal", "TimerSlackNSec", "LimitNOFILE", "UMask"):
        assert check("Service", key, number).outcome == "ignored", key
    assert check("Service", "User", "9" * 5000).outcome == "refused"


def test_numbers_of_errors():
    assert check("Service", "SystemCallErrorNumber", str(errno.EPERM)).effect == ("SystemCallErrorNumber: EPERM",)


def test_meanings():
    assert meaning("Service", "ExecStart") == "used"
    assert meaning("Service", "MemoryMax") == "container"
    assert meaning("Service", "Nice") == "ignored"
    assert meaning("Service", "Wants") == "ignored"
    assert meaning("Unit", "Requires") == "used"
    assert meaning("Unit", "Wants") == "ignored"


def test_only_known_keys_have_a_meaning():
    for kinds in (_USED, _CONTAINER):
        for section, names in kinds.items():
            assert [name for name in names_in(names) if not is_known(section, name)] == []
    assert not set(names_in(_USED["Service"])) & set(names_in(_CONTAINER["Service"]))


@given(st.sampled_from([(s, k) for s, table in SECTIONS.items() for k in table]), st.text(max_size=30))
def test_any_value_gets_a_verdict(option, value):
    section, key = option
    verdict = check(section, key, value, host=HostFacts())
    assert verdict.outcome in ("ok", "warned", "ignored", "refused")
    assert bool(verdict.message) == (verdict.outcome != "ok")
    assert check(section, key, value, host=HostFacts()) == verdict
