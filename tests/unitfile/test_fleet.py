"""[X-Fleet] as xchronos reads it, and the rules that no sample shows."""

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xchronos.errors import InvalidValue
from xchronos.unitfile.document import Option
from xchronos.unitfile.fleet import (
    FleetRequirements,
    MetadataTerm,
    expand,
    fleet_contradiction,
    fleet_requirements,
    parse_metadata,
    requirements,
    split_values,
)
from xchronos.unitfile.fleet_placement import (
    FleetMachine,
    able_to_run,
    has_conflict,
    has_replace,
    matches_id,
    metadata_unmet,
    schedule,
    with_global_units,
)
from xchronos.unitfile.glob import glob_is_valid, glob_matches


def options(*pairs):
    return [Option("X-Fleet", key, value, line, "u.service") for line, (key, value) in enumerate(pairs, 2)]


def asking(*pairs, name="u.service"):
    asked, problems = requirements(name, options(*pairs))
    assert problems == []
    return asked


def said(*pairs, name="u.service"):
    return [str(problem) for problem in requirements(name, options(*pairs))[1]]


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
    expected = [] if why is None else [f"u.service:2: [X-Fleet]: {why}"]
    assert said(*pairs) == expected


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
        'u.service:2: [X-Fleet]: unresolvable requirements: peer "" matches replace ""',
    ]


def test_an_empty_value_does_not_reset():
    asked, problems = requirements("u.service", options(("MachineMetadata", "a=b"), ("MachineMetadata", "")))
    assert asked.metadata == {"a": ("b",)}
    assert [problem.severity for problem in problems] == ["warning"]


def test_reading_with_operators():
    pairs = [("MachineMetadata", '"a=1" "a=2" "n>=4"'), ("X-ConditionMachineMetadata", "n>=4"), ("Global", "YES")]
    asked = asking(*pairs, ("Conflicts", "%p@*.service x.service"), name="job@3.service")
    assert asked.metadata == {"a": ("1", "2")}
    assert asked.terms == (MetadataTerm("n", ">=", "4"),)
    assert asked.conflicts == ("job@*.service", "x.service")
    assert asked.is_global


@pytest.mark.parametrize(
    ("wanted", "metadata", "unmet"),
    [
        ("region=eu", {"region": "eu"}, []),
        ("region=eu", {"region": "EU"}, ["region=eu"]),
        ("region=eu", {}, ["region=eu"]),
        ('"region=us" "region=eu"', {"region": "ap"}, ["region=eu|region=us"]),
        ('"region=us" "disk=ssd"', {"region": "eu"}, ["region=us", "disk=ssd"]),
        ("n!=5", {}, []),
        ("n!=5", {"n": "5.0"}, ["n!=5"]),
        ("n!=x", {"n": "y"}, []),
        ("n>=10", {"n": "9"}, ["n>=10"]),
        ("n>=10", {"n": "10"}, []),
        ("n>=10", {}, ["n>=10"]),
        ("n<=10", {"n": "9"}, []),
        ("n<=10", {"n": "10.5"}, ["n<=10"]),
        ("n>-1", {"n": "0"}, []),
        ("n>5", {"n": "5"}, ["n>5"]),
        ("n<5", {"n": "4"}, []),
        ("n<5", {"n": "5"}, ["n<5"]),
        ("v>=1.10.2", {"v": "1.9.0"}, []),  # Not numbers: compared as text.
    ],
)
def test_metadata_unmet(wanted, metadata, unmet):
    assert metadata_unmet(asking(("MachineMetadata", wanted)), metadata) == unmet


@pytest.mark.parametrize(
    ("machine", "wanted", "expected"),
    [
        ("0123456789", "0123456789", True),
        ("0123456789", "01234567", True),
        ("0123456789", "012345678", False),
        ("0123", "0123", True),
        ("0123", "", False),
    ],
)
def test_ids(machine, wanted, expected):
    assert matches_id(machine, wanted) is expected


def test_conflicts_hold_both_ways_and_never_with_itself():
    hostile = asking(("Conflicts", "new.*"))
    assert has_conflict("new.service", [], {"old.service": hostile}) == "new.service"
    assert has_conflict("new.service", ["old*"], {"old.service": FleetRequirements()}) == "old.service"
    assert has_conflict("new.service", ["*"], {"new.service": hostile}) is None
    assert has_conflict("other.service", ["x"], {"old.service": hostile}) is None


