"""README.md, CHANGELOG.md and packaging/ say what is so: commands, links, units, tables."""

import os
import re
import tomllib
from typing import get_args

import click
import pytest

import xchronos
from tests.docs.generated import FILES, PARTS, README, ROOT, TOML, filled, outdated
from xchronos.cli.program import cli
from xchronos.config import describe_settings, load
from xchronos.intake.scan import list_directory
from xchronos.model.compile.unit import compile_unit
from xchronos.model.policies import MisfirePolicy, Outcome
from xchronos.model.records import ExecutionState

TEXT = README.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
DOCUMENTS = ("README.md", "CHANGELOG.md")


def block(after: str) -> str:
    """The first code block after a heading."""
    section = TEXT.partition(f"\n## {after}\n")[2]
    found = re.search(r"^```\w*\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert found, after
    return found[1]


# -- generated parts ---------------------------------------------------------------------------------------------------


def test_the_generated_parts_are_what_the_code_writes():
    assert outdated() == [], "run: packaging/dev regen"


def test_what_is_outdated_is_named_and_written(tmp_path):
    wanted = {name: (ROOT / name).read_text(encoding="utf-8") for name in FILES}
    assert sorted(wanted) == ["README.md", "packaging/CONTRIBUTING.md", "packaging/xchronosd.toml"]
    (tmp_path / "packaging").mkdir()
    for name, text in wanted.items():
        damaged = re.sub(r"machine_id|delayed --> queued", "damaged", text)
        assert damaged != text
        (tmp_path / name).write_text(damaged, encoding="utf-8")
    assert sorted(outdated(tmp_path)) == sorted(outdated(tmp_path, write=True)) == sorted(wanted)
    assert outdated(tmp_path) == []
    assert {name: (tmp_path / name).read_text(encoding="utf-8") for name in FILES} == wanted


@pytest.mark.parametrize(
    ("document", "name"), [(document, name) for document, parts in PARTS.items() for name in parts]
)
def test_a_missing_place_is_an_error(document, name):
    text = document.read_text(encoding="utf-8")
    for place in (f"<!-- generated: {name} -->", f"<!-- end: {name} -->"):
        with pytest.raises(ValueError, match=f"{document.name} has no .*generated: {name}"):
            filled(document, text.replace(place, ""))


def test_the_settings_file_changes_nothing_commented_out_or_not(tmp_path):
    text = TOML.read_text(encoding="utf-8")
    commented = tmp_path / "commented.toml"
    commented.write_text(text, encoding="utf-8")
    plain = tmp_path / "plain.toml"
    plain.write_text(re.sub(r'^#(\w+ = (?!""$))', r"\1", text, flags=re.MULTILINE), encoding="utf-8")
    assert tomllib.loads(plain.read_text(encoding="utf-8"))["api"]["listen"]
    defaults = load({}, {}, [], root=True)
    assert load({}, {}, [commented], root=True) == defaults
    assert load({}, {}, [plain], root=True) == defaults


def test_every_setting_is_in_the_settings_file():
    text = TOML.read_text(encoding="utf-8")
    for row in describe_settings():
        assert f"\n#{row.name.rpartition('.')[2]} = " in text


# -- commands ----------------------------------------------------------------------------------------------------------


def test_the_first_command_and_the_test_command_exist():
    run, check = block("Run it").split(), block("Test it").split()
    assert (run, check) == (["./packaging/quickstart"], ["packaging/test"])
    for command in (*run, *check, ".ci/run", "packaging/dev"):
        assert os.access(ROOT / command, os.X_OK), command
    ci = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert "tests() { packaging/test 2>&1 | tee" in ci
    for extra in ("packaging/etcd", "packaging/engine"):
        assert f"check {extra}" in ci
        assert os.access(ROOT / extra, os.X_OK)


def mentioned() -> list[str]:
    """Every `xchronosctl ...` in README, the units, and what is in packaging/."""
    packaged = ("quickstart", "cluster", "compose.yaml", "OPERATIONS.md", "CONTRIBUTING.md")
    texts = [TEXT, *((ROOT / "packaging" / name).read_text(encoding="utf-8") for name in packaged)]
    texts += [path.read_text(encoding="utf-8") for path in (ROOT / "units").glob("*.service")]
    spans = re.findall(r"xchronosctl ((?:[a-z0-9-]+\b ?)[^`|\n#]*)", "\n".join(texts))
    return sorted({span.strip() for span in spans})


def subcommand(group: click.Group, name: str) -> click.Command | None:
    return group.get_command(click.Context(group), name)


@pytest.mark.parametrize("line", mentioned())
def test_a_command_that_is_mentioned_exists_with_its_options(line):
    words = line.split()
    command: click.Command | None = cli
    while words and isinstance(command, click.Group):
        command = subcommand(command, words.pop(0))
    assert command is not None, f"xchronosctl {line}"
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        if word.startswith("-"):
            assert word in known, f"xchronosctl {line}"


def test_the_tour_shows_every_command():
    tour = TEXT.partition("\n## The command line\n")[2].partition("\n## ")[0]
    for name in cli.list_commands(click.Context(cli)):
        assert re.search(rf"`[^`]*\b{re.escape(name)}\b[^`]*`", tour), name


# -- links -------------------------------------------------------------------------------------------------------------


def anchors(text: str) -> set[str]:
    """What GitHub makes of the headings."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_resolve(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    links = re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", text)
    assert links
    for link in links:
        target, _, anchor = link.partition("#")
        if target.startswith("https://"):
            continue
        assert not target or (ROOT / target).exists(), link
        if anchor:
            assert anchor in anchors(text if not target else (ROOT / target).read_text(encoding="utf-8")), link


def test_every_example_is_in_the_table():
    names = list_directory(str(ROOT / "units")).units
    for name, stamp in names.items():
        if not stamp.target:
            assert f"[{name}](units/{name})" in TEXT


# -- contents ----------------------------------------------------------------------------------------------------------


def test_the_units_that_are_shown_compile_without_a_warning():
    shown = [text for kind, text in BLOCKS if kind == "ini"]
    shown += re.findall(r"^cat > \S+\.service << 'END'\n(.*?)^END$", TEXT, re.MULTILINE | re.DOTALL)
    assert len(shown) == 2
    for text in shown:
        assert not compile_unit("shown.service", text).warnings


def test_the_misfire_table_has_every_policy():
    time = TEXT.partition("\n## Time\n")[2].partition("\n## ")[0]
    assert sorted(re.findall(r"^\| `(\w+)`", time, re.MULTILINE)) == sorted(policy.value for policy in MisfirePolicy)


def test_every_state_and_outcome_is_told():
    states = TEXT.partition("\n## How it works\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)`", states, re.MULTILINE) == list(get_args(ExecutionState))
    (ended,) = re.findall(r"^\| `ended` .*", states, re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", ended)[1:]) == sorted(Outcome)


def test_the_changelog_has_this_version():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)[:2] == ["Unreleased", xchronos.__version__]


def test_the_daemon_under_systemd_starts_what_is_installed():
    text = (ROOT / "packaging/xchronosd.service").read_text(encoding="utf-8")
    unit = compile_unit("xchronosd.service", text)
    assert [step.text.split()[0] for step in unit.service.steps] == ["/opt/xchronos/bin/xchronosd"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert sorted(project["project"]["scripts"]) == ["xchronos-guardian", "xchronosctl", "xchronosd"]
