"""Which tests run beside which when several processes share them (`pytest -n 5`, as packaging/test does).

Most of the time of all tests is waiting: for leases to end, for servers to come back. What waits is a few chains that
begin first, one behind another in a process each; beside them and afterwards the files that compute are taken as they
come, at a lower priority, so that who waits gets a CPU in time. A file stays together in one process and in its order.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.services import needed

ROOMS = Path(__file__).resolve().parent

CHAINS: dict[str, tuple[str, ...]] = {
    "daemons": (
        # What uses the names `apache1` and `coreos/apache`, which an engine has once, is together in this chain.
        "e2e/test_original", "units/test_units_run",
        "e2e/test_partition", "e2e/test_neighbours", "e2e/test_intake", "docs/test_cluster_script",
        "docs/test_quickstart", "executors/test_docker", "executors/test_docker_api", "agent/test_on_docker",
        "compatibility/test_old_state",
    ),
    "clusters": (
        "cluster/test_store_faults", "cluster/test_schedulers", "store/test_consul_faults", "store/test_consul_damage",
        "executors/test_output",
    ),
    "machines": ("cluster/", "e2e/test_time", "agent/test_guardian"),
    "stores": (
        "e2e/test_outcomes", "e2e/test_removal", "e2e/test_machines", "e2e/test_named_files", "e2e/test_reload",
        "e2e/test_api_process", "e2e/test_output", "e2e/test_host_steps",
        "store/test_consul", "store/test_etcd", "store/test_store_twin", "daemon/test_stores", "engine/test_on_consul",
        "engine/test_schedulers_real", "docs/test_operations", "docs/test_looking_inside",
        "benchmarks/test_every_benchmark", "compatibility/test_old_store",
        "compatibility/test_rolling_upgrade",
    ),
}  # fmt: skip
"""The beginnings of the paths of files that wait, by their chain, of some five minutes each; the first that fits."""

HEAVY = ("simulation/", "engine/", "triggers/", "store/")
"""Files and directories that compute for long: they begin early, so that nobody is waited for in the end."""

SERVICES = frozenset(needed.FIXTURES)
"""The fixtures of what runs in other processes than the test's."""

POLITE = 10
"""By how much more nice than the others tests are that only compute."""


def is_between_processes(item: pytest.Item) -> bool:
    """Whether what is tested happens between real processes: then it may be late on a machine that others use too."""
    return bool({"cluster", "e2e"} & set(item.path.parts) or SERVICES & set(getattr(item, "fixturenames", ())))


def arrange(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In each of several processes: say what begins first. Alone, everything stays as it was.

    That every test has its place is held there too: of what is wrong in one of several, pytest shows nothing.
    """
    for item in items:
        if is_between_processes(item) and _group(_place(item)) not in CHAINS:
            raise pytest.UsageError(f"{item.nodeid} needs a real service: say in {__file__} which chain it belongs to")
    if not _is_shared(config):
        return
    rank = {name: number for number, name in enumerate(CHAINS)}
    items.sort(key=lambda item: (rank.get(_group(_place(item)), len(rank)), not _place(item).startswith(HEAVY)))


def scheduling(config: pytest.Config, log: Any) -> Any:
    """What hands the tests out to the processes: chains and files as they are, one after another."""
    from xdist.scheduler import LoadScopeScheduling

    class Chains(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid.partition("::")[0].partition("/")[2])

    config.option.loadscopereorder = False  # the number of a file's tests says nothing about their length
    return Chains(config, log)


def take_turns(item: pytest.Item) -> None:
    """Before each test in one of several processes: who computes is polite to who has to be on time."""
    if _is_shared(item.config):
        # Who is not root cannot take politeness back; the chains come first, so little is lost.
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, 0 if _group(_place(item)) in CHAINS else POLITE)


def _is_shared(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _place(item: pytest.Item) -> str:
    return item.path.relative_to(ROOMS).as_posix()


def _group(place: str) -> str:
    for name, places in CHAINS.items():
        if place.startswith(places):
            return name
    return place
