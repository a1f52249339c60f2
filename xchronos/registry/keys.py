"""Where everything lives in the store (DESIGN.md 6). The only module that spells a key.

```
/xchronos/etc/jobs/<unit>                            UnitRecord
/xchronos/etc/executors/<machine>                    Machine           (lease)
/xchronos/etc/machines/<machine>                     MachineWish
/xchronos/var/scheduler/election                     machine id        (lease)
/xchronos/var/scheduler/shards/<n>                   machine id        (lease); term = create revision
/xchronos/var/scheduler/members/<machine>            SchedulerRecord   (lease)
/xchronos/var/pulse/scheduler/<machine>              a revision: how far its watch has come   (lease)
/xchronos/var/schedules/<unit>                       Schedule
/xchronos/var/pending/<unit>/<fire>/<copy>           Execution that waits, is queued, or is delayed
/xchronos/var/placements/<machine>/<unit>/<fire>/<copy>   Execution that a machine has
/xchronos/var/executions/<unit>/<fire>/<copy>        Execution that has ended
```
A namespace is the same tree under `/xchronos/ns/<name>/`.
"""

import re
from functools import lru_cache
from hashlib import blake2b

from xchronos.errors import InvalidValue

SHARDS = 16
"""How many slices the units are cut into. Fixed for the life of a store: it decides who may write what."""

_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class Keys:
    """The key tree of one namespace ("" is the default one)."""

    def __init__(self, namespace: str = "") -> None:
        if namespace and not _NAMESPACE.fullmatch(namespace):
            raise InvalidValue(
                f"namespace {namespace!r}: expected 1 to 63 letters, digits, '.', '_' or '-', "
                "the first a letter or digit"
            )
        self.namespace = namespace
        self.root = f"/xchronos/ns/{namespace}/" if namespace else "/xchronos/"
        self.jobs = self.root + "etc/jobs/"
        self.machines = self.root + "etc/executors/"
        self.wishes = self.root + "etc/machines/"
        self.scheduling = self.root + "var/scheduler/"
        """What `election`, `shards` and `members` begin with: one watch tells who schedules what."""
        self.election = self.scheduling + "election"
        self.shards = self.scheduling + "shards/"
        self.members = self.scheduling + "members/"
        self.schedules = self.root + "var/schedules/"
        self.pending = self.root + "var/pending/"
        self.placements = self.root + "var/placements/"
        self.executions = self.root + "var/executions/"
        self.pulses = self.root + "var/pulse/scheduler/"
        self.live = self.root + "var/p"
        """What `pending`, `placements` and `pulses` begin with: one watch brings an execution's moves in their order.

        Whoever follows it and sees its own pulse there has seen everything that was written before.
        """

    def job(self, unit: str) -> str:
        """The unit's record."""
        return self.jobs + unit

    def machine(self, machine: str) -> str:
        """The machine's record."""
        return self.machines + machine

    def wish(self, machine: str) -> str:
        """What people want of a machine."""
        return self.wishes + machine

    def shard(self, number: int) -> str:
        """The ownership of a shard."""
        return f"{self.shards}{number}"

    def member(self, machine: str) -> str:
        """The record of a living scheduler."""
        return self.members + machine

    def pulse(self, machine: str) -> str:
        """The mark that a scheduler leaves among the executions."""
        return self.pulses + machine

    def schedule(self, unit: str) -> str:
        """The unit's cursor."""
        return self.schedules + unit

    def pending_execution(self, execution: str) -> str:
        """An execution that no machine has."""
        return self.pending + execution

    def placement(self, machine: str, execution: str) -> str:
        """An execution that `machine` has."""
        return f"{self.placements}{machine}/{execution}"

    def machine_placements(self, machine: str) -> str:
        """The prefix of everything that `machine` has."""
        return f"{self.placements}{machine}/"

    def execution(self, execution: str) -> str:
        """An execution that has ended."""
        return self.executions + execution

    def history(self, unit: str) -> str:
        """The prefix of a unit's history; sorts by fire time."""
        return f"{self.executions}{unit}/"

    def locate(self, key: str) -> tuple[str, str]:
        """(machine, execution id) of a key below `pending` (the machine is empty then) or `placements`."""
        if key.startswith(self.pending):
            return "", key[len(self.pending) :]
        return self.split_placement(key)

    def location(self, machine: str, execution: str) -> str:
        """The key of an execution that `machine` has, or that nobody has (machine empty)."""
        return self.placement(machine, execution) if machine else self.pending + execution

    def split_placement(self, key: str) -> tuple[str, str]:
        """(machine, execution id) of a placement's key."""
        machine, _, execution = key[len(self.placements) :].partition("/")
        return machine, execution


@lru_cache(maxsize=1 << 16)
def shard_of(unit: str) -> int:
    """The shard that a unit belongs to: a stable hash of its name, the same on every machine and in every version."""
    return int.from_bytes(blake2b(unit.encode(), digest_size=4).digest(), "big") % SHARDS


def unit_of(execution: str) -> str:
    """The unit's name in an execution's id (names hold no slash)."""
    return execution.partition("/")[0]
