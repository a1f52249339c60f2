"""Reasons: each code has its phrase, each phrase is used, and no text of one is read back."""

import ast
import string
from pathlib import Path
from typing import get_args

import pytest

import xchronos
from xchronos.scheduler import reasons
from xchronos.scheduler.reasons import Reason, ReasonCode, because

PACKAGE = Path(xchronos.__file__).parent
CODES = get_args(ReasonCode)


def test_each_code_has_a_phrase():
    assert sorted(reasons._PHRASES) == sorted(CODES) == list(CODES)


@pytest.mark.parametrize("code", CODES)
def test_a_phrase_is_filled(code):
    names = [name for _, name, _, _ in string.Formatter().parse(reasons._PHRASES[code]) if name]
    made = because(code, **{name: f"<{name}>" for name in names})
    assert made.code == code
    assert all(f"<{name}>" in made.text for name in names)
    if names:
        with pytest.raises(KeyError):
            because(code)


def test_each_code_is_given_somewhere():
    given = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("because", "Reason"):
                given |= {arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)}
    assert given == set(CODES)


def test_what_people_read():
    assert because("max-runs", count=3) == Reason("max-runs", "MaxRuns=3 is reached")
