"""`scheduler/` decides: the rooms that carry its decisions out ask a unit for no policy.

What a policy is comes from the model: every field and property of a Unit, of what it requires of machines, and of the
small values in `model/policies`. A room may ask a unit for those of its `MAY_ASK`; a field that something else has too
(the TTL of a lease) is told from the unit's by the word before the dot, in `NAMESAKES`.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from xchronos.model import policies
from xchronos.model.unit import Unit
from xchronos.unitfile.fleet.requirements import FleetRequirements

PACKAGE = Path(__file__).resolve().parents[2] / "xchronos"


def asked_of(kind: type[msgspec.Struct]) -> set[str]:
    """The fields and properties of a struct."""
    return {*kind.__struct_fields__, *(name for name, value in vars(kind).items() if isinstance(value, property))}


VALUES = [
    kind
    for kind in vars(policies).values()
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__module__ == policies.__name__
]
POLICY = asked_of(Unit) | asked_of(FleetRequirements) | set().union(*map(asked_of, VALUES))

MAY_ASK: dict[str, dict[str, str]] = {
    "engine": {
        "name": "whose execution it is: keys, memory and log lines are called after it",
        "revision": "which text of a unit an attempt runs; every record of the store has one, too",
        "history_limit": "how many records are kept: `history_gc` deletes what is beyond, and decides nothing",
    },
    "agent": {
        "name": "whose attempt it is: keys, directories and log lines are called after it",
        "revision": "which text of the unit the attempt ran",
        "service": "the steps, and systemd's rules of running them",
        "container": "what the steps run in",
        "executor": "what runs the steps",
        "conditions": "Condition= and Assert=: facts about this machine, looked at where they are true",
        "artifact": "a file that the steps find in their scratch directory",
        "artifact_sha256": "the same file's checksum",
        "history_limit": "how many attempts' files this machine keeps",
        "on_partition": "what this machine does by itself while nobody can tell it",
    },
}
"""By room, the fields that it may ask a unit for, each with the reason."""

NAMESAKES: dict[str, dict[str, str]] = {
    "engine": {
        "context.ttl": "that of the leases of machines and schedulers",
        "lease.backoff": "the pause before the store is asked again",
        "self.backoff": "the same, in the lease",
        "schedule.rules": "the cursor's: by which zone rules it was computed",
        "reads.level": "what a daemon or a machine says that it reads",
        "self.terms": "how many terms of shards have begun, a metric",
    },
    "agent": {
        "lease_clock.ttl": "the lease's",
        "self.ttl": "the lease's, in the lease clock",
        "execution.payload": "the execution's, which has its own",
        "facts.machine_id": "the machine's own id",
    },
}
"""By room, what is called as a policy field is and is something else's, each with what it is."""


def asks(source: str) -> Iterator[tuple[int, str, str]]:
    """Every question for something that is called as a policy field: line, the word before the dot, the field."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            yield node.lineno, _last_word(node.value), node.attr
        elif isinstance(node, ast.MatchClass):
            yield from ((node.lineno, _last_word(node.cls), field) for field in node.kwd_attrs)
        elif isinstance(node, ast.Call) and _last_word(node.func) in ("getattr", "attrgetter"):
            owner = _last_word(node.args[0])
            strings = [part.value for part in node.args if isinstance(part, ast.Constant)]
            yield from ((node.lineno, owner, str(text).rpartition(".")[2]) for text in strings)


def _last_word(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id.lstrip("_")
    return node.attr.lstrip("_") if isinstance(node, ast.Attribute) else ast.unparse(node)


def policies_asked(source: str, room: str) -> list[str]:
    """The questions of a module that its room must not ask, as `line: owner.field`."""
    return [
        f"{line}: {owner}.{field}"
        for line, owner, field in asks(source)
        if field in POLICY and field not in MAY_ASK[room] and f"{owner}.{field}" not in NAMESAKES[room]
    ]


def sources(room: str) -> dict[str, str]:
    """The modules of a room, with their text."""
    found = {
        path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted((PACKAGE / room).rglob("*.py"))
    }
    assert len(found) > 10, "this looks at the room"
    return found


@pytest.mark.parametrize("room", MAY_ASK)
def test_a_room_that_carries_out_asks_for_no_policy(room):
    found = {name: asked for name, source in sources(room).items() if (asked := policies_asked(source, room))}
    assert found == {}


@pytest.mark.parametrize("room", MAY_ASK)
def test_no_exception_outlives_its_use(room):
    every = {(owner, field) for source in sources(room).values() for _, owner, field in asks(source)}
    assert MAY_ASK[room].keys() <= {field for _, field in every}
    assert NAMESAKES[room].keys() <= {f"{owner}.{field}" for owner, field in every}
    assert MAY_ASK[room].keys() <= POLICY


def test_the_list_is_the_models():
    for field in ("keep_running", "availability", "concurrency", "is_global", "misfire", "retry", "requirements"):
        assert field in POLICY
    for field in ("max_attempts", "max_delay", "threshold", "policy", "conflicts", "replaces", "peers"):
        assert field in POLICY


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("unit.keep_running", ["1: unit.keep_running"]),
        ("if old and old.unit.retry.max_attempts: ...", ["1: retry.max_attempts", "1: unit.retry"]),
        ("get(name).priority", ["1: get(name).priority"]),
        ('getattr(unit, "keep_running")', ["1: unit.keep_running"]),
        ('sorted(units, key=attrgetter("unit.priority"))', ["1: 'unit.priority'.priority"]),
        ("match unit:\n    case Unit(is_global=True): ...", ["2: Unit.is_global"]),
        ("unit.on_partition, unit.service.steps, self._lease_clock.ttl, execution.report", []),
        ("unit.ttl, unit.payload", ["1: unit.ttl", "1: unit.payload"]),
    ],
)
def test_what_is_found(source, found):
    assert policies_asked(source, "agent") == found
