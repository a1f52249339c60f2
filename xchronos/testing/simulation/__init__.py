"""Whole clusters in one process and in made-up time, under faults drawn from a seed, with the promises checked.

`python -m xchronos.testing.simulation --seeds 1000` tries a thousand seeds; a seed that breaks a promise is replayed
exactly by `--seed N --trace`. `simulate(seed)` is the same for programs.

What is real: the daemons' roles (`xchronos.daemon.roles`), every record, key and Txn. What is made up: time
(`loop`), what lies between a daemon and the store (`network`), and the machines that run steps (`machines`).
"""

from xchronos.testing.simulation.simulation import Report, simulate

__all__ = ["Report", "simulate"]
