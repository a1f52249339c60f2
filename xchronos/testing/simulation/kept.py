"""What must hold at the end for units that are kept running: all their copies run, and each where it belongs."""

from collections.abc import Iterable, Mapping

from xchronos.model.records import Execution, Machine
from xchronos.model.unit import Unit
from xchronos.registry.codec import decode
from xchronos.registry.keys import Keys, unit_of
from xchronos.scheduler.feasibility import unfit
from xchronos.store.contract import KeyValue


def unsettled(rows: Mapping[str, KeyValue], keys: Keys, units: Iterable[Unit]) -> str:
    """What is wrong with the units that are kept running, in words; empty when nothing is wrong."""
    kept = [unit for unit in units if unit.keep_running]
    if not kept:
        return ""
    machines = [decode(item, Machine) for key, item in rows.items() if key.startswith(keys.machines)]
    open_: dict[str, list[Execution]] = {}
    for key, item in sorted(rows.items()):
        if key.startswith((keys.pending, keys.placements)):
            open_.setdefault(unit_of(keys.locate(key)[1]), []).append(decode(item, Execution))
    homes = {name: [_home(execution) for execution in found] for name, found in open_.items()}
    for unit in kept:
        found = open_.get(unit.name, [])
        strays = [one.id for one in found if one.state not in ("running", "delayed") or one.stop_requested]
        if strays:
            return f"{strays[0]} is kept running, and does not run"
        names = homes.get(unit.name, [])
        wanted = unit.availability
        if unit.is_global:
            wanted = sum(not unfit(unit, machine) for machine in machines)
        if len(found) != wanted or len(set(names)) != wanted:
            return f"{unit.name} is kept running on {names}, and should be on {wanted} machines"
        for peer in unit.requirements.peers:
            if not set(names) <= set(homes.get(peer, [])):
                return f"{unit.name} is kept running on {names}, and {peer} on {homes.get(peer)}"
    return ""


def _home(execution: Execution) -> str:
    """The machine that has an execution, or had it last; "" when none ever had."""
    if execution.current is not None:
        return execution.current.machine
    return execution.attempts[-1].machine if execution.attempts else ""
