"""Hostile unit files: what they cost is bounded before it is spent, and what is told of them is bounded, too."""

import sys
import tracemalloc

import pytest

from xchronos.errors import UnitFileError
from xchronos.limits import (
    DROP_INS,
    EXPANDED_CHARACTERS,
    PATH_CHARACTERS,
    PLACEMENT_TERMS,
    PORTS,
    PROBLEM_CHARACTERS,
    PROBLEMS_TOLD,
    STEPS,
    STORED_PORTS,
    TRIGGERS,
    UNIT_BYTES,
    UNIT_LINES,
    WHOLE_UNIT_BYTES,
)
from xchronos.model.compile.unit import compile_unit

RUN = "[Service]\nExecStart=/bin/true\n"
ONCE = "[Service]\nType=oneshot\n"
BOX = "[Container]\nImage=busybox\n"


def problems_of(text, drop_ins=(), **more):
    with pytest.raises(UnitFileError) as refused:
        compile_unit("a.service", text, drop_ins, **more)
    return refused.value.problems


def told_of(text):
    """The problems of a unit, whether it is refused or only warned of."""
    try:
        return compile_unit("a.service", text).warnings
    except UnitFileError as error:
        return error.problems


def repeated(line, count=UNIT_LINES - 10):
    return "".join(line.format(i) for i in range(count))


@pytest.mark.parametrize(
    ("text", "drop_ins", "expected"),
    [
        (RUN + "#" * UNIT_BYTES, (), f"at most {UNIT_BYTES};"),
        (RUN + "\n" * UNIT_LINES, (), f"at most {UNIT_LINES};"),
        (RUN, [("a.conf", "#" * (UNIT_BYTES + 1))], f"a.conf: the file has {UNIT_BYTES + 1} bytes"),
        (RUN, [("a.conf", "#\n" * (UNIT_LINES + 1))], f"a.conf:{UNIT_LINES + 1}: the file has {UNIT_LINES + 1} lines"),
        (RUN, [(f"{i}.conf", "#" * UNIT_BYTES) for i in range(4)], f"{WHOLE_UNIT_BYTES} are the most;"),
        (RUN, [(f"{i}.conf", "#") for i in range(DROP_INS + 1)], f"{DROP_INS} are the most"),
        (RUN, [("x" * (PATH_CHARACTERS + 1), "#")], f"{PATH_CHARACTERS} are the most"),
        (RUN + "\udcff" * UNIT_BYTES, (), f"at most {UNIT_BYTES};"),
    ],
)
def test_text_that_is_too_large_is_refused_with_the_limit(text, drop_ins, expected):
    (problem, *_) = problems_of(text, drop_ins)
    assert expected in str(problem)
    assert len(str(problem)) <= PATH_CHARACTERS + PROBLEM_CHARACTERS


def test_the_largest_unit_compiles():
    text = (RUN + "#" * UNIT_BYTES)[:UNIT_BYTES]
    large = ("#" * UNIT_BYTES)[:UNIT_BYTES]
    assert not compile_unit("a.service", text, [(f"{i}.conf", large) for i in range(3)]).warnings
    assert compile_unit("a.service", RUN + "\n" * (UNIT_LINES - 2))


def test_a_unit_that_was_stored_before_may_be_larger():
    assert not compile_unit("a.service", RUN + "#" * UNIT_BYTES, stored=True).warnings


@pytest.mark.parametrize(
    "text",
    [
        RUN + repeated("RestrictAddressFamil{}=x\n"),
        "[Unit]\n" + repeated("ConditionKernelVerson{}=x\n") + RUN,
        BOX + repeated("PublishPorts{}=x\n"),
        RUN + "[X-Chronos]\n" + repeated("TriggerCronn{}=x\n"),
        RUN + "[X-Fleet]\n" + repeated("MachineMetadatas{}=x\n"),
        RUN + repeated("[Serviice{}]\n"),
        RUN + repeated("[\n"),
        RUN + repeated("LimitNOFILE={} # x\n"),
        RUN + repeated("no key\n"),
        RUN + "K" * (UNIT_BYTES - 100) + "=x\n",
        RUN + "MemoryMax=" + "x" * (UNIT_BYTES - 100) + "\n",
        RUN + "[" + "x" * (UNIT_BYTES - 100) + "]\n",
        RUN + "[X-" + "x" * (UNIT_BYTES - 100) + "]\n",
        BOX + "PublishPort=" + "1" * (UNIT_BYTES - 100) + "\n",
    ],
)
def test_what_is_told_is_bounded_and_so_is_the_looking_for_words(text, monkeypatch):
    looked = []
    suggesting = sys.modules["xchronos.unitfile.suggest"]
    distance = suggesting._distance

    def counted(*given):
        looked.append(given)
        return distance(*given)

    monkeypatch.setattr(suggesting, "_distance", counted)
    told = told_of(text)
    assert told
    assert len(told) <= PROBLEMS_TOLD + 1
    assert all(len(problem.message) <= PROBLEM_CHARACTERS for problem in told)
    assert sum(len(str(problem)) for problem in told) <= 3 * PROBLEM_CHARACTERS * len(told)
    # Some 200 keys of a section are as long as the word or nearly so.
    assert len(looked) <= 3 * PROBLEMS_TOLD * 250


def test_errors_are_told_before_warnings_and_the_rest_is_counted():
    text = "[Service]\n" + repeated("Bad{}=x\n", 862) + "ExecStart=relative/path\n"
    *told, rest = problems_of(text)
    assert [problem.line for problem in told if problem.severity == "error"] == [864]
    assert [problem.line for problem in told] == [*range(2, 2 + PROBLEMS_TOLD - 1), 864]
    assert str(rest) == "a.service: warning: and 813 more: 0 errors and 813 warnings"


