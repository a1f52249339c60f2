"""packaging/CONTRIBUTING.md is true: the files, places, commands, layers and numbers that it names are those of the code."""

import os
import re
import subprocess
import sys
import tomllib

import pytest

from tests.docs.contributing import PACKAGE, TEXT, blocks, is_there, names, rows, section, spans
from tests.docs.generated import CONTRIBUTING, README, ROOT
from tests.docs.test_house import MOST_LINES, MOST_MODULES
from xchronos.agent.lease.lease_clock import KILL_AT, STOP_AT
from xchronos.registry.keys import SHARDS

CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
INSIDE = {
    contract["containers"][0]: contract["layers"]
    for contract in CONTRACTS
    if contract["type"] == "layers" and contract["containers"] != ["xchronos"]
}
"""By package, the layers inside it."""

COMMANDS = [line for block in blocks("sh") for line in block.splitlines()]


def words_of(layers: list[str]) -> list[list[str]]:
    return [sorted(re.findall(r"\w+", layer)) for layer in layers]


# -- names -------------------------------------------------------------------------------------------------------------


def test_every_file_and_place_that_is_named_is_there():
    found = names()
    assert len(found) > 150, "this looks at the page"
    assert [name for name in found if not is_there(name)] == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("scheduler/fire.py", True),
        ("scheduler/fires.py", False),
        ("scheduler/fire.py:fire", True),
        ("scheduler/fire.py:_Decision._fire", True),
        ("scheduler/fire.py:_Decision.fire", False),
        ("scheduler/fire.py:MOST_FIRES", True),
        ("config/settings.py:SETTINGS", True),
        ("model/unit.py:Unit.keep_running", True),
        ("scheduler/fire.py:overlap", False),  # it is imported there, and stands elsewhere
        ("packaging/test", True),
    ],
)
def test_a_place_is_there_only_if_it_is(name, expected):
    assert is_there(name) is expected


def test_the_words_that_are_no_names_are_not_looked_up():
    text = "`a/b.py` `c.toml:d` `/etc/x.md` `Restart=` `report@.service` `packaging/dev fast`\n```sh\n`x/y`\n```\n`tests/x`"
    assert names(text) == ["a/b.py", "c.toml:d", "packaging/dev", "tests/x"]


def test_every_link_leads_somewhere():
    anchors = {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    }
    links = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert len(links) > 10
    for link in links:
        target, _, anchor = link.partition("#")
        assert not target or (CONTRIBUTING.parent / target).exists(), link
        assert not anchor or anchor in anchors, link


# -- commands ----------------------------------------------------------------------------------------------------------


def test_the_scripts_take_what_is_said_of_them():
    """`packaging/test` takes pytest's arguments; what `packaging/dev` takes, its help says."""
    told = subprocess.run([ROOT / "packaging/dev", "help"], capture_output=True, text=True, check=True).stdout
    called = [*COMMANDS, *spans()]
    for script, least in (("packaging/dev", 4), ("packaging/test", 2)):
        assert os.access(ROOT / script, os.X_OK)
        lines = {line for line in called if line.split()[0] == script and len(line.split()) > 1}
        assert len(lines) >= least
        for line in lines:
            words = line.split()[1:]
            if script == "packaging/dev":
                assert f"{script} {words[0]} " in told, line
            else:
                assert (ROOT / words[0]).is_dir(), line
    assert os.access(ROOT / ".ci/run", os.X_OK)


@pytest.mark.parametrize("module", ["tests.benchmarks", "xchronos.testing.simulation"])
def test_a_module_that_is_a_command_has_the_options_that_are_named(module):
    lines = [span for span in spans() if span.startswith(f"python -m {module}")]
    assert lines
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    options = {word for line in lines for word in line.split() if word.startswith("--")}
    if module == "tests.benchmarks":
        options |= {span for span in spans(section("Benchmarks")) if span.startswith("--")}
    assert options
    assert [option for option in options if not re.search(rf"{option}\b", done.stdout)] == []


