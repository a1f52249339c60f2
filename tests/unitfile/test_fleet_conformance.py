"""fleet's placement requirements against what fleet 1.0 was measured to make of them."""

import json
import os
from pathlib import Path

import pytest

from xchronos.unitfile.fleet.placement import FleetMachine, able_to_run, schedule, with_global_units
from xchronos.unitfile.fleet.requirements import FLEET_KEYS, fleet_contradiction, fleet_requirements, split_values
from xchronos.unitfile.fleet.syntax import parse_fleet
from xchronos.unitfile.glob import glob_matches

SAMPLES = Path(os.environ.get("XCHRONOS_CONFORMANCE") or Path(__file__).parent.parent / "conformance")
CASES = json.loads((SAMPLES / "fleet_requirements.json").read_text())


def of_kind(kind):
    return pytest.mark.parametrize("case", [c for c in CASES if c["kind"] == kind], ids=lambda case: case["id"])


def read(text, name=""):
    return fleet_requirements(name, parse_fleet(text).options)


def units(running):
    return {unit["name"]: read(unit["text"], unit["name"]) for unit in running}


def machine_of(case, running=()):
    return FleetMachine(case["id"], case.get("metadata", {}), units(running))


def test_every_kind_is_covered():
    kinds = {"requirements", "multivalue", "match", "able", "glob", "options", "schedule"}
    assert {case["kind"] for case in CASES} <= kinds


@of_kind("requirements")
def test_requirements(case):
    asked = read(case["text"], case["name"])
    assert {
        "requirements": {key: list(values) for key, values in asked.raw.items()},
        "machine_id": asked.machine_id,
        "metadata": {key: list(values) for key, values in asked.metadata.items()},
        "conflicts": list(asked.conflicts),
        "replaces": list(asked.replaces),
        "peers": list(asked.peers),
        "global": asked.is_global,
    } == case["expect"]
    assert (not asked.unknown) == case["keys_valid"]
    if asked.unknown:
        # fleet names one of them, in no particular order.
        assert any(f'"{key}"' in case["why_invalid"] for key in asked.unknown)
    assert not FLEET_KEYS.intersection(asked.unknown)


@of_kind("multivalue")
def test_multivalue(case):
    assert split_values(case["line"]) == case["expect"]


@of_kind("match")
def test_match(case):
    action, reason = able_to_run(machine_of(case["machine"]), "unit.service", read(case["text"]))
    assert (action != "unschedule", reason) == (case["match"], case["reason"])


@of_kind("able")
def test_able(case):
    machine = machine_of(case["machine"], case["running"])
    action, reason = able_to_run(machine, case["name"], read(case["text"], case["name"]))
    assert (action, reason) == (case["action"], case["reason"])
    assert (action != "unschedule") == case["able"]


@of_kind("glob")
def test_glob(case):
    assert glob_matches(case["pattern"], case["name"]) == case["match"]


@of_kind("options")
def test_options(case):
    why = fleet_contradiction(read(case["text"]))
    assert why == case.get("why")
    assert (why is None) == case["valid"]


@of_kind("schedule")
def test_schedule(case):
    placed = [unit for unit in case["running"] if unit.get("machine")]
    machines = [machine_of(m, [u for u in placed if u["machine"] == m["id"]]) for m in case["machines"]]
    everywhere = units([unit for unit in case["running"] if not unit.get("machine")])
    chosen, why = schedule(with_global_units(machines, everywhere), case["name"], read(case["text"], case["name"]))
    assert chosen == case["expect"]
    if chosen is None:
        assert why == case["why"]
