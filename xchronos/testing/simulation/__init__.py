"""Whole clusters in one process and in made-up time, under faults drawn from a seed, with the promises checked.

`python -m xchronos.testing.simulation --seeds 1000` tries a thousand seeds. `--seed N --trace` replays a seed that
breaks a promise exactly. `simulate(seed)` does the same for programs.

The daemons' roles (`xchronos.daemon.roles`) are real, and so is every record, key and Txn. Made up are time (`loop`),
what lies between a daemon and the store (`network`), and the machines that run steps (`machines`).

Start with `simulation`: one seed from its beginning to its verdict.

- `scenario` draws what a seed stands for, from the unit files in `shapes`; `world` runs its daemons and machines;
  `course` does to them what goes wrong.
- `monitor` and `rules` check each promise as things happen; `verdict` and `kept` check the rest at the end.
"""

from xchronos.testing.simulation.simulation import Report, simulate

__all__ = ["Report", "simulate"]
