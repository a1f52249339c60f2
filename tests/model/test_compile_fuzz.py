"""Whatever a file holds: a Unit comes out of it, or a UnitFileError that names its place. Never anything else."""

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.model.compile_helpers import EXAMPLE, RUN
from xchronos.dockercli.quadlet.container import CONTAINER_KEYS
from xchronos.errors import UnitFileError
from xchronos.model.compile.chronos import CHRONOS_KEYS
from xchronos.model.compile.unit import compile_unit
from xchronos.model.unit import Unit
from xchronos.unitfile.directives.table import SECTIONS
from xchronos.unitfile.fleet.requirements import FLEET_KEYS

CONTAINER = (
    "[Unit]\nOnFailure=mail@%n.service\n[Container]\nImage=registry/app:%a\nExec=run --all\nVolume=%S/%p:/data\n"
    "Environment=A=1 B='2 3'\nMemory=64m\nPublishPort=80:80\n[Service]\nType=oneshot\nMemoryMax=1G\nUser=web\n"
    "CPUQuota=50%\nLimitNOFILE=5:9\n[X-Chronos]\nTriggerCalendar=Mon..Fri 09:00\nTimeZone=Europe/Berlin\n"
    "TriggerISO8601=R5/2030-01-31T00:00:00Z/P1M\nTTL=P1D\nConcurrency=forbid\n"
)
HOST = (
    "[Unit]\nDescription=Database\nAfter=network.target\nConditionPathExists=!/etc/off\n[Service]\nType=notify\n"
    "EnvironmentFile=-/etc/default/db\nExecStartPre=+/bin/mkdir -p /run/db\nExecStart=/usr/bin/db --port ${PORT} $OPTS\n"
    "ExecReload=/bin/kill -HUP $MAINPID\nRestart=on-failure\nRestartSec=5s\nTimeoutSec=1min 30s\nKillMode=mixed\n"
    "ProtectSystem=full\nNoNewPrivileges=yes\nCapabilityBoundingSet=CAP_CHOWN ~CAP_KILL\n[Install]\n"
    "WantedBy=multi-user.target\nAlias=x.service\n"
)
TEXTS = (EXAMPLE, CONTAINER, HOST, RUN)
# TriggerClass imports what it names, which is not for chance to choose.
KEYS = {
    **{section: sorted(keys) for section, keys in SECTIONS.items()},
    "Container": sorted(CONTAINER_KEYS),
    "X-Fleet": sorted(FLEET_KEYS),
    "X-Chronos": sorted(CHRONOS_KEYS - {"TriggerClass"}),
}
NAMES = ("a.service", "a@.service", "a-b@c-d.service")
PIECES = (
    "0", "-1", "10s", "yes", "infinity", "%i", "%H", "%%", "%", "%Q", "$A", "${A}", "/x", "-/x", "docker run -rm a", "#",
    "a=b", '"', "'", "\\", ";", "*", "* * * * *", "R/2030-01-01T00:00:00Z/P1D", "2030-01-01T00:00:00Z", "a.service",
    "a@.service", "50%", "1G", "~", "=", ",", ":", "[", "]", "{}", "\u0660", "\ud800", "9" * 25, " (*)",
)  # fmt: skip
values = st.lists(st.sampled_from(PIECES) | st.text(max_size=6), max_size=4).map(" ".join)
assignments = st.sampled_from(sorted(KEYS)).flatmap(
    lambda section: st.builds("[{}]\n{}={}\n".format, st.just(section), st.sampled_from(KEYS[section]), values)
)


def compiles_or_says_why(name, text, drop_ins=()):
    try:
        unit = compile_unit(name, text, drop_ins)
    except UnitFileError as refusal:
        problems, accepted = refusal.problems, False
    else:
        problems, accepted = unit.warnings, True
        assert isinstance(unit, Unit)
        assert unit.name == name
    assert accepted == all(problem.severity == "warning" for problem in problems)
    files = {name, *(file for file, _ in drop_ins)}
    assert all(problem.file in files and problem.message and problem.line >= 0 for problem in problems)
    assert len(set(problems)) == len(problems)


@given(st.sampled_from(NAMES) | st.text(max_size=12), st.binary(max_size=200) | st.text(max_size=200))
@example("a.service", "[Service]\nExecStart=/a\ud800")
@example("a.service", "")
def test_any_text(name, text):
    compiles_or_says_why(name, text)


@given(st.sampled_from(NAMES), st.lists(assignments, max_size=8), st.lists(assignments, max_size=3))
def test_any_assignments(name, lines, more):
    compiles_or_says_why(name, RUN + "".join(lines), [("x.conf", "".join(more))] if more else ())


@given(
    st.sampled_from(NAMES),
    st.sampled_from(TEXTS),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 9), st.sampled_from(PIECES)), min_size=1, max_size=4),
    st.none() | st.sampled_from(TEXTS),
)
def test_damaged_texts(name, text, cuts, drop_in):
    for place, length, piece in cuts:
        at = int(place * len(text))
        text = text[:at] + piece + text[at + length :]
    compiles_or_says_why(name, text, [("x.conf", drop_in)] if drop_in is not None else ())


@given(st.sampled_from(TEXTS), st.integers(0, 40), st.text(string.printable, max_size=20))
def test_a_line_more_or_less(text, number, line):
    lines = text.splitlines()
    number %= len(lines)
    compiles_or_says_why("a.service", "\n".join([*lines[:number], line, *lines[number + 1 :]]))


@pytest.mark.parametrize("text", TEXTS)
def test_they_are_good_to_begin_with(text):
    assert compile_unit("a.service", text).name == "a.service"
