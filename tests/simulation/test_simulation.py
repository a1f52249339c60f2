"""Whole clusters under seeded faults keep their promises, and a seed is the same run everywhere.

XCHRONOS_SEEDS=<n> tries that many seeds; `python -m xchronos.testing.simulation --seed <n> --trace` replays one.
"""

import json
import os
import subprocess
import sys
from collections import Counter

import pytest

from xchronos.testing.simulation import __main__ as command
from xchronos.testing.simulation import simulate, simulation
from xchronos.testing.simulation.scenario import FAULTS, USERS, draw
from xchronos.testing.simulation.shapes import SHAPES

SEEDS = int(os.environ.get("XCHRONOS_SEEDS", "300"))
BATCH = 25


@pytest.mark.untraced  # measuring would double its time, and every room has tests of its own
@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_promises_hold_under_faults(first):
    counts = Counter()
    for seed in range(first, min(first + BATCH, SEEDS)):
        report = simulate(seed)
        counts.update(report.counts)
        assert not report.violations, (
            "\n".join(report.violations) + f"\nagain: python -m xchronos.testing.simulation --seed {seed} --trace"
        )
    assert counts["starts"] > 10 * BATCH // 2
    assert all(counts[what] for what in ("kill", "pause", "cut", "leave", "watches broken", "answers lost"))


def test_a_seed_is_the_same_run_in_every_process():
    """Whatever a process does with the hashes of strings and the addresses of objects."""
    program = (
        "import json; from xchronos.testing.simulation import simulate; "
        "print(json.dumps([simulate(seed).hash for seed in range(25)]))"
    )
    runs = [
        json.loads(
            subprocess.run(
                [sys.executable, "-c", program],
                env=os.environ | {"PYTHONHASHSEED": hash_seed},
                capture_output=True,
                check=True,
            ).stdout
        )
        for hash_seed in ("1", "2")
    ]
    assert runs[0] == runs[1] == [simulate(seed).hash for seed in range(25)]
    assert len(set(runs[0])) == 25


def test_a_trace_changes_nothing_and_tells_everything():
    quiet, traced = simulate(3), simulate(3, trace=True)
    assert traced.hash == quiet.hash
    assert not quiet.trace
    for what in (" UP ", " READY", " START ", " END ", " SUBMIT ", " put /xchronos/var/schedules/"):
        assert any(what in line for line in traced.trace), what


def test_scenarios_are_worth_it():
    """Every kind of fault, of action and of unit comes often enough."""
    scenarios = [draw(seed) for seed in range(200)]
    for what in (*FAULTS, *USERS):
        assert sum(scenario.weights[what] > 0 for scenario in scenarios) > 40, what
    for shape in SHAPES:
        assert sum(unit.shape == shape for scenario in scenarios for unit in scenario.units) > 6, shape
    assert sum(scenario.leave_nothing for scenario in scenarios) > 20
    assert sum(scenario.ahead > 0 for scenario in scenarios) > 40


@pytest.fixture
def broken(monkeypatch):
    """Seed 1 breaks a promise."""

    def judge(world):
        if world.scenario.seed == 1:
            world.violate("I9: a promise that nobody gave")

    monkeypatch.setattr(simulation, "_judge", judge)


def test_the_command_says_what_is_wrong_and_how_to_see_it_again(broken, capsys):
    assert command.main(["--seeds", "3"]) == 1
    printed = capsys.readouterr().out
    assert "seed 1: at " in printed
    assert "I9: a promise that nobody gave" in printed
    assert "python -m xchronos.testing.simulation --seed 1 --trace" in printed
    assert "3 seeds, 1 with violations" in printed


def test_the_command_stops_when_it_has_seen_enough(broken, capsys):
    assert command.main(["--seeds", "5", "--most", "1"]) == 1
    assert "2 seeds, 1 with violations" in capsys.readouterr().out


def test_the_command_replays_a_seed(broken, capsys):
    assert command.main(["--seed", "1", "--trace"]) == 1
    printed = capsys.readouterr().out
    assert "m1 UP " in printed
    assert "VIOLATION I9" in printed
    assert command.main(["--seed", "2"]) == 0
    assert "m1 UP " not in capsys.readouterr().out


def test_processes_share_the_seeds(capsys):
    assert command.main(["--seeds", "20", "--jobs", "2"]) == 0
    assert "20 seeds, 0 with violations" in capsys.readouterr().out


def test_daemons_that_differ_are_worth_it():
    """Both kinds of difference come often enough, with units that an older daemon cannot read, and with all shapes."""
    scenarios = [scenario for scenario in map(draw, range(400)) if scenario.skew]
    assert sum(scenario.skew == "rules" for scenario in scenarios) > 10
    readers = [scenario for scenario in scenarios if scenario.skew == "readers"]
    assert sum(any(unit.new for unit in scenario.units) for scenario in readers) > 20
    assert all(scenario.weights["upgrade"] for scenario in scenarios)
    counts = Counter()
    for scenario in scenarios[:10]:
        counts.update(simulate(scenario.seed).counts)
    assert counts["upgrade"] > 5
    assert counts["downgrade"] > 5