def test_replaces():
    eager = asking(("Replaces", "new.service"))
    assert has_replace("new.service", ["old*"], {"old.service": FleetRequirements()}) == "old.service"
    assert has_replace("new.service", [], {"old.service": eager}) == "old.service"
    assert has_replace("new.service", ["old*"], {"old.service": eager}) is None
    assert has_replace("new.service", ["*"], {"new.service": eager}) is None


def test_able_to_run_weighs_operators_too():
    machine = FleetMachine("m", {"cores": "4"})
    assert able_to_run(machine, "u.service", asking(("MachineMetadata", "cores>=4"))) == ("schedule", "")
    assert able_to_run(machine, "u.service", asking(("MachineMetadata", "cores>4")))[0] == "unschedule"


def test_global_units_go_where_they_fit():
    everywhere = {
        "eu.service": asking(("Global", "true"), ("MachineMetadata", "region=eu")),
        "shy.service": asking(("Global", "true"), ("Conflicts", "db.service")),
        "plain.service": FleetRequirements(),
    }
    machines = [
        FleetMachine("a", {"region": "eu"}),
        FleetMachine("b", {"region": "us"}, {"db.service": FleetRequirements()}),
    ]
    filled = with_global_units(machines, everywhere)
    assert [list(machine.units) for machine in filled] == [["eu.service", "shy.service"], ["db.service"]]
    assert list(machines[0].units) == []


def test_schedule():
    busy = FleetMachine("a", {}, {"x.service": FleetRequirements()})
    assert schedule([], "u.service", FleetRequirements()) == (None, "zero agents available")
    assert schedule([busy, FleetMachine("b")], "u.service", FleetRequirements()) == ("b", "")
    assert schedule([FleetMachine("b"), FleetMachine("a")], "u.service", FleetRequirements()) == ("a", "")
    assert schedule([busy], "u.service", asking(("MachineID", "z"))) == (None, "no agents able to run job")
    assert schedule([busy], "u.service", asking(("Replaces", "x.service"))) == ("a", "")


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        # The table of Go's own path.Match test.
        ("abc", "abc", True),
        ("*", "abc", True),
        ("*c", "abc", True),
        ("a*", "a", True),
        ("a*", "abc", True),
        ("a*", "ab/c", False),
        ("a*/b", "abc/b", True),
        ("a*/b", "a/c/b", False),
        ("a*b*c*d*e*/f", "axbxcxdxe/f", True),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/f", True),
        ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", False),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", False),
        ("a*b?c*x", "abxbbxdbxebxczzx", True),
        ("a*b?c*x", "abxbbxdbxebxczzy", False),
        ("ab[c]", "abc", True),
        ("ab[b-d]", "abc", True),
        ("ab[e-g]", "abc", False),
        ("ab[^c]", "abc", False),
        ("ab[^b-d]", "abc", False),
        ("ab[^e-g]", "abc", True),
        ("a\\*b", "a*b", True),
        ("a\\*b", "ab", False),
        ("a?b", "a☺b", True),
        ("a[^a]b", "a☺b", True),
        ("a???b", "a☺b", False),
        ("a[^a][^a][^a]b", "a☺b", False),
        ("[a-ζ]*", "\u03b1", True),
        ("*[a-ζ]", "A", False),
        ("a?b", "a/b", False),
        ("a*b", "a/b", False),
        ("[\\]a]", "]", True),
        ("[\\-]", "-", True),
        ("[x\\-]", "x", True),
        ("[x\\-]", "-", True),
        ("[x\\-]", "z", False),
        ("[\\-x]", "x", True),
        ("[]a]", "]", False),
        ("[-]", "-", False),
        ("[x-]", "x", False),
        ("[-x]", "x", False),
        ("\\", "a", False),
        ("[a-b-c]", "a", False),
        ("[", "a", False),
        ("[^", "a", False),
        ("[^bc", "a", False),
        ("a[", "a", False),
        ("a[", "ab", False),
        ("*x", "xxx", True),
        ("", "", True),
        ("", "a", False),
        ("a", "", False),
        ("**", "abc", True),
        ("[a", "[a", False),
        ("a]", "a]", True),
        ("[[*]x", "*x", True),
        ("*a", "b/a", False),
    ],
)
def test_glob_as_go_matches(pattern, name, expected):
    assert glob_matches(pattern, name) is expected


def test_malformed_globs_are_known():
    assert [glob_is_valid(pattern) for pattern in ("a*", "[a-z]", "[", "a\\", "[]")] == [
        True,
        True,
        False,
        False,
        False,
    ]


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
def test_glob_agrees_with_the_shell_where_there_is_no_slash(pattern, name):
    assert glob_matches(pattern, name) == fnmatch.fnmatchcase(name, pattern)


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
