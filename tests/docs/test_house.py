"""The house: what a reader may count on about every module of the package, besides its layers (import-linter's)."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "xchronos"
GENERATED = ("_pb2.py", "_pb2_grpc.py")
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if not path.name.endswith(GENERATED))

MOST_MODULES = 14
"""At one level of a package, `__init__` not counted: what a person takes in at one look."""

MOST_LINES = 400


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


@pytest.mark.parametrize("directory", ["xchronos", "tests"])
def test_no_module_is_longer_than_a_person_reads_at_once(directory):
    lines = {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in (ROOT / directory).rglob("*.py")
        if not path.name.endswith(GENERATED)
    }
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}
