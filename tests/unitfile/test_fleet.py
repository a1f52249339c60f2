"""[X-Fleet] as xchronos reads it, and the rules that no sample shows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unitfile.fleet_helpers import asking, options, said
from xchronos.errors import InvalidValue
from xchronos.unitfile.document import Option
from xchronos.unitfile.fleet.placement import (
    metadata_unmet,
)
from xchronos.unitfile.fleet.requirements import (
    FleetRequirements,
    MetadataTerm,
    expand,
    fleet_contradiction,
    fleet_requirements,
    parse_metadata,
    requirements,
    split_values,
)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", [""]),
        ('"', [""]),
        ('""', [""]),
        ("a b", ["a b"]),
        ('"a b" "c"', ["a b", "c"]),
        ('"a"  "b"', ["a", "", "b"]),
        ('"a"\t"b"', ["a\tb"]),
        ('"a" b', ['"a" b']),
        ('"a"b"c"', ["abc"]),
    ],
)
def test_values_of_a_line(line, expected):
    assert split_values(line) == expected


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("%n %N %p %i", "a@b.service", "a@b.service a@b a b"),
        ("%n %N %p %i", "a.service", "a.service a a "),
        ("%p", "a@b@c.x.service", "a"),
        ("%i", "a@b@c.x.service", "b@c.x"),
        ("%%i %H %", "a@b.service", "%b %H %"),
        ("%n", "nodot", "%n"),
        ("plain", "a@b.service", "plain"),
        ("%n", "a%i@b.service", "abb@b.service".replace("abb", "ab")),
    ],
)
def test_specifiers(text, name, expected):
    assert expand(text, name) == expected


def test_other_sections_do_not_count():
    found = [Option("Service", "MachineID", "x", 1), Option("X-Fleet", "MachineID", "y", 2)]
    assert fleet_requirements("u.service", found).raw == {"MachineID": ("y",)}
    assert requirements("u.service", found)[0].machine_id == "y"
    assert requirements("u.service", []) == (FleetRequirements(), [])


def test_fleet_drops_what_it_does_not_understand():
    pairs = [("MachineMetadata", value) for value in ("a=b=c", "a", "=b", "a=", "a=1 b=2", '"x=1" "x=2"', "a=b")]
    assert fleet_requirements("u.service", options(*pairs)).metadata == {"x": ("1", "2"), "a": ("b",)}


def test_the_modern_key_wins():
    pairs = [("X-ConditionMachineBootID", "c"), ("X-ConditionMachineID", "b"), ("MachineID", "a")]
    assert fleet_requirements("u.service", options(*pairs)).machine_id == "a"
    assert fleet_requirements("u.service", options(*pairs[:2])).machine_id == "b"
    assert fleet_requirements("u.service", options(*pairs[:1])).machine_id == "c"


@pytest.mark.parametrize(
    ("pairs", "why"),
    [
        ([("MachineID", "x"), ("MachineOf", "a.service")], "MachineID cannot be used with Peers"),
        ([("MachineID", "x"), ("Conflicts", "a.service")], "MachineID cannot be used with Conflicts"),
        ([("MachineID", "x"), ("Global", "true")], "MachineID cannot be used with Global"),
        ([("MachineID", "x"), ("Replaces", "a.service")], "MachineID cannot be used with Replaces"),
        ([("Global", "true"), ("MachineOf", "a.service")], "Global cannot be used with Peers"),
        ([("Global", "true"), ("Replaces", "a.service")], "Global cannot be used with Replaces"),
        ([("Conflicts", "a.service"), ("Replaces", "b.service")], "Conflicts cannot be used with Replaces"),
        (
            [("Replaces", "b*"), ("MachineOf", "b.service")],
            'unresolvable requirements: peer "b.service" matches replace "b*"',
        ),
        (
            [("Conflicts", "*"), ("MachineOf", 'a"\\b')],
            'unresolvable requirements: peer "a\\"\\\\b" matches conflict "*"',
        ),
        ([("Global", "true"), ("Conflicts", "a.service")], None),
        ([("Global", "true"), ("Global", "no"), ("MachineOf", "a.service")], None),
        ([("MachineOf", "a.service"), ("Conflicts", "b.service")], None),
    ],
)
def test_contradictions(pairs, why):
    asked = fleet_requirements("u.service", options(*pairs))
    assert fleet_contradiction(asked) == why
    # Ours are told at the line of one of the two keys, in the words of the file (`test_compile_problems`).
    assert len(said(*pairs)) == (why is not None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", []),
        ("region=us-east-1", ["region=us-east-1"]),
        ("name=my rack", ["name=my rack"]),
        ('"region=us-east-1" "diskType=SSD"', ["region=us-east-1", "diskType=SSD"]),
        ('"a=1"  "b=2"', ["a=1", "b=2"]),
        ("cores>=8", ["cores>=8"]),
        ("cores <= 8", ["cores<=8"]),
        ('"a!=b" "c>1" "d<2"', ["a!=b", "c>1", "d<2"]),
    ],
)
def test_metadata(value, expected):
    assert [str(term) for term in parse_metadata(value)] == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a=1 b=2", 'more than one pair: expected quotes around each, "a=1" "b=2"'),
        ("a=1 b>2", "more than one pair"),
        ("a=b=c", "more than one '='"),
        ("a==b", "more than one '='"),
        ('"a=1 b=2"', "more than one '='"),
        ("a!==b", "more than one '='"),
        ('"a=1" b=2', "mixes quoted and unquoted"),
        ('a=1 "b=2"', "mixes quoted and unquoted"),
        ('"a=1""b=2"', "mixes quoted and unquoted"),
        ('"a=1', "mixes quoted and unquoted"),
        ("a", "not a pair"),
        ("a!b", "not a pair"),
        ("=b", "not a pair"),
        ("a=", "not a pair"),
        ("a>", "not a pair"),
        ("a=>5", "not a pair"),
        ('"a=1" ""', "not a pair"),
    ],
)
def test_metadata_refused(value, expected):
    with pytest.raises(InvalidValue) as caught:
        parse_metadata(value)
    assert expected in str(caught.value)


def test_everything_wrong_is_said_at_once():
    assert said(
        ("MachineMetadata", "a=1 b=2"),
        ("MachineId", "x"),
        ("Frobnicate", "x"),
        ("Global", "what"),
        ("Conflicts", "[a.service"),
        ("Replaces", ""),
        ("MachineMetadata", ""),
        ("MachineOf", ""),
    ) == [
        (
            "u.service:2: [X-Fleet] MachineMetadata: 'a=1 b=2' holds more than one pair: expected quotes around each, "
            '"a=1" "b=2"'
        ),
        "u.service:3: [X-Fleet] MachineId: unknown key, did you mean MachineID?",
        (
            "u.service:4: [X-Fleet] Frobnicate: unknown key: expected MachineID, MachineOf, MachineMetadata, Conflicts, "
            "Replaces, Global"
        ),
        "u.service:5: [X-Fleet] Global: 'what' is not a boolean: expected true or false",
        (
            "u.service:6: [X-Fleet] Conflicts: '[a.service' is a malformed glob and would match nothing: expected each [ to "
            "have its ]"
        ),
        (
            "u.service:7: [X-Fleet] Replaces: warning: an empty value does not reset the lines before it (fleet's rule); it "
            "does nothing"
        ),
        (
            "u.service:8: [X-Fleet] MachineMetadata: warning: an empty value does not reset the lines before it (fleet's "
            "rule); it does nothing"
        ),
        (
            "u.service:9: [X-Fleet] MachineOf: the value is empty, so no machine can match: expected a machine's id or a "
            "unit's name"
        ),
    ]


def test_an_empty_value_does_not_reset():
    asked, problems = requirements("u.service", options(("MachineMetadata", "a=b"), ("MachineMetadata", "")))
    assert asked.metadata == {"a": ("b",)}
    assert [problem.severity for problem in problems] == ["warning"]


@pytest.mark.parametrize("peer", ["u@1.service", "%n", '"b.service" "u@1.service"'])
def test_a_unit_that_would_wait_for_itself(peer):
    asked, problems = requirements("u@1.service", options(("MachineOf", peer)))
    assert "u@1.service" in asked.peers
    (problem,) = problems
    assert (problem.key, problem.severity) == ("MachineOf", "warning")
    assert problem.message.startswith("it would wait for itself, so no machine can match")


def test_reading_with_operators():
    pairs = [("MachineMetadata", '"a=1" "a=2" "n>=4"'), ("X-ConditionMachineMetadata", "n>=4"), ("Global", "YES")]
    asked = asking(*pairs, ("Conflicts", "%p@*.service x.service"), name="job@3.service")
    assert asked.metadata == {"a": ("1", "2")}
    assert asked.terms == (MetadataTerm("n", ">=", "4"),)
    assert asked.conflicts == ("job@*.service", "x.service")
    assert asked.is_global


@given(st.dictionaries(st.sampled_from("abc"), st.sampled_from(["1", "2"])), st.data())
def test_grouping_of_pairs_does_not_matter(metadata, data):
    pairs = data.draw(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("123")), min_size=1, max_size=6))
    one_line = [("MachineMetadata", " ".join(f'"{key}={value}"' for key, value in pairs))]
    many = [("MachineMetadata", f"{key}={value}") for key, value in pairs]
    assert metadata_unmet(asking(*one_line), metadata) == metadata_unmet(asking(*many), metadata)
    wanted = {key: {value for other, value in pairs if other == key} for key, _ in pairs}
    fits = all(metadata.get(key) in values for key, values in wanted.items())
    assert (metadata_unmet(asking(*many), metadata) == []) is fits


@given(st.text(max_size=20))
def test_what_xchronos_accepts_fleet_reads_alike(value):
    """Without operators, a pair that is accepted means what fleet makes of it."""
    asked, problems = requirements("u.service", options(("MachineMetadata", value)))
    if not any(problem.severity == "error" for problem in problems) and not asked.terms:
        theirs = fleet_requirements("u.service", options(("MachineMetadata", value))).metadata
        ours = asked.metadata
        assert {key.strip(): tuple(v.strip() for v in values) for key, values in theirs.items()} == ours
