"""Condition*= and Assert*= of [Unit], as they are read."""

import pytest

from xchronos.model.compile.unit import compile_unit
from xchronos.model.conditions import HostCondition


def conditions(lines: str, more: str = "[Service]\nExecStart=/bin/true\n") -> tuple[HostCondition, ...]:
    return compile_unit("job.service", f"[Unit]\n{lines}\n{more}").conditions


@pytest.mark.parametrize(
    ("line", "value", "flags"),
    [
        ("ConditionPathExists=/a", "/a", (False, False, False)),
        ("ConditionPathExists=!/a", "/a", (False, True, False)),
        ("ConditionPathExists=| ! /a", "/a", (False, True, True)),
        ("AssertPathExists=%t/a", "%t/a", (True, False, False)),
        ("ConditionHost=box*", "box*", (False, False, False)),
    ],
)
def test_one(line: str, value: str, flags: tuple[bool, bool, bool]) -> None:
    (found,) = conditions(line)
    assert (found.value, found.text) == (value, line)
    assert (found.asserted, found.negated, found.alternative) == flags


def test_an_empty_one_drops_its_own_sort() -> None:
    found = conditions("ConditionPathExists=/a\nAssertPathExists=/b\nConditionHost=\nConditionPathExists=/c")
    assert [one.value for one in found] == ["/b", "/c"]


def test_what_is_not_acted_upon() -> None:
    assert conditions("ConditionPathExists=relative\nConditionVirtualization=vm\nDescription=x") == ()
    assert conditions("ConditionPathExists=/a", "[Container]\nImage=box\n") == ()
