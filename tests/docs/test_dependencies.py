"""What xchronos imports it declares, and what it declares it imports: nothing comes by way of somebody else's needs."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

from tests.docs.generated import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PUBLIC = ROOT / "xchronos/testing"

DATA = {"tzdata"}
"""Packages that are read, not imported."""


def normal(name: str) -> str:
    """A distribution's name as it is compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(requirements: list[str]) -> set[str]:
    return {normal(re.match(r"[\w.-]+", requirement)[0]) for requirement in requirements}


def imported(testing: bool) -> dict[str, set[str]]:
    """The packages of others that are imported, each with the distributions that it may come from.

    Args:
        testing: By `xchronos.testing`, or by everything else.
    """
    tops = set()
    for path in (ROOT / "xchronos").rglob("*.py"):
        if path.is_relative_to(PUBLIC) is not testing:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                tops |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                tops.add(node.module.partition(".")[0])
    tops -= {"xchronos", *sys.stdlib_module_names}
    sources = packages_distributions()
    return {top: {normal(name) for name in sources.get(top, [])} for top in tops}


def test_every_package_that_is_imported_is_declared():
    dependencies = declared(PROJECT["dependencies"])
    strangers = {top for top, sources in imported(testing=False).items() if not sources & dependencies}
    assert strangers == set()
    dependencies |= declared(PROJECT["optional-dependencies"]["dev"])
    strangers = {top for top, sources in imported(testing=True).items() if not sources & dependencies}
    assert strangers == set()


def test_every_package_that_is_declared_is_imported():
    used = set().union(*imported(testing=False).values())
    assert declared(PROJECT["dependencies"]) - used == DATA


def test_every_requirement_has_a_lowest_version_for_the_tests_to_run_on():
    """`packaging/lowest` takes them from here, as exact versions."""
    script = (ROOT / "packaging/lowest").read_text(encoding="utf-8")
    pattern = re.search(r're\.match\(r"(.+?)", wanted\)', script)
    assert pattern is not None
    for wanted in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]):
        assert re.match(pattern[1], wanted), wanted
