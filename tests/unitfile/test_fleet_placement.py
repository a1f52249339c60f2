"""What [X-Fleet] asks, held against machines: ids, metadata, conflicts, replacements, global units."""

import pytest

from tests.unitfile.fleet_helpers import asking
from xchronos.unitfile.fleet.placement import (
    FleetMachine,
    able_to_run,
    has_conflict,
    has_replace,
    matches_id,
    metadata_unmet,
    schedule,
    with_global_units,
)
from xchronos.unitfile.fleet.requirements import (
    FleetRequirements,
)


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
