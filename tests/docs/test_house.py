"""The house: what a reader may count on about every module of the package, besides its layers (import-linter's)."""

import ast
import re
from collections import defaultdict
from collections.abc import Set as AbstractSet
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "xchronos"
GENERATED = ("_pb2.py", "_pb2_grpc.py")
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if not path.name.endswith(GENERATED))

MOST_MODULES = 14
"""At one level of a package, `__init__` not counted: what a person takes in at one look."""

MOST_LINES = 400

NAMED_TEST = re.compile("`(test_[a-z0-9_]+)`")
"""How a comment names the test that pins what it says."""


def test_no_package_has_more_modules_than_one_looks_through():
    count = defaultdict(list)
    for path in MODULES:
        if path.name != "__init__.py":
            count[path.parent.relative_to(ROOT).as_posix()].append(path.stem)
    assert len(count) > 30, "this looks at the package"
    assert {package: len(names) for package, names in count.items() if len(names) > MOST_MODULES} == {}


def test_one_name_is_one_class():
    places = defaultdict(list)
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert len(places) > 300, "this looks at the package"
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_no_modules_import_each_other_in_a_circle():
    names = {_name_of(path): path for path in MODULES}
    graph = {name: _imported(path.read_text(encoding="utf-8"), names.keys()) for name, path in names.items()}
    assert sum(map(len, graph.values())) > 1_000, "this looks at the package"
    assert _circle(graph) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import xchronos.a\n", {"xchronos.a"}),
        ("import os, xchronos.a as b\n", {"xchronos.a"}),
        ("from xchronos import a\n", {"xchronos.a"}),
        ("from xchronos import __version__\n", {"xchronos"}),
        ("from xchronos.a import b, c\n", {"xchronos.a", "xchronos.a.b"}),
        ("class A:\n    def b(self):\n        if b:\n            from xchronos.a import c\n", {"xchronos.a"}),
        ("if TYPE_CHECKING:\n    import xchronos.a\nelse:\n    import xchronos.a.b\n", {"xchronos.a.b"}),
    ],
)
def test_an_import_is_seen_wherever_it_stands(text, found):
    assert _imported(text, {"xchronos", "xchronos.a", "xchronos.a.b"}) == found


def test_a_circle_is_told_with_its_modules():
    assert _circle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert set(_circle({"a": {"b"}, "b": {"c"}, "c": {"b"}})) == {"b", "c"}


def _name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(text: str, names: AbstractSet[str]) -> set[str]:
    """The modules that a module imports when it is imported, or when one of its functions runs.

    A name that is taken from a package and is no module counts as the package: its `__init__` imports what it gives
    again. What stands under `if TYPE_CHECKING` is never imported.
    """
    found: set[str] = set()
    left: list[ast.AST] = [ast.parse(text)]
    while left:
        node = left.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            left.extend(node.orelse)
            continue
        left.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found.update(name if name in names else str(node.module) for name in inner)
    return found & names


def _circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one circle, each imported by the one after it; none: there is no circle."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_a_test_that_a_comment_names_exists():
    named = {(name, path) for path in MODULES for name in NAMED_TEST.findall(path.read_text(encoding="utf-8"))}
    there = {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert len(named) > 15, "comments that guard something name a test"
    assert sorted(f"{path.relative_to(ROOT)}: {name}" for name, path in named if name not in there) == []


@pytest.mark.parametrize("directory", ["xchronos", "tests"])
def test_no_module_is_longer_than_a_person_reads_at_once(directory):
    lines = {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in (ROOT / directory).rglob("*.py")
        if not path.name.endswith(GENERATED)
    }
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}
