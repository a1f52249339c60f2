"""An execution's state changes through the table of `model/lifecycle` alone: no other room writes a state by its name."""

import ast
from pathlib import Path
from typing import get_args

import pytest

from xchronos.model.records import ExecutionState

PACKAGE = Path(__file__).resolve().parents[2] / "xchronos"
STATES = frozenset(get_args(ExecutionState))

DECIDE = {"model": "holds the table", "scheduler": "makes new executions, which have no state to come from"}
"""The rooms that may name the state of a record that they build, with the reason."""

ROOMS = [
    "agent",
    "api",
    "cli",
    "client",
    "config",
    "daemon",
    "engine",
    "executors",
    "intake",
    "registry",
    "store",
    "wire",
]
"""The rooms that may not, as parameters."""


def named_states(source: str) -> list[int]:
    """The lines on which a record is given a state by its name; what `execution_after` is called with is no such."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            found += [
                part.lineno
                for keyword in node.keywords
                if keyword.arg == "state"
                for part in _walk_outside_the_table(keyword.value)
                if isinstance(part, ast.Constant) and part.value in STATES
            ]
    return found


def _walk_outside_the_table(node: ast.AST) -> list[ast.AST]:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "execution_after":
        return []
    return [node, *(part for child in ast.iter_child_nodes(node) for part in _walk_outside_the_table(child))]


@pytest.mark.parametrize("room", ROOMS)
def test_no_state_is_written_by_its_name(room):
    modules = sorted((PACKAGE / room).rglob("*.py"))
    assert modules, "this looks at the room"
    found = {
        module.relative_to(PACKAGE).as_posix(): lines
        for module in modules
        if (lines := named_states(module.read_text(encoding="utf-8")))
    }
    assert found == {}


def test_the_rooms_that_may_are_no_others():
    assert DECIDE.keys().isdisjoint(ROOMS)


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ('replace(execution, state="ended")', [1]),
        ('Execution(\n    "a",\n    state="waiting" if later else "placed",\n)', [3, 3]),
        ('replace(execution, state=execution_after("reported", "end"))', []),
        ('advance(execution, "end", reason="waiting")', []),
        ("MachineStatus(state=state)", []),
    ],
)
def test_what_is_found(source, lines):
    assert named_states(source) == lines