def test_errors_that_are_only_counted_are_errors():
    *told, rest = problems_of("[X-Chronos]\n" + repeated("Bad{}=x\n", PROBLEMS_TOLD + 1))
    assert len(told) == PROBLEMS_TOLD
    assert str(rest) == "a.service: and 1 more: 1 error and 0 warnings" or rest.severity == "error"


@pytest.mark.parametrize(
    "text",
    [
        BOX + "PublishPort=1-65535:1-65535\n" * 50,
        BOX + "PublishPort=1-65535:1-65535/udp\n" * 1900,
        BOX + f"PublishPort=1-{PORTS}:1-{PORTS}\n" * 1900,
        BOX + "ExposeHostPort=1-65535\n" * 50,
        BOX + f"ExposeHostPort=1-{PORTS}\n" * 1900,
        BOX + "PodmanArgs=" + "--publish 1-65535:1-65535 " * 1900 + "\n",
        ONCE + "ExecStart=/usr/bin/docker run -p 1-65535:1-65535 busybox\n" * 50,
        ONCE + f"ExecStart=/usr/bin/docker run -p 1-{PORTS}:1-{PORTS} busybox\n" * 50,
        ONCE + f"ExecStart=/usr/bin/docker run --expose 1-{PORTS} busybox\n" * 50,
        ONCE + "ExecStart=/usr/bin/docker run " + "-p 1-65535:1-65535 " * 1900 + "busybox\n",
        ONCE + "ExecStart=/usr/bin/docker run " + "--expose 1-65535 " * 1900 + "busybox\n",
        ONCE + "ExecStart=/usr/bin/docker create " + "--publish published=1-65535,target=1-65535 " * 900 + "busybox\n",
        ONCE + "Environment=P=1-65535:1-65535\nExecStart=/usr/bin/docker run -p ${P} -p ${P} busybox\n",
    ],
)
def test_ports_are_counted_before_they_are_expanded(text):
    tracemalloc.start()
    try:
        told = told_of(text)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert f"{PORTS} are the most" in str(told[0]) or f"more than {PORTS} ports" in str(told[0])
    assert peak < 32 * 2**20


def test_as_many_ports_as_there_may_be():
    unit = compile_unit("a.service", BOX + f"PublishPort=1-{PORTS}:1-{PORTS}\nExposeHostPort=1-{PORTS}\n")
    assert unit.container is not None
    assert len(unit.container.body["ExposedPorts"]) == PORTS
    assert len(compile_unit("a.service", BOX + "PublishPort=1-65535:80\n").container.body["ExposedPorts"]) == 1


LONG_LISTS = [
    (ONCE + "ExecStart=/bin/true\n" * (STEPS + 1), f"more than {STEPS} commands"),
    ("[Service]\nType=oneshot\nExecStart=/bin/a" + " ; /bin/a" * STEPS + "\n", f"more than {STEPS} commands"),
    (RUN + "[X-Chronos]\n" + repeated("TriggerCron=* * * * *\n", TRIGGERS + 1), f"{TRIGGERS} are the most"),
    (RUN + "[X-Fleet]\n" + repeated("Conflicts=a*{}\n", PLACEMENT_TERMS + 1), f"{PLACEMENT_TERMS} are the most"),
    (
        RUN + '[X-Fleet]\nMachineMetadata="a0=b"' + repeated(' "a{}=b"', PLACEMENT_TERMS) + "\n",
        f"{PLACEMENT_TERMS} are the most",
    ),
]


@pytest.mark.parametrize(("text", "expected"), LONG_LISTS)
def test_lists_have_their_limits(text, expected):
    assert expected in str(problems_of(text)[0])


@pytest.mark.parametrize(
    "text",
    [
        *(text for text, _ in LONG_LISTS),
        BOX + "PublishPort=10000-20000:10000-20000\nExposeHostPort=1-65535\n",
        ONCE + "ExecStart=/usr/bin/docker run -p 10000-20000:10000-20000 --expose 1-65535 busybox\n",
        ONCE + "ExecStart=/usr/bin/docker run -p 1-4000:1-4000 busybox\n" * 10,
    ],
)
def test_what_was_accepted_before_there_were_limits_is_read(text):
    assert told_of(text), "a new one is refused"
    compile_unit("a.service", text, stored=True)


def test_what_is_stored_has_no_more_ports_than_fit():
    text = ONCE + "ExecStart=/usr/bin/docker run -p 1-65535:1-65535 busybox\n" * 2
    with pytest.raises(UnitFileError, match=f"more than {STORED_PORTS} ports together"):
        compile_unit("a.service", text, stored=True)


GROWING = f"Environment=A={'a' * 20_000}\n"


@pytest.mark.parametrize(
    "line",
    [
        "ExecStart=/usr/bin/docker run busybox " + "${A} " * 100 + "\n",
        "ExecStart=/usr/bin/docker run busybox " + "$A " * 100 + "\n",
        "ExecStart=/usr/bin/docker run busybox " + "${A}" * 100 + "\n",
        "ExecStart=/usr/bin/docker run busybox $A\n" * 100,
        "ExecStart=/usr/bin/docker run busybox x${A}\n" * 100,
    ],
)
def test_variables_that_grow_are_refused_before_they_have_grown(line):
    tracemalloc.start()
    try:
        told = told_of(ONCE + GROWING + line)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert f"{EXPANDED_CHARACTERS} characters" in str(told[0])
    assert peak < 32 * 2**20


def test_specifiers_that_grow_are_refused():
    name = f"{'n' * 200}.service"
    with pytest.raises(UnitFileError, match=f"longer than {EXPANDED_CHARACTERS} characters"):
        compile_unit(name, "[Service]\nExecStart=/bin/echo " + "%n" * 30_000 + "\n")