def test_a_trace_looks_like_that():
    """Every kind of line that is shown comes, cut, in the trace of a seed; which seed has which is the faults' affair."""
    (shown,) = blocks("trace")
    wanted = {shape(line) for line in shown.splitlines()}
    assert len(wanted) > 8
    seen: set[str] = set()
    for seed in range(7, 40):
        command = [sys.executable, "-m", "xchronos.testing.simulation", "--seed", str(seed), "--trace"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        lines = {shape(line) for line in done.stdout.splitlines()}
        seen |= {want for want in wanted if any(line.startswith(want) for line in lines)}
        if seen == wanted:
            return
    assert seen == wanted


def shape(line: str) -> str:
    """A line without what differs from seed to seed: numbers, and the names of machines and units."""
    line = re.sub(r"\b[a-z]+\d+\.service", "U", re.sub(r"\b[0-9a-f]{8}$", "R", line))
    return re.sub(r"[\d.]+", "0", line).strip()


# -- the house ---------------------------------------------------------------------------------------------------------


def test_the_house_is_the_one_that_is_enforced():
    (layers,) = (contract["layers"] for contract in CONTRACTS if contract.get("containers") == ["xchronos"])
    table = section("The house").partition("| rooms | purpose |")[2].partition("\n\n")[0]
    rooms = words_of(re.findall(r"^\| ((?:`\w+` ?)+)\|", table, re.MULTILINE))
    assert rooms == [*words_of(layers), ["testing"]]
    for room in {room for row in rooms for room in row}:
        assert (PACKAGE / room / "__init__.py").exists() or (PACKAGE / f"{room}.py").exists(), room


@pytest.mark.parametrize("container", INSIDE)
def test_the_layers_inside_a_room_are_those_that_are_enforced(container):
    room = container.removeprefix("xchronos.").replace(".", "/")
    table = section("The house").partition(f"| in `{room}/` |")[2].partition("\n\n")[0]
    drawn = re.findall(r"^\| ((?:`\w+` ?)+)\|", table, re.MULTILINE)
    assert words_of(drawn) == words_of(INSIDE[container])


def test_the_packages_inside_the_agent_are_all_named():
    table = section("The house").partition("| in `agent/` |")[2].partition("\n\n")[0]
    named = {
        word for cells in re.findall(r"^\| ((?:`\w+` ?)+)\|", table, re.MULTILINE) for word in re.findall(r"\w+", cells)
    }
    assert named >= {path.parent.name for path in (PACKAGE / "agent").glob("*/__init__.py")}


@pytest.mark.parametrize("name", ["agent/guardian/process.py", "executors/process/launcher.py"])
def test_what_is_a_program_of_its_own_needs_only_the_standard_library(name):
    assert f"`{name}`" in TEXT
    module = f"xchronos.{name.removesuffix('.py').replace('/', '.')}"
    program = f"import sys; sys.path.append({str(ROOT)!r}); import {module}"
    subprocess.run([sys.executable, "-I", "-S", "-c", program], check=True)


def test_readme_leads_here_for_the_house():
    assert "](packaging/CONTRIBUTING.md#the-house)" in README.read_text(encoding="utf-8")


# -- tables ------------------------------------------------------------------------------------------------------------


def test_ten_questions_have_their_places():
    table = rows(section("Ten questions"))
    assert len(table) == 10
    for question, answer, places in table:
        assert question.endswith("?")
        assert answer.endswith(".")
        found = names(places)
        assert found
        assert all(":" in name for name in found), question


def test_whatever_is_added_has_its_files_and_its_tests():
    table = {what: (files, tests) for what, files, tests in rows(section("Where a change goes"))}
    wanted = (
        "trigger",
        "store",
        "executor",
        "key of `[X-Chronos]`",
        "route",
        "command",
        "setting",
        "metric",
        "error",
        "example",
    )
    for word in wanted:
        assert any(word in what for what in table), word
    for what, (files, tests) in table.items():
        assert names(files), what
        assert names(tests) or what == "a metric", what


def test_the_glossary_is_in_order():
    table = [word for word, _ in rows(section("Glossary"))]
    plain = [word.partition(" [")[0] for word in table]
    assert plain == sorted(plain)
    assert len({*plain}) == len(plain) >= 40
    for word in ("shard [partition]", "term [fencing token, epoch]", "copy [replica]"):
        assert word in table


def test_the_numbers_are_those_of_the_code():
    assert SHARDS == 16
    assert "a sixteenth of the units" in TEXT
    assert f"asked after {STOP_AT}, killed after {KILL_AT}" in TEXT
    assert (
        f"no more than {MOST_MODULES} modules" in " ".join(TEXT.split()) or f"more than {MOST_MODULES} modules" in TEXT
    )
    assert f"more than {MOST_LINES} lines" in TEXT


@pytest.mark.parametrize("document", ["README.md", "packaging/CONTRIBUTING.md", "packaging/OPERATIONS.md"])
def test_time_is_told_in_plain_words(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    assert re.findall(r"\b(?:behind|at once)\b", text) == []
