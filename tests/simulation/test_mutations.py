"""The simulation finds what it is there to find: with a guard broken on purpose, a promise is broken soon.

Each mutant takes one protection away, as a careless change would. `mutants_engine` and `mutants_agent` say which promise
must be seen broken, and within how many seeds.
"""

import re

import pytest

from tests.simulation import mutants_agent, mutants_engine, mutants_skew
from xchronos.testing.simulation import simulate
from xchronos.testing.simulation.scenario import draw

MUTANTS = {
    **mutants_engine.FENCES,
    **mutants_engine.DECISIONS,
    **mutants_engine.OWNERSHIP,
    **mutants_engine.SESSIONS,
    **mutants_engine.ADOPTION,
    **mutants_engine.MEMORY,
    **mutants_agent.CLAIMS,
    **mutants_agent.JOURNAL,
    **mutants_agent.LEASE,
}

SKEWED = [seed for seed in range(600) if draw(seed).skew]
"""The seeds in which daemons differ: the others show nothing about that."""


@pytest.mark.untraced  # measuring would double its time, and every room has tests of its own
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_broken_guard_is_caught(mutant, monkeypatch):
    promise, seeds = MUTANTS[mutant]
    mutant(monkeypatch)
    for seed in range(seeds):
        violations = simulate(seed).violations
        if any(re.search(promise, violation) for violation in violations):
            print(f"{mutant.__name__}: {promise} after {seed + 1} seeds")
            return
        assert not violations, f"another promise was broken first: {violations}"
    pytest.fail(f"{seeds} seeds have not shown that {promise} is broken")


@pytest.mark.untraced
@pytest.mark.parametrize("mutant", mutants_skew.SKEW, ids=lambda mutant: mutant.__name__)
def test_a_broken_guard_against_daemons_that_differ_is_caught(mutant, monkeypatch):
    promise, seeds = mutants_skew.SKEW[mutant]
    mutant(monkeypatch)
    for number in range(seeds):
        violations = simulate(SKEWED[number]).violations
        if any(re.search(promise, violation) for violation in violations):
            print(f"{mutant.__name__}: {promise} after {number + 1} such seeds")
            return
        assert not violations, f"another promise was broken first: {violations}"
    pytest.fail(f"{seeds} such seeds have not shown that {promise} is broken")
